"""Quantiles of classic histograms, as Prometheus's histogram_quantile computes them.

Linear interpolation within the bucket that holds the rank; 0 is the lower end of the first bucket
unless its bound is negative; a rank in the last bucket gives the highest finite bound (promql/quantile.go).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from itertools import pairwise

from penstock.model.observation import Histogram

# Rates of one histogram differ in their last digits after adding up pods (promql/quantile.go uses 1e-12).
SMALL_DELTA = 1e-12


def histogram_quantile(quantile: float, cumulative: Mapping[float, float]) -> float:
    """Return the `quantile` (0..1) of cumulative counts by upper bound.

    NaN without observations, with fewer than two buckets or without a +Inf bucket.
    """
    bounds = sorted(cumulative)
    if len(bounds) < 2 or bounds[-1] != math.inf or math.isnan(quantile):
        return math.nan
    if not 0.0 <= quantile <= 1.0:
        return math.copysign(math.inf, quantile)
    counts = _monotonic([cumulative[bound] for bound in bounds])
    total = counts[-1]
    if not total > 0:
        return math.nan
    rank = quantile * total
    at = bisect_left(counts, rank, 0, len(counts) - 1)
    if at == len(counts) - 1:
        return bounds[-2]
    if at == 0 and bounds[0] <= 0:
        return bounds[0]
    start, below = (bounds[at - 1], counts[at - 1]) if at else (0.0, 0.0)
    if counts[at] == below:  # only for a quantile of 0, where Go divides 0 by 0
        return math.nan
    return start + (bounds[at] - start) * ((rank - below) / (counts[at] - below))


def length_histogram(cumulative: Mapping[float, float], total: float | None) -> Histogram | None:
    """Return counts per bucket, and the mean where `total` (the sum's rate) is known; None when empty."""
    bounds = sorted(cumulative)
    counts = _monotonic([cumulative[bound] for bound in bounds])
    if not bounds or not counts[-1] > 0:
        return None
    per_bucket = [counts[0]] + [upper - lower for lower, upper in pairwise(counts)]
    mean = None if total is None or not math.isfinite(total) else total / counts[-1]
    return Histogram(tuple(bounds), tuple(per_bucket), mean)


def _monotonic(counts: list[float]) -> list[float]:
    """Return counts that never fall: buckets of one scrape may be of different scrapes after a sum."""
    highest = counts[0] if counts else 0.0
    result = []
    for count in counts:
        if count > highest and not math.isclose(count, highest, rel_tol=SMALL_DELTA):
            highest = count
        result.append(highest)
    return result
