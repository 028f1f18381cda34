"""What status shows, and when a difference is worth a write."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.schema_walk import At, Schema, root
from penstock.model.canary import CanaryPhase
from penstock.model.canary_status import CanaryShown
from penstock.model.canary_verdict import Evidence
from penstock.model.conditions import Finding, Status, set_conditions
from penstock.model.decision import Decision, Reason
from penstock.model.objective_counts import Counted
from penstock.model.observation import Load, Pool
from penstock.model.reading import Absence, Reading
from penstock.model.resource_status import (
    AdmissionShown,
    FactorsShown,
    FallbackShown,
    Floor,
    Learned,
    LengthsShown,
    LoadSource,
    ObjectiveProgress,
    StatusValues,
    availability_progress,
    build_status,
    latency_progress,
)
from penstock.model.spec import Metric, Objective
from penstock.model.status_change import meaningful_change, status_patch

TTFT = Objective(Metric.TTFT, 0.95, 0.5)
CONDITIONS = set_conditions(
    (), [Finding("Ready", Status.TRUE, "Enforcing", "4 replicas at 12.5 ms")], generation=3, now=1000
)
LOAD = Load(
    arrival_rate=Reading(17.234),
    ttft={0.95: Reading(0.3104)},
    tpot={0.95: Reading(0.02712)},
)
FIVE = Decision(5, Reason.LATENCY_OBJECTIVE, "5 replicas: at 17.2 req/s 4 give p95 TTFT 820 ms > 500 ms")
VALUES = StatusValues(
    generation=3,
    conditions=CONDITIONS,
    decision=FIVE,
    decided_at=1000.9,
    pool=Pool(target=5, current=5, ready=4),
    load=LOAD,
    utilization_ratio=0.7812,
    objectives=(
        latency_progress(TTFT, Reading(0.3104), 0.931, {20_777: Counted(1000.0, 3.45)}),
        availability_progress(0.995, 0.99987, 0.42),
    ),
    learned=Learned(
        warm_start_seconds=31.4,
        new_node_start_seconds=362.0,
        speed_ratio=1.0512,
        lengths=LengthsShown(1155.2, 1.2, 211.4, 0.8),
        factors=FactorsShown(1.2597, 1.0, 0.8333),
    ),
    floor=Floor(6, 2800.0),
    admission=AdmissionShown(
        in_flight_limit=392, running_per_replica=80, queued_per_replica=18, enforced=True, shed_ratio=0.0312
    ),
    fallback=FallbackShown("chat-small", 0.118),
    canary=CanaryShown(
        phase=CanaryPhase.TESTING,
        since=940.0,
        revision="bbbbbbbbbb",
        stable_revision="cccccccccc",
        rejected_revision="dddddddddd",
        rejected_because="p95 TTFT is 31 % worse",
        step=2,
        steps=3,
        weight_percent=20,
        evidence="no verdict yet: 312 requests of the canary, about 640 more at this rate",
        rows=(
            Evidence("errors", 1250.0, 2.0, 312.0, 1.0, 2.0, 0.21, 14.0, 0.12, 0.4, 1.301, 1.301),
            Evidence(
                "ttft",
                1240.0,
                180.0,
                310.0,
                47.0,
                1.0445,
                0.79,
                1.38,
                -0.2,
                0.65,
                1.6,
                1.3,
                edge_seconds=0.25,
            ),
            Evidence("tpot", missing="no series of the canary's pods"),
        ),
        memory='{"canary":{"phase":"Testing"},"judge":{}}',
    ),
)


def test_status_shows_every_value() -> None:
    assert build_status(VALUES) == {
        "observedGeneration": 3,
        "replicas": {"current": 5, "ready": 4, "desired": 5, "summary": "4/5"},
        "load": {
            "arrivalRate": "17.2",
            "utilizationPercent": 78,
            "ttftP95": "310ms",
            "tpotP95": "27ms",
            "source": "Engine",
        },
        "admission": {
            "mode": "Enforce",
            "maxInFlight": 392,
            "runningPerReplica": 80,
            "queuedPerReplica": 18,
            "shedPercent": 3,
        },
        "fallback": {"backend": "chat-small", "percent": 12},
        "canary": {
            "phase": "Testing",
            "since": "1970-01-01T00:15:40Z",
            "summary": "Testing 20%",
            "revision": "bbbbbbbbbb",
            "stableRevision": "cccccccccc",
            "rejectedRevision": "dddddddddd",
            "rejectedBecause": "p95 TTFT is 31 % worse",
            "step": "2/3",
            "weightPercent": 20,
            "evidence": "no verdict yet: 312 requests of the canary, about 640 more at this rate",
            "rows": [
                {
                    "metric": "errors",
                    "canaryRequests": 312,
                    "canaryBad": 1,
                    "stableRequests": 1250,
                    "stableBad": 2,
                    "ratio": "2",
                    "interval": "0.21 to 14",
                    "againstPercent": 9,
                    "forPercent": 31,
                },
                {
                    "metric": "ttft",
                    "canaryRequests": 310,
                    "canaryBad": 47,
                    "stableRequests": 1240,
                    "stableBad": 180,
                    "edge": "250ms",
                    "ratio": "1.04",
                    "interval": "0.79 to 1.38",
                    "againstPercent": 0,
                    "forPercent": 50,
                },
                {"metric": "tpot", "missing": "no series of the canary's pods"},
            ],
            "memory": '{"canary":{"phase":"Testing"},"judge":{}}',
        },
        "objectives": [
            {
                "name": "ttft.p95",
                "target": "500ms",
                "measured": "310ms",
                "budgetRemainingPercent": 93,
                "days": ["2026-11-20: 3.45 of 1000"],
            },
            {"name": "availability", "target": "99.5%", "measured": "99.99%", "budgetRemainingPercent": 42},
        ],
        "budgetRemainingPercent": 42,
        "learned": {
            "warmStartSeconds": 31,
            "newNodeStartSeconds": 362,
            "speedRatio": "1.05",
            "overheadRatio": "1.26",
            "computeRatio": "1",
            "memoryRatio": "0.833",
            "inputTokens": 1155,
            "inputScv": "1.2",
            "outputTokens": 211,
            "outputScv": "0.8",
        },
        "decision": {"reason": "LatencyObjective", "message": FIVE.message, "time": "1970-01-01T00:16:40Z"},
        "foreignFloor": {"replicas": 6, "until": "1970-01-01T00:46:40Z"},
        "conditions": [CONDITIONS[0].to_dict()],
    }


def test_what_is_not_known_is_absent_and_never_zero() -> None:
    blind = Load(
        arrival_rate=Reading.missing(Absence.STALE),
        ttft={0.95: Reading.missing(Absence.NO_SERIES)},
    )
    status = build_status(
        StatusValues(
            generation=1,
            conditions=(),
            decision=Decision(None, Reason.METRICS_MISSING, "held"),
            pool=Pool(target=3, current=3, ready=3),
            load=blind,
            objectives=(latency_progress(TTFT, None),),
        )
    )
    assert status == {
        "observedGeneration": 1,
        "replicas": {"current": 3, "ready": 3, "summary": "3/-"},
        "objectives": [{"name": "ttft.p95", "target": "500ms"}],
        "decision": {"reason": "MetricsMissing", "message": "held", "time": "1970-01-01T00:00:00Z"},
    }


def test_a_true_zero_is_shown() -> None:
    idle = Load(arrival_rate=Reading(0.0))
    status = build_status(StatusValues(generation=1, conditions=(), load=idle, utilization_ratio=0.0))
    assert status["load"] == {"arrivalRate": "0", "utilizationPercent": 0, "source": "Engine"}


def test_load_that_gateways_counted_is_shown_as_theirs() -> None:
    counted = StatusValues(
        generation=1, conditions=(), load=LOAD, offered_per_second=31.25, load_source=LoadSource.GATEWAY
    )
    assert build_status(counted)["load"] == {
        "arrivalRate": "31.2",
        "ttftP95": "310ms",
        "tpotP95": "27ms",
        "source": "Gateway",
    }


def test_what_is_offered_is_shown_before_what_the_engines_serve() -> None:
    overloaded = StatusValues(generation=1, conditions=(), load=LOAD, offered_per_second=31.25)
    shown = build_status(overloaded)["load"]
    assert (shown["arrivalRate"], shown["source"]) == ("31.2", "Engine")


def test_a_limit_of_unknown_replicas_is_shown_by_the_replica() -> None:
    held = AdmissionShown(None, running_per_replica=80, queued_per_replica=18, enforced=False)
    assert build_status(StatusValues(generation=1, conditions=(), admission=held))["admission"] == {
        "mode": "Observe",
        "runningPerReplica": 80,
        "queuedPerReplica": 18,
    }


def test_no_limit_and_no_fallback_are_absent() -> None:
    status = build_status(StatusValues(generation=1, conditions=()))
    assert not {"admission", "fallback"} & status.keys()


def test_without_a_target_only_the_wish_is_shown() -> None:
    status = build_status(StatusValues(generation=1, conditions=(), decision=FIVE))
    assert status["replicas"] == {"desired": 5, "summary": "-/5"}


def edited(at: str, value: object) -> dict[str, Any]:
    """The status of VALUES with another value at a dotted path; None removes."""
    status = copy.deepcopy(build_status(VALUES))
    parent: Any = status
    *way, last = at.split(".")
    for part in way:
        parent = parent[int(part)] if part.isdigit() else parent[part]
    if value is None:
        parent.pop(int(last) if last.isdigit() else last)
    else:
        parent[last] = value
    return status


AT_ONCE = [
    ("conditions.0.status", "False"),
    ("conditions.0.reason", "Observing"),
    ("conditions.0.observedGeneration", 4),
    ("decision.reason", "AtMaximum"),
    ("replicas.desired", 6),
    ("observedGeneration", 4),
    ("foreignFloor", None),
    ("foreignFloor.replicas", 7),
    ("admission.mode", "Observe"),
    ("fallback.backend", "chat-tiny"),
    ("fallback", None),
    ("canary.phase", "RollingBack"),
    ("canary.step", "3/3"),
    ("canary.weightPercent", 16),
    ("canary.revision", "eeeeeeeeee"),
    ("canary.rejectedRevision", "bbbbbbbbbb"),
    ("canary", None),
]
WITHIN_A_MINUTE = [
    ("replicas.ready", 5),
    ("replicas.current", 6),
    ("load.arrivalRate", "19.1"),
    ("load.utilizationPercent", 90),
    ("load.ttftP95", "350ms"),
    ("load.tpotP95", None),
    ("objectives.0.measured", "250ms"),
    ("objectives.0.budgetRemainingPercent", 80),
    ("objectives.0.days", ["2026-11-20: 3.45 of 1000", "2026-11-21: 0 of 120"]),
    ("objectives.0.days", None),
    ("objectives.1", None),
    ("learned.speedRatio", "1.3"),
    ("learned.memoryRatio", "1"),
    ("learned.overheadRatio", None),
    ("learned.inputTokens", 1400),
    ("learned.outputScv", None),
    ("admission.maxInFlight", 294),
    ("admission.runningPerReplica", 60),
    ("admission.shedPercent", 5),
    ("admission.shedPercent", None),
    ("fallback.percent", 20),
    ("canary.rows.0.canaryRequests", 350),
    ("canary.rows.1.stableBad", 210),
    ("canary.rows.0", None),
    ("canary.evidence", "no request of the canary was counted"),
    ("load.source", "Gateway"),
    ("load.arrivalRate", "somebody wrote this"),
    ("conditions.0.message", "3 replicas at 12.5 ms because of a quota"),
    ("decision.message", "the query for the arrival rate matched no series"),
]
NEVER = [
    ("conditions.0.lastTransitionTime", "2026-01-01T00:00:00Z"),
    ("conditions.0.message", "5 replicas at 13.7 ms"),
    ("decision.time", "2026-01-01T00:00:00Z"),
    ("decision.message", "5 replicas: at 17.9 req/s 4 give p95 TTFT 1.02 s > 500 ms"),
    ("load.arrivalRate", "18.9"),
    ("load.utilizationPercent", 71),
    ("load.ttftP95", "340ms"),
    ("learned.computeRatio", "1.08"),
    ("objectives.0.budgetRemainingPercent", 90),
    ("objectives.0.days", ["2026-11-20: 3.45 of 1000", "2026-11-21: 0 of 80"]),
    ("admission.maxInFlight", 400),
    ("fallback.percent", 13),
    ("canary.memory", '{"canary":{"phase":"Testing"},"judge":{"n":1}}'),
    ("canary.rows.0.canaryRequests", 330),
    ("canary.rows.1.againstPercent", 70),
    ("canary.evidence", "no verdict yet: 330 requests of the canary, about 620 more at this rate"),
]


@pytest.mark.parametrize(("at", "value"), AT_ONCE)
def test_what_users_act_upon_is_written_at_once(at: str, value: object) -> None:
    old, new = build_status(VALUES), edited(at, value)
    assert meaningful_change(old, new, seconds_since_write=0)
    assert meaningful_change(new, old, seconds_since_write=0)


@pytest.mark.parametrize(("at", "value"), WITHIN_A_MINUTE)
def test_numbers_wait_for_a_minute(at: str, value: object) -> None:
    old, new = build_status(VALUES), edited(at, value)
    assert not meaningful_change(old, new, seconds_since_write=59.9)
    assert meaningful_change(old, new, seconds_since_write=60)


@pytest.mark.parametrize(("at", "value"), NEVER)
def test_small_moves_are_never_written(at: str, value: object) -> None:
    assert not meaningful_change(build_status(VALUES), edited(at, value), seconds_since_write=1e6)


def test_the_first_status_is_written() -> None:
    assert meaningful_change({}, build_status(VALUES), seconds_since_write=0)


def test_the_same_again_is_not_written() -> None:
    assert not meaningful_change(build_status(VALUES), build_status(VALUES), seconds_since_write=math.inf)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, as the API server does it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@pytest.mark.parametrize(("at", "value"), AT_ONCE + WITHIN_A_MINUTE + NEVER)
def test_the_patch_makes_the_old_status_into_the_new(at: str, value: object) -> None:
    old, new = build_status(VALUES), edited(at, value)
    assert merged(old, status_patch(old, new)) == new
    assert merged(new, status_patch(new, old)) == old
    assert status_patch(old, old) == {}


ratios = st.floats(allow_nan=True, allow_infinity=True)
seconds = ratios.map(abs)
texts = st.text(max_size=2000)


@settings(max_examples=200)
@given(
    rate=seconds,
    ttft=seconds,
    ratio=ratios,
    budget=ratios,
    message=texts,
    counts=st.tuples(*[st.integers(min_value=0, max_value=10**9)] * 3),
    speed=ratios,
)
def test_whatever_is_measured_fits_the_schema(
    rate: float,
    ttft: float,
    ratio: float,
    budget: float,
    message: str,
    counts: tuple[int, int, int],
    speed: float,
) -> None:
    status = build_status(
        StatusValues(
            generation=1,
            conditions=set_conditions(
                (), [Finding("Ready", Status.TRUE, "Fine", message)], generation=1, now=0
            ),
            decision=Decision(counts[0], Reason.AT_MAXIMUM, message),
            pool=Pool(target=counts[0], current=counts[1], ready=counts[2]),
            load=Load(arrival_rate=Reading(rate), ttft={0.95: Reading(ttft)}, latency={0.95: Reading(ttft)}),
            utilization_ratio=ratio,
            objectives=(latency_progress(TTFT, Reading(ttft), budget),),
            learned=Learned(
                warm_start_seconds=ttft, speed_ratio=speed, factors=FactorsShown(speed, ratio, rate)
            ),
            offered_per_second=rate,
            admission=AdmissionShown(*counts, enforced=True, shed_ratio=ratio),
            fallback=FallbackShown("chat-small", ratio),
            canary=CanaryShown(
                phase=CanaryPhase.TESTING,
                revision="bbbbbbbbbb",
                rejected_because=message,
                step=1,
                steps=3,
                evidence=message,
                rows=(
                    Evidence("errors", rate, ttft, rate, ttft, ratio, ratio, rate, speed, speed, ratio, rate),
                    Evidence("ttft", edge_seconds=ttft, missing=message),
                    *(Evidence(f"check-{at}", edge_seconds=ttft) for at in range(20)),
                ),
            ),
        )
    )
    assert list(misfits(status, root()["properties"]["status"], ())) == []
    assert not meaningful_change(status, copy.deepcopy(status), seconds_since_write=math.inf)


def misfits(value: Any, schema: Schema, at: At) -> Any:
    """What of `value` the schema would refuse or drop."""
    if schema["type"] == "object":
        for name, inner in value.items():
            if name not in schema["properties"]:
                yield (*at, name), "unknown"
            else:
                yield from misfits(inner, schema["properties"][name], (*at, name))
        yield from (((*at, name), "missing") for name in schema.get("required", ()) if name not in value)
    elif schema["type"] == "array":
        if len(value) > schema["maxItems"]:
            yield at, "too many"
        for item in value:
            yield from misfits(item, schema["items"], (*at, "[]"))
    elif schema["type"] == "integer":
        fits = isinstance(value, int) and schema.get("minimum", value) <= value <= schema.get(
            "maximum", value
        )
        if not fits:
            yield at, value
    elif not isinstance(value, str) or not (
        schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
    ):
        yield at, value


def test_a_nameless_progress_is_only_a_target() -> None:
    progress = ObjectiveProgress("latency.p99", "1s")
    status = build_status(StatusValues(generation=1, conditions=(), objectives=(progress,)))
    assert status["objectives"] == [{"name": "latency.p99", "target": "1s"}]
    assert "budgetRemainingPercent" not in status
