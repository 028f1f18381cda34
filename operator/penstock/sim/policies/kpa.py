"""Knative's KPA: concurrency averaged over 60 s, and over 6 s where it doubles (panic).

    t = 70, S and P total concurrency over the stable and the panic window
    desired = ceil(S/t); in panic max(ceil(S/t), ceil(P/t)), and never down

It begins in panic where it finds more than one pod, so as not to go down before it has a window.
Source: knative/serving pkg/autoscaler/scaling/autoscaler.go; config/core/configmaps/autoscaler.yaml. Its
own metrics come from each pod every second; here they are as old as the last scrape.
"""

from __future__ import annotations

import math
from collections import deque

from penstock.sim.policy_port import Signals

STABLE_SECONDS, PANIC_SECONDS = 60.0, 6.0
PANIC_THRESHOLD = 2.0
MOST_UP, MOST_DOWN = 1000.0, 2.0
TARGET = 70.0  # 70 % of the default containerConcurrency target of 100


class Kpa:
    """The autoscaler of one revision; `target` is the concurrency wanted for each pod."""

    name = "Knative KPA"
    interval_seconds = 2.0

    def __init__(self, *, target: float = TARGET) -> None:
        self._target = target
        self._samples: deque[tuple[float, float]] = deque()
        self._begun = False
        self._panic_since: float | None = None
        self._most_in_panic = 0

    def decide(self, seen: Signals) -> int:
        """Return the target of one tick; without data the result is invalid and nothing changes."""
        if not self._begun:
            self._begun = True
            if seen.ready > 1:
                self._panic_since, self._most_in_panic = seen.at, seen.ready
        if seen.running is not None and seen.waiting is not None:
            self._samples.append((seen.at, float(seen.running + seen.waiting)))
        while self._samples and self._samples[0][0] <= seen.at - STABLE_SECONDS:
            self._samples.popleft()
        stable = self._mean(seen.at, STABLE_SECONDS)
        if stable is None:
            return seen.target
        panic = self._mean(seen.at, PANIC_SECONDS)
        panic = stable if panic is None else panic
        ready = max(1, seen.ready)
        most, least = math.ceil(MOST_UP * ready), math.floor(ready / MOST_DOWN)
        for_stable = min(max(math.ceil(stable / self._target), least), most)
        for_panic = min(max(math.ceil(panic / self._target), least), most)
        if math.ceil(panic / self._target) / ready >= PANIC_THRESHOLD:
            self._panic_since = seen.at
        elif self._panic_since is not None and seen.at - self._panic_since > STABLE_SECONDS:
            self._panic_since, self._most_in_panic = None, 0
        if self._panic_since is None:
            return for_stable
        self._most_in_panic = max(self._most_in_panic, for_stable, for_panic)
        return self._most_in_panic

    def _mean(self, at: float, window_seconds: float) -> float | None:
        known = [value for when, value in self._samples if when > at - window_seconds]
        return sum(known) / len(known) if known else None
