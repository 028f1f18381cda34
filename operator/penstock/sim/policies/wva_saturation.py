"""WVA V1 (llm-d): one replica more when spare KV cache or queue runs low, one less when N-1 would do.

    saturated: kv >= 0.80 or queue >= 5 (maxima over a minute); spare = means over the others
    up: spare kv < 0.10 or spare queue < 3;  down: after load N/(N-1) both still spare

Nothing moves while a change is under way. An HPA on the count wanted, an AverageValue of 1, carries it out
with its five minutes and its tolerance: from ten replicas on, one more or less is within a tenth and never
happens. Source: llm-d/llm-d-workload-variant-autoscaler, saturation analyzer.
"""

from __future__ import annotations

from penstock.sim.policies.hpa_law import SYNC_SECONDS, Behavior, Stabilizer, average_value
from penstock.sim.policy_port import Signals

KV_THRESHOLD, QUEUE_THRESHOLD = 0.80, 5.0
KV_SPARE, QUEUE_SPARE = 0.10, 3.0
MINUTE_SECONDS = 60.0


class WvaSaturation:
    """WVA's saturation engine for one variant; `kv` is the threshold that the safety knob moves."""

    name = "WVA V1"
    interval_seconds = SYNC_SECONDS

    def __init__(self, *, kv: float = KV_THRESHOLD, queue: float = QUEUE_THRESHOLD) -> None:
        self._kv, self._queue = kv, queue
        self._stabilizer = Stabilizer(Behavior())

    def decide(self, seen: Signals) -> int:
        """Return the target after WVA and its HPA."""
        self._stabilizer.begin(seen.at, seen.target)
        leaving = {each.replica for each in seen.replicas if each.draining}
        pods = [each for each in seen.over(MINUTE_SECONDS) if each.replica not in leaving]
        wanted = seen.target
        if pods and seen.ready == seen.target and len(pods) == seen.ready:
            load = [(each.kv_usage_max, float(each.waiting_max)) for each in pods]
            wanted += saturation_step(load, kv=self._kv, queue=self._queue)
        wanted = average_value(wanted, 1.0, seen.target)
        bounded = min(max(wanted, seen.min_replicas), seen.max_replicas)
        return self._stabilizer.limited(seen.at, seen.target, bounded)


def saturation_step(load: list[tuple[float, float]], *, kv: float, queue: float) -> int:
    """Return +1, 0 or -1 for each pod's (KV usage, queue)."""
    free = [(usage, waiting) for usage, waiting in load if usage < kv and waiting < queue]
    if not free:
        return 1
    count = len(free)
    spare_kv = sum(kv - usage for usage, _ in free) / count
    spare_queue = sum(queue - waiting for _, waiting in free) / count
    if spare_kv < KV_SPARE or spare_queue < QUEUE_SPARE:
        return 1
    if count < 2:
        return 0
    share = count / (count - 1)
    after_kv = sum(kv - usage * share for usage, _ in free) / count
    after_queue = sum(queue - waiting * share for _, waiting in free) / count
    return -1 if after_kv >= KV_SPARE and after_queue >= QUEUE_SPARE else 0
