"""How much load to expect by the time new capacity can serve it.

Offered load is what users send: requests that got their first token plus the growth of the queues. The
bound of the highest rate over [now, now + lead] comes from ``policy/forecast.py`` once a minute; what is
measured since then can only raise it. Until half an hour of outcomes is known it is

    y95 = level + sqrt(z^2 level IDC/W + 2.13^2 V)        V = EWMA of max(0, x(t) - x(t - lead))^2

with the index of dispersion of counts over the window W: bursts are not Poisson. z is the 95 % point of
the highest of lead/W normal values. V, one-sided, holds drift: a ramp is extrapolated by about its own
slope, a falling load adds nothing.
The rate of tokens is forecast beside that of requests: heavier requests need capacity as more requests do.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from zlib import crc32

from penstock.model.value import value
from penstock.policy.forecast import Cell, ForecastMemory, Grid, History, close_cell

LEVEL_HALF_LIFE_WINDOWS = 1.0  # of the window that rates are counted over, 60 s by default
CHANGE_HALF_LIFE_CELLS = 15.0
NORMAL_95 = 1.645
STUDENT_95 = 2.13  # four degrees of freedom: a young service has seen few independent changes
# Jump to the newest rate beyond three standard errors: 2 would jump once in half an hour of steady
# Poisson load (30 independent 1-minute windows x 2.5 %), 3 once in a working day.
JUMP_STANDARD_ERRORS = 3.0
NO_FORECAST = ForecastMemory()


@value(frozen=True, slots=True)
class Demand:
    """Offered load and what it may become within the lead time; requests per second.

    `rise_per_second` holds what heavier requests add, as requests of the shape that capacity is known for.
    """

    offered_per_second: float
    rise_per_second: float
    lead_seconds: float
    method: str = ""  # the forecast that was followed; empty: not enough is known to choose one

    @property
    def bound_per_second(self) -> float:
        """Return the rate to size for."""
        return self.offered_per_second + self.rise_per_second


@value(frozen=True, slots=True)
class DemandMemory:
    """What the estimate remembers; O(1) per service. Rates in requests per second.

    `reference_tokens` is what one request weighed when tokens were first counted: the series of tokens is
    kept as requests of that weight. `heaviness` is what one weighs now, relative to it.
    """

    at: float = -math.inf
    level: float = 0.0
    offset_seconds: float = 0.0  # of the cells' grid: services of a fleet take turns
    rate: float = 0.0
    peak: float = 0.0  # highest rate of the open cell
    heavy_peak: float = 0.0
    heaviness: float = 1.0
    reference_tokens: float = 0.0
    forecast: ForecastMemory = NO_FORECAST
    change_square: float = 0.0
    dispersion: float = 0.0
    weight: float = 0.0  # 0..1: how much history the two before hold


def begun_demand(name: str, cell_seconds: float) -> DemandMemory:
    """Return the memory of a service not seen yet; `name` decides its turn in the fleet.

    10,000 services whose cells all close in the same tick would make every fourth tick half a second longer.
    """
    return DemandMemory(offset_seconds=crc32(name.encode()) / 2**32 * cell_seconds)


def observe_rate(
    memory: DemandMemory,
    rate_per_second: float,
    at: float,
    *,
    lead_seconds: float,
    window_seconds: float,
    cell_seconds: float,
    tokens_per_request: float | None = None,
) -> DemandMemory:
    """Take in one measured offered rate. Times in seconds; `window_seconds` is what it was counted over.

    `tokens_per_request` is the mean work of a request in that window (None: not known, taken as before).
    """
    if at <= memory.at:
        return memory
    heaviness, reference = memory.heaviness, memory.reference_tokens
    if tokens_per_request is not None and tokens_per_request > 0:
        reference = reference or tokens_per_request
        heaviness = tokens_per_request / reference
    heavy_rate = rate_per_second * heaviness
    offset = memory.offset_seconds
    if memory.at == -math.inf:
        return DemandMemory(
            at, rate_per_second, offset, rate_per_second, rate_per_second, heavy_rate, heaviness, reference
        )
    level = _level(memory, rate_per_second, at - memory.at, window_seconds)
    before = (memory.at + offset) // cell_seconds
    if (at + offset) // cell_seconds == before:
        return DemandMemory(
            at,
            level,
            offset,
            rate_per_second,
            max(memory.peak, rate_per_second),
            max(memory.heavy_peak, heavy_rate),
            heaviness,
            reference,
            memory.forecast,
            memory.change_square,
            memory.dispersion,
            memory.weight,
        )
    closed = Cell(
        int(before), (memory.rate, memory.rate * memory.heaviness), (memory.peak, memory.heavy_peak)
    )
    forecast = close_cell(memory.forecast, closed, Grid(cell_seconds, lead_seconds, window_seconds))
    change_square, dispersion, weight = memory.change_square, memory.dispersion, memory.weight
    history = forecast.history
    if history is not None and history.seen > 2:
        gain = -math.expm1(-math.log(2) / CHANGE_HALF_LIFE_CELLS)
        rise = max(0.0, _rise(history, forecast.horizon))
        change_square += gain * (rise * rise - change_square)
        # Of a second difference, so that a steady slope is not taken for bursts.
        older, old, new = history.rates[0, -3:].tolist()
        square = (new - 2 * old + older) ** 2 / 6
        dispersion += gain * (window_seconds * square / max(level, 1 / window_seconds) - dispersion)
        weight += gain * (1.0 - weight)
    return DemandMemory(
        at,
        level,
        offset,
        rate_per_second,
        rate_per_second,
        heavy_rate,
        heaviness,
        reference,
        forecast,
        change_square,
        dispersion,
        weight,
    )


def expected_demand(
    memory: DemandMemory,
    *,
    lead_seconds: float,
    window_seconds: float,
    capacity_tokens: float | None = None,
    weight_ratio: float = 1.0,
) -> Demand:
    """Return the 95 % bound of the rate over the lead time from what was observed so far.

    It is in requests of the shape that capacity is known for: `capacity_tokens` is the work of one of
    those (None: not known), `weight_ratio` the long-run mean work of the real ones over it.
    """
    level, forecast = memory.level, memory.forecast
    lowest = level + NORMAL_95 * math.sqrt(level / window_seconds)
    if forecast.bounds is None:
        lowest, method = level + _short_margin(memory, lead_seconds, window_seconds), ""
        requests = heavy = 0.0
    else:
        (requests, heavy), method = forecast.bounds, forecast.methods[0]
    if capacity_tokens is not None and memory.reference_tokens > 0:
        if method:
            method = forecast.methods[1]
        requests = heavy * memory.reference_tokens / capacity_tokens
        lowest *= weight_ratio
    return Demand(level, max(0.0, max(requests, lowest) - level), lead_seconds, method)


def _level(memory: DemandMemory, rate: float, elapsed: float, window_seconds: float) -> float:
    error = math.sqrt(max(memory.level, 1.0 / window_seconds) / window_seconds)
    step = rate - memory.level
    if step > JUMP_STANDARD_ERRORS * error:
        return rate
    half_life = LEVEL_HALF_LIFE_WINDOWS * window_seconds
    return memory.level + step * -math.expm1(-elapsed * math.log(2) / half_life)


def _rise(history: History, horizon: int) -> float:
    """Return how much the rate rose over the last lead time."""
    return float(history.rates[0, -1] - history.rates[0, -1 - min(horizon, history.seen - 1)])


@lru_cache(maxsize=1024)
def _normal_margin(windows: float) -> float:
    """Return what 95 % of the highest of so many normal values stay below, in standard deviations."""
    return NormalDist().inv_cdf(0.95 ** (1 / max(1.0, windows)))


def _short_margin(memory: DemandMemory, lead_seconds: float, window_seconds: float) -> float:
    """Return the margin while too few outcomes are known."""
    noise = max(1.0, memory.dispersion / memory.weight if memory.weight else 1.0)
    drift = math.sqrt(memory.change_square / memory.weight) if memory.weight else 0.0
    noise *= memory.level / window_seconds
    margin = math.hypot(_normal_margin(lead_seconds / window_seconds) * math.sqrt(noise), STUDENT_95 * drift)
    # A ramp that has just begun is not in the average yet: what the last lead time did may repeat.
    history = memory.forecast.history
    return margin if history is None else max(margin, _rise(history, memory.forecast.horizon))
