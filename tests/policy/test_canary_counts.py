"""Counters of two arms become increments: restarts, gaps, late series and odd histograms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.model.canary_counts import (
    ArmReading,
    CheckCounters,
    Histogram,
    Metric,
    PodCounters,
    Trials,
)
from penstock.policy.canary_counts import FORGET_AFTER_SECONDS, CountsMemory, advance, exclude_until

EDGES = (0.1, 0.25, math.inf)
FRESH_SECONDS = 60.0  # no sample behind a reading is older


def pod(
    name: str = "a",
    requests: float | None = None,
    errors: float | None = None,
    ttft: tuple[float, ...] | None = None,
    *,
    edges: tuple[float, ...] = EDGES,
) -> PodCounters:
    return PodCounters(name, requests, errors, None if ttft is None else Histogram(edges, ttft))


def added(
    *readings: tuple[PodCounters, ...] | None, apart: float = 15.0
) -> list[tuple[float | None, Trials | None, object]]:
    """What each reading of the canary, `apart` seconds, adds: requests, errors, TTFT's cumulative counts."""
    memory, rows = CountsMemory(), []
    for index, pods in enumerate(readings):
        reading = None if pods is None else ArmReading(apart * (index + 1), pods, fresh_seconds=FRESH_SECONDS)
        increments, memory = advance(memory, None, reading)
        canary = increments.canary
        ttft = canary.latencies.get(Metric.TTFT) if canary else None
        rows.append(
            (canary.requests if canary else None, canary.errors if canary else None, ttft and ttft.cumulative)
        )
    return rows


def test_the_first_reading_is_a_baseline_and_no_evidence() -> None:
    assert added((pod(requests=900, errors=90, ttft=(1, 2, 3)),)) == [(None, None, None)]


def test_differences_count() -> None:
    rows = added(
        (pod(requests=10, errors=1, ttft=(1, 2, 3)),), (pod(requests=30, errors=4, ttft=(5, 9, 13)),)
    )
    assert rows[1] == (20, Trials(3, 20), (4, 7, 10))


def test_a_restarted_process_counts_from_zero() -> None:
    before = (pod(requests=100, errors=9, ttft=(50, 80, 90)),)
    rows = added(before, (pod(requests=7, errors=1, ttft=(3, 5, 6)),), apart=FRESH_SECONDS)
    assert rows[1] == (7, Trials(1, 7), (3, 5, 6))


def test_errors_that_passed_the_old_count_show_a_restart_by_their_requests() -> None:
    rows = added((pod(requests=100, errors=2),), (pod(requests=50, errors=5),), apart=FRESH_SECONDS)
    assert rows[1][1] == Trials(5, 50)


@pytest.mark.parametrize(
    "older",
    [
        pytest.param(pod(requests=9998, errors=71, ttft=(8, 21, 43)), id="of all signals"),
        pytest.param(pod(requests=9998, errors=72, ttft=(9, 23, 45)), id="of the requests"),
        pytest.param(pod(requests=10_000, errors=71, ttft=(9, 23, 45)), id="of the errors"),
        pytest.param(pod(requests=10_004, errors=72, ttft=(9, 23, 43)), id="of a bucket"),
    ],
)
def test_an_older_sample_of_another_prometheus_is_no_restart(older: PodCounters) -> None:
    newest = pod(requests=10_000, errors=72, ttft=(9, 23, 45))
    later = pod(requests=10_010, errors=75, ttft=(10, 26, 50))
    rows = added((newest, pod("b", 1)), (older, pod("b", 3)), (later, pod("b", 4)))
    assert rows[1] == (2, None, None), "only of the other pod"
    assert rows[2] == (10 + 1, Trials(3, 10), (1, 3, 5))


def test_a_restart_counts_in_full_once_no_older_sample_can_be_meant() -> None:
    rows = added(*((pod(requests=each, errors=each / 10),) for each in (100, 10, 20, 30, 40, 50)))
    assert [row[1] for row in rows] == [None, None, None, None, Trials(4, 40), Trials(1, 10)]


