"""What metrics show of a canary's evidence."""

from __future__ import annotations

from dataclasses import replace

from fakes.builders import pool, seen
from fakes.canary import owned, said
from fakes.traffic import believed
from penstock.controller.canary_sample import canary_sample
from penstock.controller.canary_state import CanaryState, Evidence
from penstock.controller.service_state import Outcome
from penstock.model import canary_verdict
from penstock.model.canary_spec import CanaryCheck, CheckType
from penstock.model.canary_verdict import VerdictKind
from penstock.model.decision import Decision, Reason, TrafficReason
from penstock.policy.decisions import ALONE


def test_values_of_a_threshold_are_no_requests() -> None:
    checks = (
        CanaryCheck("gpu", CheckType.THRESHOLD, query="max(gpu)", at_most=90.0),
        CanaryCheck("empty", CheckType.COUNTERS, bad="empty_total", total="answers_total"),
    )
    outcome = Outcome(
        spec=owned(checks=checks),
        seen=seen(0.0, pool(4)),
        around=ALONE,
        estimate=believed(70.0),
        decision=Decision(4, Reason.LATENCY_OBJECTIVE, "4 replicas"),
        admission=Decision(None, TrafficReason.OFF, ""),
        fallback=Decision(None, TrafficReason.NO_FALLBACK, ""),
    )
    verdict = said(VerdictKind.CONTINUE)
    rows = (*verdict.evidence, *(canary_verdict.Evidence(each.name, canary_failures=2) for each in checks))
    state = CanaryState(evidence=Evidence(verdict=replace(verdict, evidence=rows)))
    sample = canary_sample(outcome, state, None)
    assert sample is not None
    assert [row.metric for row in sample.evidence] == ["ttft", "empty"]
