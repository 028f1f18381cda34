"""What the demo says of a status, and what it makes of samples and requests."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.cli.demo_terminal import Terminal
from penstock.engine.arrivals import PlannedRequest
from penstock.engine.lag import StepLag
from penstock.engine.load_generator import LoadResult
from penstock.engine.stream_client import RequestRecord
from penstock.engine.targets import Balancing, Targets
from penstock.model.parse import parse_service
from penstock.model.spec import RoutingType
from penstock.sandbox.demo.commentary import Kind, PodCounts, Remark, remarks
from penstock.sandbox.demo.hand_over import Clients
from penstock.sandbox.demo.manifests import deployments, inference_service_yaml, services
from penstock.sandbox.demo.report import Relief, build_report
from penstock.sandbox.demo.scene import (
    Phase,
    Scene,
    SmallModel,
    full_scene,
    quick_scene,
    replicas_scene,
)
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
LIMITED = ("True", "AdmissionLimited", "30 in flight allowed; 11 % are shed")
UNLIMITED = ("False", "WithinLimit", "60 in flight allowed")
LEARNING = ("Unknown", "Learning", "no model yet")
SPILLING = ("True", "FallbackActive", "2 req/s go to chat-small")
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
            "a limit that binds and a fallback that answers are reported",
            status("LatencyObjective", "x", 2, AdmissionLimited=UNLIMITED),
            status("LatencyObjective", "x", 2, AdmissionLimited=LIMITED, FallbackActive=SPILLING),
            [
                Remark(
                    Kind.CONDITION,
                    "AdmissionLimited=True (AdmissionLimited): 30 in flight allowed; 11 % are shed",
                ),
                Remark(Kind.CONDITION, "FallbackActive=True (FallbackActive): 2 req/s go to chat-small"),
            ],
        ),
        (
            "and so is that the limit binds no more",
            status("LatencyObjective", "x", 2, AdmissionLimited=LIMITED),
            status("LatencyObjective", "x", 2, AdmissionLimited=UNLIMITED),
            [Remark(Kind.CONDITION, "AdmissionLimited=False (WithinLimit): 60 in flight allowed")],
        ),
        (
            "a limit that is not known yet is no trouble",
            status("LatencyObjective", "x", 2, AdmissionLimited=LEARNING),
            status("LatencyObjective", "x", 2, AdmissionLimited=UNLIMITED),
            [],
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
        ("requests that failed", played(0.3, outcome="cut"), "30 of 30 requests failed (30 cut)"),
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


BEHIND_A_GATEWAY = Scene(
    phases=(Phase("quiet", 1, 10, ""), Phase("overload", 2, 10, ""), Phase("after", 1, 10, "")),
    ttft_p95_seconds=1.0,
    fallback=SmallModel(name="chat-small"),
)


def overloaded(*, spilled: int = 4, shed: int = 6, after: str = "primary") -> tuple[LoadResult, ReplicaUse]:
    """One request a second, two in the overload; of these the first get a 429, the next the small model."""
    result, use = LoadResult(), ReplicaUse()
    times = [*range(10), *(10 + each / 2 for each in range(20)), *range(20, 30)]
    for position, at in enumerate(times):
        record = RequestRecord(PlannedRequest(float(at), 2000, 40))
        into_overload = position - 10
        if 0 <= into_overload < shed:
            record.outcome, record.served_because = "http 429", "shed"
        else:
            record.first_token_at = at + 0.2
            record.last_token_at, record.outcome = at + 1.0, "ok"
            spills = shed <= into_overload < shed + spilled
            record.served_because = "overload" if spills else after if at >= 20 else "primary"
        result.records.append(record)
        result.send_lag.add(0.001)
    use.add(0.0, PodCounts(2, 2, 0, 0))
    use.add(15.0, PodCounts(4, 4, 0, 0))
    return result, use


def test_a_429_is_no_answer_and_no_failure_and_the_small_models_answers_are_counted_apart():
    report = build_report(BEHIND_A_GATEWAY, *overloaded())
    assert [
        (row.name, row.requests, row.answered, row.by_fallback, row.shed, row.failed)
        for row in (*report.phases, report.total)
    ] == [
        ("quiet", 10, 10, 0, 0, 0),
        ("overload", 20, 14, 4, 6, 0),
        ("after", 10, 10, 0, 0, 0),
        ("whole run", 40, 34, 4, 6, 0),
    ]
    assert report.total.ttft_p95_seconds == pytest.approx(0.2)  # of those that were answered
    assert report.total.within_ratio == 1.0
    assert report.relief == Relief(first_seconds=0.0, last_seconds=4.5)
    assert (report.held, report.failure) == (True, "")


@pytest.mark.parametrize(
    ("case", "play", "failure"),
    [
        (
            "an overload that was none",
            overloaded(spilled=0, shed=0),
            "chat-small answered nothing: the load never reached the limit",
        ),
        (
            "a limit that stayed shut",
            overloaded(after="overload"),
            "after the overload 10 requests still went to chat-small and 0 got a 429",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_gateway_did_not_show_is_said(case: str, play: tuple[LoadResult, ReplicaUse], failure: str):
    assert build_report(BEHIND_A_GATEWAY, *play).failure == failure


def test_a_429_without_a_gateway_is_a_failure():
    assert build_report(SCENE, *played(0.2)).failure == ""
    result, use = played(0.2)
    result.records[12].outcome = "http 429"
    assert build_report(SCENE, result, use).failure == "1 requests got a 429 without a gateway"


def test_the_final_table_fits_the_screen_whatever_is_in_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    result, use = overloaded()
    result.records[25].outcome = "cut"
    result.engine_lag = StepLag(100, 10.0, 2.0, 0.5)  # so that nothing is judged: the widest word
    Terminal().show_report(build_report(BEHIND_A_GATEWAY, result, use))
    text = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert re.search(
        r"^overload +2\.0/s  2-4, end 4 +20 \(1 failed\) +0\.20 s +not judged +4 +6$", text, re.MULTILINE
    )
    words = " ".join(text.split())
    assert "29 requests were answered by chat, 4 by chat-small while chat was at its limit, 6 got" in words
    assert "from 0 s to 4 s after the step" in words


def test_clients_swap_the_services_file_for_one_url(tmp_path: Path):
    engines = tmp_path / "chat.urls"
    engines.write_text("http://127.0.0.1:1\n")
    clients = Clients(tmp_path / "clients.urls")
    clients.use(engines)
    targets = Targets((), file=clients.file, balancing=Balancing.RANDOM, chance=random.Random(0))
    targets.refresh()
    assert targets.urls == ("http://127.0.0.1:1",)
    clients.swap("http://127.0.0.1:10000")
    targets.refresh()
    assert targets.urls == ("http://127.0.0.1:10000",)
    assert engines.read_text() == "http://127.0.0.1:1\n"


def test_the_fallback_accepts_the_clients_model_name():
    chat, small = deployments(full_scene())
    engine = small["spec"]["template"]["spec"]["containers"][0]
    assert engine["args"] == [
        "--profile=qwen3-1.7b-l40s",
        "--model-name=qwen3-1.7b",
        "--model-name=llama-3.1-8b",
    ]
    assert [each["metadata"]["name"] for each in (chat, small)] == ["chat", "chat-small"]
    assert [each["spec"]["selector"] for each in services(full_scene())] == [
        {"app": "chat"},
        {"app": "chat-small"},
    ]


SCENES = {"full": full_scene(), "replicas": replicas_scene(), "quick": quick_scene()}


@pytest.mark.parametrize("scene", SCENES.values(), ids=list(SCENES))
def test_the_yaml_that_is_shown_is_valid_and_fits_the_screen(scene: Scene):
    text = inference_service_yaml(scene)
    specs = []
    for body in yaml.safe_load_all(text):
        body["metadata"] |= {"uid": "u", "generation": 1}
        specs.append(parse_service(body))
    chat, *others = specs
    assert chat.slo.objectives[0].seconds == scene.ttft_p95_seconds
    assert chat.replicas.max == scene.max_replicas
    assert max(len(line) for line in text.splitlines()) <= 74  # indented by six on a screen of 80
    wanted = RoutingType.NONE if scene.fallback is None else RoutingType.ENVOY
    assert {spec.routing.type for spec in specs} == {wanted}
    assert tuple(spec.key.name for spec in specs) == scene.services
    if scene.fallback is not None:
        assert chat.fallback is not None
        assert chat.fallback.backend.name == others[0].key.name


@pytest.mark.parametrize(("at", "position"), [(0.0, 0), (9.9, 0), (10.0, 1), (25.0, 1)])
def test_a_request_belongs_to_the_phase_it_is_due_in(at: float, position: int):
    assert SCENE.phase_at(at) == position


@pytest.mark.parametrize("scene", [full_scene(), replicas_scene()], ids=["gateway", "replicas"])
def test_a_demo_ends_within_four_minutes_on_a_machine_that_has_nothing(scene: Scene) -> None:
    # 45 s for the environment and Prometheus (ADR 2), 11 s until the engines serve and when they end.
    assert 45 + scene.startup_seconds + 11 + scene.load_seconds <= 240
