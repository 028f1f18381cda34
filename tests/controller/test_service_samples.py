"""What metrics show of decisions and canaries, and what is counted from tick to tick."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.builders import blind, pool, seen
from fakes.gateway_world import GatewayWorld, routed_chat
from fakes.traffic import believed, routed, to
from penstock.controller.canary_sample import canary_sample
from penstock.controller.canary_state import CanaryState, Evidence
from penstock.controller.decision_counts import count_changes, count_verdict, reasons_of
from penstock.controller.sample import sample_of
from penstock.controller.service_state import Outcome, ServiceState
from penstock.model import canary_verdict
from penstock.model.canary import CanaryMemory, CanaryPhase, CanaryPlan
from penstock.model.canary_spec import CanarySpec
from penstock.model.canary_verdict import CanaryReason, Verdict, VerdictKind
from penstock.model.decision import Decision, Reason, RolloutReason, TrafficReason
from penstock.model.spec import AdmissionPolicy, AdmissionSpec
from penstock.model.traffic import ArmCount, GatewayReading
from penstock.policy.decisions import ALONE
from penstock.policy.fallback import FallbackShare
from penstock.telemetry.canary_metrics import ArmSample
from penstock.telemetry.metrics import OperatorMetrics

ROW = canary_verdict.Evidence("errors", stable_total=4000, canary_total=210, canary_failures=3)
ROLLBACK = Verdict(VerdictKind.ROLLBACK, CanaryReason.ERRORS_REGRESSED, "errors", (ROW,), requests_needed=0.0)


def outcome(
    admission: TrafficReason = TrafficReason.WITHIN_LIMIT, *, policy: AdmissionPolicy = AdmissionPolicy.AUTO
) -> Outcome:
    """A tick of a service with a fallback and a canary at 20 %."""
    spec = routed(fallback=to("chat-small"), admission=AdmissionSpec(policy=policy))
    plan = CanaryPlan(CanaryPhase.TESTING, revision="new", weight_percent=20)
    return Outcome(
        spec=replace(spec, canary=CanarySpec()),
        seen=seen(0.0, pool(4)),
        around=ALONE,
        estimate=believed(70.0),
        decision=Decision(4, Reason.LATENCY_OBJECTIVE, "4 replicas"),
        admission=Decision(None, admission, ""),
        fallback=Decision(FallbackShare(0.25, 40, enforced=True), TrafficReason.IDLE, ""),
        canary=Decision(plan, RolloutReason.TESTING, "", {"stable_ready": 4.0, "canary_ready": 1.0}),
    )


def counted(metrics: OperatorMetrics, name: str, **labels: str) -> float:
    value = metrics.registry.get_sample_value(name, labels)
    assert value is not None
    return value


def test_each_kind_of_decision_shows_its_reason() -> None:
    assert reasons_of(outcome()) == {"admission": "WithinLimit", "fallback": "Idle", "canary": "Testing"}


def test_what_was_not_asked_for_has_no_reason() -> None:
    plain = outcome(policy=AdmissionPolicy.OFF)
    spec = replace(plain.spec, fallback=None, canary=None)
    assert reasons_of(replace(plain, spec=spec)) == {}


@pytest.mark.parametrize(("enforced", "ratio"), [(True, 0.05), (False, 0.0)])
def test_the_share_of_the_fallback_is_one_of_all_requests(enforced: bool, ratio: float) -> None:
    share = FallbackShare(0.25, 40, enforced=enforced, offered_ratio=0.05)
    fallback = Decision(share, TrafficReason.FALLBACK_ACTIVE, "")
    shown = replace(outcome(), estimate=blind(), fallback=fallback)
    assert sample_of(shown, ServiceState("u-1")).fallback_ratio == ratio


def test_a_reason_is_counted_when_it_comes_and_not_while_it_stays() -> None:
    metrics = OperatorMetrics()
    first, limited = outcome(), outcome(TrafficReason.ADMISSION_LIMITED)
    before = None
    for after in (first, first, limited, limited, outcome(TrafficReason.ADMISSION_LIMITED)):
        count_changes(metrics, before, after)
        before = after
    name = "penstock_decisions_total"
    assert counted(metrics, name, kind="admission", reason="WithinLimit") == 1
    assert counted(metrics, name, kind="admission", reason="AdmissionLimited") == 1
    assert counted(metrics, name, kind="fallback", reason="Idle") == 1
    assert counted(metrics, name, kind="canary", reason="Testing") == 1


def test_a_verdict_is_counted_when_it_changes() -> None:
    metrics = OperatorMetrics()
    waiting = Verdict(VerdictKind.CONTINUE, CanaryReason.GATHERING, "12 canary requests")
    later = replace(waiting, message="30 canary requests")
    for before, after in ((None, None), (None, waiting), (waiting, later), (later, ROLLBACK)):
        count_verdict(metrics, before, after)
    assert counted(metrics, "penstock_canary_verdicts_total", verdict="Continue") == 1
    assert counted(metrics, "penstock_canary_verdicts_total", verdict="Rollback") == 1
    assert counted(metrics, "penstock_canary_verdicts_total", verdict="Promote") == 0


def test_a_canary_shows_both_arms_as_gateways_count_them() -> None:
    canary = CanaryState(
        memory=CanaryMemory(phase=CanaryPhase.TESTING), evidence=Evidence(run="new@1", verdict=ROLLBACK)
    )
    latest = GatewayReading(
        at=0.0, proxies=2, stable_arm=ArmCount(900, 2, 31), canary_arm=ArmCount(210, 3, 2)
    )
    sample = canary_sample(outcome(), canary, latest)
    assert sample is not None
    assert (sample.phase, sample.weight_percent, sample.requests_needed) == ("Testing", 20, 0.0)
    assert sample.arms == {"stable": ArmSample(4, 31, 900, 2), "canary": ArmSample(1, 2, 210, 3)}
    assert sample.evidence == (ROW,)


def test_a_canary_without_gateways_or_verdict_shows_no_zeros() -> None:
    sample = canary_sample(outcome(), CanaryState(), None)
    assert sample is not None
    assert sample.arms == {"stable": ArmSample(4), "canary": ArmSample(1)}
    assert (sample.evidence, sample.requests_needed) == ((), None)


def test_a_service_without_spec_canary_has_no_sample_of_one() -> None:
    plain = outcome()
    without = replace(plain, spec=replace(plain.spec, canary=None))
    assert canary_sample(without, CanaryState(), None) is None


async def test_an_overload_shows_in_the_counts_of_admission() -> None:
    world = GatewayWorld(rate=lambda t: 20.0 if t < 600 else 90.0, spec=routed_chat(max=3), target=2)
    await world.run(1500)
    (state,) = world.loop.states.values()
    assert state.outcome is not None
    shown = sample_of(state.outcome, state).reasons["admission"]
    assert counted(world.metrics, "penstock_decisions_total", kind="admission", reason=shown) >= 1
    kinds = {
        each.labels["reason"]
        for family in world.metrics.registry.collect()
        for each in family.samples
        if each.name == "penstock_decisions_total" and each.labels["kind"] == "admission" and each.value
    }
    assert "AdmissionLimited" in kinds
