"""Steady state of a birth-death chain: p(n+1)/p(n) = birth(n)/death(n+1), normalised.

Products run outwards from the mode, so every factor is <= 1: nothing overflows, far tails underflow
to zero, and 10,000 states keep a relative error near 1e-12 (sums of logarithms lose four digits more).
Source: any text on Markov queues, e.g. Kleinrock, Queueing Systems I (1975), section 3.1.
"""

from __future__ import annotations

import numpy as np

from penstock.queueing.domain import FloatArray


def birth_death_probabilities(growth: FloatArray) -> FloatArray:
    """Return p(0..K), summing to 1, from growth[n] = birth(n)/death(n+1) for n = 0..K-1 (all >= 0).

    The ratios must be non-increasing in n (true of every queue with a constant arrival rate and
    service that does not slow down), so that the chain has one mode.
    """
    mode = int(np.count_nonzero(growth >= 1))
    weights = np.ones(growth.size + 1)
    weights[mode + 1 :] = np.cumprod(growth[mode:])
    if mode:
        weights[:mode] = np.cumprod(1 / growth[:mode][::-1])[::-1]
    # Smallest terms first keeps the sum's rounding error below that of the products.
    return np.asarray(weights / np.sort(weights).sum())
