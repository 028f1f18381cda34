"""The load of both arms, where no gateway counts: the stable arm's engines see only its share."""

from __future__ import annotations

from typing import Any, cast

import pytest

from fakes.builders import service
from penstock.controller.cache import FleetCache
from penstock.controller.canary_state import CanaryState, Evidence
from penstock.controller.canary_step import CanaryStep
from penstock.controller.service_state import ServiceState
from penstock.model.canary import CanaryPhase, CanaryPlan
from penstock.model.observation import Load
from penstock.model.reading import Absence, Reading
from penstock.policy.beliefs import LoopTimes

STEP = CanaryStep(FleetCache(), None, LoopTimes())
STABLE = Load(arrival_rate=Reading(20.0), queue_growth=Reading(0.0))
MINUTE = ((0.0, 0.0), (30.0, 150.0), (60.0, 300.0))  # 5 requests a second


def whole(weight: int, *, added: tuple[tuple[float, float], ...] = (), load: Load = STABLE) -> Load:
    plan = CanaryPlan(CanaryPhase.TESTING, revision="b", weight_percent=weight)
    canary = CanaryState(plan=plan, evidence=Evidence(added=added))
    return STEP.whole_load(service(), ServiceState(uid="u", canary=canary), load)


@pytest.mark.parametrize(
    ("weight", "added", "offered"),
    [
        (20, MINUTE, 25.0),
        (100, MINUTE, 25.0),
        (20, (), 25.0),  # nobody counts the canary's: 20 are 80 %
        (60, (), 50.0),
    ],
)
def test_the_canarys_requests_are_added(
    weight: int, added: tuple[tuple[float, float], ...], offered: float
) -> None:
    assert whole(weight, added=added).offered_rate.value == offered


def test_where_all_requests_went_and_nobody_counts_nothing_is_known() -> None:
    load = whole(100)
    assert load.arrival_rate.value is None
    assert load.arrival_rate.absence is Absence.TOO_FEW_SAMPLES


def test_what_gateways_count_is_both_arms_already() -> None:
    load = Load(arrival_rate=Reading(20.0), offered_rate=Reading(25.0))
    assert whole(20, added=MINUTE, load=load) is load


def test_without_a_share_nothing_is_added() -> None:
    assert whole(0, added=MINUTE) is STABLE


def test_missing_stays_missing() -> None:
    gone = Load(arrival_rate=Reading.missing(Absence.NO_SERIES, "gone"))
    assert whole(20, added=MINUTE, load=gone) is gone


def test_a_service_that_tries_nothing_is_left_alone() -> None:
    state = cast("Any", ServiceState(uid="u"))
    assert STEP.whole_load(service(), state, STABLE) is STABLE
