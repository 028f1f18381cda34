"""How much load to expect by the time new capacity can serve it.

Offered load is what users send: requests that got their first token plus the growth of the queues.
The bound over [now, now + lead] is

    y95 = level + 1.64 sqrt(max(level / W, V))        V = EWMA of max(0, x(t) - x(t - lead))^2

V is the one-sided mean square change over one lead time: it holds burstiness and drift at once, so
a ramp is extrapolated by about its own slope, while a falling load adds nothing (form of the margin:
design notes on forecasting, "when history is short"; level / W is the Poisson floor for rates counted
over W seconds). Nothing is known of days or weeks here; a forecaster may replace this file.
"""

from __future__ import annotations

import math

from penstock.model.value import value

LEVEL_HALF_LIFE_WINDOWS = 1.0  # of the window that rates are counted over, 60 s by default
CHANGE_HALF_LIFE_WINDOWS = 15.0
NORMAL_95 = 1.645
# Jump to the newest rate beyond three standard errors: 2 would jump once in half an hour of steady
# Poisson load (30 independent 1-minute windows x 2.5 %), 3 once in a working day.
JUMP_STANDARD_ERRORS = 3.0
SAMPLES_PER_LEAD = 12


@value(frozen=True, slots=True)
class Demand:
    """Offered load and what it may become within the lead time; requests per second."""

    offered_per_second: float
    rise_per_second: float
    lead_seconds: float

    @property
    def bound_per_second(self) -> float:
        """Return the rate to size for."""
        return self.offered_per_second + self.rise_per_second


@value(frozen=True, slots=True)
class DemandMemory:
    """What the estimate remembers; O(1) per service. `samples` are (time, rate), oldest first."""

    at: float = -math.inf
    level: float = 0.0
    change_square: float = 0.0
    weight: float = 0.0  # 0..1: how much history change_square holds
    samples: tuple[tuple[float, float], ...] = ()


def observe_rate(
    memory: DemandMemory, rate_per_second: float, at: float, *, lead_seconds: float, window_seconds: float
) -> DemandMemory:
    """Take in one measured offered rate. Times in seconds; `window_seconds` is what it was counted over."""
    if at <= memory.at:
        return memory
    lagged = _rate_at(memory.samples, at - lead_seconds)
    spacing = lead_seconds / SAMPLES_PER_LEAD
    samples = memory.samples
    if not samples or at - samples[-1][0] >= spacing * 0.999:
        # Keep one sample older than the lead: it is the one the change is measured from.
        first = 0
        while first + 1 < len(samples) and samples[first + 1][0] <= at - lead_seconds:
            first += 1
        samples = (*samples[first:], (at, rate_per_second))
    if not memory.samples:
        return DemandMemory(at=at, level=rate_per_second, samples=samples)

    elapsed = at - memory.at
    error = math.sqrt(max(memory.level, 1.0 / window_seconds) / window_seconds)
    step = rate_per_second - memory.level
    if step > JUMP_STANDARD_ERRORS * error:
        level = rate_per_second
    else:
        half_life = LEVEL_HALF_LIFE_WINDOWS * window_seconds
        level = memory.level + step * -math.expm1(-elapsed * math.log(2) / half_life)

    change_square, weight = memory.change_square, memory.weight
    if lagged is not None:
        gain = -math.expm1(-elapsed * math.log(2) / (CHANGE_HALF_LIFE_WINDOWS * window_seconds))
        rise = max(0.0, rate_per_second - lagged)
        change_square += gain * (rise * rise - change_square)
        weight += gain * (1.0 - weight)
    return DemandMemory(at, level, change_square, weight, samples)


def expected_demand(memory: DemandMemory, *, lead_seconds: float, window_seconds: float) -> Demand:
    """Return the 95 % bound of the rate over the lead time from what was observed so far."""
    typical = memory.change_square / memory.weight if memory.weight > 0 else 0.0
    # A ramp that has just begun is not in the average yet: what the last lead time did may repeat.
    latest = 0.0
    if memory.samples:
        since = _rate_at(memory.samples, memory.at - lead_seconds)
        oldest = memory.samples[0][1] if since is None else since
        latest = max(0.0, memory.samples[-1][1] - oldest)
    poisson = memory.level / window_seconds
    margin = max(NORMAL_95 * math.sqrt(max(typical, poisson)), latest)
    return Demand(memory.level, margin, lead_seconds)


def _rate_at(samples: tuple[tuple[float, float], ...], at: float) -> float | None:
    """Return the newest sampled rate not after `at`; None where history is shorter than that."""
    found = None
    for time, rate in samples:
        if time > at:
            break
        found = rate
    return found
