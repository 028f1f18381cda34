"""What the canary scene says, applies and makes of what was seen; nothing runs here."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from penstock.cli.demo import demo
from penstock.cli.demo_canary import show_canary_report
from penstock.cli.demo_terminal import Terminal
from penstock.engine.arrivals import PlannedRequest
from penstock.engine.lag import StepLag
from penstock.engine.load_generator import LoadResult
from penstock.engine.stream_client import RequestRecord
from penstock.model.canary import CanaryPhase
from penstock.model.canary_status import CanaryShown, canary_status
from penstock.model.canary_verdict import Evidence
from penstock.model.parse import parse_service
from penstock.model.spec import RoutingType
from penstock.sandbox.demo.canary_manifests import (
    canary_deployment,
    inference_service_yaml,
    service,
    stable_deployment,
)
from penstock.sandbox.demo.canary_report import CanaryReport, build_canary_report, tried_revision
from penstock.sandbox.demo.canary_scene import CANARY, canary_scene
from penstock.sandbox.demo.canary_story import (
    EvidenceReading,
    MetricReading,
    Stand,
    evidence_remarks,
    has_moved,
    read_evidence,
    sentence,
    stand_of,
)
from penstock.sandbox.demo.commentary import Kind, Remark
from penstock.telemetry.canary_metrics import CanarySample, add_canary, new_families

SCENE = canary_scene()
TESTING = Stand(20.0, "Testing", "new", "1/2", 10)


def status(message: str, **canary: Any) -> dict[str, Any]:
    return {
        "canary": canary,
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "Ready", "message": "another one"},
            {"type": "CanaryHealthy", "status": "Unknown", "reason": "Testing", "message": message},
        ],
    }


def request(at: float, *, because: str = "primary", outcome: str = "ok") -> RequestRecord:
    return RequestRecord(PlannedRequest(at, 900, 6), outcome=outcome, served_because=because)


def result(*records: RequestRecord, lag_ratio: float = 0.01) -> LoadResult:
    lag = StepLag(steps=100, scheduled_seconds=10.0, lag_seconds=10.0 * lag_ratio, worst_seconds=0.1)
    return LoadResult(records=list(records), engine_lag=lag)


def test_the_yaml_that_is_shown_is_a_valid_service_with_both_steps():
    spec = parse_service(yaml.safe_load(inference_service_yaml(SCENE)))
    assert spec.routing.type is RoutingType.ENVOY
    assert spec.canary is not None
    assert spec.canary.step_percents == (10, 50)
    assert spec.canary.target is not None
    assert spec.canary.target.name == CANARY


@pytest.mark.parametrize("tried", SCENE.tries, ids=lambda tried: tried.name)
def test_a_canary_has_its_flags_and_no_label_that_the_service_selects(tried: Any):
    stable, canary = stable_deployment(SCENE), canary_deployment(SCENE, tried)
    ours, theirs = (each["spec"]["template"]["spec"]["containers"][0]["args"] for each in (stable, canary))
    assert theirs == [*ours, *tried.flags]
    assert canary["spec"]["replicas"] == 0
    selector = service(SCENE)["spec"]["selector"]
    assert not selector.items() <= canary["spec"]["template"]["metadata"]["labels"].items()
    assert canary["spec"]["selector"]["matchLabels"] == canary["spec"]["template"]["metadata"]["labels"]


def test_the_revisions_differ_from_each_other_and_from_what_runs():
    flags = [tried.flags for tried in SCENE.tries]
    assert len({(), *flags}) == len(flags) + 1


def test_all_pods_of_the_scene_find_room():
    last = SCENE.step_percents[-1]
    canaries = -(-SCENE.stable_replicas * last // (100 - last))
    assert SCENE.cluster.most_pods >= SCENE.stable_replicas + 2 * canaries


def test_where_a_canary_stands_is_read_from_the_status_as_it_is_written():
    shown = CanaryShown(CanaryPhase.TESTING, revision="new", step=1, steps=2, weight_percent=10)
    assert stand_of({"canary": canary_status(shown)}, 20.0) == TESTING


def test_a_status_without_a_canary_says_nothing_of_where_it_stands():
    assert stand_of({}, 1.0) is None


@pytest.mark.parametrize(
    ("after", "moved"),
    [
        (Stand(30.0, "Testing", "new", "1/2", 10), False),
        (Stand(30.0, "Testing", "new", "1/2", 7), True),
        (Stand(30.0, "Testing", "new", "2/2", 10), True),
        (Stand(30.0, "RollingBack", "new", "1/2", 10), True),
        (Stand(30.0, "Testing", "newer", "1/2", 10), True),
    ],
)
def test_what_is_worth_a_word(after: Stand, moved: bool):
    assert has_moved(TESTING, after) is moved


def test_a_canary_is_told_with_penstocks_own_sentence():
    told = sentence(status("revision new has 10 %: because", phase="Testing"), TESTING)
    assert told == Remark(Kind.CANARY, "Testing 10 %: revision new has 10 %: because")


def exposed(*evidence: Evidence) -> str:
    lines = new_families()
    add_canary(lines, '{namespace="demo",name="chat"', CanarySample("Testing", 10.0, evidence=evidence))
    add_canary(
        lines,
        '{namespace="demo",name="other"',
        CanarySample("Testing", 10.0, evidence=(Evidence("tpot", log10_against=9.0, against_threshold=1.0),)),
    )
    return "".join(f"{line}\n" for family in lines.values() for line in family)


TTFT = Evidence(
    "ttft",
    stable_total=400,
    stable_failures=40,
    canary_total=52,
    canary_failures=20,
    log10_against=0.8,
    log10_for=-0.4,
    against_threshold=1.5,
    for_threshold=1.3,
)
STOP_LOSS = Evidence("error stop-loss", canary_total=60, log10_against=-1.0, against_threshold=2.1)


def test_evidence_is_read_from_what_the_operator_exposes_of_this_service_only():
    reading = read_evidence(exposed(TTFT, STOP_LOSS), "chat", 33.0)
    assert reading == EvidenceReading(
        33.0,
        (
            MetricReading("ttft", 0.8, -0.4, 1.5, 1.3),
            MetricReading("error stop-loss", -1.0, None, 2.1, None),
        ),
        60.0,
    )
    (remark,) = evidence_remarks(reading)
    assert remark.text == "60 canary requests; log10 of it: TTFT worse 0.8 of 1.5, no worse -0.4 of 1.3"


def test_before_the_first_request_there_is_no_evidence_to_tell():
    assert read_evidence("", "chat", 1.0) == EvidenceReading(1.0)
    assert list(evidence_remarks(EvidenceReading(1.0))) == []


STANDS = (
    Stand(10.0, "Warming", "new"),
    Stand(20.0, "Testing", "new", "1/2", 5),
    Stand(21.0, "Testing", "new", "1/2", 10),
    Stand(40.0, "RollingBack", "new"),
    Stand(43.0, "RolledBack", "new"),
)


def at(seconds: float, value: float) -> EvidenceReading:
    return EvidenceReading(seconds, (MetricReading("ttft", value, -value, 1.5, 1.3),), 50.0)


def test_a_revision_has_one_row_a_phase_with_the_evidence_that_decided_and_the_time_it_took():
    tried = tried_revision(
        "slow", "rolled back", STANDS, (at(30.0, 0.5), at(39.5, 1.0), at(40.5, 1.7), at(42.0, 1.7)), 47.0
    )
    assert tried.verdict == "rolled back"
    assert tried.seconds == 20.0  # from the first request to the verdict
    assert [(row.phase, row.weight_percent) for row in tried.rows] == [
        ("Warming", 0),
        ("Testing", 10),
        ("RollingBack", 0),
        ("RolledBack", 0),
    ]
    assert tried.decided_in == 1
    assert tried.rows[1].evidence[0].worse == 1.7  # read half a second after it had decided
    assert tried.rows[0].evidence == ()


def test_without_a_verdict_in_time_there_is_none():
    tried = tried_revision("good", "promoted", STANDS[:3], (), 90.0)
    assert (tried.verdict, tried.seconds, tried.decided_in) == ("", None, 1)
    report = build_canary_report([tried], result(request(30.0)))
    assert report.failure == "no verdict on the good revision in time"


def slow_report(
    *records: RequestRecord, expected: str = "rolled back", lag_ratio: float = 0.01
) -> CanaryReport:
    tried = tried_revision("slow", expected, STANDS, (at(40.5, 1.7),), 47.0)
    return build_canary_report([tried], result(*records, lag_ratio=lag_ratio))


SERVED = (request(15.0), request(30.0), request(31.0, because="canary"), request(44.0))


def test_requests_are_counted_by_phase_and_by_who_answered():
    report = slow_report(*SERVED)
    rows = report.tried[0].rows
    assert [(row.stable, row.canary) for row in rows] == [(1, 0), (1, 1), (0, 0), (1, 0)]
    assert (report.requests, report.by_canary, report.failed, report.failure) == (4, 1, 0, "")


@pytest.mark.parametrize(
    ("report", "failure"),
    [
        (slow_report(*SERVED, request(41.0, outcome="cut")), "1 of 5 requests failed (1 cut)"),
        (slow_report(*SERVED, request(41.0, outcome="http 429")), "1 of 5 requests failed (1 http 429)"),
        (
            slow_report(*SERVED, expected="promoted"),
            "the slow revision was rolled back; promoted was expected",
        ),
        (slow_report(*SERVED[:2]), "the canaries answered nothing"),
    ],
)
def test_what_fails_the_scene(report: CanaryReport, failure: str):
    assert report.failure == failure


def test_a_machine_that_is_the_bottleneck_gives_no_verdict():
    report = slow_report(*SERVED, lag_ratio=0.2)
    assert report.objection
    assert report.failure.startswith("no verdict: steps of the stand-in engines ended late by 20.0%")


def test_the_table_fits_80_columns_and_names_verdict_and_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    show_canary_report(slow_report(*SERVED), Terminal())
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 80
    (line,) = [line for line in text.splitlines() if "Testing 10 %" in line]
    assert line.split() == [
        "Testing",
        "10",
        "%",
        "1",
        "1",
        "+1.7",
        "-1.7",
        "-",
        "-",
        "rolled",
        "back",
        "20",
        "s",
    ]
    assert "Failed requests: 0 of 4." in text
    assert "They decide at: ttft 1.5 and 1.3." in " ".join(text.split())


@pytest.mark.parametrize("words", [["--quick"], ["--kubeconfig", __file__]])
def test_the_canary_scene_has_no_other_form(words: list[str]):
    ran = CliRunner().invoke(demo, ["--scene", "canary", *words])
    assert ran.exit_code == 2
    assert "--scene canary has no --quick form, and is played on local processes only" in ran.output
