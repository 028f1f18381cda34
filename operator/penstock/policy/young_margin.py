"""The margin of a rate whose forecasts have not been judged often enough yet.

    margin = 1.29 sqrt(z^2 max(f/W, n) + 1.64^2 V)

n is the variance of a window's count beside its trend: for Poisson counts f/W, for bursts more (n W/f is
the index of dispersion). z is the 95 % point of the highest of lead/W normal values. V, the mean of
max(0, x(t) - x(t - lead))^2, holds drift: one-sided, so that a ramp is extrapolated by about its own slope
while a falling load adds nothing. Both are weighted by recency: one step was held for 40 cells. 1.29 is
Student's 95 % point at four degrees of freedom over the normal one: half an hour holds few independent
changes; without it the shipped real hour was covered 0.73.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from penstock.policy.point_forecasts import Rates
from penstock.queueing.domain import FloatArray

NORMAL_95 = 1.645
STUDENT_OVER_NORMAL = 1.29
LAST_CELLS = 40
HALF_LIFE_CELLS = 5.0  # of what is remembered of drift and bursts


@dataclass(frozen=True, slots=True)
class Spread:
    """What a short history says of one series; 1/s and (1/s)^2."""

    noise_variance: float = 0.0
    drift_square: float = 0.0
    recent: float = 0.0  # mean of the last five cells
    latest_rise: float = 0.0  # over the last lead time: a ramp that has just begun may go on

    def margin(self, rate: float, *, lead_seconds: float, window_seconds: float) -> float:
        """Return what to add to `rate` (1/s)."""
        noise = max(rate / window_seconds, self.noise_variance)
        z = _highest_of(lead_seconds / window_seconds)
        margin = math.sqrt(z * z * noise + NORMAL_95**2 * self.drift_square)
        return max(STUDENT_OVER_NORMAL * margin, self.latest_rise)


UNKNOWN = Spread()


def spreads(rates: Rates, *, seen: int, horizon: int) -> tuple[Spread, ...]:
    """Return the spread of each row of `rates`, (series, cells) oldest first; the newest `seen` count."""
    known = rates[:, -min(seen, LAST_CELLS) :].astype(np.float64)
    cells = known.shape[1]
    ahead = min(horizon, cells - 1)
    if cells < 3:
        return tuple(UNKNOWN for _ in range(known.shape[0]))
    rises = np.maximum(known[:, ahead:] - known[:, :-ahead], 0.0)
    # Second differences: a steady slope is no burst.
    bends = np.diff(known, n=2, axis=1)
    noise, drift = _recent_mean(np.square(bends)) / 6, _recent_mean(np.square(rises))
    recent, latest = known[:, -5:].mean(axis=1), rises[:, -1]
    return tuple(
        Spread(float(noise[row]), float(drift[row]), float(recent[row]), float(latest[row]))
        for row in range(known.shape[0])
    )


def _recent_mean(values: FloatArray) -> FloatArray:
    """Return the mean over cells (the last axis, oldest first), each worth half of one five cells later."""
    weights = 0.5 ** (np.arange(values.shape[1])[::-1] / HALF_LIFE_CELLS)
    mean: FloatArray = values @ (weights / weights.sum())
    return mean


@lru_cache(maxsize=1024)
def _highest_of(windows: float) -> float:
    """Return what 95 % of the highest of so many normal values stay below, in standard deviations."""
    return NormalDist().inv_cdf(0.95 ** (1 / max(1.0, windows)))
