"""The margin of a rate whose forecasts have not been judged often enough yet.

    margin = max(N, min(1.29 sqrt(z^2 n + 1.64^2 V), R), r),   N = 1.29 z sqrt(n),   n = max(f/W, noise)

n is the variance of a window's count beside its trend: for Poisson counts f/W, for bursts more (n W/f is
the index of dispersion). z is the 95 % point of the highest of lead/W normal values. V, the mean of
max(0, x(t) - x(t - lead))^2, holds drift: one-sided, so that a ramp is extrapolated by about its own slope
while a falling load adds nothing. Both are weighted by recency: one step was held for 40 cells. 1.29 is
Student's 95 % point at four degrees of freedom over the normal one: half an hour holds few independent
changes; without it the shipped real hour was covered 0.73. R is the largest rise that was seen, the one
under way included: of so few it is the 95 % point that assumes no law. r is the rise over the last lead time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
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
    largest_rise: float = 0.0  # over a lead time
    lead_ago: float = math.inf  # the rate then

    def margin(self, rate: float, z: float, window_seconds: float) -> float:
        """Return what to add to `rate` (1/s); `z` is `highest_of` the windows of the lead time."""
        # Twice for each young service at every tick, so no more roots and calls than it takes.
        noise = rate / window_seconds
        if noise < self.noise_variance:
            noise = self.noise_variance
        latest = rate - self.lead_ago
        if latest < self.latest_rise:
            latest = self.latest_rise
        largest = self.largest_rise
        if largest < latest:
            largest = latest
        alone = STUDENT_OVER_NORMAL * z * math.sqrt(noise)
        if largest <= alone:
            return alone
        both = STUDENT_OVER_NORMAL * math.sqrt(z * z * noise + NORMAL_95**2 * self.drift_square)
        return largest if largest < both else max(both, latest)


UNKNOWN = Spread()


def spreads(before: tuple[Spread, ...], rates: Rates, *, seen: int, horizon: int) -> tuple[Spread, ...]:
    """Return the spread of each row of `rates`, (series, cells) oldest first; the newest `seen` count.

    `before` is what was known until now: two cells say nothing of changes.
    """
    lead_ago = rates[:, -horizon].tolist()
    known = rates[:, -min(seen, LAST_CELLS) :].astype(np.float64)
    cells = known.shape[1]
    if cells < 3:
        return tuple(replace(each, lead_ago=rate) for each, rate in zip(before, lead_ago, strict=True))
    ahead = min(horizon, cells - 1)
    rises = np.maximum(known[:, ahead:] - known[:, :-ahead], 0.0)
    # Second differences: a steady slope is no burst.
    bends = np.diff(known, n=2, axis=1)
    noise, drift = _recent_mean(np.square(bends)) / 6, _recent_mean(np.square(rises))
    recent, latest, largest = known[:, -5:].mean(axis=1), rises[:, -1], rises.max(axis=1)
    columns = (each.tolist() for each in (noise, drift, recent, latest, largest))
    return tuple(Spread(*row) for row in zip(*columns, lead_ago, strict=True))


def _recent_mean(values: FloatArray) -> FloatArray:
    """Return the mean over cells (the last axis, oldest first), each worth half of one five cells later."""
    weights = 0.5 ** (np.arange(values.shape[1])[::-1] / HALF_LIFE_CELLS)
    mean: FloatArray = values @ (weights / weights.sum())
    return mean


@lru_cache(maxsize=1024)
def highest_of(windows: float) -> float:
    """Return what 95 % of the highest of so many normal values stay below, in standard deviations."""
    return NormalDist().inv_cdf(0.95 ** (1 / max(1.0, windows)))
