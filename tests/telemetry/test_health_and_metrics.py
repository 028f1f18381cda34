"""What the operator says of itself, over real HTTP."""

from __future__ import annotations

from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from penstock.model.canary_verdict import VerdictKind
from penstock.model.decision import Reason, TrafficReason
from penstock.telemetry.fleet_metrics import BY_OBJECTIVE, COUNTED_BY_OBJECTIVE, GAUGES, ServiceSample
from penstock.telemetry.health import Liveness, Probe, health_app
from penstock.telemetry.metrics import OperatorMetrics

CHAT = ServiceSample(
    namespace="prod",
    name="chat",
    reason="LatencyObjective",
    desired_replicas=5,
    offered_per_second=17.25,
    measured_seconds={"ttft.p95": 0.31},
    objective_seconds={"ttft.p95": 0.5},
    budget_remaining_ratio={"ttft.p95": -0.25},
    objective_missed={"ttft.p95": 12.5},
    reasons={"admission": "WithinLimit"},
)


async def scrape(samples: list[ServiceSample]) -> dict[str, list[tuple[dict[str, str], float]]]:
    metrics = OperatorMetrics()
    app = health_app(alive=Probe, ready=Probe, registry=metrics.registry, fleet=lambda: samples)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await answer.text()
    return {
        family.name: [(dict(sample.labels), sample.value) for sample in family.samples]
        for family in text_string_to_metric_families(text)
    }


async def test_a_service_shows_what_is_known_and_no_zero_for_what_is_not() -> None:
    families = await scrape([CHAT])
    where = {"namespace": "prod", "name": "chat"}
    assert families["penstock_service_desired_replicas"] == [(where, 5)]
    assert families["penstock_service_offered_per_second"] == [(where, 17.25)]
    assert families["penstock_service_ready_replicas"] == []
    assert families["penstock_service_decision"] == [
        (where | {"kind": "replicas", "reason": "LatencyObjective"}, 1),
        (where | {"kind": "admission", "reason": "WithinLimit"}, 1),
    ]
    objective = where | {"objective": "ttft.p95"}
    assert families["penstock_service_measured_seconds"] == [(objective, 0.31)]
    assert families["penstock_service_budget_remaining_ratio"] == [(objective, -0.25)]
    assert families["penstock_service_objective_missed"] == [(objective, 12.5)]
    assert families["penstock_service_objective_requests"] == []


async def test_every_declared_gauge_is_a_field_and_every_field_is_exposed() -> None:
    fields = set(ServiceSample.__dataclass_fields__) - {
        "namespace",
        "name",
        "reason",
        "reasons",
        "requests",
        "canary",
    }
    assert fields == set(GAUGES) | set(BY_OBJECTIVE) | set(COUNTED_BY_OBJECTIVE)


async def test_requests_are_counted_by_class_and_outcome() -> None:
    sample = ServiceSample("prod", "chat", "AtMinimum", requests={("batch", "shed"): 3.0})
    families = await scrape([sample])
    labels = {"namespace": "prod", "name": "chat", "class": "batch", "outcome": "shed"}
    assert (labels, 3.0) in families["penstock_service_requests"]


async def test_counters_with_known_labels_start_at_zero() -> None:
    families = await scrape([])
    started = {
        (labels["kind"], labels["reason"])
        for labels, value in families["penstock_decisions"]
        if "reason" in labels and value == 0
    }
    assert {reason for kind, reason in started if kind == "replicas"} == {each.value for each in Reason}
    for kind in ("admission", "fallback"):
        assert {reason for each, reason in started if each == kind} == {each.value for each in TrafficReason}
    assert ("canary", "ErrorsRegressed") in started
    assert {
        labels["verdict"] for labels, _ in families["penstock_canary_verdicts"] if "verdict" in labels
    } == {each.value for each in VerdictKind}


async def test_a_failed_probe_answers_503_and_says_why() -> None:
    app = health_app(
        alive=lambda: Probe("no tick has succeeded for 90 s"),
        ready=Probe,
        registry=OperatorMetrics().registry,
        fleet=list,
    )
    async with TestClient(TestServer(app)) as client:
        healthz, readyz, other = [await client.get(path) for path in ("/healthz", "/readyz", "/debug")]
        assert (healthz.status, await healthz.text()) == (503, "no tick has succeeded for 90 s\n")
        assert (readyz.status, await readyz.text()) == (200, "ok\n")
        assert other.status == 404


def test_a_leader_is_alive_as_long_as_its_ticks_succeed_and_a_standby_as_it_answers() -> None:
    now, succeeded_at = 1_000_000.0, None
    liveness = Liveness(270.0, lambda: now)
    now += 1_000_000.0
    assert liveness.probe() == Probe(), "a standby has no ticks"
    liveness.leads(lambda: succeeded_at)
    now += 270.0
    assert liveness.probe() == Probe(), "the first tick lists all"
    now += 30.0
    assert liveness.probe() == Probe("no tick has succeeded for 300 s")
    succeeded_at = now
    now += 200.0
    assert liveness.probe() == Probe()
    now += 100.0
    assert liveness.probe() == Probe("no tick has succeeded for 300 s")
