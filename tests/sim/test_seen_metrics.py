"""What a policy sees: scrapes, windows, and every way in which a signal is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fakes.sim_scenarios import Scripted, every, scenario
from penstock.sim.policy_port import Buckets, Signals
from penstock.sim.scenario import Scraping
from penstock.sim.simulate import simulate

STEADY = every(0.5, 600.0)  # 2 requests/s, 100 prompt tokens and 10 generated ones each


def watched(scraping: Scraping | None = None, targets: tuple[int, ...] = (1,), **changes: object) -> Scripted:
    policy = Scripted(targets)
    simulate(scenario(STEADY, scraping=scraping or Scraping(), **changes), policy, seed=1)
    return policy


def silent(seen: Signals) -> bool:
    return (
        (seen.running, seen.waiting, seen.arrival_rate, seen.offered_rate, seen.counters) == (None,) * 5
        and seen.input_token_rate is seen.output_token_rate is None
        and seen.replicas == ()
        and seen.over(60.0) == ()
    )


def test_nothing_is_known_before_the_first_scrape():
    first = watched().at(0.0)
    assert silent(first)
    assert (first.ready, first.starting, first.target) == (1, 0, 1)
    assert (first.min_replicas, first.max_replicas) == (1, 8)


def test_rates_are_those_of_the_load_once_two_samples_are_in_the_window():
    seen = watched().at(300.0)
    assert seen.arrival_rate == pytest.approx(2.0, abs=0.05)
    assert seen.offered_rate == pytest.approx(2.0, abs=0.05)
    assert seen.input_token_rate == pytest.approx(200.0, abs=5)
    assert seen.output_token_rate == pytest.approx(20.0, abs=0.5)
    rates = seen.rates(180.0)
    assert rates is not None
    assert rates.replicas == 1
    assert rates.engine.finished == pytest.approx(2.0, abs=0.02)
    assert rates.engine.ttft_seconds.mean == pytest.approx(0.01)
    assert rates.engine.tpot_seconds.mean == pytest.approx(0.01)
    assert rates.engine.latency_seconds.mean == pytest.approx(0.1)
    assert rates.engine.input_lengths.mean == pytest.approx(100)
    assert rates.engine.output_lengths.mean == pytest.approx(10)
    assert rates.engine.queue_seconds.mean == pytest.approx(0.0)
    assert rates.waiting_growth_per_second == pytest.approx(0.0)


def test_counters_count_from_the_first_sample_and_never_fall_when_replicas_leave():
    policy = watched(targets=(4,) * 8 + (1,) * 40)
    counted = [each.counters.requests for each in policy.seen if each.counters is not None]
    assert (np.diff(counted) >= 0).all()
    # Of 1200: up to 15 s are before a replica's first sample, up to 15 s behind its last.
    assert counted[-1] == pytest.approx(1140, abs=50)


def test_gauges_are_those_of_the_last_scrape_and_say_their_age():
    for seen in watched().seen[1:]:
        (replica,) = seen.replicas
        assert 0 <= replica.age_seconds <= 15.0
        assert replica.running in (0, 1)
        assert (seen.running, seen.waiting) == (replica.running, replica.waiting)


def test_a_backlog_is_seen_as_waiting_and_as_its_growth():
    policy = Scripted((1,))
    # 256 slots of 10 s each: 25.6 a second leave, 40 come.
    simulate(scenario(every(0.025, 120.0), 10, 1000), policy, seed=1)
    seen = policy.at(105.0)
    assert seen.running == 256
    assert seen.waiting is not None
    assert seen.waiting > 800
    rates = seen.rates(60.0)
    assert rates is not None
    assert rates.waiting_growth_per_second == pytest.approx(40 - 25.6, rel=0.2)  # they leave in waves
    (window,) = seen.over(60.0)
    assert window.samples == 4
    assert window.running_max == window.running_mean == 256
    assert window.waiting_max == pytest.approx(window.waiting_mean, rel=0.5)
    assert window.kv_usage_max <= 1


def test_a_delay_hides_what_is_newer():
    prompt, late = watched().at(60.0), watched(Scraping(delay_seconds=30.0)).at(60.0)
    assert late.replicas[0].age_seconds == pytest.approx(prompt.replicas[0].age_seconds + 30.0)
    assert silent(watched(Scraping(delay_seconds=30.0)).at(15.0))


def test_a_missed_scrape_hides_the_gauges_and_leaves_the_windows():
    policy = watched(Scraping(missed_ratio=0.3))
    hidden = [each for each in policy.seen if each.at >= 120 and not each.replicas]
    assert 0.15 < len(hidden) / len(policy.seen) < 0.45
    known = [each for each in hidden if each.arrival_rate is not None]
    assert len(known) > 0.6 * len(hidden)
    for each in known:
        assert each.running is None
        assert each.arrival_rate == pytest.approx(2.0, abs=0.1)
        assert [window.replica for window in each.over(60.0)] == [0], "max_over_time has what came before"


def test_without_any_scrape_there_is_nothing_rather_than_zero():
    assert all(silent(seen) for seen in watched(Scraping(missed_ratio=1.0)).seen)


def test_in_an_outage_nothing_is_answered_and_afterwards_the_old_samples_are_back():
    policy = watched(Scraping(outages=((200.0, 500.0),)))
    for seen in policy.seen:
        if 200 <= seen.at < 500:
            assert silent(seen)
            assert seen.rates(600.0) is None
    back = policy.at(510.0)
    assert back.replicas[0].age_seconds < 30
    assert back.counters is not None
    assert back.counters.requests == pytest.approx(2 * 500, abs=45)


def test_a_sample_older_than_the_look_back_is_stale():
    # Down from 200 s to 500 s, asked just after: the newest sample is 5 min old or more.
    policy = Scripted((1,), interval_seconds=1.0)
    scraping = Scraping(interval_seconds=60.0, outages=((200.0, 500.0),), staleness_seconds=300.0)
    simulate(scenario(STEADY, scraping=scraping), policy, seed=1)
    at = next(seen for seen in policy.seen if seen.at >= 500)
    assert at.replicas == ()
    assert at.counters is not None


def test_a_draining_replica_is_seen_until_it_is_gone():
    policy = Scripted([2] * 4 + [1] * 40)
    simulate(scenario([0.0, 0.0, 300.0], 10, [12_000, 12_000, 1], initial_replicas=2), policy, seed=1)
    kinds = {
        seen.at: sorted(each.draining for each in seen.replicas)
        for seen in policy.seen
        if seen.at in (60.0, 75.0, 150.0)
    }
    assert kinds == {60.0: [False, False], 75.0: [False, True], 150.0: [False]}
    assert policy.at(75.0).ready == 1


@pytest.mark.parametrize(
    ("increases", "probability", "expected"),
    [
        ((0, 0, 0), 0.5, None),
        ((10, 0, 0), 0.5, 0.5),
        ((10, 10, 0), 0.75, 1.5),
        ((10, 10, 0), 0.5, 1.0),
        ((0, 0, 7), 0.5, 2.0),  # above all bounds: the last finite one, as PromQL says
        ((1, 0, 1), 0.99, 2.0),
    ],
)
def test_quantiles_are_those_of_histogram_quantile(
    increases: tuple[float, ...], probability: float, expected: float | None
):
    buckets = Buckets((1.0, 2.0, math.inf), np.array(increases, np.float64), 3.0)
    assert buckets.quantile(probability) == expected
    assert buckets.mean == (None if not sum(increases) else 3.0 / sum(increases))
