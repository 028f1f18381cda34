"""Errors of a canary: the Bayes factor by hand, starts that thin out, the stop-loss alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta, binom

from penstock.policy.canary_errors import (
    PRIOR_ERRORS,
    PRIOR_SUCCESSES,
    advance_errors,
    advance_stop_loss,
    begin_errors,
    empty_errors,
    error_limits,
    log_bayes_factor,
    log_errors_against,
    log_errors_for,
    log_stop_loss,
)


def test_the_bayes_factor_is_the_ratio_of_two_integrals() -> None:
    counts = (40, 1, 12, 3)

    def marginal(*pairs: tuple[int, int]) -> float:
        def density(p: float) -> float:
            prior = beta.pdf(p, PRIOR_ERRORS, PRIOR_SUCCESSES)
            return float(prior * np.prod([binom.pmf(k, n, p) for n, k in pairs]))

        return float(quad(density, 0, 1, limit=200)[0])

    expected = marginal((40, 1)) * marginal((12, 3)) / marginal((40, 1), (12, 3))
    assert np.exp(log_bayes_factor(np.array(counts, dtype=float))) == pytest.approx(expected, rel=1e-6)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 60)), min_size=2, max_size=6))
def test_the_bayes_factor_does_not_depend_on_how_requests_are_batched(blocks: list[tuple[int, int]]) -> None:
    rows = [np.array([9.0 * n, n // 100, n, min(k, n)]) for n, k in blocks]
    whole = begin_errors(empty_errors(), 0, 0.9)
    piecewise = whole
    for row in rows:
        piecewise = advance_errors(piecewise, row, 0.0025)
    whole = advance_errors(whole, np.sum(rows, axis=0), 0.0025)
    assert log_errors_against(piecewise, 1.15) == pytest.approx(float(log_errors_against(whole, 1.15)))


def test_fewer_errors_than_the_stable_arm_are_nothing_against_the_canary() -> None:
    state = begin_errors(empty_errors(), 0, 1.0)
    state = advance_errors(state, np.array([1000.0, 500.0, 1000.0, 10.0]), 0.0025)
    assert log_errors_against(state, 1.15) < 0


def test_ten_good_minutes_do_not_hide_a_bad_one() -> None:
    state = empty_errors()
    for minute in range(10):
        state = begin_errors(state, minute, 0.9 if minute == 0 else 0.01)
        state = advance_errors(state, np.array([27_000.0, 27.0, 3_000.0, 3.0]), 0.0025)
    state = begin_errors(state, 10, 0.01)
    state = advance_errors(state, np.array([2_700.0, 3.0, 300.0, 9.0]), 0.0025)
    since_the_beginning = float(log_bayes_factor(state.counts))
    assert since_the_beginning < 0 < 3 < float(log_errors_against(state, 1.15))


def test_starts_thin_out_with_age_and_the_first_one_stays() -> None:
    state = empty_errors()
    for minute in range(241):
        state = begin_errors(state, minute, 1e-3)
    minutes = [start.minute for start in state.starts]
    assert minutes[0] == 0
    assert minutes[-4:] == [237, 238, 239, 240]
    assert len(minutes) <= 20
    ages = [240 - minute for minute in minutes[1:]]
    assert all(older <= 2 * younger + 4 for older, younger in pairwise(ages))


@pytest.mark.parametrize(
    ("failed", "total", "ends"),
    [(2, 2, False), (3, 3, True), (3, 30, False), (30, 200, True), (40, 1000, False)],
)
def test_the_stop_loss_needs_no_stable_arm(failed: int, total: int, ends: bool) -> None:
    state = begin_errors(empty_errors(), 0, 0.9)
    state = advance_stop_loss(state, np.asarray(float(total)), np.asarray(float(failed)), 0.05)
    assert bool(log_stop_loss(state) >= np.log(125)) is ends
    assert not state.counts.any()


def test_no_errors_in_3000_requests_exclude_a_quarter_of_a_point_more() -> None:
    state = begin_errors(empty_errors(), 0, 0.9)
    for _ in range(40):
        state = advance_errors(state, np.array([675.0, 0.0, 75.0, 0.0]), 0.0025)
    assert float(log_errors_for(state)) > np.log(20)


@pytest.mark.parametrize(
    ("availability", "increase", "stop_loss"),
    [(0.995, 0.0025, 0.05), (0.99, 0.005, 0.10), (0.999, 0.001, 0.01), (1.0, 0.001, 0.01), (0.9, 0.05, 0.5)],
)
def test_limits_come_from_the_error_budget(availability: float, increase: float, stop_loss: float) -> None:
    assert error_limits(availability) == pytest.approx((increase, stop_loss))
