"""HPA on metrics of the engines: queue, KV cache, concurrency, or the highest of several.

Targets: queue 2 and KV cache 0.7 are those llm-d compares with; 32 in flight is the middle of 16 to 64.
The highest recommendation wins; when one metric fails, only going up is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from penstock.sim.policies.hpa_law import SYNC_SECONDS, Behavior, Stabilizer, pods_metric
from penstock.sim.policy_port import ReplicaGauges, Signals

METRICS: Mapping[str, Callable[[ReplicaGauges], float]] = {
    "queue": lambda each: float(each.waiting),
    "kv": lambda each: each.kv_usage_ratio,
    "concurrency": lambda each: float(each.running + each.waiting),
}


class Hpa:
    """An HPA whose `targets` are per-pod averages by metric (see METRICS)."""

    interval_seconds = SYNC_SECONDS

    def __init__(self, name: str, targets: Mapping[str, float], behavior: Behavior | None = None) -> None:
        self.name = name
        self._targets = targets
        self._stabilizer = Stabilizer(behavior or Behavior())

    def decide(self, seen: Signals) -> int:
        """Return the target after one sync."""
        self._stabilizer.begin(seen.at, seen.target)
        serving = [each for each in seen.replicas if not each.draining]
        if not serving:
            return seen.target  # every metric fails: nothing is done
        recommended = max(
            pods_metric(
                [METRICS[metric](each) for each in serving],
                target,
                ready=seen.ready,
                starting=seen.starting,
                current=seen.target,
            )
            for metric, target in self._targets.items()
        )
        bounded = min(max(recommended, seen.min_replicas), seen.max_replicas)
        return self._stabilizer.limited(seen.at, seen.target, bounded)
