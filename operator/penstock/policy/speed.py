"""The engine's speed against its profile, as one scalar.

    kappa = measured mean TPOT / step time of the profile's law at the measured batch

The law is asked at the *measured* number of running requests and the *measured* token rates, so the
ratio does not feed back on itself (a slow engine also runs a larger batch). One scalar first: with a
uniformly slower engine the error is below 5 % after one 30 s window; three parameters at once are
ill-conditioned on flat traffic (condition number 1e18 seen by others).
"""

from __future__ import annotations

import math
from dataclasses import replace

from penstock.model.value import value

# A comparison, with the filter behind it, costs more than all else of a service's tick; once a minute
# follows any engine's speed.
SPEED_EVERY_SECONDS = 60.0
HALF_LIFE_SECONDS = 120.0
SMALLEST, LARGEST = 0.1, 10.0
MOST_REFUSED = 5  # beyond those, in a row: no accident but an engine that the profile says nothing of
# The ratio in force moves only when the estimate has left it by 5 %: a table solved for a
# neighbouring ratio is as good, and every change costs a solve.
GRID = math.log(1.05)


@value(frozen=True, slots=True)
class SpeedMemory:
    """Smoothed log of the ratio, and the ratio in force (1.0: as fast as the profile)."""

    log_ratio: float = 0.0
    seen_seconds: float = 0.0
    at: float = -math.inf
    in_force: float = 1.0
    refused: int = 0  # ratios in a row, beyond those that are believed
    refused_ratio: float = 1.0

    @classmethod
    def restored(cls, ratio: float) -> SpeedMemory:
        """Return the memory after a restart, from the ratio that was in force."""
        return cls(log_ratio=math.log(ratio), seen_seconds=HALF_LIFE_SECONDS, in_force=ratio)

    @property
    def believed(self) -> bool:
        """Whether enough was seen to believe the ratio: the first windows of a cold engine are warm-up."""
        return self.seen_seconds >= HALF_LIFE_SECONDS / 2

    @property
    def refusal(self) -> str:
        """Say why the ratio will never be learned; empty while it may be."""
        if self.refused < MOST_REFUSED:
            return ""
        ratio = f"{self.refused_ratio:.2g} x the reference's, beyond {SMALLEST:g} to {LARGEST:g}"
        return f"step time is {ratio}: give an inline profile"


def is_due(memory: SpeedMemory, at: float, *, every_seconds: float, turn_seconds: float) -> bool:
    """Whether the speed is to be compared again; `turn_seconds` is the service's place within the interval.

    10,000 services that began in the same tick would otherwise make every fourth tick twice as long.
    """
    if memory.at == -math.inf:
        return True
    return (at + turn_seconds) // every_seconds > (memory.at + turn_seconds) // every_seconds


def observe_speed(
    memory: SpeedMemory, *, measured_seconds: float, expected_seconds: float, at: float
) -> SpeedMemory:
    """Take in one pair of measured and expected mean step times; nonsense is refused, not clipped.

    What is beyond SMALLEST to LARGEST is counted, because it may be so for ever.
    """
    if not (measured_seconds > 0 and expected_seconds > 0) or at <= memory.at:
        return memory
    ratio = measured_seconds / expected_seconds
    if not SMALLEST <= ratio <= LARGEST:
        return replace(memory, at=at, refused=memory.refused + 1, refused_ratio=ratio)
    elapsed = min(at - memory.at, HALF_LIFE_SECONDS) if memory.seen_seconds else 0.0
    gain = -math.expm1(-elapsed * math.log(2) / HALF_LIFE_SECONDS) if memory.seen_seconds else 1.0
    estimate = memory.log_ratio + gain * (math.log(ratio) - memory.log_ratio)
    in_force = memory.in_force
    seen = SpeedMemory(estimate, memory.seen_seconds + max(elapsed, 1e-9), at, in_force)
    if seen.believed and abs(estimate - math.log(in_force)) > GRID:
        return replace(seen, in_force=math.exp(round(estimate / GRID) * GRID))
    return seen
