"""Latency of a canary: bets on the share of requests slower than a bucket edge.

Null hypotheses, at the edge in use: the canary's share is at most r times the stable one's (rejected:
rollback), and at least r times (rejected: promotion). r = maximum regression ratio, times
S(edge / l) / S(edge) where load alone makes the canary l times as slow; S is the stable arm's share above.
Where r times is less than one request in a hundred more, the bound is p_s + 0.01 instead.
Evidence in favour is kept twice: of all blocks, and of those in which both arms had like load.
Bets: the stable share of the last minute or so, and S(edge / l k) for a canary k times as slow, S a
straight line of log time on the normal scale between two edges (exact for a log-normal).
The evidence that begins in a minute is bet on the edge where a canary 1.2 times as slow shows most per
request (Kullback-Leibler); which edge that is was known before. 250 ms beats 500 ms threefold at 15 % and 2 %
slow requests. Where more than 1.2 times is allowed, SLOWER is taken times the margin, and the edge is one
where both an equal canary and one slower by far show. All functions take arrays with any leading axes, then
edges, then bets: the judge calls them with none, the benchmark with 2,000 canaries.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from penstock.policy.canary_bets import (
    SMALLEST,
    Block,
    Shares,
    inside,
    log_bet,
    log_growth,
    nearest_with_difference,
    nearest_with_ratio,
)
from penstock.queueing.domain import FloatArray, FloatOrArray

# Where hardly a request is slower than an edge, 1.15 times of nothing is nothing: one in a hundred more is
# allowed at every edge. Excluding that takes 300 canary requests, excluding 1.15 times of 0.1 % takes 10^6.
LEAST_INCREASE = 0.01
# Bets against: times as slow, and weight. +20 % p95 is the smallest that matters, 2.2 is a disaster.
SLOWER = np.array([1.2, 1.5, 2.2])
LOG_SLOWER_WEIGHT = np.log([0.6, 0.24, 0.16])
AS_GOOD = np.array([1.0, 0.9])  # bets for
LOG_AS_GOOD_WEIGHT = np.log([0.8, 0.2])
LEVEL_HALF_LIFE_SECONDS = 60.0  # load waves last minutes
LEAST_LEVEL_REQUESTS = 50.0  # stable requests before a bet
LARGEST_SHARE = 0.6  # of slow requests at an edge: of 70 % slow ones, 1.15 times as many shows little


@dataclass(frozen=True, slots=True, eq=False)
class LatencyState:
    """Stable level per edge (decaying counts), and ln evidence against and for per edge and bet."""

    level_slow: FloatArray  # (..., edges)
    level_total: FloatArray  # (...)
    log_against: FloatArray  # (..., edges, SLOWER)
    log_for: FloatArray  # (..., edges, AS_GOOD)
    begun: FloatArray  # (...): weight of the evidence that has begun
    pending: FloatArray  # (...): due to begin with the next block that can be bet on
    log_for_alike: FloatArray  # as log_for, of blocks at like load only; it begins with the first of them
    begun_alike: FloatArray
    pending_alike: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class SlowCounts:
    """Requests of a block slower than each edge (..., edges), and all (...).

    `alike` (...): whether both arms had like load per replica, so that the block counts for a promotion.
    """

    stable_slow: FloatArray
    stable_total: FloatArray
    canary_slow: FloatArray
    canary_total: FloatArray
    alike: NDArray[np.bool_] = field(default_factory=lambda: np.ones((), dtype=bool))


@dataclass(frozen=True, slots=True, eq=False)
class Bets:
    """What the stable level before a block implies: shares, bounds and the edge to begin at."""

    stable: FloatArray  # (..., edges)
    slower: FloatArray  # (..., edges, SLOWER): canary shares
    as_good: FloatArray  # (..., edges, AS_GOOD)
    bound: FloatArray  # (..., edges): the canary's share that is allowed at this stable share
    absolute: NDArray[np.bool_]  # (..., edges): allowed is so much more, not so many times as much
    best: NDArray[np.bool_]  # (..., edges): the most informative edge; none while the level is not known


def empty_state(edges: int, batch: tuple[int, ...] = ()) -> LatencyState:
    """Return the state before any block."""
    return LatencyState(
        np.zeros((*batch, edges)),
        np.zeros(batch),
        np.full((*batch, edges, SLOWER.size), -np.inf),
        np.full((*batch, edges, AS_GOOD.size), -np.inf),
        np.zeros(batch),
        np.zeros(batch),
        np.full((*batch, edges, AS_GOOD.size), -np.inf),
        np.zeros(batch),
        np.zeros(batch),
    )


def place_bets(
    state: LatencyState,
    edges: FloatArray,
    margin: float,
    expected_ratio: FloatOrArray,
    stable_per_canary: FloatArray,
) -> Bets:
    """Return the bets of the next block. `edges`: finite upper edges in seconds, ascending."""
    stable = inside((state.level_slow + 0.5) / (state.level_total[..., None] + 1.0))
    at = np.log(edges)
    normal = -ndtri(stable)
    slope = np.diff(normal, axis=-1) / np.diff(at)
    slope = np.concatenate([slope[..., :1], slope], axis=-1)  # the lowest edge has none below
    times = np.asarray(expected_ratio, dtype=np.float64)[..., None]
    expected = inside(ndtr(-(normal - slope * np.log(times))))
    absolute = expected + LEAST_INCREASE > margin * expected
    bound = np.where(absolute, expected + LEAST_INCREASE, margin * expected)
    wide = margin > SLOWER[0]  # who allows so much is not looking for 1.2 times as slow
    slower = _share_when_slower(normal, slope, SLOWER * (margin if wide else 1.0) * times[..., None])
    as_good = _share_when_slower(normal, slope, AS_GOOD * times[..., None])
    totals = (np.broadcast_to(stable_per_canary[..., None], stable.shape), np.ones_like(stable))

    def growth_if(canary: FloatArray) -> FloatArray:
        bet = (stable, canary)
        return log_growth(bet, bet, nearest_allowed(bet, totals, bound, absolute), totals[0])

    if wide:
        # The one slower by far would show far out at best, where no good canary is ever known to be one.
        sought = slower[..., -1]
        growth = np.minimum(growth_if(sought), growth_if(as_good[..., 0]))
    else:
        sought = slower[..., 0]
        growth = growth_if(sought)
    fit = (stable <= LARGEST_SHARE) & (state.level_total >= LEAST_LEVEL_REQUESTS)[..., None]
    # Where that shows at no edge, the one that comes nearest to it.
    growth = np.where(fit, np.where(sought > bound, growth, np.minimum(sought / bound - 1.0, 0.0)), -np.inf)
    best = (np.arange(edges.size) == np.argmax(growth, axis=-1)[..., None]) & fit
    return Bets(stable, slower, as_good, bound, absolute, best)


def nearest_allowed(bet: Shares, totals: Shares, bound: FloatArray, absolute: NDArray[np.bool_]) -> Shares:
    """Return the projection of a bet on what is just allowed at its stable share.

    A ratio of shares where many requests are slow, a difference where hardly one is: as a ratio, 1 in 100
    over a stable share of 0.02 % would allow nearly everything once the stable one is a little less.
    """
    level = bet[0]
    ratio = nearest_with_ratio(bet, totals, bound / level)
    if not absolute.any():
        return ratio
    shape = ratio[0].shape
    at = np.broadcast_to(absolute, shape)
    parts = [np.broadcast_to(each, shape)[at] for each in (*bet, *totals, bound - level)]
    few = nearest_with_difference((parts[0], parts[1]), (parts[2], parts[3]), parts[4])
    for column, values in zip(ratio, few, strict=True):
        column[at] = values
    return ratio


def _share_when_slower(normal: FloatArray, slope: FloatArray, times: FloatArray) -> FloatArray:
    """Return S(edge / times) by the straight line through the edge and the one below."""
    shifted = normal[..., None] - slope[..., None] * np.log(times)
    return inside(ndtr(-shifted))


def advance_latency(
    state: LatencyState, bets: Bets, counts: SlowCounts, new_weight: float, seconds: float
) -> LatencyState:
    """Return the state after a block of `seconds`, with evidence of `new_weight` that is due to begin."""
    both = (counts.stable_total > 0) & (counts.canary_total > 0)
    alike = both & counts.alike
    known = bets.best.any(axis=-1)
    pending, pending_alike = state.pending + new_weight, state.pending_alike + new_weight
    now, now_alike = np.where(both & known, pending, 0.0), np.where(alike & known, pending_alike, 0.0)
    begins, begins_alike = _beginning(bets, now), _beginning(bets, now_alike)
    totals = (counts.stable_total[..., None, None], counts.canary_total[..., None, None])
    block = Block(totals[0], counts.stable_slow[..., None], totals[1], counts.canary_slow[..., None])
    stable, bound = bets.stable[..., None], bets.bound[..., None]

    def gain(canary: FloatArray, in_play: NDArray[np.bool_]) -> FloatArray:
        bet = (stable * np.ones_like(canary), canary)
        in_play = in_play & both[..., None, None]
        absolute = bets.absolute[..., None] & in_play
        with np.errstate(invalid="ignore"):  # no requests: 0 / 0, not in play
            null = nearest_allowed(bet, totals, bound, absolute)
            return np.where(in_play, log_bet(block, bet, null), 0.0)

    against = np.logaddexp(state.log_against, begins + LOG_SLOWER_WEIGHT)
    in_favour = np.logaddexp(state.log_for, begins + LOG_AS_GOOD_WEIGHT)
    against = against + gain(bets.slower, (bets.slower > bound) & np.isfinite(against))
    in_favour_alike = np.logaddexp(state.log_for_alike, begins_alike + LOG_AS_GOOD_WEIGHT)
    begun = np.isfinite(in_favour) | np.isfinite(in_favour_alike)
    better = gain(bets.as_good, (bets.as_good < bound) & begun)
    # Of 90 % slow ones no canary can have 1.15 times as many: whatever it does is then for it. Without this
    # a wave four times as slow promoted 8 to 10 of 12 canaries that were 25 % slower. E[S] only falls.
    # By two standard errors: of ten requests six are slow by chance now and then.
    total = counts.stable_total[..., None]
    chance = 2.0 * np.sqrt(LARGEST_SHARE * (1.0 - LARGEST_SHARE) * total)
    nearly_all = counts.stable_slow > LARGEST_SHARE * total + chance
    better = np.where(nearly_all[..., None], np.minimum(better, 0.0), better)
    kept = 0.5 ** (seconds / LEVEL_HALF_LIFE_SECONDS)
    return LatencyState(
        kept * state.level_slow + counts.stable_slow,
        kept * state.level_total + counts.stable_total,
        against,
        in_favour + better,
        state.begun + now,
        pending - now,
        in_favour_alike + np.where(alike[..., None, None], better, 0.0),
        state.begun_alike + now_alike,
        pending_alike - now_alike,
    )


def _beginning(bets: Bets, weight: FloatArray) -> FloatArray:
    """Return ln of the weight that begins at each edge (..., edges, 1): all of it at the best one."""
    with np.errstate(divide="ignore"):
        result: FloatArray = np.log(bets.best * weight[..., None])[..., None]
    return result


def log_latency_against(state: LatencyState) -> FloatArray:
    """Return ln of the evidence that the canary is slower than allowed (...)."""
    return _log_evidence(state.log_against, state.begun)


def log_latency_for(state: LatencyState) -> FloatArray:
    """Return ln of the evidence that it is not (...), at whatever load: it may pass a step."""
    return _log_evidence(state.log_for, state.begun)


def log_latency_for_alike(state: LatencyState) -> FloatArray:
    """Return ln of the evidence that it is not, of blocks at like load (...): it may promote."""
    return _log_evidence(state.log_for_alike, state.begun_alike)


def _log_evidence(log_parts: FloatArray, begun: FloatArray) -> FloatArray:
    """Return ln of the sum over edges and bets, and of the weight that has not begun, which stays 1."""
    parts = log_parts.reshape(*log_parts.shape[:-2], -1)
    unspent = np.log(np.maximum(1.0 - begun, SMALLEST))
    result: FloatArray = np.logaddexp(np.logaddexp.reduce(parts, axis=-1), unspent)
    return result
