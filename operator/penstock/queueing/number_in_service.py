"""How many sequences run: the state-dependent birth-death chain of a replica, pooled or not.

    p(n+1)/p(n) = lambda / mu_pool(n+1),   mu_pool(n) = m mu(n/m)

Below the concurrency limit all sequences share the engine (processor sharing), so p(n) is insensitive to
the law of the output lengths. m replicas that share their load perfectly act as one chain; m need not
be whole: the spread of n/m goes as 1/m, so a smoother arrival stream is a slightly larger m.
Source: Kelly 1979 (symmetric queues); Baskett, Chandy, Muntz & Palacios 1975.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from penstock.queueing.domain import FloatArray

_TAIL = 1e-9  # of the geometric tail beyond the limit, where it has one
_SHORTEST_TAIL = 2000  # states: at 99 % of saturation all but 2e-9 lies within
# Running in one chain: the spread of so many is 0.1 %; 1,000 replicas of 65,536 slots would be 67 million.
_LARGEST_CHAIN = 1_000_000


@dataclass(frozen=True, slots=True)
class NumberInService:
    """p(n) of the pooled chain: states 0..size-1, of which those above `limit` wait for a slot."""

    probabilities: FloatArray
    replicas: float  # m
    limit: float  # c per replica

    @property
    def blocking(self) -> float:
        """Probability that an arrival finds the last state (only meaningful for a finite chain)."""
        return float(self.probabilities[-1])

    @property
    def running_mean(self) -> float:
        """Mean running sequences per replica."""
        n = np.arange(self.probabilities.size)
        return float(np.minimum(n / self.replicas, self.limit) @ self.probabilities)

    def quantile_states(self, levels: FloatArray) -> FloatArray:
        """Return the state n at each probability level in (0, 1)."""
        return np.searchsorted(np.cumsum(self.probabilities), levels, side="left").clip(
            0, self.probabilities.size - 1
        )


def number_in_service(
    rate: float,
    completion: FloatArray,
    *,
    replicas: float,
    limit: float,
    places: int | None = None,
) -> NumberInService:
    """Return p(n) for arrivals at `rate` (1/s, all m replicas).

    `completion[j]` is mu(j) of one replica for j = 0..floor(limit), 1/s; it is interpolated and constant
    from `limit` on. `places` bounds the chain (arrivals beyond are lost); None: unbounded, which needs
    rate < m mu(limit).
    """
    top = max(1, int(np.floor(replicas * limit)))
    grid = np.arange(completion.size, dtype=np.float64)
    n = np.arange(1, top + 1) / replicas
    death = replicas * np.interp(n, grid, completion)
    if places is None:
        ratio = rate / death[-1]
        extra = 40 * top + _SHORTEST_TAIL
        # Just below saturation the last whole state may complete less than arrives: long, not endless.
        if ratio < 1:
            extra = min(int(np.ceil(np.log(_TAIL) / np.log(ratio))), extra) if ratio > 0 else 0
    else:
        extra = max(0, places - top)
        top = min(top, places)
        death = death[:top]
    log_ratio = np.log(max(rate, 1e-300)) - np.log(np.concatenate([death, np.full(extra, death[-1])]))
    weights = np.concatenate([[0.0], np.cumsum(log_ratio)])
    weights = np.exp(weights - weights.max())
    return NumberInService(weights / weights.sum(), replicas, limit)


def blocking(
    rate: float, completion: Callable[[FloatArray], FloatArray], *, replicas: float, limit: int, places: float
) -> float:
    """Return the share (0..1) of arrivals at `rate` (1/s, all m replicas) that find all `places` taken.

    `completion` is mu(n) of one replica, 1/s. Beyond `limit` it is constant and p(n) geometric: those that
    wait need no states, and an hour's queue of 1 ms requests (a chain of 215 GiB) costs what one place does.
    """
    # Fewer replicas that share alike shed no less.
    fewer = min(1.0, _LARGEST_CHAIN / (replicas * limit))
    rate, replicas, places = rate * fewer, replicas * fewer, round(places * fewer)
    top = max(1, min(math.floor(replicas * limit), places))
    log_ratios = math.log(max(rate, 1e-300)) - np.log(replicas * completion(np.arange(1, top + 1) / replicas))
    weights = np.concatenate([[0.0], np.cumsum(log_ratios)])
    # All relative to p(top), as logarithms: neither a light load nor a hopeless one overflows.
    running = weights.max() - weights[-1] + math.log(np.exp(weights - weights.max()).sum())
    ratio, waiting = float(log_ratios[-1]), max(0, places - top)
    series = -math.inf
    if waiting:
        terms = math.expm1(-waiting * abs(ratio)) / math.expm1(-abs(ratio)) if ratio else float(waiting)
        series = max(ratio, waiting * ratio) + math.log(terms)
    return math.exp(waiting * ratio - float(np.logaddexp(running, series)))
