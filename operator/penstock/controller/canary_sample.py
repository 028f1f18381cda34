"""One service's canary as its metrics show it."""

from __future__ import annotations

from penstock.controller.canary_state import CanaryState
from penstock.controller.service_state import Outcome
from penstock.model.canary_spec import CheckType
from penstock.model.traffic import ArmCount, GatewayReading
from penstock.telemetry.canary_metrics import ArmSample, CanarySample


def canary_sample(
    outcome: Outcome, canary: CanaryState | None, latest: GatewayReading | None
) -> CanarySample | None:
    """Return the sample of a canary; None where the spec has none. `latest`: what gateways told last."""
    if canary is None or outcome.spec.canary is None:
        return None
    plan, inputs, verdict = outcome.canary.value, outcome.canary.inputs, canary.evidence.verdict
    rows = () if verdict is None else verdict.evidence
    # A threshold's row counts values of a query, which are neither requests nor bad ones.
    thresholds = {each.name for each in outcome.spec.canary.checks if each.type is CheckType.THRESHOLD}
    return CanarySample(
        phase=canary.memory.phase.value,
        weight_percent=0 if plan is None else plan.weight_percent,
        arms={
            "stable": _arm(inputs.get("stable_ready"), None if latest is None else latest.stable_arm),
            "canary": _arm(inputs.get("canary_ready"), None if latest is None else latest.canary_arm),
        },
        evidence=tuple(row for row in rows if row.metric not in thresholds),
        requests_needed=None if verdict is None else verdict.requests_needed,
    )


def _arm(ready: float | None, count: ArmCount | None) -> ArmSample:
    if count is None:
        return ArmSample(ready)
    return ArmSample(ready, count.in_flight, count.requests, count.server_errors)
