"""How late the steps of a stand-in engine ended: whether its timing may be believed.

A stand-in replica sleeps through the steps a GPU would compute. Where the machine cannot keep up,
tokens leave late and latencies describe the machine, not the engine. The ratio of total lag to
total scheduled step time bounds the error of TTFT and inter-token latency, both sums of steps.
"""

from __future__ import annotations

from dataclasses import dataclass

# Ten per cent is the accuracy asked of measured against predicted latency. An idle 2-core machine
# shows 0.6 ms a step (timers of epoll have 1 ms resolution): 1 % of a 60 ms step, 8 % of a 7 ms one.
MAX_LAG_RATIO = 0.10


@dataclass(frozen=True, slots=True)
class StepTiming:
    """One step: how long the step law says it takes, and how much later it ended."""

    scheduled_seconds: float
    lag_seconds: float


@dataclass(frozen=True, slots=True)
class StepLag:
    """Totals since the start of a replica, or over an interval (`since`)."""

    steps: int = 0
    scheduled_seconds: float = 0.0
    lag_seconds: float = 0.0
    worst_seconds: float = 0.0

    def after(self, step: StepTiming) -> StepLag:
        """Return the totals with one step more."""
        return self + StepLag(1, step.scheduled_seconds, step.lag_seconds, step.lag_seconds)

    def since(self, earlier: StepLag) -> StepLag:
        """Return the difference of two totals; the worst lag stays that of the later one."""
        return StepLag(
            self.steps - earlier.steps,
            self.scheduled_seconds - earlier.scheduled_seconds,
            self.lag_seconds - earlier.lag_seconds,
            self.worst_seconds,
        )

    def __add__(self, other: StepLag) -> StepLag:
        return StepLag(
            self.steps + other.steps,
            self.scheduled_seconds + other.scheduled_seconds,
            self.lag_seconds + other.lag_seconds,
            max(self.worst_seconds, other.worst_seconds),
        )

    @property
    def ratio(self) -> float | None:
        """Lag over scheduled time; None before the first step."""
        return self.lag_seconds / self.scheduled_seconds if self.scheduled_seconds > 0 else None

    @property
    def machine_was_the_bottleneck(self) -> bool:
        """Whether latencies measured meanwhile describe the machine rather than the engine."""
        return self.ratio is not None and self.ratio > MAX_LAG_RATIO
