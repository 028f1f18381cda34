"""What can be made to go wrong with a stand-in engine, so that those around it can be tested.

Each fault is one thing that real engines do: answer 5xx, cut streams, run slow, wedge with a
healthy `/health`, stop answering scrapes, die. Times count from readiness.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Faults:
    """Injected failures; the default injects none."""

    fail_ratio: float = 0.0  # of requests, answered 500
    cut_ratio: float = 0.0  # of streams, connection reset after the first token
    slow_factor: float = 1.0  # steps take this many times longer
    slow_after_seconds: float = 0.0
    stall_after_seconds: float | None = None  # no step ends any more; /health stays 200
    hang_metrics_after_seconds: float | None = None  # /metrics accepts and never answers
    crash_after_seconds: float | None = None  # the process ends at once with status 1

    def __post_init__(self) -> None:
        for name in ("fail_ratio", "cut_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, not {getattr(self, name)}")
        if self.slow_factor <= 0:
            raise ValueError(f"slow_factor must be above 0, not {self.slow_factor}")

    def step_factor(self, ready_for_seconds: float) -> float:
        """Return by how much a step is stretched at that age."""
        return self.slow_factor if ready_for_seconds >= self.slow_after_seconds else 1.0

    def metrics_hang(self, ready_for_seconds: float) -> bool:
        """Return whether scrapes hang at that age."""
        after = self.hang_metrics_after_seconds
        return after is not None and ready_for_seconds >= after

    def fails(self, chance: random.Random) -> bool:
        """Draw whether a request is answered 500."""
        return self.fail_ratio > 0 and chance.random() < self.fail_ratio

    def cuts(self, chance: random.Random) -> bool:
        """Draw whether a stream is cut after its first token."""
        return self.cut_ratio > 0 and chance.random() < self.cut_ratio
