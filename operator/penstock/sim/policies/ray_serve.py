"""Ray Serve: ongoing requests over 2 each, up after 30 s, down after 600 s, by the last sample's wish.

    d = ceil(n + (ongoing/target - n)); compared with the target in force; equal resets the counter

Source: ray-project/ray python/ray/serve/autoscaling_policy.py. Metrics are pushed every 10 s and averaged
over 30 s; the loop of 0.1 s then only counts time.
"""

from __future__ import annotations

import math
from collections import deque

from penstock.sim.policy_port import Signals

TARGET_ONGOING = 2.0
UP_SECONDS, DOWN_SECONDS, LOOK_BACK_SECONDS = 30.0, 600.0, 30.0


class RayServe:
    """A deployment's autoscaler; `ongoing` is target_ongoing_requests."""

    name = "Ray Serve"
    interval_seconds = 10.0

    def __init__(self, *, ongoing: float = TARGET_ONGOING) -> None:
        self._target = ongoing
        self._samples: deque[tuple[float, float]] = deque()
        self._since: tuple[int, float] | None = None  # direction, and from when it was wished

    def decide(self, seen: Signals) -> int:
        """Return the target of one look."""
        if seen.running is not None and seen.waiting is not None:
            self._samples.append((seen.at, float(seen.running + seen.waiting)))
        while self._samples and self._samples[0][0] <= seen.at - LOOK_BACK_SECONDS:
            self._samples.popleft()
        if not self._samples:
            return seen.target
        ongoing = sum(value for _, value in self._samples) / len(self._samples)
        wanted = min(max(ray_count(ongoing, self._target), seen.min_replicas), seen.max_replicas)
        direction = (wanted > seen.target) - (wanted < seen.target)
        if not direction:
            self._since = None
            return seen.target
        if self._since is None or self._since[0] != direction:
            self._since = direction, seen.at
        if seen.at - self._since[1] < (UP_SECONDS if direction > 0 else DOWN_SECONDS):
            return seen.target
        self._since = None
        return wanted


def ray_count(ongoing: float, target: float) -> int:
    """Return the count for requests in flight, with both smoothing factors at their default of 1."""
    return max(1, math.ceil(ongoing / target - 1e-9))
