"""What two arms may have in flight: never more at the stable one than its own limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.model.traffic import Backend, CanaryRoute, FleetLimit
from penstock.policy.arms import canary_room, limit_of_both

LIMITS = st.builds(FleetLimit, st.integers(1, 5000), st.integers(0, 500))
WEIGHTS, ROOMS = st.integers(0, 100), st.none() | st.integers(0, 5000)


@pytest.mark.parametrize(
    ("weight", "room", "in_flight"),
    [
        (0, 50, 100),  # only the stable arm
        (20, 50, 125),  # of 125, 100 are the stable arm's
        (50, 50, 150),  # both are full
        (100, 50, 150),
        (20, 0, 100),  # no canary pod is ready
        (20, None, 100),  # nobody knows what the canary carries
    ],
)
def test_both_arms_hold_what_fills_one_of_them(weight: int, room: int | None, in_flight: int) -> None:
    found = limit_of_both(FleetLimit(80, 20), weight, room)
    assert found == FleetLimit(80, in_flight - 80)


@given(LIMITS, WEIGHTS, st.integers(0, 5000))
def test_the_stable_arm_gets_no_more_than_its_own_limit(stable: FleetLimit, weight: int, room: int) -> None:
    both = limit_of_both(stable, weight, room)
    assert both is not None
    assert both.running == stable.running
    assert both.in_flight >= stable.in_flight
    canary = min(room, both.in_flight * weight / 100)
    assert both.in_flight - canary <= stable.in_flight + 1e-6


@given(LIMITS, WEIGHTS, WEIGHTS, st.integers(0, 5000))
def test_more_weight_never_lowers_the_limit(stable: FleetLimit, one: int, other: int, room: int) -> None:
    less, more = (limit_of_both(stable, each, room) for each in sorted((one, other)))
    assert less is not None
    assert more is not None
    assert less.in_flight <= more.in_flight


@given(WEIGHTS, ROOMS)
def test_without_a_limit_everything_passes(weight: int, room: int | None) -> None:
    assert limit_of_both(None, weight, room) is None


@pytest.mark.parametrize(
    ("decided", "per_replica", "serving", "room"),
    [
        (30, FleetLimit(20, 5), 2, 30),
        (30, FleetLimit(20, 5), 1, 20),  # a pod has left since it was decided
        (None, FleetLimit(20, 5), 2, 40),
        (30, FleetLimit(20, 5), 0, 0),
        (30, None, 2, 30),  # no model
        (None, None, 2, None),
    ],
)
def test_a_canary_has_room_for_what_its_ready_pods_run(
    decided: int | None, per_replica: FleetLimit | None, serving: int, room: int | None
) -> None:
    canary = CanaryRoute(Backend("prod", "chat-canary", 8000, "chat"), 20, in_flight_limit=decided)
    assert canary_room(canary, per_replica, serving) == room