def test_a_restart_that_was_not_believed_yet_brings_no_warm_up_along() -> None:
    memory = exclude_until(CountsMemory(), 30.0)
    counted = []
    for at, requests in ((15.0, 100), (30.0, 50), (45.0, 70)):
        increments, memory = advance(memory, None, ArmReading(at, (pod(requests=requests),)))
        assert increments.canary is not None
        counted.append(increments.canary.requests)
    assert counted == [None, None, 20]


def test_what_a_missed_scrape_hid_counts_once_when_it_is_back() -> None:
    rows = added((pod(requests=10),), None, (), (pod(requests=40),), (pod(requests=41),))
    assert [row[0] for row in rows] == [None, None, None, 30, 1]


def test_a_pod_first_seen_sets_its_baseline_while_others_count() -> None:
    rows = added((pod("a", 10),), (pod("a", 15), pod("late", 5_000)), (pod("a", 20), pod("late", 5_003)))
    assert [row[0] for row in rows] == [None, 5, 8]


def test_a_signal_first_seen_sets_its_baseline_too() -> None:
    rows = added(
        (pod(requests=10),), (pod(requests=20, ttft=(1, 2, 9)),), (pod(requests=30, ttft=(2, 4, 12)),)
    )
    assert [row[2] for row in rows] == [None, None, (1, 2, 3)]


def test_errors_that_were_not_read_are_not_zero_and_their_requests_do_not_count_for_them() -> None:
    rows = added(
        (pod(requests=10, errors=0),),
        (pod(requests=20),),
        (pod(requests=30, errors=5),),
        (pod(requests=40, errors=6),),
    )
    assert [row[1] for row in rows] == [None, None, None, Trials(1, 10)]
    assert [row[0] for row in rows] == [None, 10, 10, 10]


def test_more_errors_than_requests_are_a_torn_scrape_and_are_capped() -> None:
    assert added((pod(requests=10, errors=0),), (pod(requests=11, errors=3),))[1][1] == Trials(1, 1)


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param((math.nan, 2.0, 3.0), id="NaN"),
        pytest.param((5.0, 4.0, 6.0), id="falls along the edges"),
        pytest.param((-1.0, 2.0, 3.0), id="negative"),
    ],
)
def test_an_odd_histogram_is_as_good_as_unread(odd: tuple[float, ...]) -> None:
    rows = added((pod(ttft=(1, 2, 3)),), (pod(ttft=odd),), (pod(ttft=(2, 4, 8)),))
    assert [row[2] for row in rows] == [None, None, (1, 2, 5)]


def test_a_histogram_without_inf_is_as_good_as_unread() -> None:
    first = (pod(ttft=(1, 2), edges=(0.1, 0.25)),)
    assert added(first, (pod(ttft=(3, 5), edges=(0.1, 0.25)),))[1][2] is None


def test_a_changed_bucket_layout_is_a_new_baseline() -> None:
    other = (0.2, 0.4, math.inf)
    rows = added(
        (pod(ttft=(1, 2, 3)),),
        (pod(ttft=(10, 20, 30), edges=other),),
        (pod(ttft=(11, 22, 33), edges=other),),
    )
    assert [row[2] for row in rows] == [None, None, (1, 2, 3)]


def test_pods_of_different_layouts_add_up_over_the_edges_they_share() -> None:
    memory = CountsMemory()
    for at, (one, other) in enumerate([((0, 0, 0), (0, 0, 0)), ((1, 4, 6), (2, 5, 9))]):
        pods = (pod("a", ttft=one), pod("b", ttft=other, edges=(0.25, 0.5, math.inf)))
        increments, memory = advance(memory, ArmReading(float(at), pods), None)
    assert increments.stable is not None
    assert increments.stable.latencies[Metric.TTFT] == Histogram((0.25, math.inf), (6, 15))


def test_a_reading_older_than_the_last_is_no_restart() -> None:
    _, memory = advance(CountsMemory(), None, ArmReading(30.0, (pod(requests=100),)))
    increments, memory = advance(memory, None, ArmReading(15.0, (pod(requests=60),)))
    assert increments.canary is None
    increments, _ = advance(memory, None, ArmReading(45.0, (pod(requests=110),)))
    assert increments.canary is not None
    assert increments.canary.requests == 10


