"""Replicas start, drain and cost: walked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fakes.sim_scenarios import TENTH, Scripted, every, scenario
from penstock.queueing.errors import InvalidParameter
from penstock.queueing.step_law import StepLaw
from penstock.sim.run import PoolTimeline, ScaleEvent
from penstock.sim.scenario import SlowReplicas, StartUp
from penstock.sim.simulate import simulate
from penstock.sim.static import Static

QUIET = every(10.0, 301.0)


def steps(timeline: PoolTimeline) -> list[tuple[float, int, int, int]]:
    """Rows of at, paid, ready, target."""
    columns = (timeline.at, timeline.paid, timeline.ready, timeline.target)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_a_replica_is_paid_for_from_its_creation_and_serves_from_its_readiness():
    run = simulate(scenario(QUIET), Scripted([1, 3, 3, 3]), seed=1)
    assert steps(run.timeline) == [(0.0, 1, 1, 1), (15.0, 3, 1, 3), (75.0, 3, 3, 3)]
    assert run.scale_events == (ScaleEvent(15.0, 1, 3),)
    assert run.replica_seconds() == 15 * 1 + 285 * 3
    assert run.replica_seconds(until=75.0) == 15 + 60 * 3
    assert run.average_replicas() == pytest.approx((15 + 285 * 3) / 300)


def test_replicas_that_still_start_go_first_and_at_once():
    run = simulate(scenario(QUIET), Scripted([3, 3, 1]), seed=1)
    assert steps(run.timeline) == [(0.0, 3, 1, 3), (30.0, 1, 1, 1)]


def test_a_drain_ends_with_the_last_answer_and_is_paid_for():
    # Two requests of 20 s each, one a replica; the one that goes has had its for 5 s at 15 s.
    long = scenario([10.0, 10.0, 60.0], 10, [2000, 2000, 1], initial_replicas=2)
    run = simulate(long, Scripted([2, 1]), seed=1)
    assert steps(run.timeline) == [(0.0, 2, 2, 2), (15.0, 2, 1, 1), (pytest.approx(30.0), 1, 1, 1)]
    assert run.latency_seconds[:2] == pytest.approx([20.0, 20.0])


def test_a_drained_replica_that_was_idle_is_gone_at_once():
    run = simulate(scenario(QUIET, initial_replicas=2), Scripted([2, 1]), seed=1)
    assert steps(run.timeline) == [(0.0, 2, 2, 2), (15.0, 1, 1, 1)]


def test_the_target_stays_within_its_bounds():
    run = simulate(
        scenario(QUIET, min_replicas=2, initial_replicas=2, max_replicas=4), Scripted([9, 9, 0]), seed=1
    )
    assert [event.after for event in run.scale_events] == [4, 2]


def test_a_replica_scaled_down_in_the_moment_it_gets_ready_never_serves():
    run = simulate(scenario(QUIET, start_up=StartUp(15.0)), Scripted([2, 1, 2, 1]), seed=1)
    assert run.timeline.paid.max() == 2
    assert run.timeline.ready[-1] == 1


def test_start_up_times_have_the_median_and_the_spread_asked_for():
    random = np.random.default_rng(1)
    drawn = np.array([StartUp(100.0, 150.0).draw(random) for _ in range(20_000)])
    assert np.quantile(drawn, [0.5, 0.9]) == pytest.approx([100.0, 150.0], rel=0.02)


def test_a_failed_start_is_followed_by_another_attempt():
    random = np.random.default_rng(1)
    drawn = [StartUp(60.0, failed_ratio=0.2).draw(random) for _ in range(20_000)]
    values, counts = np.unique(drawn, return_counts=True)
    assert values[:3].tolist() == [60.0, 120.0, 180.0]
    assert counts[:3] / 20_000 == pytest.approx([0.8, 0.16, 0.032], abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0,), "median_seconds must be finite and >= 0, got -1.0"),
        ((100.0, 50.0), "p90_seconds must be at least the median, got 50.0"),
        ((100.0, None, 1.0), r"failed_ratio must be in \[0, 1\), got 1.0"),
    ],
)
def test_a_start_up_that_cannot_be_is_refused(arguments: tuple[float, ...], message: str):
    with pytest.raises(InvalidParameter, match=f"^{message}$"):
        StartUp(*arguments)


def test_a_slow_replica_takes_longer_for_everything():
    law = StepLaw(base_seconds=0.01)
    profile = replace(TENTH, step_law=law)
    slow = SlowReplicas(2.0, frozenset({1}))
    run = simulate(
        scenario([0.0, 0.0], 10, 11, profile=profile, initial_replicas=2, slow=slow), Static(2), seed=1
    )
    assert sorted(run.tpot_seconds.tolist()) == pytest.approx([0.01, 0.02])


def test_rows_are_used_again_after_a_thousand_replicas():
    run = simulate(
        scenario(every(1.0, 6000.0), 10, 50, max_replicas=4, start_up=StartUp(1.0)),
        Scripted([1, 4] * 200, interval_seconds=5.0),
        seed=1,
    )
    assert len(run.scale_events) == 399
    assert not np.isnan(run.latency_seconds).any()
    assert run.timeline.paid.max() <= 8
    assert run.timeline.paid.min() == run.timeline.ready.min() == 1
