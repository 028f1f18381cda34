"""What the same time of day did before: a day of quarter hours, blended over days.

A day's shape is used as a ratio only, rate(t + lead)/rate(t): yesterday's rates themselves are the worst
of all forecasts (coverage 0.87 to 0.95 at 40 to 140 % over-provision), their ratio helps where the day
is steep. Until a quarter hour was seen a day ago there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from penstock.model.value import value

BIN_SECONDS = 900.0
BINS = 96
NEW_DAY_SHARE = 0.5  # of the newest day; weekends differ from weekdays by more than days drift
STEEPEST = 2.0  # a ratio beyond it is a quarter hour with hardly any request


@value(frozen=True, slots=True)
class SeasonMemory:
    """Mean rates of the quarter hours of a day (NaN: never seen) and the one that is being summed up."""

    rates: NDArray[np.float32] | None = None  # never changed, only replaced
    bin: int = -1  # of all quarter hours since the epoch
    total: float = 0.0
    count: int = 0


NO_SEASON = SeasonMemory()


def observe_season(memory: SeasonMemory, rate: float, at: float) -> SeasonMemory:
    """Take in one rate (1/s) at `at` (Unix seconds)."""
    index = int(at // BIN_SECONDS)
    if index == memory.bin:
        return SeasonMemory(memory.rates, index, memory.total + rate, memory.count + 1)
    if memory.rates is None:
        return SeasonMemory(np.full(BINS, np.nan, dtype=np.float32), index, rate, 1)
    mean, place = memory.total / memory.count, memory.bin % BINS
    rates = memory.rates.copy()
    rates[place] = mean if math.isnan(rates[place]) else rates[place] + NEW_DAY_SHARE * (mean - rates[place])
    return SeasonMemory(rates, index, rate, 1)


def restored_season(points: Iterable[tuple[float, float]]) -> SeasonMemory:
    """Return the season of past rates: (Unix seconds, 1/s), oldest first."""
    memory = SeasonMemory()
    for at, rate in points:
        memory = observe_season(memory, rate, at)
    return memory


def season_ratio(memory: SeasonMemory, at: float, lead_seconds: float) -> float | None:
    """Return how the rate changed over one lead time at this time of day; None until a day was seen."""
    if memory.rates is None:
        return None
    now, later = _rate_at(memory.rates, at), _rate_at(memory.rates, at + lead_seconds)
    if not (now > 0 and later > 0):  # NaN too
        return None
    return min(max(later / now, 1 / STEEPEST), STEEPEST)


def _rate_at(rates: NDArray[np.float32], at: float) -> float:
    """Return the rate of a time of day, linear between the middles of smoothed quarter hours."""
    place = at / BIN_SECONDS - 0.5
    left = math.floor(place)
    share = place - left
    # 1/4, 1/2, 1/4: the noise of single quarter hours is not a season.
    weights = ((1 - share) / 4, (2 - share) / 4, (1 + share) / 4, share / 4)
    return sum(
        weight * float(rates[(left + offset) % BINS]) for offset, weight in enumerate(weights, start=-1)
    )
