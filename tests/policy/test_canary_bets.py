"""Bets on two shares: no null hypothesis can be beaten on average, whatever is bet."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.canary_bets import (
    Block,
    log_bet,
    nearest_with_difference,
    nearest_with_ratio,
    start_weight,
    weight_between,
)

SHARE = st.floats(0.01, 0.95)
TOTALS = st.tuples(st.integers(1, 9), st.integers(1, 5))


def array(value: float) -> np.ndarray:
    return np.asarray(float(value))


def mean_payoff(truth: tuple[float, float], bet: tuple, null: tuple, totals: tuple[int, int]) -> float:
    """E[S] over all outcomes of a block, exactly."""
    total = 0.0
    for stable, canary in product(range(totals[0] + 1), range(totals[1] + 1)):
        chance = 1.0
        for n, k, p in ((totals[0], stable, truth[0]), (totals[1], canary, truth[1])):
            chance *= comb(n, k) * p**k * (1 - p) ** (n - k)
        block = Block(array(totals[0]), array(stable), array(totals[1]), array(canary))
        total += chance * float(np.exp(log_bet(block, bet, null)))
    return total


@given(SHARE, st.floats(1.0, 3.0), st.floats(0.0, 1.0), SHARE, SHARE, TOTALS)
def test_a_bet_against_a_canary_within_the_ratio_wins_nothing_on_average(
    stable: float, ratio: float, part: float, bet_stable: float, bet_canary: float, totals: tuple[int, int]
) -> None:
    truth = (stable, min(part * ratio * stable, 0.999))
    if bet_canary <= ratio * bet_stable:
        return
    bet = (array(bet_stable), array(bet_canary))
    null = nearest_with_ratio(bet, (array(totals[0]), array(totals[1])), ratio)
    assert mean_payoff(truth, bet, null, totals) <= 1 + 1e-6


@given(SHARE, st.floats(1.0, 3.0), st.floats(1.0, 5.0), SHARE, SHARE, TOTALS)
def test_a_bet_for_a_canary_beyond_the_ratio_wins_nothing_on_average(
    stable: float, ratio: float, beyond: float, bet_stable: float, bet_canary: float, totals: tuple[int, int]
) -> None:
    canary = beyond * ratio * stable
    if canary >= 1 or bet_canary >= ratio * bet_stable:
        return
    bet = (array(bet_stable), array(bet_canary))
    null = nearest_with_ratio(bet, (array(totals[0]), array(totals[1])), ratio)
    assert mean_payoff((stable, canary), bet, null, totals) <= 1 + 1e-6


@given(SHARE, st.floats(0.001, 0.3), st.floats(0.0, 1.0), SHARE, SHARE, TOTALS)
def test_a_bet_against_a_canary_within_the_difference_wins_nothing_on_average(
    stable: float,
    difference: float,
    part: float,
    bet_stable: float,
    bet_canary: float,
    totals: tuple[int, int],
) -> None:
    truth = (stable, min(part * (stable + difference), 0.999))
    if bet_canary <= bet_stable + difference:
        return
    bet = (array(bet_stable), array(bet_canary))
    null = nearest_with_difference(bet, (array(totals[0]), array(totals[1])), difference)
    assert mean_payoff(truth, bet, null, totals) <= 1 + 1e-6


@given(SHARE, st.floats(0.001, 0.3), st.floats(0.0, 0.5), SHARE, TOTALS)
def test_a_bet_for_a_canary_with_too_many_errors_wins_nothing_on_average(
    stable: float, difference: float, beyond: float, level: float, totals: tuple[int, int]
) -> None:
    canary = stable + difference + beyond
    if canary >= 1 or level + difference >= 1:
        return
    bet = (array(level), array(level))
    null = nearest_with_difference(bet, (array(totals[0]), array(totals[1])), difference)
    assert mean_payoff((stable, canary), bet, null, totals) <= 1 + 1e-6


@given(SHARE, SHARE, st.floats(0.5, 3.0), TOTALS)
def test_the_nearest_pair_is_on_the_line_and_nearer_than_its_neighbours(
    stable: float, canary: float, ratio: float, totals: tuple[int, int]
) -> None:
    bet, weights = (array(stable), array(canary)), (array(totals[0]), array(totals[1]))
    near = nearest_with_ratio(bet, weights, ratio)
    assert float(near[1]) == pytest.approx(ratio * float(near[0]))

    def distance(x: float) -> float:
        expected = Block(weights[0], weights[0] * bet[0], weights[1], weights[1] * bet[1])
        return float(log_bet(expected, bet, (array(x), array(ratio * x))))

    at = float(near[0])
    assert all(
        distance(at) <= distance(at * f) + 1e-9 for f in (0.99, 1.01) if 0 < ratio * at * f < 1 > at * f
    )


@given(st.integers(1, 20), TOTALS, SHARE, SHARE)
def test_the_same_block_again_doubles_the_evidence_so_batching_does_not_matter(
    times: int, totals: tuple[int, int], stable: float, canary: float
) -> None:
    bet = (array(stable), array(canary))

    def evidence(scale: int) -> float:
        n = (array(scale * totals[0]), array(scale * totals[1]))
        block = Block(n[0], array(scale), n[1], array(scale))
        return float(log_bet(block, bet, nearest_with_ratio(bet, n, 1.15)))

    assert evidence(times) == pytest.approx(times * evidence(1), rel=1e-6, abs=1e-9)


def test_weights_of_all_starts_add_to_one() -> None:
    assert weight_between(-1, 100_000) == pytest.approx(1.0, abs=1e-4)
    assert weight_between(-1, 100_000) < 1.0
    assert weight_between(3, 5) == start_weight(4) + start_weight(5)
