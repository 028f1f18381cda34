"""Conditions say since when something has been so, and nothing else moves their time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.model.conditions import (
    Condition,
    ConditionType,
    Finding,
    Status,
    differ,
    parse_timestamp,
    read_conditions,
    set_conditions,
    timestamp,
    truncated,
)

READY = Finding("Ready", Status.TRUE, "Enforcing", "replicas follow the decision")


def at(
    now: float, *findings: Finding, previous: tuple[Condition, ...] = (), generation: int = 1
) -> tuple[Condition, ...]:
    return set_conditions(previous, findings, generation=generation, now=now)


def test_a_new_condition_starts_now() -> None:
    (condition,) = at(1000.7, READY)
    assert condition.to_dict() == {
        "type": "Ready",
        "status": "True",
        "observedGeneration": 1,
        "lastTransitionTime": "1970-01-01T00:16:40Z",
        "reason": "Enforcing",
        "message": "replicas follow the decision",
    }


@pytest.mark.parametrize(
    ("finding", "since"),
    [
        (READY, 1000),
        (Finding("Ready", Status.TRUE, "Observing", "another reason"), 1000),
        (Finding("Ready", Status.TRUE, "Enforcing", "another message"), 1000),
        (Finding("Ready", Status.FALSE, "NotAccepted", "x"), 2000),
        (Finding("Ready", Status.UNKNOWN, "NotAccepted", "x"), 2000),
    ],
)
def test_only_a_change_of_status_moves_the_time(finding: Finding, since: float) -> None:
    (condition,) = at(2000, finding, previous=at(1000, READY), generation=2)
    assert condition.last_transition_at == since
    assert (condition.reason, condition.message) == (finding.reason, finding.message)
    assert condition.observed_generation == 2


def test_conditions_that_nobody_sets_any_more_are_dropped() -> None:
    previous = at(1000, READY, Finding("Old", Status.TRUE, "Old", "of another version"))
    assert [each.type for each in at(2000, READY, previous=previous)] == ["Ready"]


def test_the_order_is_that_of_the_findings() -> None:
    findings = [Finding(each.value, Status.TRUE, "Fine", "") for each in ConditionType]
    shuffled = at(1000, *reversed(findings))
    assert [each.type for each in at(2000, *findings, previous=shuffled)] == [
        each.value for each in ConditionType
    ]


def test_a_long_message_is_cut() -> None:
    (condition,) = at(0, Finding("Ready", Status.FALSE, "Broken", "x" * 5000))
    assert condition.message == "x" * 1021 + "..."
    assert truncated("x" * 1024) == "x" * 1024


def test_conditions_are_read_back_as_they_were_written() -> None:
    conditions = at(1000, READY, Finding("Accepted", Status.UNKNOWN, "Waiting", ""))
    assert read_conditions({"conditions": [each.to_dict() for each in conditions]}) == conditions


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"type": "Ready"},
        {"type": "Ready", "status": "Maybe", "reason": "x", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "Ready", "status": "True", "reason": "x", "lastTransitionTime": "yesterday"},
        {"type": "Ready", "status": "True", "reason": "x", "lastTransitionTime": "2026-01-01T00:00:00"},
        {"type": "Ready", "status": "True", "reason": "x", "lastTransitionTime": None},
    ],
)
def test_a_condition_that_somebody_mangled_is_set_anew(entry: dict[str, object]) -> None:
    assert read_conditions({"conditions": [entry]}) == ()


def test_a_status_without_conditions_has_none() -> None:
    assert read_conditions({}) == read_conditions({"conditions": None}) == ()


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (at(2000, READY), False),
        (at(1000, Finding("Ready", Status.TRUE, "Enforcing", "other numbers")), False),
        (at(1000, Finding("Ready", Status.TRUE, "Observing", READY.message)), True),
        (at(1000, Finding("Ready", Status.FALSE, "Enforcing", READY.message)), True),
        (at(1000, READY, generation=2), True),
        ((), True),
    ],
)
def test_conditions_differ_in_status_reason_and_generation(
    other: tuple[Condition, ...], expected: bool
) -> None:
    assert differ(at(1000, READY), other) is expected


def test_an_offset_is_a_time_zone_too() -> None:
    assert parse_timestamp("1970-01-01T01:00:00+01:00") == 0.0


@given(st.integers(min_value=0, max_value=253402300799))
def test_times_survive_being_written(seconds: int) -> None:
    assert parse_timestamp(timestamp(seconds)) == seconds
