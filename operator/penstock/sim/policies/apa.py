"""AIBrix's APA: a ratio of the pods' mean to the target over three minutes, at most doubling or halving.

    u = mean/T;  u > 1.1: min(ceil(n u), 2n);  u < 0.9: max(ceil(n u), floor(n/2));  down after 300 s

Source: vllm-project/aibrix pkg/controller/podautoscaler. Its samples scale on KV cache usage at 0.5.
"""

from __future__ import annotations

import math
from collections import deque

from penstock.sim.policy_port import Signals

WINDOW_SECONDS = 180.0
TOLERANCE = 0.1
DOWN_SECONDS = 300.0


class Apa:
    """A PodAutoscaler of strategy APA on KV cache usage."""

    name = "AIBrix APA"
    interval_seconds = 10.0

    def __init__(self, *, kv: float = 0.5) -> None:
        self._target = kv
        self._samples: deque[tuple[float, float]] = deque()
        self._recommended: deque[tuple[float, int]] = deque()

    def decide(self, seen: Signals) -> int:
        """Return the target of one resync; a metric that is missing is skipped."""
        serving = [each.kv_usage_ratio for each in seen.replicas if not each.draining]
        if not serving:
            return seen.target
        self._samples.append((seen.at, sum(serving) / len(serving)))
        while self._samples[0][0] <= seen.at - WINDOW_SECONDS:
            self._samples.popleft()
        usage = sum(value for _, value in self._samples) / len(self._samples) / self._target
        wanted = apa_count(usage, seen.target)
        self._recommended.append((seen.at, wanted))
        while self._recommended[0][0] <= seen.at - DOWN_SECONDS:
            self._recommended.popleft()
        highest = max(count for _, count in self._recommended)
        return wanted if wanted >= seen.target else min(seen.target, highest)


def apa_count(usage: float, current: int) -> int:
    """Return the recommendation for a usage (mean over target) at `current` replicas."""
    if usage > 1 + TOLERANCE:
        return min(math.ceil(current * usage), 2 * current)
    if usage < 1 - TOLERANCE:
        return max(math.ceil(current * usage), current // 2)
    return current
