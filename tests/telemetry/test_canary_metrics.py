"""What is exposed of a canary, as Prometheus's own parser reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from penstock.model.canary_verdict import Evidence
from penstock.telemetry.canary_metrics import FAMILIES, ArmSample, CanarySample
from penstock.telemetry.fleet_metrics import ServiceSample, fleet_exposition

ERRORS = Evidence(
    "errors",
    stable_total=4000,
    stable_failures=4,
    canary_total=210,
    canary_failures=3,
    ratio=14.3,
    log10_against=1.7,
    log10_for=-0.4,
    against_threshold=2.3,
    for_threshold=1.6,
)
CANARY = CanarySample(
    phase="Testing",
    weight_percent=20,
    arms={
        "stable": ArmSample(ready_replicas=4, in_flight=31, requests=4000, server_errors=4),
        "canary": ArmSample(ready_replicas=1, in_flight=2, requests=210, server_errors=3),
    },
    evidence=(ERRORS, Evidence("ttft", missing="no series")),
    requests_needed=480,
)
WHERE = {"namespace": "prod", "name": "chat"}


async def families(samples: Sequence[ServiceSample]) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return samples without service labels by family."""
    text = (await fleet_exposition(samples)).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        assert all(dict(each.labels) | WHERE == dict(each.labels) for each in family.samples)
        found[family.name] = [
            ({name: value for name, value in each.labels.items() if name not in WHERE}, each.value)
            for each in family.samples
        ]
    return found


async def test_a_canary_shows_phase_share_arms_and_evidence() -> None:
    shown = await families([ServiceSample("prod", "chat", "AtMinimum", canary=CANARY)])
    assert shown["penstock_canary_phase"] == [({"phase": "Testing"}, 1)]
    assert shown["penstock_canary_weight_percent"] == [({}, 20)]
    assert shown["penstock_canary_ready_replicas"] == [({"arm": "stable"}, 4), ({"arm": "canary"}, 1)]
    assert ({"arm": "canary", "outcome": "answered"}, 207) in shown["penstock_canary_requests"]
    assert ({"arm": "canary", "outcome": "failed"}, 3) in shown["penstock_canary_requests"]
    assert shown["penstock_canary_bad_ratio"] == [({"metric": "errors"}, 14.3)]
    assert ({"metric": "errors", "arm": "stable"}, 4000) in shown["penstock_canary_judged_requests"]
    assert ({"metric": "errors", "arm": "canary"}, 3) in shown["penstock_canary_bad_requests"]
    assert shown["penstock_canary_evidence_log10"] == [
        ({"metric": "errors", "hypothesis": "worse"}, 1.7),
        ({"metric": "errors", "hypothesis": "not_worse"}, -0.4),
    ]
    assert shown["penstock_canary_requests_needed"] == [({}, 480)]


async def test_what_is_judged_without_the_stable_arm_says_nothing_of_it() -> None:
    alone = Evidence("error stop-loss", canary_total=210, canary_failures=3, against_threshold=2.1)
    sample = ServiceSample("prod", "chat", "AtMinimum", canary=replace(CANARY, evidence=(alone,)))
    shown = await families([sample])
    assert [labels["arm"] for labels, _ in shown["penstock_canary_judged_requests"]] == ["canary"]
    assert [labels["hypothesis"] for labels, _ in shown["penstock_canary_evidence_log10"]] == ["worse"]


async def test_a_missing_metric_has_no_evidence_rather_than_none_found() -> None:
    shown = await families([ServiceSample("prod", "chat", "AtMinimum", canary=CANARY)])
    metrics = {
        labels.get("metric") for name in FAMILIES for labels, _ in shown.get(f"penstock_canary_{name}", [])
    }
    assert "ttft" not in metrics


async def test_what_is_not_known_of_an_arm_has_no_series() -> None:
    canary = CanarySample("Warming", 0, arms={"canary": ArmSample(ready_replicas=0)})
    shown = await families([ServiceSample("prod", "chat", "AtMinimum", canary=canary)])
    assert shown["penstock_canary_ready_replicas"] == [({"arm": "canary"}, 0)]
    assert shown["penstock_canary_in_flight"] == []
    assert shown["penstock_canary_requests"] == []
    assert shown["penstock_canary_requests_needed"] == []


async def test_services_without_a_canary_add_no_series() -> None:
    shown = await families([ServiceSample("prod", "chat", "AtMinimum")])
    assert [name for name, found in shown.items() if "canary" in name and found] == []
