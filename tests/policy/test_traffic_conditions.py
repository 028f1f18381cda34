"""AdmissionLimited and FallbackActive: status and sentence from the decisions themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.builders import pool, seen
from fakes.traffic import believed, measured, routed, to
from penstock.model.conditions import Finding, Status
from penstock.model.decision import Decision, Reason, TrafficReason
from penstock.model.spec import Mode
from penstock.policy.admission import AdmissionMemory, decide_admission
from penstock.policy.canary_conditions import NO_CANARY
from penstock.policy.conditions import findings
from penstock.policy.fallback import NOTHING_REMEMBERED, FallbackShare, decide_fallback
from penstock.policy.fallback_room import FallbackRoom
from penstock.policy.traffic_conditions import admission_finding, fallback_finding

BEGAN = 1_000_000.0


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (TrafficReason.ADMISSION_LIMITED, Status.TRUE),
        (TrafficReason.NO_READY_REPLICA, Status.TRUE),
        (TrafficReason.WITHIN_LIMIT, Status.FALSE),
        (TrafficReason.OBSERVING, Status.FALSE),
        (TrafficReason.NO_GATEWAY, Status.FALSE),
        (TrafficReason.OFF, Status.FALSE),
        (TrafficReason.PAUSED, Status.FALSE),
        (TrafficReason.LEARNING, Status.UNKNOWN),
        (TrafficReason.METRICS_MISSING, Status.UNKNOWN),
        (TrafficReason.TARGET_MISSING, Status.UNKNOWN),
    ],
)
def test_the_status_of_admission(reason: TrafficReason, status: Status) -> None:
    assert admission_finding(Decision(None, reason, "so")) == Finding(
        "AdmissionLimited", status, reason.value, "so"
    )


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (TrafficReason.FALLBACK_ACTIVE, Status.TRUE),
        (TrafficReason.IDLE, Status.FALSE),
        (TrafficReason.NO_FALLBACK, Status.FALSE),
        (TrafficReason.NO_ROOM, Status.FALSE),
        (TrafficReason.FALLBACK_LOOP, Status.FALSE),
        (TrafficReason.OBSERVING, Status.FALSE),
        (TrafficReason.LEARNING, Status.UNKNOWN),
    ],
)
def test_the_status_of_the_fallback(reason: TrafficReason, status: Status) -> None:
    assert fallback_finding(Decision(None, reason, "so")) == Finding(
        "FallbackActive", status, reason.value, "so"
    )


def test_refused_classes_are_told_together_with_the_limit_that_holds_all_the_same() -> None:
    refusal = (TrafficReason.EQUAL_PRIORITIES, "a and b both have priority 5: give each its own")
    found = admission_finding(
        Decision(None, TrafficReason.ADMISSION_LIMITED, "98 in flight"), refusal=refusal
    )
    assert found == Finding(
        "AdmissionLimited",
        Status.TRUE,
        "EqualPriorities",
        "a and b both have priority 5: give each its own; until then all requests are alike; 98 in flight",
    )


def test_gateways_that_do_not_do_as_decided_are_told_instead() -> None:
    problem = ("ConfigurationRejected", "Envoy refused the route: ...")
    decision, _ = decide_admission(routed(), seen(BEGAN, pool(4)), believed(92.0), AdmissionMemory(), BEGAN)
    assert admission_finding(decision, problem=problem) == Finding(
        "AdmissionLimited", Status.UNKNOWN, *problem
    )
    there = Decision(FallbackShare(0.1, 5, True), TrafficReason.FALLBACK_ACTIVE, "10 %")
    assert fallback_finding(there, problem=problem).status is Status.UNKNOWN
    none: Decision[FallbackShare] = Decision(None, TrafficReason.NO_FALLBACK, "none")
    assert fallback_finding(none, problem=problem).reason == "NoFallback"


def test_what_is_frozen_while_shedding_and_spilling_stays_true() -> None:
    spec = routed(fallback=to(), max=4)
    rates, observed = measured(92.0, shed=9.2), seen(BEGAN, pool(4))
    admission, memory = decide_admission(
        spec, observed, believed(92.0), AdmissionMemory(), BEGAN, rates=rates
    )
    _, remembered = decide_fallback(
        spec,
        observed,
        believed(92.0),
        NOTHING_REMEMBERED,
        BEGAN,
        admission=admission,
        room=FallbackRoom("chat-small", 40, 20.0),
        rates=rates,
    )
    paused = replace(spec, mode=Mode.PAUSED)
    admission, _ = decide_admission(paused, observed, believed(92.0), memory, BEGAN + 15, rates=rates)
    fallback, _ = decide_fallback(
        paused, observed, believed(92.0), remembered, BEGAN + 15, admission=admission, room=None
    )
    assert [
        (each.status, each.reason) for each in (admission_finding(admission), fallback_finding(fallback))
    ] == [
        (Status.TRUE, "Paused"),
        (Status.TRUE, "Paused"),
    ]


def test_they_follow_the_other_conditions() -> None:
    traffic = (
        Finding("AdmissionLimited", Status.FALSE, "Off", "off"),
        Finding("FallbackActive", Status.FALSE, "NoFallback", "none"),
    )
    found = findings(
        routed(),
        seen(BEGAN, pool(4)),
        believed(4.0),
        Decision(4, Reason.AT_MINIMUM, "4 replicas"),
        refusal=None,
        write_error=None,
        objectives=Finding("ObjectivesMet", Status.TRUE, "ObjectivesMet", "p95 TTFT 310 ms of 500 ms"),
        window_seconds=60.0,
        traffic=traffic,
    )
    assert found[-3:] == (*traffic, NO_CANARY)
    assert len(found) == 9
