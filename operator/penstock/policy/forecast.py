"""A bound of the highest rate over the lead time, chosen online among eight conformal ones.

Time goes in cells of one rate window (a minute): when one closes, all eight point forecasts are made, the
one of a lead time ago is scored (``policy/conformal.py``), and the bound of the best method stands until
the next. Requests and tokens are two series of one memory, since arrays of both cost what one does. The
memory is O(1), 9 kB a service; a cell costs some 50 microseconds, which is why it is not done at every tick.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil

import numpy as np

from penstock.model.value import value
from penstock.policy.conformal import MarginMemory, best_methods, observe_outcome
from penstock.policy.point_forecasts import (
    CELLS,
    METHODS,
    NAMES,
    Rates,
    fit_lags,
    persistence,
    point_forecasts,
)
from penstock.policy.season import BIN_SECONDS, NO_SEASON, SeasonMemory, observe_season, season_ratio
from penstock.policy.young_margin import UNKNOWN, Spread, spreads

SERIES = 2  # requests, tokens
# In cells. Each change of it is a replay of the history, and a start that is late moves it every minute;
# a lead time beyond the longest is bounded as if it were that long.
HORIZONS = (1, 2, 3, 4, 6, 8, 12, 16)
LONGEST_GAP_CELLS = 10
REFIT_CELLS = 30
# Times the mean of the history: what was learned of a night says too little of the morning.
FAR_ABOVE = 2.0
SETTLING_CELLS = 2  # the first windows of an engine, or of Prometheus, are half empty


@value(frozen=True, slots=True)
class Grid:
    """Times of a forecast in seconds: a cell, the lead time, and what rates are counted over."""

    cell_seconds: float
    lead_seconds: float
    window_seconds: float

    @property
    def horizon(self) -> int:
        """Return the cells that the lead time touches."""
        return _horizon(self.lead_seconds / self.cell_seconds)


@value(frozen=True, slots=True)
class Cell:
    """One cell of time: its number, newest and highest rates of both series, 1/s."""

    number: int
    rates: tuple[float, float]
    peaks: tuple[float, float]


@value(frozen=True, slots=True)
class History:
    """The last cells of both series, oldest first, and what was forecast in them."""

    rates: Rates  # (SERIES, CELLS)
    peaks: Rates  # (SERIES, CELLS): highest reading of each cell
    lags: Rates  # coefficients of AR8
    # A ring by cell, (horizon, SERIES, 2 METHODS + 1): forecasts, their bounds, the bound followed.
    issued: Rates
    bounds_since: int | None  # the cell from which on bounds were issued
    seen: int  # cells since the last gap


@value(frozen=True, slots=True)
class ForecastMemory:
    """What the forecast remembers; arrays are never changed, only replaced."""

    cell: int = -1  # number of the newest closed cell
    horizon: int = 0  # cells
    history: History | None = None
    margins: MarginMemory | None = None
    season: SeasonMemory = NO_SEASON
    ratio: float | None = None  # of the rates a lead time later and now, at this time of day
    followed: tuple[int, int] = (0, 0)
    bounds: tuple[float, float] | None = None  # that hold until the next cell closes, 1/s; None: none yet
    spread: tuple[Spread, ...] = (UNKNOWN, UNKNOWN)  # what stands in for bounds
    is_far_above: bool = False  # the history: bounds are at least what would stand in for them
    judged_from: int = 0  # the cell from which on forecasts are judged

    @property
    def methods(self) -> tuple[str, str]:
        """Return the methods followed, for requests and for tokens."""
        return NAMES[self.followed[0]], NAMES[self.followed[1]]


def close_cell(memory: ForecastMemory, cell: Cell, grid: Grid) -> ForecastMemory:
    """Take in a cell that has ended and return the memory with the bounds for the next one.

    Cells that were missed lie on the line between their neighbours, and teach nothing.
    """
    season = observe_season(memory.season, cell.rates[0], (cell.number + 1) * grid.cell_seconds)
    ratio, horizon, history = memory.ratio, grid.horizon, memory.history
    if season.bin != memory.season.bin or horizon != memory.horizon:
        middle = (season.bin + 0.5) * BIN_SECONDS
        ratio = season_ratio(season, middle, min(grid.lead_seconds, horizon * grid.cell_seconds))
    if history is not None and horizon != memory.horizon:
        memory = _replayed(memory, history, grid, horizon)
    return _advanced(memory, cell, grid, horizon, (season, ratio))


def judged_anew(memory: ForecastMemory) -> ForecastMemory:
    """Return the memory whose margins are learned of forecasts from the next cell on; the history stays."""
    history = memory.history
    if history is None:
        return memory
    return replace(
        memory,
        history=replace(history, bounds_since=None),
        margins=None,
        bounds=None,
        spread=spreads(memory.spread, history.rates, seen=history.seen, horizon=memory.horizon),
        judged_from=memory.cell + 1,
    )


@lru_cache(maxsize=4096)
def _horizon(cells: float) -> int:
    whole = ceil(cells - 0.01)
    return next((each for each in HORIZONS if each >= whole), HORIZONS[-1])


def _advanced(
    memory: ForecastMemory, cell: Cell, grid: Grid, horizon: int, day: tuple[SeasonMemory, float | None]
) -> ForecastMemory:
    """Score what is known now, forecast anew."""
    season, ratio = day
    before, margins = memory.history, memory.margins or MarginMemory.empty(SERIES)
    number = cell.number
    seen = 0 if before is None or number - memory.cell > LONGEST_GAP_CELLS else before.seen
    if before is None or seen < SETTLING_CELLS:
        history = replace(_begun(cell, horizon), seen=seen + 1)
        young = spreads(memory.spread, history.rates, seen=history.seen, horizon=horizon)
        return ForecastMemory(
            number,
            horizon,
            history,
            margins,
            season,
            ratio,
            memory.followed,
            spread=young,
            judged_from=memory.judged_from,
        )
    rates, peaks, seen = _extended(before, cell, number - memory.cell)
    lags = before.lags
    if number % REFIT_CELLS == 0:
        lags = fit_lags(rates, peaks, known=seen, cell_seconds=grid.cell_seconds, horizon=horizon)
    forecasts, means = point_forecasts(
        rates, peaks, lags, cell_seconds=grid.cell_seconds, horizon=horizon, season_ratio=ratio or 1.0
    )
    lowest = np.maximum(0.25 * means[:, :1], 1 / grid.window_seconds)

    # Outcomes that overlap would count one jump several times: a step up would widen margins for hours.
    made_at = number - horizon
    is_turn = number % min(max(2, horizon), 3) == 0
    if is_turn and seen - horizon > SETTLING_CELLS and made_at >= memory.judged_from:
        then = before.issued[number % horizon]  # of one horizon ago: the ring's oldest
        made, highest = then[:, :METHODS], peaks[:, -horizon:].max(axis=1)
        since = before.bounds_since
        bounds_then = then[:, METHODS:] if since is not None and made_at >= since else None
        error = np.sqrt(np.maximum(made, lowest) / grid.window_seconds)
        if any(cell.peaks) or highest.any() or made.any():
            # That nothing came where nothing was forecast is no skill: five hours of it left no margin.
            margins = observe_outcome(margins, highest, made, bounds_then, error)

    issued = before.issued.copy()
    now = issued[number % horizon]
    now[:, :METHODS] = forecasts
    followed, since = memory.followed, before.bounds_since
    bounds: tuple[float, float] | None = None
    if margins.settled:
        since = number if since is None else since
        first, second = best_methods(margins, METHODS if ratio is not None else METHODS - 1)
        followed = first, second
        error = np.sqrt(np.maximum(forecasts, lowest) / grid.window_seconds)
        each = np.add(forecasts, margins.quantiles * error, out=now[:, METHODS:-1])
        # Nothing all the time that is remembered: a margin would keep who has no model at its count for ever.
        silent = means.item(0, 1) == 0
        bounds = (0.0, 0.0) if silent else (max(0.0, float(each[0, first])), max(0.0, float(each[1, second])))
        now[:, -1] = bounds
    (light, heavy), spread = cell.rates, memory.spread
    is_far_above = light > FAR_ABOVE * means.item(0, 1) or heavy > FAR_ABOVE * means.item(1, 1)
    if is_far_above or bounds is None:
        spread = spreads(spread, rates, seen=seen, horizon=horizon)
    return ForecastMemory(
        number,
        horizon,
        History(rates, peaks, lags, issued, since, seen),
        margins,
        season,
        ratio,
        followed,
        bounds,
        spread,
        is_far_above,
        memory.judged_from,
    )


def _replayed(memory: ForecastMemory, history: History, grid: Grid, horizon: int) -> ForecastMemory:
    """Learn the margins of another horizon from the history kept; which method is good stays."""
    again = replace(memory, history=None, margins=None)
    known = min(history.seen, CELLS)
    rates, peaks = history.rates.T.tolist(), history.peaks.T.tolist()
    for back in range(known, 0, -1):
        cell = Cell(memory.cell - back + 1, tuple(rates[-back]), tuple(peaks[-back]))
        again = _advanced(again, cell, grid, horizon, (memory.season, None))
    if again.margins is None or memory.margins is None:
        return again
    return replace(again, margins=again.margins.with_experience_of(memory.margins))


def _begun(cell: Cell, horizon: int) -> History:
    """Return a history whose only point is this cell."""
    rates, peaks = (
        np.repeat(np.array(each, dtype=np.float32)[:, None], CELLS, axis=1)
        for each in (cell.rates, cell.peaks)
    )
    issued = np.zeros((horizon, SERIES, 2 * METHODS + 1), dtype=np.float32)
    return History(rates, peaks, persistence(SERIES), issued, None, 1)


def _extended(history: History, cell: Cell, gap: int) -> tuple[Rates, Rates, int]:
    """Return rates and peaks moved on by `gap` cells, and how many were seen since the last gap."""
    rates, peaks = np.empty_like(history.rates), np.empty_like(history.peaks)
    rates[:, :-gap], peaks[:, :-gap] = history.rates[:, gap:], history.peaks[:, gap:]
    rates[:, -1], peaks[:, -1] = cell.rates, cell.peaks
    if gap == 1:
        return rates, peaks, history.seen + 1
    share = np.arange(1, gap, dtype=np.float32) / gap
    last = history.rates[:, -1:]
    rates[:, -gap:-1] = peaks[:, -gap:-1] = last + (rates[:, -1:] - last) * share
    return rates, peaks, SETTLING_CELLS
