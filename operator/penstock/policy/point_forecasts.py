"""Eight simple forecasts of a rate, from its last hour and a half on an even grid.

MA60, MA300, EWMA60, EWMA300 (half-lives) and damped Holt are weighted sums of past rates, so one matrix
product makes them all and nothing but the rates has to be kept. AR8 is a regression of the highest
rate of the horizon on the last eight points, fitted anew now and then. max10 is the highest reading of ten
minutes; the last one is the newest rate times what the same time of day did (``policy/season.py``).
None is best everywhere (Holt on steep ramps, EWMA300 on noise): who is followed is chosen in
``policy/forecast.py``. All arrays: one row per series.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Rates = NDArray[np.float32]  # (series, CELLS), oldest first

CELLS = 96  # points kept of each series: at one a minute an hour and a half
NAMES = ("MA60", "MA300", "EWMA60", "EWMA300", "Holt", "AR8", "max10", "seasonal")
METHODS = len(NAMES)
LONG_SECONDS = 300.0
MAX_SECONDS = 600.0
MEAN_CELLS = 24
LAGS = 8
# Per point; on the shipped traces level gains of 0.3 to 0.7 and damping of 0.8 to 0.95 differ by 2 % in loss.
_HOLT_LEVEL, _HOLT_TREND, _HOLT_DAMPING = 0.5, 0.15, 0.9
# Of the mean square of the regressors: eight lags of a steady load are nearly collinear.
_RIDGE = 0.05


def point_forecasts(
    rates: Rates, peaks: Rates, lags: Rates, *, cell_seconds: float, horizon: int, season_ratio: float
) -> tuple[Rates, Rates]:
    """Return the forecasts, (series, METHODS), and the means of the rates, (series, 2): of late, of all.

    `peaks` are the highest readings of each cell, `lags` the coefficients of `fit_lags`, `horizon` counts
    cells, `season_ratio` is how the rate changes over it at this time of day (1.0 where not known).
    """
    linear = rates @ _weights(cell_seconds, horizon)
    found = np.empty((rates.shape[0], METHODS), dtype=np.float32)
    found[:, :5] = linear[:, :5]
    centre = found[:, 1]  # the regression is on deviations from the last five minutes
    found[:, 5] = centre + ((rates[:, -LAGS:] - centre[:, None]) * lags).sum(axis=1)
    found[:, 6] = peaks[:, -max(1, round(MAX_SECONDS / cell_seconds)) :].max(axis=1)
    found[:, 7] = rates[:, -1] * season_ratio
    return np.maximum(found, 0.0, out=found), linear[:, 5:]


def persistence(series: int) -> Rates:
    """Return the coefficients of a regression that knows nothing: the newest rate stays."""
    lags = np.zeros((series, LAGS), dtype=np.float32)
    lags[:, -1] = 1.0
    return lags


def fit_lags(rates: Rates, peaks: Rates, *, known: int, cell_seconds: float, horizon: int) -> Rates:
    """Fit the highest rate of the next `horizon` cells to the last eight, by ridge regression.

    Only the newest `known` points were seen; with fewer than three per coefficient the newest rate stays.
    """
    count = min(known, rates.shape[1]) - horizon - LAGS + 1
    if count < 3 * LAGS:
        return persistence(rates.shape[0])
    first = rates.shape[1] - horizon - LAGS + 1 - count
    windows = np.lib.stride_tricks.sliding_window_view(rates, LAGS, axis=1)[:, first : first + count]
    future = np.lib.stride_tricks.sliding_window_view(peaks, horizon, axis=1)
    target = future[:, first + LAGS : first + LAGS + count].max(axis=2)
    width = max(1, min(LAGS, round(LONG_SECONDS / cell_seconds)))
    centre = windows[:, :, LAGS - width :].mean(axis=2, keepdims=True)
    x = (windows - centre).astype(np.float64)
    y = (target - centre[:, :, 0]).astype(np.float64)
    gram = np.matmul(x.transpose(0, 2, 1), x)
    size = np.einsum("sii->s", gram) / LAGS
    gram += (_RIDGE * size + 1e-12)[:, None, None] * np.eye(LAGS)
    # Shrunk towards the newest rate, not towards nothing.
    prior = (_RIDGE * size + 1e-12)[:, None] * persistence(rates.shape[0])
    right = np.matmul(x.transpose(0, 2, 1), y[:, :, None])[:, :, 0] + prior
    return np.linalg.solve(gram, right[:, :, None])[:, :, 0].astype(np.float32)


@lru_cache(maxsize=64)
def _weights(cell_seconds: float, horizon: int) -> Rates:
    """Return the weights of the linear forecasts and of the means: (CELLS, 7), in the order of NAMES."""
    age = np.arange(CELLS)[::-1]  # of each column of `rates`, in cells
    long = max(1, round(LONG_SECONDS / cell_seconds))
    columns = [
        (age == 0).astype(float),
        (age < long).astype(float),
        np.exp2(-age * cell_seconds / 60.0),
        np.exp2(-age * cell_seconds / LONG_SECONDS),
    ]
    means = (age < MEAN_CELLS) / MEAN_CELLS, np.full(CELLS, 1 / CELLS)
    weights = np.column_stack([*(each / each.sum() for each in columns), _holt(horizon), *means])
    weights = weights.astype(np.float32)
    weights.setflags(write=False)
    return weights


def _holt(horizon: int) -> NDArray[np.float64]:
    """Return the damped Holt forecast's response to each past rate (Gardner and McKenzie, 1985)."""
    impulses = np.eye(CELLS)
    level, trend = impulses[0].copy(), np.zeros(CELLS)
    for rate in impulses[1:]:
        before = level
        level = _HOLT_LEVEL * rate + (1 - _HOLT_LEVEL) * (level + _HOLT_DAMPING * trend)
        trend = _HOLT_TREND * (level - before) + (1 - _HOLT_TREND) * _HOLT_DAMPING * trend
    return np.asarray(level + trend * sum(_HOLT_DAMPING**step for step in range(1, horizon + 1)))
