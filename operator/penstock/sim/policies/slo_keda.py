"""llm-d's SLO-aware KEDA guide, the published policy of the llm-d benchmark.

    s = mean over 45 s of min(max(p90 TTFT/objective, p90 TPOT/objective), 2);  c = ready/n
    s > 0.55: n + ceil(n (s c/0.55 - 1));  s < 0.40: n - floor(n (1 - s/0.40));  else n

Then an HPA, an AverageValue of 1: up max(100 %, 4)/60 s after 30 s, down 1 pod/120 s after 180 s. Source:
llm-d/llm-d guides/workload-autoscaling/README.slo-aware.md. Its latencies are predicted at the gateway or,
as here, measured; no value counts as 0.
"""

from __future__ import annotations

import math
from collections import deque

from penstock.sim.policies.hpa_law import Behavior, Pace, Stabilizer, average_value
from penstock.sim.policy_port import Signals
from penstock.sim.scenario import Objectives

UP_AT, DOWN_AT, MOST = 0.55, 0.40, 2.0
PERCENTILE = 0.9
SMOOTHED_SECONDS, MINUTE_SECONDS = 45.0, 60.0
BEHAVIOR = Behavior(up=Pace(4, 100.0, 60.0, 30.0), down=Pace(1, None, 120.0, 180.0))


class SloKeda:
    """The guide's recording rules and ScaledObject; `up_at` is the share of the objectives aimed at."""

    name = "llm-d SLO-aware KEDA"
    interval_seconds = 15.0

    def __init__(self, slo: Objectives, *, up_at: float = UP_AT, percentile: float = PERCENTILE) -> None:
        self._slo, self._percentile = slo, percentile
        self._limits = (up_at, up_at * DOWN_AT / UP_AT)
        self._samples: deque[tuple[float, float]] = deque()
        self._stabilizer = Stabilizer(BEHAVIOR)

    def decide(self, seen: Signals) -> int:
        """Return the target after the rules and the HPA."""
        self._stabilizer.begin(seen.at, seen.target)
        rates = seen.rates(MINUTE_SECONDS)
        share = 0.0
        if rates is not None:
            ttft = rates.engine.ttft_seconds.quantile(self._percentile) or 0.0
            tpot = rates.engine.tpot_seconds.quantile(self._percentile) or 0.0
            share = max(ttft / self._slo.ttft_seconds, tpot / self._slo.tpot_seconds)
        elif seen.counters is None and seen.at > 0:
            return seen.target  # the query fails: the HPA keeps what it has
        self._samples.append((seen.at, min(share, MOST)))
        while self._samples[0][0] <= seen.at - SMOOTHED_SECONDS:
            self._samples.popleft()
        smooth = sum(value for _, value in self._samples) / len(self._samples)
        ready = seen.ready / seen.target if 0 < seen.ready < seen.target else 1.0
        wanted = slo_count(smooth, ready, seen.target, self._limits)
        wanted = average_value(wanted, 1.0, seen.target)
        bounded = min(max(wanted, seen.min_replicas), seen.max_replicas)
        return self._stabilizer.limited(seen.at, seen.target, bounded)


def slo_count(
    share: float, ready: float, current: int, limits: tuple[float, float] = (UP_AT, DOWN_AT)
) -> int:
    """Return the count for a `share` of the objectives used, with that part of `current` ready."""
    up_at, down_at = limits
    if share > up_at:
        return current + math.ceil(current * (share * ready / up_at - 1) - 1e-9)
    if share < down_at:
        return current - math.floor(current * (1 - share / down_at) + 1e-9)
    return current
