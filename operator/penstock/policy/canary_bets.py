"""Bets on two shares: factors whose expectation is at most 1 while a hypothesis holds (e-variables).

A block has n_s stable and n_c canary requests, k_s and k_c of them failures. Against a null set of pairs
(p_s, p_c), a bet on the pair (q_s, q_c) pays

    S = q_s^k_s (1-q_s)^(n_s-k_s) q_c^k_c (1-q_c)^(n_c-k_c) / the same at (x_s, x_c)

where (x_s, x_c) is the pair of the null set nearest to the bet in n_s KL + n_c KL (reverse information
projection). For a convex null set E[S] <= 1 for every pair in it, whatever the bet, as long as the bet is
made before the block is seen (Turner, Ly & Grunwald, arXiv:2106.02693, theorem 1). So the product over
blocks is a test that may be looked at after each, and load that moves both arms does not hurt it.
Null sets here: p_c <= r p_s, p_c <= p_s + d, and both the other way round. All are bounded by a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from penstock.queueing.domain import FloatArray, FloatOrArray

Shares: TypeAlias = tuple[FloatArray, FloatArray]  # stable, canary

SMALLEST = 1e-9  # shares are kept inside (0, 1)
# A change may begin at any minute. Most of the weight is on the first block; the rest falls like
# 1 / minute^2: a change after 10 minutes has 1/470 of it and one after 2 hours 1/6,700. At 0.07 per canary
# request (a p95 that rose by half) these are 90 and 130 requests more than one at the beginning takes.
# With 0.6 instead of 0.8, a p95 that rose by 20 % took 8 s longer to find, and of good canaries on pods that
# wander by 6 % a few more were rolled back (3.2 instead of 3.0 % at a threshold of 50, 5 requests/s).
FIRST_START_WEIGHT = 0.9
START_SCALE_MINUTES = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Counts of one block, arrays that broadcast: totals and failures of both arms."""

    stable_total: FloatArray
    stable_failures: FloatArray
    canary_total: FloatArray
    canary_failures: FloatArray


def start_weight(minute: int) -> float:
    """Return the share of the evidence that begins at a whole `minute` >= 0 of the test; they add to 1.

    A product of bets that began early is deep in debt when a canary turns bad late. A mixture over the
    times at which it may begin keeps Ville's bound over the whole test: P(ever >= 1/alpha) <= alpha, for
    any length. (Shiryaev-Roberts without weights bounds only the mean time between false alarms.)
    """
    if minute == 0:
        return FIRST_START_WEIGHT
    scale = START_SCALE_MINUTES
    return (1.0 - FIRST_START_WEIGHT) * scale / ((minute + scale - 1.0) * (minute + scale))


def weight_between(after: int, until: int) -> float:
    """Return the weight of the starts at minutes in (`after`, `until`]."""
    return sum(start_weight(minute) for minute in range(after + 1, until + 1))


def log_bet(block: Block, bet: Shares, null: Shares) -> FloatArray:
    """Return ln S of a block for a bet and its projection, each a pair (stable, canary) of shares."""
    result: FloatArray = (
        block.stable_failures * np.log(bet[0] / null[0])
        + (block.stable_total - block.stable_failures) * np.log((1 - bet[0]) / (1 - null[0]))
        + block.canary_failures * np.log(bet[1] / null[1])
        + (block.canary_total - block.canary_failures) * np.log((1 - bet[1]) / (1 - null[1]))
    )
    return result


def log_growth(
    shares: Shares,
    bet: Shares,
    null: Shares,
    stable_per_canary: FloatOrArray,
) -> FloatArray:
    """Return what a canary request adds to ln S on average when the true `shares` are these."""
    total = np.asarray(stable_per_canary, dtype=np.float64)
    ones = np.ones_like(shares[1])
    return log_bet(Block(total * ones, total * shares[0], ones, shares[1]), bet, null)


def nearest_with_ratio(bet: Shares, totals: Shares, ratio: FloatOrArray) -> Shares:
    """Return the pair on the line p_c = ratio p_s nearest to `bet`: the small root of a quadratic."""
    n_stable, n_canary = totals
    events = n_stable * bet[0] + n_canary * bet[1]
    stable_rest, canary_rest = n_stable * (1 - bet[0]), n_canary * (1 - bet[1])
    square = ratio * (n_stable + n_canary)
    linear = events * (1 + ratio) + stable_rest + ratio * canary_rest
    root = np.sqrt(np.maximum(linear * linear - 4 * square * events, 0.0))
    stable = 2 * events / (linear + root)  # the stable form: the other one cancels
    return inside(stable), inside(ratio * stable)


def nearest_with_difference(bet: Shares, totals: Shares, difference: FloatOrArray) -> Shares:
    """Return the pair on the line p_c = p_s + difference nearest to `bet`, by bisection."""
    ends = (bet[0] * np.ones_like(totals[0]), (bet[1] - difference) * np.ones_like(totals[0]))
    low = np.clip(np.minimum(*ends), SMALLEST, 1 - difference - SMALLEST)
    high = np.clip(np.maximum(*ends), SMALLEST, 1 - difference - SMALLEST)
    for _ in range(30):  # to 1e-9 of the distance
        middle = 0.5 * (low + high)
        rises = (
            totals[0] * (bet[0] / middle - (1 - bet[0]) / (1 - middle))
            + totals[1] * (bet[1] / (middle + difference) - (1 - bet[1]) / (1 - middle - difference))
        ) > 0
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    return inside(high), inside(high + difference)


def inside(share: FloatArray) -> FloatArray:
    """Return a share kept off 0 and 1."""
    return np.clip(share, SMALLEST, 1 - SMALLEST)
