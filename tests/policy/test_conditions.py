"""Conditions: each trouble with its cause and what to do about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.builders import TTFT_500MS, blind, estimate, pool, seen, service
from penstock.model.conditions import Finding, Status
from penstock.model.decision import Decision, Reason
from penstock.model.observation import Load, Observation
from penstock.model.reading import Absence, Reading
from penstock.model.spec import Metric, Mode, Objective
from penstock.policy.conditions import findings, not_accepted
from penstock.policy.estimate import Estimate
from penstock.policy.objectives_condition import NONE_MISSED, objectives_finding

HEALTHY = Load(
    arrival_rate=Reading(10.0),
    queue_growth=Reading(0.0),
    waiting=Reading(0.0),
    running=Reading(5.0),
    input_token_rate=Reading(10_000.0),
    output_token_rate=Reading(2_000.0),
    ttft={0.95: Reading(0.31)},
    reporting_pods=Reading(3.0),
    sample_age_seconds=Reading(5.0),
)
TPOT_40MS = Objective(Metric.TPOT, 0.95, 0.04)
FINE = Decision(3, Reason.LATENCY_OBJECTIVE, "3 replicas: because")


def conditions(
    observation: Observation,
    *,
    mode: Mode = Mode.ENFORCE,
    believed: Estimate | None = None,
    decision: Decision[int] = FINE,
    missed_before: frozenset[Objective] = NONE_MISSED,
    objectives: tuple[Objective, ...] = (TTFT_500MS,),
    refusal: tuple[str, str] | None = None,
    write_error: tuple[str, str] | None = None,
) -> dict[str, Finding]:
    spec, believed = service(mode=mode, objectives=objectives), believed or estimate(10.0)
    met, _ = objectives_finding(
        spec, observation.load, believed, missed_before=missed_before, window_seconds=60.0
    )
    found = findings(
        spec,
        observation,
        believed,
        decision,
        refusal=refusal,
        write_error=write_error,
        objectives=met,
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


@pytest.mark.parametrize(
    ("signal", "absence", "reason"),
    [
        ("queue_growth", Absence.QUERY_FAILED, "QueryFailed"),
        ("queue_growth", Absence.NOT_A_NUMBER, "NotANumber"),
        ("queue_growth", Absence.PARTIAL, "PartialReporting"),
        ("queue_growth", Absence.NOT_EXPOSED, "Available"),  # a Custom engine without a query for QueueDepth
        ("queue_growth", Absence.TOO_FEW_SAMPLES, "Available"),  # all pods have just started
        ("input_token_rate", Absence.QUERY_FAILED, "QueryFailed"),
        ("input_token_rate", Absence.NO_SERIES, "NoSeries"),
        ("input_token_rate", Absence.NOT_EXPOSED, "Available"),
        ("input_token_rate", Absence.TOO_FEW_SAMPLES, "Available"),
        ("output_token_rate", Absence.QUERY_FAILED, "QueryFailed"),
        ("output_token_rate", Absence.SEVERAL_SERIES, "SeveralSeries"),
        ("output_token_rate", Absence.NOT_EXPOSED, "Available"),
        ("output_token_rate", Absence.TOO_FEW_SAMPLES, "Available"),
        ("reporting_pods", Absence.QUERY_FAILED, "QueryFailed"),  # beside a query of the user's for Running
        ("reporting_pods", Absence.NOT_EXPOSED, "Available"),
        ("sample_age_seconds", Absence.PARTIAL, "PartialReporting"),
        # Of a user's queries the age is asked about, and where that fails the values speak for themselves.
        ("sample_age_seconds", Absence.QUERY_FAILED, "Available"),
    ],
)
def test_what_the_count_follows_from_is_told_where_it_could_not_be_read(
    signal: str, absence: Absence, reason: str
) -> None:
    load = replace(HEALTHY, **{signal: Reading.missing(absence, "what came back")})  # type: ignore[arg-type]
    metrics = conditions(seen(0, pool(3), load=load))["MetricsAvailable"]
    told = (
        (Status.TRUE, "every signal was read") if reason == "Available" else (Status.FALSE, "what came back")
    )
    assert (metrics.reason, metrics.status, metrics.message) == (reason, *told)


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
    def met(seconds: float, *missed: Objective) -> tuple[Status, str]:
        load = replace(HEALTHY, ttft={0.95: Reading(seconds)})
        found = conditions(seen(0, pool(3), load=load), missed_before=frozenset(missed))["ObjectivesMet"]
        return found.status, found.message

    assert met(0.49) == (Status.TRUE, "p95 TTFT 490 ms of 500 ms")
    assert met(0.51) == (Status.FALSE, "p95 TTFT 510 ms of 500 ms")
    assert met(0.51, TTFT_500MS) == (Status.FALSE, "p95 TTFT 510 ms of 500 ms")
    assert met(0.49, TTFT_500MS) == (
        Status.FALSE,
        "p95 TTFT 490 ms of 500 ms (met again below 475 ms)",
    )
    assert met(0.47, TTFT_500MS) == (Status.TRUE, "p95 TTFT 470 ms of 500 ms")


def test_only_the_objective_that_was_missed_needs_room_to_be_met_again() -> None:
    spec = service(objectives=(TTFT_500MS, TPOT_40MS))
    missed, told = NONE_MISSED, []
    for ttft, tpot in [(0.31, 0.039), (0.9, 0.039), (0.49, 0.039), (0.31, 0.039), (0.49, 0.039)]:
        load = replace(HEALTHY, ttft={0.95: Reading(ttft)}, tpot={0.95: Reading(tpot)})
        found, missed = objectives_finding(
            spec, load, estimate(10.0), missed_before=missed, window_seconds=60.0
        )
        told.append((found.status, [each.name for each in missed]))
    assert told == [
        (Status.TRUE, []),
        (Status.FALSE, ["ttft.p95"]),
        (Status.FALSE, ["ttft.p95"]),
        (Status.TRUE, []),
        (Status.TRUE, []),
    ]


def test_a_percentile_that_the_engine_does_not_have_is_told_with_what_to_do() -> None:
    why = "TGI has no time to first token; set an objective for latency or tpot instead"
    load = replace(
        HEALTHY,
        ttft={0.95: Reading.missing(Absence.NOT_EXPOSED, why)},
        tpot={0.95: Reading(0.031)},
    )
    found = conditions(seen(0, pool(3), load=load), objectives=(TTFT_500MS, TPOT_40MS))
    assert found["MetricsAvailable"] == Finding("MetricsAvailable", Status.FALSE, "NotExposed", why)
    assert (found["ObjectivesMet"].reason, found["ObjectivesMet"].message) == (
        "NotMeasured",
        f"p95 TTFT is not measured: {why}; p95 TPOT 31 ms of 40 ms",
    )


def test_a_percentile_that_is_missing_is_told_beside_one_that_is_missed() -> None:
    failed = Reading.missing(Absence.QUERY_FAILED, "the query for tpot failed: time-out")
    load = replace(HEALTHY, ttft={0.95: Reading(0.9)}, tpot={0.95: failed})
    found = conditions(seen(0, pool(3), load=load), objectives=(TTFT_500MS, TPOT_40MS))
    assert found["ObjectivesMet"].reason == "ObjectiveMissed"
    assert (found["MetricsAvailable"].reason, found["MetricsAvailable"].message) == (
        "QueryFailed",
        "the query for tpot failed: time-out",
    )


@pytest.mark.parametrize(
    ("absence", "rate", "reason"),
    [
        (Absence.NO_REQUESTS, 10.0, "Available"),  # long streams: none has ended within the window
        (Absence.NO_REQUESTS, 0.0, "Available"),
        (Absence.NOT_A_NUMBER, 0.0, "Available"),  # a user's own histogram_quantile of an idle service
        (Absence.NOT_A_NUMBER, 10.0, "NotANumber"),
        (Absence.TOO_FEW_SAMPLES, 0.1, "Available"),  # the first request has not ended yet
        (Absence.TOO_FEW_SAMPLES, 10.0, "TooFewSamples"),
        (Absence.NOT_EXPOSED, 0.0, "NotExposed"),
    ],
)
def test_a_percentile_of_no_requests_is_no_trouble(absence: Absence, rate: float, reason: str) -> None:
    load = replace(HEALTHY, arrival_rate=Reading(rate), ttft={0.95: Reading.missing(absence, "none of them")})
    assert conditions(seen(0, pool(3), load=load))["MetricsAvailable"].reason == reason


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


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (
            Reason.AT_MAXIMUM,
            "2 of 5 replicas will not start: insufficient gpu; 5 replicas (replicas.max), 8 needed",
        ),
        (Reason.RATE_LIMITED, "2 of 5 replicas will not start: insufficient gpu"),
    ],
)
def test_pods_without_a_node_are_told_before_bounds_that_would_not_help(reason: Reason, message: str) -> None:
    stuck = pool(5, ready=3, stuck=2, unschedulable=2, stuck_cause="insufficient gpu")
    decision = Decision(5, reason, "5 replicas (replicas.max), 8 needed")
    found = conditions(seen(0, stuck, load=HEALTHY), decision=decision)["ScalingLimited"]
    assert (found.status, found.reason, found.message) == (Status.TRUE, "Unschedulable", message)
    all_run = conditions(seen(0, pool(5), load=HEALTHY), decision=decision)["ScalingLimited"]
    assert (all_run.reason, all_run.message) == (reason.value, decision.message)


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
