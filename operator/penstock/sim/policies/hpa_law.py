"""Kubernetes' HorizontalPodAutoscaler: from a metric to a count, and how fast it may move.

    ratio = mean/target, nothing within the tolerance of 0.1, else ceil(ratio n)

Recommendations are stabilised (up: the lowest, down: the highest of a window), then limited by what was
added or removed in a period. Source: kubernetes/kubernetes pkg/controller/podautoscaler,
replica_calculator.go and horizontal.go; defaults of autoscaling/v2 defaults.go.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 0.1
SYNC_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How far a period may move; of pods and percent the one that allows more. None: no such policy."""

    pods: int | None
    percent: float | None
    period_seconds: float
    window_seconds: float


@dataclass(frozen=True, slots=True)
class Behavior:
    """The resource's `behavior`."""

    up: Pace = Pace(4, 100.0, 15.0, 0.0)
    down: Pace = Pace(None, 100.0, 15.0, 300.0)


def pods_metric(values: Sequence[float], target: float, *, ready: int, starting: int, current: int) -> int:
    """Return the recommendation from a metric of each pod, an AverageValue over those that report.

    `ready` pods that do not report and pods that start are missing: full when it would go down, idle when
    it would go up. Only a Pending pod would be left out on the way down; one that loads its model runs and
    has no metric (groupPods). Raises ValueError when none reports.
    """
    if not values:
        raise ValueError("no pod reports the metric")
    missing = max(0, ready - len(values)) + starting
    ratio = sum(values) / len(values) / target
    if not missing:
        return current if _within(ratio) else math.ceil(ratio * len(values) - 1e-9)
    filled = target if ratio < 1 else 0.0
    count = len(values) + missing
    again = (sum(values) + filled * missing) / count / target
    if _within(again) or (ratio < 1) != (again < 1):
        return current
    wanted = math.ceil(again * count - 1e-9)
    return current if (again < 1) == (wanted > current) and wanted != current else wanted


def average_value(total: float, target: float, current: int) -> int:
    """Return the recommendation from an external metric's total, as an AverageValue over `current` pods."""
    return current if _within(total / (target * current)) else math.ceil(total / target - 1e-9)


class Stabilizer:
    """Windows and paces between recommendations and the target. Call `begin` first at every look."""

    def __init__(self, behavior: Behavior) -> None:
        self.behavior, self._begun = behavior, False
        self._recommended: deque[tuple[float, int]] = deque()
        self._added: deque[tuple[float, int]] = deque()  # and, negative, removed

    def begin(self, at: float, current: int) -> None:
        """Take the count that a new HPA finds for its first recommendation, whatever its metrics say.

        Source: horizontal.go, recordInitialRecommendation.
        """
        if not self._begun:
            self._begun = True
            self._recommended.append((at, current))

    def limited(self, at: float, current: int, recommended: int) -> int:
        """Return the target after a recommendation made at `at` (s)."""
        up, down = self.behavior.up, self.behavior.down
        self._recommended.append((at, recommended))
        while self._recommended[0][0] <= at - max(up.window_seconds, down.window_seconds, 1e-9):
            self._recommended.popleft()
        lowest = min(self._since(at, up.window_seconds), default=recommended)
        highest = max(self._since(at, down.window_seconds), default=recommended)
        wanted = min(max(current, min(lowest, recommended)), max(highest, recommended))
        while self._added and self._added[0][0] <= at - max(up.period_seconds, down.period_seconds):
            self._added.popleft()
        if wanted > current:
            wanted = min(wanted, self._ceiling(at, current))
        elif wanted < current:
            wanted = max(wanted, self._floor(at, current))
        if wanted != current:
            self._added.append((at, wanted - current))
        return wanted

    def _since(self, at: float, window_seconds: float) -> list[int]:
        return [count for when, count in self._recommended if when > at - window_seconds]

    def _moved(self, at: float, period_seconds: float, sign: int) -> int:
        return sum(sign * by for when, by in self._added if when > at - period_seconds and sign * by > 0)

    def _ceiling(self, at: float, current: int) -> int:
        pace = self.behavior.up
        start = current - self._moved(at, pace.period_seconds, 1)
        allowed = [start + pace.pods] if pace.pods is not None else []
        if pace.percent is not None:
            allowed.append(math.ceil(start * (1 + pace.percent / 100)))
        return max(current, *allowed)

    def _floor(self, at: float, current: int) -> int:
        pace = self.behavior.down
        start = current + self._moved(at, pace.period_seconds, -1)
        allowed = [start - pace.pods] if pace.pods is not None else []
        if pace.percent is not None:
            allowed.append(math.floor(start * (1 - pace.percent / 100)))
        return min(current, *allowed)


def _within(ratio: float) -> bool:
    return abs(ratio - 1) <= TOLERANCE + 1e-12
