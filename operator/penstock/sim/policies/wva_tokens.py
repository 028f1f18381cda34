"""WVA V2 (llm-d): demand and supply in KV tokens, with what starts counted in.

    k1 = 0.8 KV tokens;  k2: tokens in use when 5 wait (mean of 10), else min(B O/(I+O), S) (I + O/2)
    per replica = min(k1, k2);  demand = tokens in use + queue (I + O)
    up by ceil((demand/0.85 - anticipated)/per replica), down by floor((supply - demand/0.70)/per replica)

Source: llm-d/llm-d-workload-variant-autoscaler, token analyzer (default since v0.9); an HPA on the count, an
AverageValue of 1, follows with its tolerance and five minutes. Histories are by the bucket of mean output
lengths.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict, deque

from penstock.queueing.engine_profile import EngineProfile
from penstock.sim.policies.hpa_law import SYNC_SECONDS, Behavior, Stabilizer, average_value
from penstock.sim.policy_port import Signals

FULL, UP_AT, DOWN_AT = 0.80, 0.85, 0.70
FEWEST_WAITING = 5
LENGTHS_SECONDS = 300.0


class WvaTokens:
    """WVA's token engine for one variant; `up_at` is the utilisation it scales up at."""

    name = "WVA V2"
    interval_seconds = SYNC_SECONDS

    def __init__(self, profile: EngineProfile, *, up_at: float = UP_AT) -> None:
        self._profile, self._up_at, self._down_at = profile, up_at, up_at * DOWN_AT / UP_AT
        self._history: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=10))
        self._stabilizer = Stabilizer(Behavior())

    def decide(self, seen: Signals) -> int:
        """Return the target after WVA and its HPA."""
        self._stabilizer.begin(seen.at, seen.target)
        wanted = self._wanted(seen)
        if wanted is None:
            return seen.target
        wanted = average_value(wanted, 1.0, seen.target)
        bounded = min(max(wanted, seen.min_replicas), seen.max_replicas)
        return self._stabilizer.limited(seen.at, seen.target, bounded)

    def _wanted(self, seen: Signals) -> int | None:
        rates = seen.rates(LENGTHS_SECONDS)
        pods = [each for each in seen.replicas if not each.draining]
        if rates is None or not pods:
            return None
        inputs, outputs = rates.engine.input_lengths.mean, rates.engine.output_lengths.mean
        if inputs is None or outputs is None:
            return None
        capacity = self._profile.kv_capacity_tokens
        each_carries = [
            self._capacity(capacity * pod.kv_usage_ratio, pod.waiting, inputs, outputs) for pod in pods
        ]
        per_replica = statistics.median(each_carries)
        demand = sum(capacity * pod.kv_usage_ratio + pod.waiting * (inputs + outputs) for pod in pods)
        return token_count(
            demand,
            per_replica,
            supplied=len(pods),
            anticipated=max(seen.target, len(pods)),
            current=seen.target,
            limits=(self._up_at, self._down_at),
        )

    def _capacity(self, in_use: float, waiting: int, inputs: float, outputs: float) -> float:
        bucket = 0 if outputs < 100 else 1 if outputs < 500 else 2
        history = self._history[bucket]
        if waiting >= FEWEST_WAITING:
            history.append(in_use)
        if history:
            measured = sum(history) / len(history)
        else:
            budget, slots = self._profile.step_token_budget, self._profile.max_sequences
            running = min(budget * outputs / (inputs + outputs), slots)
            measured = running * (inputs + outputs / 2)
        return min(FULL * self._profile.kv_capacity_tokens, max(measured, 1.0))


def token_count(
    demand: float,
    per_replica: float,
    *,
    supplied: int,
    anticipated: int,
    current: int,
    limits: tuple[float, float],
) -> int:
    """Return the count for a demand in tokens; `limits` are the utilisations to go up and down at."""
    required = demand / limits[0] - anticipated * per_replica
    if required > 0:
        return current + math.ceil(required / per_replica)
    surplus = supplied * per_replica - demand / limits[1]
    return max(1, current - math.floor(surplus / per_replica)) if surplus > 0 else current
