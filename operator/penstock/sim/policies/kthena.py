"""Kthena: an HPA-like ratio over several metrics; at twice the target it panics and may grow tenfold.

    ratio = highest of p95 TTFT/objective, p95 TPOT/objective (60 s), nothing within 10 %
    stable: up by 1 or 100 % in 15 s; ratio >= 2: up by 1000 %, and for 60 s not down

Source: volcano-sh/kthena pkg/autoscaler/algorithm/recommendation.go. Down it waits five minutes, as an HPA.
"""

from __future__ import annotations

import math
from collections import deque

from penstock.sim.policies.hpa_law import SYNC_SECONDS, TOLERANCE
from penstock.sim.policy_port import Signals
from penstock.sim.scenario import Objectives

PANIC_RATIO, PANIC_PERCENT, PANIC_SECONDS = 2.0, 1000.0, 60.0
WINDOW_SECONDS, DOWN_SECONDS = 60.0, 300.0
PERCENTILE = 0.95


class Kthena:
    """An AutoscalingPolicy on the objectives; `share` is the part of them that is the target."""

    name = "Kthena"
    interval_seconds = SYNC_SECONDS

    def __init__(self, slo: Objectives, *, share: float = 1.0) -> None:
        self._ttft, self._tpot = slo.ttft_seconds * share, slo.tpot_seconds * share
        self._recommended: deque[tuple[float, int]] = deque()
        self._panic_until = -math.inf

    def decide(self, seen: Signals) -> int:
        """Return the target after one sync."""
        rates = seen.rates(WINDOW_SECONDS)
        if rates is None:
            return seen.target
        ttft = rates.engine.ttft_seconds.quantile(PERCENTILE)
        tpot = rates.engine.tpot_seconds.quantile(PERCENTILE)
        ratio = max((ttft or 0.0) / self._ttft, (tpot or 0.0) / self._tpot)
        if ttft is None and tpot is None:
            return seen.target
        if ratio >= PANIC_RATIO:
            self._panic_until = seen.at + PANIC_SECONDS
        panics = seen.at < self._panic_until
        wanted = kthena_count(ratio, max(1, seen.ready), seen.target)
        wanted = min(max(wanted, seen.min_replicas), seen.max_replicas)
        self._recommended.append((seen.at, wanted))
        while self._recommended[0][0] <= seen.at - DOWN_SECONDS:
            self._recommended.popleft()
        if wanted > seen.target:
            most = (
                seen.target * (1 + PANIC_PERCENT / 100) if panics else max(seen.target + 1, 2 * seen.target)
            )
            return min(wanted, math.floor(most))
        if wanted < seen.target and not panics:
            return min(seen.target, max(count for _, count in self._recommended))
        return seen.target


def kthena_count(ratio: float, ready: int, current: int) -> int:
    """Return the recommendation of a ratio over the target at `ready` instances."""
    return current if abs(ratio - 1) <= TOLERANCE + 1e-12 else max(1, math.ceil(ready * ratio - 1e-9))
