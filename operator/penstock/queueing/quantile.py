"""Quantile of a time from its tail P(T > t), by bracketing and bisection.

Bisection, because the tails here have kinks (M/D/1 at multiples of D) that defeat secant methods.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from penstock.queueing.domain import FloatOrArray, Numbers, probability_below_one, same_kind

_BISECTIONS = 100  # 2^-60 of the bracket is the last bit; the rest covers brackets found too wide


def quantile_of_tail(
    tail: Callable[[float], float], probability: Numbers, scale_seconds: float
) -> FloatOrArray:
    """Return the smallest t >= 0 with P(T > t) <= 1 - p, for a non-increasing `tail`.

    `probability` in [0, 1), array or scalar; `scale_seconds` any positive guess of the magnitude.
    """
    levels = 1 - np.asarray(probability_below_one("probability", probability))
    return same_kind(
        np.vectorize(lambda level: _crossing(tail, float(level), scale_seconds), otypes=[float])(levels)
    )


def _crossing(tail: Callable[[float], float], level: float, scale_seconds: float) -> float:
    if tail(0.0) <= level:
        return 0.0
    low, high = 0.0, scale_seconds
    while tail(high) > level:
        low, high = high, 2 * high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if tail(middle) > level:
            low = middle
        else:
            high = middle
    return high
