"""The load of both arms, where no gateway counts: the stable arm's engines see only its share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from fakes.builders import service
from fakes.canary import owned
from penstock.controller.cache import FleetCache
from penstock.controller.canary_judging import take_evidence
from penstock.controller.canary_state import CanaryState, Evidence
from penstock.controller.canary_step import CanaryStep
from penstock.controller.service_state import ServiceState
from penstock.metrics_source.arms import ArmsRead, ErrorSource
from penstock.model.canary import CanaryPhase, CanaryPlan
from penstock.model.canary_counts import ArmReading, PodCounters
from penstock.model.observation import Load
from penstock.model.reading import Absence, Reading
from penstock.policy.beliefs import LoopTimes

STEP = CanaryStep(FleetCache(), None, LoopTimes())
STABLE = Load(arrival_rate=Reading(20.0), queue_growth=Reading(0.0))
MINUTE = ((0.0, 0.0), (30.0, 150.0), (60.0, 300.0))  # 5 requests a second


def read(at: float, requests: float | None = None) -> ArmsRead:
    """Both arms as of `at`; `requests` None: the canary's series are gone."""
    canary = None if requests is None else ArmReading(at, (PodCounters("b-0", requests=requests),))
    return ArmsRead(ArmReading(at, (PodCounters("a-0"),)), canary, ErrorSource.ENGINE)


def whole(
    weight: int,
    *,
    added: tuple[tuple[float, float], ...] = (),
    load: Load = STABLE,
    at: float = 75.0,
    counted_in: str = "",
) -> Load:
    plan = CanaryPlan(CanaryPhase.TESTING, revision="b", weight_percent=weight)
    canary = CanaryState(plan=plan, evidence=Evidence(run=counted_in, added=added), read=read(at))
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


@pytest.mark.parametrize(
    ("at", "counted_in", "offered"),
    [
        (105.0, "", 25.0),  # two scrapes and a tick after the last reading
        (106.0, "", 40.0),  # half of them, whatever was counted before
        (75.0, "a@0", 40.0),  # of an earlier run
    ],
)
def test_a_rate_of_long_ago_is_no_rate(at: float, counted_in: str, offered: float) -> None:
    assert whole(50, added=MINUTE, at=at, counted_in=counted_in).offered_rate.value == offered


def test_through_the_warm_up_at_a_new_share_the_weights_stand_in_for_what_is_not_counted() -> None:
    """5 requests a second at 20 %, then 22 at 50 %: of these the first 45 s are not counted."""
    state = ServiceState(uid="u", canary=CanaryState())
    canary, spec = state.canary, owned()
    assert canary is not None
    plan = CanaryPlan(
        CanaryPhase.TESTING, revision="b", weight_percent=20, judged=True, run="b@0", evidence_from=0.0
    )
    counted, offered = 0.0, []
    for tick in range(14):
        now = 15.0 * (tick + 1)
        if tick == 5:
            plan = replace(plan, weight_percent=50, evidence_from=now + 45.0)
        counted += 15.0 * (5.0 if tick <= 5 else 22.0)
        canary.plan, canary.read = plan, read(now, counted)
        take_evidence(spec, canary, now)
        offered.append(STEP.whole_load(spec, state, STABLE).offered_rate.value)
    assert offered == [25.0] * 5 + [40.0] * 5 + [42.0] * 4


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
