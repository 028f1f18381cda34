"""How much load to expect by the time new capacity can serve it.

Offered load is what users send: requests that got their first token plus the growth of the queues. The
bound of the highest rate over [now, now + lead] comes from ``policy/forecast.py`` once a minute; what is
measured since then can only raise it. Until enough outcomes are known the level and the margin of
``policy/young_margin.py`` stand in, and they are the least while rates are far above the history kept. The
level is an EWMA that believes a jump, up or down, at once.
The rate of tokens is forecast beside that of requests: heavier requests need capacity as more requests do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from zlib import crc32

from penstock.model.value import value
from penstock.policy.forecast import Cell, ForecastMemory, Grid, close_cell, judged_anew
from penstock.policy.young_margin import highest_of

LEVEL_HALF_LIFE_WINDOWS = 1.0  # of the window that rates are counted over, 60 s by default
NORMAL_95 = 1.645
# Jump to the newest rate beyond three standard errors: 2 would jump once in half an hour of steady
# Poisson load (30 independent 1-minute windows x 2.5 %), 3 once in a working day. Down as well as up:
# a smoothed fall, 10 to 4 requests/s, kept replicas three minutes longer than `scaleDownWindow` asks.
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
    kept as requests of that weight. `heaviness` is what one weighs now, relative to it. What was seen before
    tokens were counted is kept as if all had been of that weight.
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


@dataclass(frozen=True, slots=True)
class ClosedAhead:
    """What `close_cell` makes of these arguments, made before it is asked for."""

    forecast: ForecastMemory
    cell: Cell
    grid: Grid
    closed: ForecastMemory

    def answers(self, forecast: ForecastMemory, cell: Cell, grid: Grid) -> bool:
        """Whether just this is asked for."""
        return self.forecast is forecast and self.cell == cell and self.grid == grid


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
    usual_tokens: float | None = None,
    ahead: ClosedAhead | None = None,
) -> DemandMemory:
    """Take in one measured offered rate. Times in seconds; `window_seconds` is what it was counted over.

    `tokens_per_request` is the mean work of a request in that window (None: not known, taken as before),
    `usual_tokens` that of many more, where known; `ahead` what `close_ahead` made of the open cell, which
    saves the time to close it, and nothing else.
    """
    if at <= memory.at:
        return memory
    heaviness, reference, forecast = memory.heaviness, memory.reference_tokens, memory.forecast
    if tokens_per_request is not None and tokens_per_request > 0:
        if not reference:
            # A restart reads past rates without tokens: their outcomes know nothing of how work varies.
            reference, forecast = usual_tokens or tokens_per_request, judged_anew(forecast)
        heaviness = tokens_per_request / reference
    heavy_rate = rate_per_second * heaviness
    offset = memory.offset_seconds
    if memory.at == -math.inf:
        return DemandMemory(
            at,
            rate_per_second,
            offset,
            rate_per_second,
            rate_per_second,
            heavy_rate,
            heaviness,
            reference,
            forecast,
        )
    level = _level(memory, rate_per_second, at - memory.at, window_seconds)
    if not cell_ends_before(memory, at, cell_seconds):
        return DemandMemory(
            at,
            level,
            offset,
            rate_per_second,
            max(memory.peak, rate_per_second),
            max(memory.heavy_peak, heavy_rate),
            heaviness,
            reference,
            forecast,
        )
    cell, grid = _open_cell(memory, cell_seconds), Grid(cell_seconds, lead_seconds, window_seconds)
    if ahead is not None and ahead.answers(forecast, cell, grid):
        forecast = ahead.closed
    else:
        forecast = close_cell(forecast, cell, grid)
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
    )


def cell_ends_before(memory: DemandMemory, at: float, cell_seconds: float) -> bool:
    """Whether an observation at a time would close the open cell; not where there is none yet."""
    if memory.at == -math.inf:
        return False
    offset = memory.offset_seconds
    return (at + offset) // cell_seconds != (memory.at + offset) // cell_seconds


def close_ahead(memory: DemandMemory, grid: Grid) -> ClosedAhead:
    """Close the open cell, of which the last observation has been made: see `cell_ends_before`."""
    cell = _open_cell(memory, grid.cell_seconds)
    return ClosedAhead(memory.forecast, cell, grid, close_cell(memory.forecast, cell, grid))


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
    requests, heavy = forecast.bounds or (0.0, 0.0)
    if forecast.bounds is None or forecast.is_far_above:
        light, heavier = forecast.spread
        weight = heavier.recent / light.recent if light.recent > 0 else memory.heaviness
        z = highest_of(lead_seconds / window_seconds)
        requests = max(requests, level + light.margin(level, z, window_seconds))
        heavy = max(heavy, level * weight + heavier.margin(level * weight, z, window_seconds))
    method = "" if forecast.bounds is None else forecast.methods[0]
    if capacity_tokens is not None and memory.reference_tokens > 0:
        if method:
            method = forecast.methods[1]
        requests = heavy * memory.reference_tokens / capacity_tokens
        lowest *= weight_ratio
    return Demand(level, max(0.0, max(requests, lowest) - level), lead_seconds, method)


def _open_cell(memory: DemandMemory, cell_seconds: float) -> Cell:
    number = int((memory.at + memory.offset_seconds) // cell_seconds)
    return Cell(number, (memory.rate, memory.rate * memory.heaviness), (memory.peak, memory.heavy_peak))


def _level(memory: DemandMemory, rate: float, elapsed: float, window_seconds: float) -> float:
    error = math.sqrt(max(memory.level, 1.0 / window_seconds) / window_seconds)
    step = rate - memory.level
    if abs(step) > JUMP_STANDARD_ERRORS * error:
        return rate
    half_life = LEVEL_HALF_LIFE_WINDOWS * window_seconds
    return memory.level + step * -math.expm1(-elapsed * math.log(2) / half_life)
