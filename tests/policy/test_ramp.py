"""A limit on its way: down at once, up by a tenth a second; time is walked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.model.traffic import FleetLimit
from penstock.policy.ramp import ramp

LIMITS = st.builds(FleetLimit, st.integers(1, 3000), st.integers(0, 300))


@pytest.mark.parametrize(
    ("case", "in_force", "target", "seconds", "result"),
    [
        ("lowering never waits", (380, 12), (95, 3), 0.0, (95, 3)),
        ("raising takes a tenth a second", (100, 0), (400, 0), 1.0, (110, 0)),
        ("running and queued share the tenth", (95, 5), (190, 10), 1.0, (105, 5)),
        ("a late task does not jump", (100, 0), (400, 0), 60.0, (120, 0)),
        ("what is near is reached at once", (98, 0), (102, 0), 1.0, (102, 0)),
        ("a small limit rises by one a second", (5, 0), (9, 0), 1.0, (6, 0)),
        ("also when the task woke a little early", (5, 0), (9, 0), 0.98, (6, 0)),
        ("steps under a twentieth are not worth telling", (100, 0), (400, 0), 0.3, (100, 0)),
        ("one goes down at once while the other rises", (100, 0), (90, 30), 1.0, (90, 10)),
        ("a clock that stepped back raises nothing", (100, 0), (400, 0), -5.0, (100, 0)),
    ],
)
def test_steps(case, in_force, target, seconds, result) -> None:  # type: ignore[no-untyped-def]
    assert ramp(FleetLimit(*in_force), FleetLimit(*target), seconds) == FleetLimit(*result), case


@pytest.mark.parametrize("limit", [None, FleetLimit(95, 3)])
def test_beginning_and_ending_to_limit_take_effect_at_once(limit: FleetLimit | None) -> None:
    assert ramp(None, limit, 0.0) == limit
    assert ramp(limit, None, 0.0) is None


def test_five_replicas_after_four_are_there_in_three_seconds() -> None:
    limit: FleetLimit | None = FleetLimit(380, 12)
    walked = []
    for _ in range(3):
        limit = ramp(limit, FleetLimit(475, 15), 1.0)
        assert limit is not None
        walked.append(limit.in_flight)
    assert walked == [431, 474, 490]


@given(in_force=LIMITS, target=LIMITS, seconds=st.floats(0, 100))
def test_it_moves_towards_the_target_and_never_past_it(
    in_force: FleetLimit, target: FleetLimit, seconds: float
) -> None:
    new = ramp(in_force, target, seconds)
    assert new is not None
    for was, is_now, to in (
        (in_force.running, new.running, target.running),
        (in_force.queued, new.queued, target.queued),
    ):
        assert is_now == to if to <= was else was <= is_now <= to
    raised = max(0, new.running - in_force.running) + max(0, new.queued - in_force.queued)
    assert raised <= max(1.0, 0.1 * in_force.in_flight) * 2 + 1


@given(in_force=LIMITS, target=LIMITS)
def test_it_arrives(in_force: FleetLimit, target: FleetLimit) -> None:
    limit: FleetLimit | None = in_force
    for _ in range(120):  # from 1 to 3300: ten steps of one, then 1.1^60
        limit = ramp(limit, target, 1.0)
    assert limit == target


@given(in_force=LIMITS, low=LIMITS, high=LIMITS, seconds=st.floats(0.6, 2))
def test_a_higher_target_is_never_served_with_less_in_flight(
    in_force: FleetLimit, low: FleetLimit, high: FleetLimit, seconds: float
) -> None:
    high = FleetLimit(max(low.running, high.running), max(low.queued, high.queued))
    lower, higher = ramp(in_force, low, seconds), ramp(in_force, high, seconds)
    assert lower is not None
    assert higher is not None
    assert higher.in_flight >= lower.in_flight
