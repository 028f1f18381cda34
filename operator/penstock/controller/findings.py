"""The conditions of one service, from the outcome of its last tick and what the loop knows beside it."""

from __future__ import annotations

from operator import is_

from penstock.controller.service_state import Outcome, ServiceState
from penstock.controller.step import refusal_of
from penstock.model.conditions import Finding
from penstock.policy.conditions import findings
from penstock.policy.objectives_condition import objectives_finding
from penstock.policy.traffic_conditions import admission_finding, fallback_finding


def found_of(outcome: Outcome, state: ServiceState, *, window_seconds: float) -> tuple[Finding, ...]:
    """Return all conditions, and remember in ``state.missed`` which objectives are missed."""
    objectives, state.missed = objectives_finding(
        outcome.spec,
        outcome.seen.load,
        outcome.estimate,
        missed_before=state.missed,
        window_seconds=window_seconds,
    )
    return findings(
        outcome.spec,
        outcome.seen,
        outcome.estimate,
        outcome.decision,
        refusal=refusal_of(state),
        write_error=state.write_error,
        objectives=objectives,
        window_seconds=window_seconds,
        traffic=_traffic_findings(outcome, state),
        canary=outcome.canary_finding,
    )


def _traffic_findings(outcome: Outcome, state: ServiceState) -> tuple[Finding, ...]:
    """Return the conditions about traffic: the last ones while they are about the very same things."""
    admission, fallback = outcome.admission, outcome.fallback
    refused, problem = state.classes_refused, state.gateway.problem
    about = (admission, fallback, refused, problem)
    if not all(map(is_, about, state.traffic_findings_of)):
        state.traffic_findings_of = about
        state.traffic_findings = (
            admission_finding(admission, refusal=refused, problem=problem),
            fallback_finding(fallback, problem=problem),
        )
    return state.traffic_findings
