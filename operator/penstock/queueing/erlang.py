"""Erlang's blocking and delay formulas, and Little's law.

    B(0) = 1,  B(n) = a B(n-1) / (n + a B(n-1));   C = B / (1 - rho (1 - B)),  rho = a/c

The recursion adds positive terms only: at 10,000 servers it agrees with scipy's Poisson
distribution to 1e-11, where factorials overflow from 171 servers on.
Sources: A. K. Erlang 1917; D. L. Jagerman, BSTJ 53 (1974) for the continuous number of servers.
"""

from __future__ import annotations

import math
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from scipy import special

from penstock.queueing.domain import (
    FloatArray,
    FloatOrArray,
    Numbers,
    non_negative,
    one,
    positive,
    require_stable,
    same_kind,
    whole_number,
)


def littles_law(arrival_rate: Numbers, mean_time: Numbers) -> FloatOrArray:
    """Return the mean number present: arrival rate (1/s) x mean time spent (s). J. D. C. Little, OR 1961."""
    return non_negative("arrival_rate", arrival_rate) * non_negative("mean_time", mean_time)


@overload
def erlang_b(servers: int, offered_load: float) -> float: ...
@overload
def erlang_b(servers: NDArray[Any], offered_load: float | NDArray[Any]) -> FloatArray: ...
@overload
def erlang_b(servers: int, offered_load: NDArray[Any]) -> FloatArray: ...
def erlang_b(servers: int | NDArray[Any], offered_load: float | NDArray[Any]) -> FloatOrArray:
    """Return the blocking probability of M/G/c/c.

    `servers` whole numbers >= 1, `offered_load` in Erlang (arrival rate x mean service time), >= 0 and
    not bounded by the servers; both broadcast. Raises InvalidParameter. Source: Erlang 1917.
    """
    count = whole_number("servers", servers)
    load = non_negative("offered_load", offered_load)
    if isinstance(count, float) and isinstance(load, float):
        return _recursion(1.0, 1, int(count), load)
    return _recursion_of_arrays(*np.broadcast_arrays(count, load))


@overload
def erlang_c(servers: int, offered_load: float) -> float: ...
@overload
def erlang_c(servers: NDArray[Any], offered_load: float | NDArray[Any]) -> FloatArray: ...
@overload
def erlang_c(servers: int, offered_load: NDArray[Any]) -> FloatArray: ...
def erlang_c(servers: int | NDArray[Any], offered_load: float | NDArray[Any]) -> FloatOrArray:
    """Return the probability that an arrival at M/M/c has to wait.

    Arguments as in `erlang_b`, broadcast. Raises UnstableQueue where offered load >= servers,
    InvalidParameter otherwise. Source: Erlang 1917.
    """
    count = whole_number("servers", servers)
    load = non_negative("offered_load", offered_load)
    require_stable(load, count)
    return delay_from_blocking(erlang_b(servers, offered_load), count, load)


def erlang_c_continuous(servers: float, offered_load: float) -> float:
    """Return Erlang C for a real number of servers > 0 (Hayward's approximation needs c/z servers).

    The analytic continuation 1/B(x, a) = integral of exp(-y) (1 + y/a)^x dy over y > 0, taken at the
    fraction of x and carried up by the recursion. Source: Jagerman 1974.
    """
    count = float(positive("servers", one("erlang_c_continuous", "servers", servers)))
    load = float(non_negative("offered_load", one("erlang_c_continuous", "offered_load", offered_load)))
    require_stable(load, count)
    if load == 0:
        return 0.0
    fraction = count - math.floor(count)
    start = 1 / _inverse_blocking_below_one_server(fraction, load)
    steps = math.floor(count)
    blocking = _recursion(start, 1 + fraction, steps, load)
    return float(delay_from_blocking(blocking, count, load))


def delay_from_blocking(blocking: Any, servers: Any, offered_load: Any) -> FloatOrArray:
    """Return Erlang C from Erlang B: c B / (c - a (1 - B)). Arrays broadcast."""
    return same_kind(servers * blocking / (servers - offered_load * (1 - blocking)))


def _recursion(blocking: float, first: float, steps: int, load: float) -> float:
    for step in range(steps):
        offered = load * blocking
        blocking = offered / (first + step + offered)
    return blocking


def _recursion_of_arrays(servers: NDArray[Any], load: NDArray[Any]) -> FloatArray:
    # Sorted by size, the entries still in need of a step are a prefix: no mask is built per step.
    order = np.argsort(-servers, axis=None, kind="stable")
    counts, loads = servers.ravel()[order], load.ravel()[order].astype(np.float64)
    blocking = np.ones_like(loads)
    most = int(counts[0]) if counts.size else 0
    unfinished = np.searchsorted(-counts, -np.arange(1, most + 1), side="right")
    for n, active in enumerate(unfinished, start=1):
        offered = loads[:active] * blocking[:active]
        blocking[:active] = offered / (n + offered)
    result = np.empty_like(blocking)
    result[order] = blocking
    return result.reshape(servers.shape)


def _inverse_blocking_below_one_server(fraction: float, load: float) -> float:
    if load < 50:
        # exp(a) a^-x Gamma(1+x, a); beyond a = 700 exp() overflows, so leave it long before.
        upper = special.gamma(1 + fraction) * special.gammaincc(1 + fraction, load)
        return float(math.exp(load) * load**-fraction * upper)
    # For a >= 50 the integrand is smooth on the nodes' scale: 24 nodes reach 1e-15 (scipy.integrate.quad).
    nodes, weights = np.polynomial.laguerre.laggauss(24)
    return float(np.dot(weights, (1 + nodes / load) ** fraction))
