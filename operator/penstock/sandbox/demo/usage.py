"""Replicas against time: what was used, and what a fleet that is always at its peak would have used.

A replica counts from the creation of its pod to its end: a GPU is paid while the engine starts and
while it drains.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.sandbox.demo.commentary import PodCounts


@dataclass(slots=True)
class ReplicaUse:
    """Samples of the pods, (seconds since the start of the load, counts), oldest first."""

    samples: list[tuple[float, PodCounts]] = field(default_factory=list)

    def add(self, at_seconds: float, pods: PodCounts) -> None:
        """Take in one sample; each holds until the next."""
        self.samples.append((at_seconds, pods))

    def used_seconds(self, until_seconds: float) -> float:
        """Return replica-seconds used up to a time."""
        return sum(
            pods.all * max(0.0, min(end, until_seconds) - start)
            for (start, pods), end in zip(self.samples, self._ends(until_seconds), strict=True)
        )

    def peak(self, begin_seconds: float, end_seconds: float) -> int:
        """Return the most replicas that were ready at once within a time."""
        return max(self._ready(begin_seconds, end_seconds), default=0)

    def fewest(self, begin_seconds: float, end_seconds: float) -> int:
        """Return the fewest replicas that were ready within a time."""
        return min(self._ready(begin_seconds, end_seconds), default=0)

    def last(self, begin_seconds: float, end_seconds: float) -> int:
        """Return how many were ready at the end of a time; 0 when nothing was seen."""
        ready = self._ready(begin_seconds, end_seconds)
        return ready[-1] if ready else 0

    def _ready(self, begin: float, end: float) -> list[int]:
        spans = zip(self.samples, self._ends(end), strict=True)
        return [pods.ready for (start, pods), stop in spans if start < end and stop > begin]

    def _ends(self, last: float) -> list[float]:
        return [start for start, _ in self.samples[1:]] + [last] if self.samples else []
