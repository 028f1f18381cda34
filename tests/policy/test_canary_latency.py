"""Slow requests of a canary: which edge is bet on, what is learned when, and what load excuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from penstock.policy.canary_latency import (
    LatencyState,
    SlowCounts,
    advance_latency,
    empty_state,
    log_latency_against,
    log_latency_for,
    log_latency_for_alike,
    place_bets,
)

EDGES = np.array([0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0])
MEDIAN, SIGMA = 0.12, 0.7007


def share_above(slower: float = 1.0) -> np.ndarray:
    return ndtr(-np.log(EDGES / (MEDIAN * slower)) / SIGMA)


def known(total: float = 10_000.0, slower: float = 1.0) -> LatencyState:
    return level(total * share_above(slower), total)


def level(slow: np.ndarray, total: float) -> LatencyState:
    return replace(empty_state(slow.size), level_slow=slow, level_total=np.asarray(total))


def bets(state: LatencyState, margin: float = 1.15, expected: float = 1.0):
    nine = np.asarray(9.0)
    return place_bets(state, EDGES, margin=margin, expected_ratio=expected, stable_per_canary=nine)


def after(
    minutes: float,
    slower: float,
    *,
    expected: float = 1.0,
    alike: bool = True,
    before: LatencyState | None = None,
) -> LatencyState:
    """The state after minutes at 5 requests/s with exactly the expected counts."""
    state = before or known()
    for at in range(int(minutes * 4)):
        counts = SlowCounts(
            675 * share_above(),
            np.asarray(675.0),
            75 * share_above(slower),
            np.asarray(75.0),
            np.asarray(alike),
        )
        weight = 0.9 if at == 0 and before is None else 0.0
        state = advance_latency(state, bets(state, expected=expected), counts, weight, 15.0)
    return state


def test_the_most_informative_edge_of_the_reference_law_is_250_ms() -> None:
    assert EDGES[bets(known()).best].tolist() == [0.25]


@pytest.mark.parametrize(("median", "sigma"), [(0.09, 1.2), (0.06, 0.5), (0.06, 0.9)])
@pytest.mark.parametrize("slower", [1.0, 4.0])
def test_where_twice_as_many_slow_requests_are_allowed_200_decide(
    median: float, sigma: float, slower: float
) -> None:
    # The widest law doubles the share of no edge when it is 1.2 times as slow: seen on a busy machine.
    stable, canary = (ndtr(-np.log(EDGES / (median * each)) / sigma) for each in (1.0, slower))
    state = level(1000 * stable, 1000.0)
    counts = SlowCounts(50 * stable, np.asarray(50.0), 50 * canary, np.asarray(50.0))
    for weight in (0.9, 0.0, 0.0, 0.0):
        state = advance_latency(state, bets(state, margin=2.0), counts, weight, 15.0)
    against, in_favour = log_latency_against(state), log_latency_for_alike(state)
    assert (against > np.log(20), in_favour > np.log(20)) == (slower > 1, slower == 1)


def test_where_nothing_would_show_the_edge_that_comes_nearest_is_bet_on() -> None:
    # At no edge can four times as many be slow.
    stable = np.array([0.58, 0.55, 0.5, 0.45, 0.4, 0.38, 0.36, 0.35])
    assert EDGES[bets(level(1000 * stable, 1000.0), margin=4.0).best].tolist() == [0.1]


def test_nothing_is_bet_before_the_stable_arm_is_known() -> None:
    state = known(total=40.0)
    assert not bets(state).best.any()
    counts = SlowCounts(40 * share_above(), np.asarray(40.0), np.zeros(EDGES.size), np.asarray(4.0))
    state = advance_latency(state, bets(state), counts, 0.9, 15.0)
    assert (float(state.begun), float(state.pending)) == (0.0, 0.9)
    state = advance_latency(state, bets(state), counts, 0.0, 15.0)
    assert (float(state.begun), float(state.pending)) == (0.9, 0.0)


@pytest.mark.parametrize(
    ("slower", "minutes", "against", "for_"),
    [(1.0, 8, False, True), (1.2, 5, True, False), (1.5, 1, True, False), (1.05, 5, False, False)],
)
def test_what_exactly_expected_counts_decide(slower: float, minutes: int, against: bool, for_: bool) -> None:
    state = after(minutes, slower)
    assert bool(log_latency_against(state) > np.log(31)) is against
    assert bool(log_latency_for(state) > np.log(20)) is for_


def test_a_canary_that_load_makes_slower_is_excused_as_far_as_the_model_says() -> None:
    assert float(log_latency_against(after(5, 1.2))) > np.log(31)
    excused = after(10, 1.2, expected=1.2)
    assert float(log_latency_against(excused)) < 0
    assert float(log_latency_for(excused)) > np.log(20)


def test_what_is_counted_under_less_load_passes_steps_and_promotes_nothing() -> None:
    flattered = after(8, 1.0, alike=False)
    assert float(log_latency_for(flattered)) > np.log(20)
    assert float(log_latency_for_alike(flattered)) == 0
    assert (float(flattered.begun_alike), float(flattered.pending_alike)) == (0.0, 0.9)


def test_evidence_for_a_promotion_begins_with_the_first_block_at_like_load() -> None:
    only_alike = after(8, 1.0)
    later = after(8, 1.0, before=after(4, 0.7, alike=False))
    assert float(log_latency_for_alike(later)) == pytest.approx(float(log_latency_for_alike(only_alike)))
    assert float(log_latency_for(later)) > float(log_latency_for(only_alike)) + np.log(20)


def test_a_canary_that_is_slower_with_less_load_is_slower() -> None:
    assert float(log_latency_against(after(5, 1.2, alike=False))) > np.log(31)


def test_what_load_excuses_may_not_be_used_up_by_a_regression() -> None:
    assert float(log_latency_against(after(5, 1.5, expected=1.2))) > np.log(31)


def test_a_stable_arm_below_every_edge_can_be_compared_by_one_request_in_a_hundred() -> None:
    """TPOT of 15 ms between edges of 10 and 25 ms: 1.15 times none slower than 25 ms is none."""
    edges = np.array([0.01, 0.025, 0.05])
    state = level(np.array([3_000.0, 0.0, 0.0]), 3_000.0)

    def run(slow: float, blocks: int) -> LatencyState:
        now = state
        for at in range(blocks):
            placed = place_bets(
                now, edges, margin=1.15, expected_ratio=1.0, stable_per_canary=np.asarray(9.0)
            )
            counts = SlowCounts(
                np.array([675.0, 0.0, 0.0]), np.asarray(675.0), np.array([75.0, slow, 0.0]), np.asarray(75.0)
            )
            now = advance_latency(now, placed, counts, 0.9 if at == 0 else 0.0, 15.0)
        return now

    assert float(log_latency_for(run(0.0, 8))) > np.log(20)
    assert float(log_latency_against(run(0.0, 8))) < 0
    assert float(log_latency_against(run(8.0, 8))) > np.log(31)


def simulated(slower: float, wave: float, *, calm_blocks: int, runs: int = 12) -> np.ndarray:
    """Whether each of so many canaries is promoted within 10 minutes; both arms are `wave` times as slow
    after the first blocks. Stable 45/s, canary 5/s, log-normal with median 0.15 s and sigma 0.6."""
    rng = np.random.default_rng(7)

    def slow(each_second: float, times: float) -> np.ndarray:
        seconds = np.exp(rng.normal(np.log(0.15 * times), 0.6, (runs, int(15 * each_second))))
        return (seconds[..., None] > EDGES).sum(axis=1).astype(float)

    calm = 10_000.0 * ndtr(-np.log(EDGES / 0.15) / 0.6)
    state = replace(
        empty_state(EDGES.size, (runs,)),
        level_slow=np.tile(calm, (runs, 1)),
        level_total=np.full(runs, 10_000.0),
    )
    promoted, ended = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=bool)
    for at in range(40):
        times = wave if at >= calm_blocks else 1.0
        placed = place_bets(
            state, EDGES, margin=1.15, expected_ratio=1.0, stable_per_canary=np.full(runs, 9.0)
        )
        counts = SlowCounts(
            slow(45.0, times), np.full(runs, 675.0), slow(5.0, times * slower), np.full(runs, 75.0)
        )
        state = advance_latency(state, placed, counts, 0.9 if at == 0 else 0.0, 15.0)
        ended |= log_latency_against(state) > np.log(31)
        promoted |= ~ended & (log_latency_for_alike(state) > np.log(20))
        ended |= promoted
    return promoted


@pytest.mark.parametrize("calm_blocks", [1, 2])
@pytest.mark.parametrize("wave", [4.0, 8.0, 20.0])
@pytest.mark.parametrize("slower", [1.25, 1.35])
def test_a_wave_in_which_nearly_all_requests_are_slow_promotes_no_slower_canary(
    slower: float, wave: float, calm_blocks: int
) -> None:
    """Of 90 % slow ones no canary can have 1.15 times as many: its requests were evidence whatever it did."""
    assert simulated(slower, wave, calm_blocks=calm_blocks).sum() == 0


def test_without_a_wave_good_canaries_of_the_same_law_are_promoted() -> None:
    assert simulated(1.0, 1.0, calm_blocks=1).sum() >= 6


def test_blocks_without_one_arm_are_no_evidence_but_teach_the_level() -> None:
    state = after(1, 1.2)
    nothing = np.zeros(EDGES.size)
    lone = SlowCounts(675 * share_above(), np.asarray(675.0), nothing, np.asarray(0.0))
    later = advance_latency(state, bets(state), lone, 0.0, 15.0)
    assert np.array_equal(later.log_against, state.log_against)
    assert float(later.level_total) > 675


def test_a_batch_is_many_single_canaries() -> None:
    single = [after(2, slower) for slower in (1.0, 1.2, 1.5)]
    one, state = known(), empty_state(EDGES.size, (3,))
    state = replace(
        state, level_slow=np.tile(one.level_slow, (3, 1)), level_total=np.full(3, one.level_total)
    )
    slow = 75 * np.stack([share_above(slower) for slower in (1.0, 1.2, 1.5)])
    for at in range(8):
        placed = place_bets(state, EDGES, margin=1.15, expected_ratio=1.0, stable_per_canary=np.full(3, 9.0))
        counts = SlowCounts(np.tile(675 * share_above(), (3, 1)), np.full(3, 675.0), slow, np.full(3, 75.0))
        state = advance_latency(state, placed, counts, 0.9 if at == 0 else 0.0, 15.0)
    assert log_latency_against(state) == pytest.approx([float(log_latency_against(each)) for each in single])