def test_warm_up_moves_the_baseline_and_counts_nothing() -> None:
    memory = exclude_until(CountsMemory(), 30.0)
    counted = []
    for at, requests in ((15.0, 0), (30.0, 50), (45.0, 70)):
        increments, memory = advance(memory, None, ArmReading(at, (pod(requests=requests),)))
        assert increments.canary is not None
        counted.append((increments.canary.requests, increments.seconds))
    assert counted == [(None, 0.0), (None, 0.0), (20, 15.0)]


def test_a_pod_that_has_been_gone_for_an_hour_is_forgotten() -> None:
    _, memory = advance(CountsMemory(), None, ArmReading(0.0, (pod("old", 5), pod("new", 5))))
    _, memory = advance(memory, None, ArmReading(FORGET_AFTER_SECONDS + 1, (pod("new", 6),)))
    assert set(memory.canary.pods) == {"new"}


def test_series_of_a_users_check_restart_alone() -> None:
    def read(at: float, *values: tuple[float, float]) -> ArmReading:
        checks = tuple(CheckCounters("empty", f"s{i}", bad, all_) for i, (bad, all_) in enumerate(values))
        return ArmReading(at, (), checks)

    _, memory = advance(CountsMemory(), None, read(0.0, (5, 50), (9, 90)))
    increments, soon = advance(memory, None, read(15.0, (6, 60), (1, 4)))
    assert increments.canary is not None
    assert increments.canary.checks == {"empty": Trials(1, 10)}, "it may be an older sample"
    increments, _ = advance(soon, None, read(75.0, (6, 60), (2, 7)))
    assert increments.canary is not None
    assert increments.canary.checks == {"empty": Trials(2, 7)}


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.booleans(), st.booleans()),  # requests, restart before, scraped
        min_size=1,
        max_size=30,
    )
)
def test_increments_add_up_to_everything_that_was_counted_and_seen(
    steps: list[tuple[int, bool, bool]],
) -> None:
    """A restart hides at most what was counted since the last scrape; nothing is ever counted twice."""
    memory = CountsMemory()
    counter, unseen, certain, possible, total = 0, 0, 0, 0, 0.0
    _, memory = advance(memory, None, ArmReading(0.0, (pod(requests=0),)))
    last = 0
    for at, (requests, restart, scraped) in enumerate(steps, start=1):
        if restart:
            counter = 0
        counter += requests
        unseen += requests
        if scraped:
            reading = ArmReading(at * FRESH_SECONDS, (pod(requests=counter),), fresh_seconds=FRESH_SECONDS)
            increments, memory = advance(memory, None, reading)
            assert increments.canary is not None
            assert increments.canary.requests is not None
            total += increments.canary.requests
            certain += min(counter - last, counter) if counter >= last else counter
            possible, unseen, last = possible + unseen, 0, counter
    assert total == certain
    assert 0 <= total <= possible


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.booleans(), st.integers(0, 2)),  # requests, restart before, lag
        min_size=3,
        max_size=40,
    )
)
def test_replicas_that_lag_by_half_a_minute_invent_no_request(steps: list[tuple[int, bool, int]]) -> None:
    """Readings 15 s apart, each from a Prometheus whose newest sample is up to two readings old."""
    memory, samples, served, total = CountsMemory(), [0], [0], 0.0
    for requests, restart, _ in steps:
        samples.append((0 if restart else samples[-1]) + requests)
        served.append(served[-1] + requests)
    shown = [max(0, at - lag) for at, (_, _, lag) in enumerate(steps, start=1)]
    for at, sample in enumerate(shown):
        reading = ArmReading(at * 15.0, (pod(requests=samples[sample]),), fresh_seconds=FRESH_SECONDS)
        increments, memory = advance(memory, None, reading)
        assert increments.canary is not None
        total += increments.canary.requests or 0.0
    assert 0 <= total <= served[max(shown)] - served[shown[0]]
    if not any(restart for _, restart, _ in steps):
        assert total == samples[max(shown)] - samples[shown[0]]
