"""Conditions: each trouble with its cause and what to do about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.builders import blind, estimate, pool, seen, service
from penstock.model.conditions import Finding, Status
from penstock.model.decision import Decision, Reason
from penstock.model.observation import Load, Observation
from penstock.model.reading import Absence, Reading
from penstock.model.spec import Mode
from penstock.policy.conditions import findings, not_accepted
from penstock.policy.estimate import Estimate

HEALTHY = Load(
    arrival_rate=Reading(10.0),
    queue_growth=Reading(0.0),
    waiting=Reading(0.0),
    running=Reading(5.0),
    ttft={0.95: Reading(0.31)},
)
FINE = Decision(3, Reason.LATENCY_OBJECTIVE, "3 replicas: because")


def conditions(
    observation: Observation,
    *,
    mode: Mode = Mode.ENFORCE,
    believed: Estimate | None = None,
    decision: Decision[int] = FINE,
    missed_before: bool = False,
    refusal: tuple[str, str] | None = None,
    write_error: tuple[str, str] | None = None,
) -> dict[str, Finding]:
    found = findings(
        service(mode=mode),
        observation,
        believed or estimate(10.0),
        decision,
        refusal=refusal,
        write_error=write_error,
        missed_before=missed_before,
        window_seconds=60.0,
    )
    return {each.type: each for each in found}


def test_all_is_well() -> None:
    found = conditions(seen(0, pool(3), load=HEALTHY))
    assert [(each.type, each.status, each.reason, each.message) for each in found.values()] == [
        ("Ready", Status.TRUE, "Enforcing", "replicas of Deployment/chat follow the decision"),
        ("Accepted", Status.TRUE, "Accepted", "Deployment/chat found, the spec is valid"),
        ("MetricsAvailable", Status.TRUE, "Available", "every signal was read"),
        ("ObjectivesMet", Status.TRUE, "ObjectivesMet", "p95 TTFT 310 ms of 500 ms"),
        (
            "ScalingLimited",
            Status.FALSE,
            "NotLimited",
            "nothing but the objectives decides the replica count",
        ),
        (
            "ModelTrusted",
            Status.UNKNOWN,
            "NotCalibrated",
            "nothing is measured, or engine.serviceTime is given",
        ),
        ("CanaryHealthy", Status.TRUE, "NoCanary", "spec.canary is not set"),
    ]


@pytest.mark.parametrize(
    ("absence", "detail"),
    [
        (Absence.NO_SERIES, "no series match: is the pod scraped?"),
        (Absence.STALE, "the newest sample is 95 s old"),
        (Absence.NOT_A_NUMBER, "the query returned NaN"),
        (Absence.SEVERAL_SERIES, "2 series where one is expected: aggregate with sum()"),
        (Absence.QUERY_FAILED, "Prometheus did not answer within 5 s"),
        (Absence.NOT_EXPOSED, "llama.cpp counts no requests: route through the gateway"),
        (Absence.CLOCK_SKEW, "Prometheus's clock is 40 s ahead"),
    ],
)
def test_each_kind_of_missing_metric_is_its_own_reason_with_its_detail(absence: Absence, detail: str) -> None:
    load = replace(HEALTHY, arrival_rate=Reading.missing(absence, detail))
    found = conditions(seen(0, pool(3), load=load), believed=blind(detail))
    metrics = found["MetricsAvailable"]
    assert (metrics.status, metrics.reason, metrics.message) == (Status.FALSE, absence.value, detail)
    assert found["ObjectivesMet"].status is Status.UNKNOWN
    assert found["Ready"].status is Status.TRUE  # an outage is not the spec's fault


def test_partial_reporting_and_warnings_are_told() -> None:
    partial = conditions(
        seen(0, pool(3), load=HEALTHY),
        believed=estimate(10.0, partial="2 of 3 ready pods report", partial_seconds=60.0),
    )
    warned = conditions(seen(0, pool(3), load=replace(HEALTHY, warnings=("store-2 timed out",))))
    assert (partial["MetricsAvailable"].reason, partial["MetricsAvailable"].message) == (
        "PartialReporting",
        "2 of 3 ready pods report",
    )
    assert (warned["MetricsAvailable"].status, warned["MetricsAvailable"].message) == (
        Status.TRUE,
        "store-2 timed out",
    )


def test_pods_that_are_ready_before_their_first_scrape_are_no_trouble() -> None:
    believed = estimate(10.0, partial="2 of 4 ready pods report", partial_seconds=15.0)
    found = conditions(seen(0, pool(4), load=HEALTHY), believed=believed)
    assert found["MetricsAvailable"].reason == "Available"


def test_a_missing_target_says_what_to_create() -> None:
    found = conditions(seen(0, None, load=HEALTHY))
    assert (found["Accepted"].reason, found["Ready"].reason) == ("TargetNotFound", "NotAccepted")
    assert found["Accepted"].message == (
        "Deployment/chat does not exist in namespace prod: create it or correct workload.targetRef"
    )


def test_an_objective_once_missed_is_met_again_only_with_room() -> None:
    def met(seconds: float, *, missed_before: bool) -> Status:
        load = replace(HEALTHY, ttft={0.95: Reading(seconds)})
        return conditions(seen(0, pool(3), load=load), missed_before=missed_before)["ObjectivesMet"].status

    assert met(0.49, missed_before=False) is Status.TRUE
    assert met(0.51, missed_before=False) is Status.FALSE
    assert met(0.49, missed_before=True) is Status.FALSE
    assert met(0.47, missed_before=True) is Status.TRUE


def test_a_breach_clears_objectives_met_and_never_ready() -> None:
    found = conditions(seen(0, pool(3), load=replace(HEALTHY, ttft={0.95: Reading(0.9)})))
    assert found["Ready"].status is Status.TRUE
    assert (found["ObjectivesMet"].status, found["ObjectivesMet"].message) == (
        Status.FALSE,
        "p95 TTFT 900 ms of 500 ms",
    )


def test_an_objective_out_of_reach_is_named_with_its_best_value() -> None:
    load = replace(HEALTHY, ttft={0.95: Reading(0.9)})
    believed = estimate(10.0)
    believed = replace(believed, unreachable=("ttft.p95 of 10 ms cannot be met: at best 38 ms",))
    found = conditions(seen(0, pool(3), load=load), believed=believed)["ObjectivesMet"]
    assert found.reason == "ObjectiveUnreachable"
    assert found.message.endswith("at best 38 ms")


def test_few_requests_judge_no_percentile() -> None:
    load = replace(HEALTHY, arrival_rate=Reading(0.1), ttft={0.95: Reading(9.0)})
    found = conditions(seen(0, pool(3), load=load))["ObjectivesMet"]
    assert (found.status, found.reason) == (Status.UNKNOWN, "FewRequests")


def test_what_limits_scaling_is_named_with_the_object_that_limits() -> None:
    stuck = pool(
        5, ready=3, stuck=2, unschedulable=2, stuck_cause="2 pods are Unschedulable: insufficient gpu"
    )
    quota = pool(5, ready=3, stuck=2, stuck_cause="exceeded quota: gpus, requested: 1, used: 3, limited: 3")
    assert conditions(seen(0, stuck, load=HEALTHY))["ScalingLimited"].message == (
        "2 of 5 replicas will not start: 2 pods are Unschedulable: insufficient gpu"
    )
    assert conditions(seen(0, quota, load=HEALTHY))["ScalingLimited"].reason == "QuotaExceeded"
    refused = conditions(seen(0, pool(3), load=HEALTHY), write_error=("WriteRefused", "not allowed"))
    assert refused["ScalingLimited"].reason == "WriteRefused"


def test_a_wrong_profile_is_refused_before_anything_else() -> None:
    refusal = ("ProfileNotFound", "no profile llama-3-h100: did you mean llama-3.1-8b-h100?")
    found = conditions(seen(0, None, load=HEALTHY), refusal=refusal)
    assert (found["Accepted"].reason, found["Accepted"].message) == refusal


def test_a_spec_that_cannot_be_read_still_has_every_condition() -> None:
    found = not_accepted("InvalidSpec", "slo: write at least one objective")
    assert [each.type for each in found] == [
        "Ready",
        "Accepted",
        "MetricsAvailable",
        "ObjectivesMet",
        "ScalingLimited",
        "ModelTrusted",
        "AdmissionLimited",
        "FallbackActive",
        "CanaryHealthy",
    ]
