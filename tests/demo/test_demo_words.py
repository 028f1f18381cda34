"""What the demo says of a status, and what it makes of samples and requests."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from penstock.engine.arrivals import PlannedRequest
from penstock.engine.lag import StepLag
from penstock.engine.load_generator import LoadResult
from penstock.engine.stream_client import RequestRecord
from penstock.model.parse import parse_service
from penstock.sandbox.demo.commentary import Kind, PodCounts, Remark, remarks
from penstock.sandbox.demo.report import build_report
from penstock.sandbox.demo.scene import Phase, Scene, full_scene, inference_service_yaml, quick_scene
from penstock.sandbox.demo.usage import ReplicaUse


def status(reason: str, message: str, desired: int, **conditions: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "replicas": {"desired": desired},
        "decision": {"reason": reason, "message": message},
        "conditions": [
            {"type": name, "status": value, "reason": why, "message": text}
            for name, (value, why, text) in conditions.items()
        ],
    }


MET = ("True", "ObjectivesMet", "p95 TTFT 400 ms of 1 s")
MISSED = ("False", "ObjectiveMissed", "p95 TTFT 1.2 s of 1 s")


@pytest.mark.parametrize(
    ("case", "before", "after", "said"),
    [
        (
            "a first decision is said with its sentence",
            {},
            status("LatencyObjective", "2 replicas: because", 2),
            [Remark(Kind.DECISION, "LatencyObjective: 2 replicas: because")],
        ),
        (
            "the same decision is not said again",
            status("LatencyObjective", "2 replicas: because", 2),
            status("LatencyObjective", "2 replicas: because", 2),
            [],
        ),
        (
            "a first condition without trouble is not worth a word",
            {},
            status("LatencyObjective", "x", 2, ObjectivesMet=MET) | {"decision": {}, "replicas": {}},
            [],
        ),
        (
            "a missed objective is reported",
            status("LatencyObjective", "x", 2, ObjectivesMet=MET),
            status("LatencyObjective", "x", 2, ObjectivesMet=MISSED),
            [Remark(Kind.CONDITION, "ObjectivesMet=False (ObjectiveMissed): p95 TTFT 1.2 s of 1 s")],
        ),
        (
            "and so is that it is met again",
            status("LatencyObjective", "x", 2, ObjectivesMet=MISSED),
            status("LatencyObjective", "x", 2, ObjectivesMet=MET),
            [Remark(Kind.CONDITION, "ObjectivesMet=True (ObjectivesMet): p95 TTFT 400 ms of 1 s")],
        ),
        (
            "a new replica that Prometheus has not found yet is no trouble",
            status("LatencyObjective", "x", 2),
            status("LatencyObjective", "x", 2, MetricsAvailable=("False", "PartialReporting", "2 of 3")),
            [],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_said_of_a_change(
    case: str, before: dict[str, Any], after: dict[str, Any], said: list[Remark]
):
    assert list(remarks(before, after)) == said


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (PodCounts(2, 2, 0, 0), "2 ready of 2 wanted"),
        (PodCounts(5, 2, 3, 0), "2 ready of 5 wanted, 3 starting"),
        (PodCounts(2, 2, 0, 1), "2 ready of 2 wanted, 1 draining"),
    ],
)
def test_what_is_said_of_the_replicas(counts: PodCounts, text: str):
    assert counts.remark() == Remark(Kind.REPLICAS, text)


def test_starting_and_draining_replicas_are_used_replicas():
    use = ReplicaUse()
    use.add(0.0, PodCounts(1, 1, 0, 0))
    use.add(10.0, PodCounts(3, 1, 2, 0))
    use.add(14.0, PodCounts(3, 3, 0, 0))
    use.add(20.0, PodCounts(2, 2, 0, 1))
    assert use.used_seconds(30.0) == 10 * 1 + 4 * 3 + 6 * 3 + 10 * 3
    assert use.used_seconds(12.0) == 10 * 1 + 2 * 3
    assert (use.fewest(0, 12), use.peak(0, 12), use.last(0, 12)) == (1, 1, 1)
    assert (use.fewest(12, 30), use.peak(12, 30), use.last(12, 30)) == (1, 3, 2)


SCENE = Scene(phases=(Phase("quiet", 1, 10, ""), Phase("step", 2, 10, "")), ttft_p95_seconds=1.0)


NO_LAG = StepLag()


def played(
    ttft_of_step: float, *, outcome: str = "ok", lag: StepLag = NO_LAG, peak: int = 4
) -> tuple[LoadResult, ReplicaUse]:
    """Ten requests at 0.2 s in the quiet phase, then twenty."""
    result, use = LoadResult(engine_lag=lag), ReplicaUse()
    for position in range(30):
        at = float(position) if position < 10 else 10.0 + (position - 10) / 2
        record = RequestRecord(PlannedRequest(at, 2000, 40))
        record.first_token_at = at + (0.2 if at < 10 else ttft_of_step)
        record.last_token_at, record.outcome = record.first_token_at + 1.0, outcome
        result.records.append(record)
        result.send_lag.add(0.001)
    use.add(0.0, PodCounts(2, 2, 0, 0))
    use.add(15.0, PodCounts(peak, peak, 0, 0))
    return result, use


def test_the_report_is_by_phase_and_over_the_whole_run():
    report = build_report(SCENE, *played(0.8))
    assert [(row.name, row.requests, row.replicas) for row in (*report.phases, report.total)] == [
        ("quiet", 10, (2, 2, 2)),
        ("step", 20, (2, 4, 4)),
        ("whole run", 30, (2, 4, 4)),
    ]
    assert report.phases[0].ttft_p95_seconds == pytest.approx(0.2)
    assert report.phases[1].ttft_p95_seconds == pytest.approx(0.8)
    assert report.used_replica_seconds == 15 * 2 + 5 * 4
    assert report.static_replica_seconds == 20 * 4
    assert (report.held, report.failure) == (True, "")


@pytest.mark.parametrize(
    ("case", "play", "failure"),
    [
        (
            "a missed objective",
            played(1.3),
            "the objective was missed: p95 TTFT 1.30 s over the whole run, 1 s asked for",
        ),
        ("requests that failed", played(0.3, outcome="cut"), "30 of 30 requests failed"),
        ("no scale-up", played(0.3, peak=2), "the operator did not add a replica after the step"),
        (
            "a machine that was too slow",
            played(0.3, lag=StepLag(100, 10.0, 2.0, 0.5)),
            "no verdict: steps of the stand-in engines ended late by 20.0% of their duration "
            "(bound 10%, worst 500 ms): the machine was the bottleneck; use fewer tokens a second or a "
            "lower --speed",
        ),
        ("nothing at all", (LoadResult(), ReplicaUse()), "no request was answered"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_did_not_go_well_is_said(case: str, play: tuple[LoadResult, ReplicaUse], failure: str):
    assert build_report(SCENE, *play).failure == failure


@pytest.mark.parametrize("scene", [full_scene(), quick_scene()], ids=["full", "quick"])
def test_the_yaml_that_is_shown_is_valid_and_fits_the_screen(scene: Scene):
    text = inference_service_yaml(scene)
    body = yaml.safe_load(text)
    body["metadata"] |= {"uid": "u", "generation": 1}
    spec = parse_service(body)
    assert spec.slo.objectives[0].seconds == scene.ttft_p95_seconds
    assert spec.replicas.max == scene.max_replicas
    assert max(len(line) for line in text.splitlines()) <= 74  # indented by six on a screen of 80


@pytest.mark.parametrize(("at", "position"), [(0.0, 0), (9.9, 0), (10.0, 1), (25.0, 1)])
def test_a_request_belongs_to_the_phase_it_is_due_in(at: float, position: int):
    assert SCENE.phase_at(at) == position
