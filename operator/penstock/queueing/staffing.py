"""Square-root staffing: servers = a + beta sqrt(a) keeps the wait probability while the load a grows.

    alpha = 1 / (1 + beta Phi(beta)/phi(beta))        the Halfin-Whitt limit of Erlang C

Against Erlang C the count is exact or one short from a = 4 to a = 1024.
Source: Halfin & Whitt, Operations Research 29 (1981) 567.
"""

from __future__ import annotations

import math

from scipy import special

from penstock.queueing.domain import non_negative, one
from penstock.queueing.errors import InvalidParameter


def square_root_staffing(offered_load: float, wait_probability: float) -> int:
    """Return the servers for which about `wait_probability` (in (0, 1)) of the arrivals wait.

    `offered_load` in Erlang, >= 0. Raises InvalidParameter. Source: Halfin & Whitt 1981.
    """
    load = float(non_negative("offered_load", one("square_root_staffing", "offered_load", offered_load)))
    beta = halfin_whitt_beta(wait_probability)
    # At least one server, and more than the load (beta > 0 gives that except at load 0).
    return max(1, math.ceil(load + beta * math.sqrt(load)))


def halfin_whitt_beta(wait_probability: float) -> float:
    """Return the safety factor beta > 0 at which this fraction (in (0, 1)) of the arrivals waits."""
    alpha = one("halfin_whitt_beta", "wait_probability", wait_probability)
    if not 0 < alpha < 1:
        raise InvalidParameter("wait_probability", f"must be in (0, 1), such as 0.2, got {alpha:g}")
    low, high = 0.0, 1.0
    while _wait_probability(high) > alpha:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _wait_probability(middle) > alpha else (low, middle)
    return high


def _wait_probability(beta: float) -> float:
    # Phi/phi through the scaled error function: phi itself underflows from beta = 38 on.
    upper = math.sqrt(math.pi / 2) * special.erfcx(beta / math.sqrt(2))  # (1 - Phi)/phi
    log_phi = -0.5 * beta * beta - 0.5 * math.log(2 * math.pi)
    return float(1 / (1 + beta * (math.exp(min(-log_phi, 700.0)) - upper)))
