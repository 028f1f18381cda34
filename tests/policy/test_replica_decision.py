"""The replica decision: time is walked by hand, each replica carries 4 requests a second."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.builders import blind, estimate, pool, seen, service
from penstock.model.decision import Decision, Reason
from penstock.model.spec import Mode
from penstock.policy.replicas import ReplicaMemory, acknowledge, decide_replicas

START = 1_000_000.0


def watched(target: int, *, needing: float, until: float = START, spec=None) -> ReplicaMemory:  # type: ignore[no-untyped-def]
    """Memory of a service that needed the same for more than the scale-down window."""
    spec = spec or service()
    memory = ReplicaMemory()
    at = until - 330.0
    while at < until:
        _, memory = decide_replicas(spec, seen(at, pool(target)), estimate(needing), memory, at)
        at += 15.0
    return memory


def test_more_load_scales_up_at_once_and_says_what_one_fewer_would_give() -> None:
    spec = service()
    decision, _ = decide_replicas(
        spec, seen(START, pool(3)), estimate(17.2, rise=2.1), ReplicaMemory(in_force=3), START
    )
    assert (decision.value, decision.reason) == (5, Reason.LATENCY_OBJECTIVE)
    assert decision.message == (
        "5 replicas: at 17.2 req/s + 2.1 expected within 2m, "
        "4 give p95 TTFT 603 ms > 500 ms, 5 give p95 TTFT 483 ms <= 500 ms"
    )


@pytest.mark.parametrize(
    ("case", "spec", "target", "offered", "value", "reason", "message"),
    [
        (
            "more than replicas.max is needed",
            service(max=4),
            4,
            30.0,
            4,
            Reason.AT_MAXIMUM,
            "4 replicas (replicas.max), 8 needed: at 30 req/s + 0 expected within 2m, "
            "3 give p95 TTFT 1.25 s > 500 ms, 4 give p95 TTFT 938 ms > 500 ms",
        ),
        (
            "less than replicas.min would do",
            service(min=3),
            3,
            2.0,
            3,
            Reason.AT_MINIMUM,
            "3 replicas (replicas.min): at 2 req/s + 0 expected within 2m, 1 would do",
        ),
        (
            "one spare replica is added to what is needed",
            service(spare=1),
            2,
            10.0,
            4,
            Reason.LATENCY_OBJECTIVE,
            "4 replicas (1 of them spare): at 10 req/s + 0 expected within 2m, "
            "2 give p95 TTFT 625 ms > 500 ms, 3 give p95 TTFT 417 ms <= 500 ms",
        ),
        (
            "no more than maxAddedPerMinute at once",
            service(max_added_per_minute=2),
            3,
            30.0,
            5,
            Reason.RATE_LIMITED,
            "5 of 8 for now, replicas.maxAddedPerMinute is 2; "
            "8 replicas: at 30 req/s + 0 expected within 2m, "
            "7 give p95 TTFT 536 ms > 500 ms, 8 give p95 TTFT 469 ms <= 500 ms",
        ),
        (
            "a target outside the bounds is brought inside",
            service(min=4),
            2,
            1.0,
            4,
            Reason.AT_MINIMUM,
            "4 replicas (replicas.min): at 1 req/s + 0 expected within 2m, 1 would do",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value and ":" not in value else "",
)
def test_bounds_and_spare(case, spec, target, offered, value, reason, message) -> None:  # type: ignore[no-untyped-def]
    decision, _ = decide_replicas(
        spec, seen(START, pool(target)), estimate(offered), ReplicaMemory(in_force=target), START
    )
    assert (decision.value, decision.reason, decision.message) == (value, reason, message), case


def test_a_backlog_is_sized_for_and_named() -> None:
    decision, _ = decide_replicas(
        service(),
        seen(START, pool(3)),
        estimate(8.0, backlog_per_second=10.0),
        ReplicaMemory(in_force=3),
        START,
    )
    assert (decision.value, decision.reason) == (5, Reason.BACKLOG)
    assert decision.message.startswith(
        "5 replicas: at 8 req/s + 0 expected within 2m + 10 to clear the queue, "
    )


def test_missing_metrics_hold_the_target_whatever_was_decided_before() -> None:
    memory = watched(6, needing=4.0)
    decision, memory = decide_replicas(service(), seen(START, pool(6)), blind(), memory, START)
    assert (decision.value, decision.reason) == (6, Reason.METRICS_MISSING)
    assert decision.message == "6 replicas held: the query for arrival_rate matched no series"
    # Data again, but the window has a gap now: agreement starts anew.
    decision, _ = decide_replicas(service(), seen(START + 15, pool(6)), estimate(4.0), memory, START + 15)
    assert (decision.value, decision.reason) == (6, Reason.STABILIZING)


def test_scale_down_waits_until_the_whole_window_agrees() -> None:
    spec, memory, at = service(), ReplicaMemory(in_force=6), START
    values = []
    for tick in range(30):
        offered = 22.0 if tick == 4 else 8.0  # a spike one minute in
        decision, memory = decide_replicas(spec, seen(at, pool(6)), estimate(offered), memory, at)
        values.append(decision.value)
        at += 15.0
    went_down = values.index(3)
    # The spike of tick 4 leaves the 300 s window after tick 24.
    assert went_down == 25
    assert set(values[:went_down]) == {6}


def test_scale_down_goes_to_the_highest_need_of_the_window() -> None:
    spec = service()
    memory, at = ReplicaMemory(in_force=9), START
    for tick in range(23):
        decision, memory = decide_replicas(
            spec, seen(at, pool(9)), estimate(18.0 if tick == 10 else 4.0), memory, at
        )
        at += 15.0
    assert (decision.value, decision.reason) == (5, Reason.STABILIZING)
    assert decision.message == ("5 replicas, 1 would do: with 8 % of room, 5 were needed within the last 5m")


def test_a_steady_load_within_the_margin_says_so_once_the_window_has_been_watched() -> None:
    spec, memory, at = service(), ReplicaMemory(), START
    said = []
    for _ in range(400):  # 100 minutes of 11.5 req/s: three carry 12, which is less than 8 % of room
        decision, memory = decide_replicas(spec, seen(at, pool(4)), estimate(11.5), memory, at)
        assert (decision.value, decision.reason) == (4, Reason.STABILIZING)
        if decision.message not in said:
            said.append(decision.message)
        at += 15.0
    assert said == [
        "4 replicas kept, 3 would do: the last 5m have not been watched in full",
        "4 replicas kept, 3 would do: with 8 % of room, 4 were needed within the last 5m",
    ]


def test_after_a_restart_a_window_that_was_watched_is_not_taken_back() -> None:
    words = "4 replicas kept, 3 would do: with 8 % of room, 4 were needed within the last 5m"
    memory, at = ReplicaMemory(said=Decision(4, Reason.STABILIZING, words)), START
    for _ in range(60):
        decision, memory = decide_replicas(service(), seen(at, pool(4)), estimate(11.5), memory, at)
        assert decision.message == words
        at += 15.0


def test_partial_reporting_never_scales_down_but_may_scale_up() -> None:
    memory = watched(6, needing=4.0)
    partial = "2 of 6 ready pods report"
    down, _ = decide_replicas(service(), seen(START, pool(6)), estimate(4.0, partial=partial), memory, START)
    up, _ = decide_replicas(service(), seen(START, pool(6)), estimate(30.0, partial=partial), memory, START)
    assert (down.value, down.reason, down.message) == (
        6,
        Reason.PARTIAL_METRICS,
        "6 replicas kept, 1 would do: 2 of 6 ready pods report",
    )
    assert up.value == 8


def test_no_scale_down_during_a_rollout_unless_it_has_failed() -> None:
    memory = watched(6, needing=4.0)
    rolling = pool(6, rolling_out=True)
    held, _ = decide_replicas(service(), seen(START, rolling), estimate(4.0), memory, START)
    assert (held.value, held.message) == (6, "6 replicas kept, 1 would do: Deployment/chat is rolling out")
    failed = replace(rolling, rollout_failed=True)
    freed, _ = decide_replicas(service(), seen(START, failed), estimate(4.0), memory, START)
    assert freed.value == 2  # DOWN_MARGIN: 4.0 x 1.08 needs two


def test_five_needed_and_nodes_for_three_keeps_the_target_at_five() -> None:
    spec, memory, at = service(), ReplicaMemory(in_force=3), START
    short = pool(5, ready=3, stuck=2, unschedulable=2, stuck_cause="2 pods are Unschedulable")
    for _ in range(40):
        decision, memory = decide_replicas(spec, seen(at, short), estimate(18.0), memory, at)
        assert decision.value == 5
        at += 15.0


def test_stuck_pods_never_block_a_scale_down() -> None:
    short = pool(6, ready=3, stuck=3)
    decision, _ = decide_replicas(
        service(), seen(START, short), estimate(4.0), watched(6, needing=4.0), START
    )
    assert decision.value == 2


def test_an_emergency_scale_up_is_kept_for_thirty_minutes() -> None:
    spec, memory = service(max=8), watched(3, needing=8.0)
    at = START
    kept_until = None
    for _ in range(200):
        decision, memory = decide_replicas(spec, seen(at, pool(10)), estimate(8.0), memory, at)
        if decision.value == 10:
            kept_until = at
            assert decision.reason is Reason.FOREIGN_SCALE_UP
        at += 15.0
    assert kept_until is not None
    assert 1785 <= kept_until - START < 1800
    assert decision.value == 3


def test_our_own_write_is_not_a_foreign_hand() -> None:
    spec, memory = service(), ReplicaMemory(in_force=3)
    decision, memory = decide_replicas(spec, seen(START, pool(3)), estimate(18.0), memory, START)
    memory = acknowledge(memory, written=5, before=3, now=START)
    decision, memory = decide_replicas(spec, seen(START + 15, pool(5)), estimate(18.0), memory, START + 15)
    assert memory.floor == 0
    assert decision.reason is Reason.LATENCY_OBJECTIVE


def test_a_foreign_scale_down_below_the_need_is_undone() -> None:
    decision, _ = decide_replicas(
        service(), seen(START, pool(1)), estimate(18.0), ReplicaMemory(in_force=5), START
    )
    assert decision.value == 5


def test_a_target_at_zero_is_left_alone() -> None:
    decision, _ = decide_replicas(service(), seen(START, pool(0)), estimate(9.0), ReplicaMemory(), START)
    assert (decision.value, decision.reason) == (None, Reason.SCALED_TO_ZERO)


def test_paused_and_a_missing_target_write_nothing() -> None:
    paused, _ = decide_replicas(
        service(mode=Mode.PAUSED), seen(START, pool(3)), estimate(30.0), ReplicaMemory(), START
    )
    missing, _ = decide_replicas(service(), seen(START, None), estimate(30.0), ReplicaMemory(), START)
    assert (paused.value, paused.reason) == (None, Reason.PAUSED)
    assert (missing.value, missing.message) == (
        None,
        "Deployment/chat does not exist in namespace prod: create it or correct workload.targetRef",
    )


def test_taking_over_from_another_autoscaler_is_no_jump() -> None:
    spec, memory, at = service(), ReplicaMemory(), START
    # The HPA holds six for an hour; Penstock, in conflict, would want three.
    for _ in range(240):
        _, memory = decide_replicas(
            spec, seen(at, pool(6), conflict="HorizontalPodAutoscaler/chat"), estimate(8.0), memory, at
        )
        at += 15.0
    decision, memory = decide_replicas(spec, seen(at, pool(6)), estimate(8.0), memory, at)
    assert (decision.value, decision.reason) == (6, Reason.STABILIZING)


def test_learning_is_said_when_the_metrics_have_come() -> None:
    spec = service()
    missing, memory = decide_replicas(spec, seen(START, pool(3)), blind(), ReplicaMemory(), START)
    assert missing.reason is Reason.METRICS_MISSING
    learning = replace(blind("learning the lengths"), learning=True)
    decision, _ = decide_replicas(spec, seen(START + 15, pool(3)), learning, memory, START + 15)
    assert (decision.reason, decision.message) == (
        Reason.LEARNING,
        "3 replicas held: learning the lengths",
    )


def test_the_message_keeps_its_numbers_until_value_or_reason_changes() -> None:
    spec, memory = service(), ReplicaMemory(in_force=5)
    first, memory = decide_replicas(spec, seen(START, pool(5)), estimate(17.0), memory, START)
    second, memory = decide_replicas(spec, seen(START + 15, pool(5)), estimate(18.0), memory, START + 15)
    assert second.message == first.message
    third, _ = decide_replicas(spec, seen(START + 30, pool(5)), estimate(21.0), memory, START + 30)
    assert third.value == 6
    assert "at 21 req/s" in third.message


@given(
    targets=st.integers(1, 40),
    offered=st.lists(st.one_of(st.none(), st.floats(0, 200)), min_size=1, max_size=40),
    least=st.integers(1, 5),
    most=st.integers(5, 30),
)
def test_whatever_is_measured_the_target_stays_inside_the_bounds_and_never_falls_on_missing_data(
    targets: int, offered: list[float | None], least: int, most: int
) -> None:
    spec = service(min=least, max=most)
    target, memory, at = targets, ReplicaMemory(in_force=targets), START
    for rate in offered:
        belief = blind() if rate is None else estimate(rate)
        decision, memory = decide_replicas(spec, seen(at, pool(target)), belief, memory, at)
        assert decision.value is not None
        assert least <= decision.value <= most
        if rate is None:
            assert decision.value >= min(target, most)
        memory = acknowledge(memory, written=decision.value, before=target, now=at)
        target = decision.value
        at += 15.0


@given(st.floats(0, 100), st.floats(0, 100))
def test_more_load_never_means_fewer_replicas(low: float, high: float) -> None:
    low, high = sorted((low, high))
    counts = [
        decide_replicas(
            service(max=100), seen(START, pool(1)), estimate(rate), ReplicaMemory(in_force=1), START
        )[0].value
        for rate in (low, high)
    ]
    assert counts[0] is not None
    assert counts[1] is not None
    assert counts[0] <= counts[1]
