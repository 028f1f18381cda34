"""Counts what changed from one tick to the next: the reasons of decisions, the verdicts on canaries.

Decisions on replicas are counted where they are shown: their numbers count too.
"""

from __future__ import annotations

from penstock.controller.service_state import Outcome
from penstock.model.canary_verdict import Verdict
from penstock.model.spec import AdmissionPolicy
from penstock.telemetry.metrics import OperatorMetrics


def reasons_of(outcome: Outcome) -> dict[str, str]:
    """Return the reasons in force beside that of the replicas, by kind; none for what was not asked for."""
    spec = outcome.spec
    reasons = {}
    if spec.admission.policy is not AdmissionPolicy.OFF:
        reasons["admission"] = outcome.admission.reason.value
    if spec.fallback is not None:
        reasons["fallback"] = outcome.fallback.reason.value
    if spec.canary is not None:
        reasons["canary"] = outcome.canary.reason.value
    return reasons


def count_changes(metrics: OperatorMetrics, before: Outcome | None, after: Outcome) -> None:
    """Count reasons that differ from the tick before; None: this is the first one."""
    if before is not None and (
        before.admission is after.admission
        and before.fallback is after.fallback
        and before.canary is after.canary
        and before.spec is after.spec
    ):
        return  # most services, at every tick
    known = {} if before is None else reasons_of(before)
    for kind, reason in reasons_of(after).items():
        if known.get(kind) != reason:
            metrics.decisions.labels(kind, reason).inc()


def count_verdict(metrics: OperatorMetrics, before: Verdict | None, after: Verdict | None) -> None:
    """Count a verdict of another kind than the one before."""
    if after is not None and (before is None or before.kind is not after.kind):
        metrics.canary_verdicts.labels(after.kind.value).inc()
