"""The conditions AdmissionLimited and FallbackActive: one sentence each, from the decisions themselves."""

from __future__ import annotations

from penstock.model.conditions import Finding, Status
from penstock.model.decision import AnyReason, Decision, TrafficReason
from penstock.policy.admission import LEAST_LIMITED, Admission
from penstock.policy.fallback import FallbackShare
from penstock.policy.request_classes import Refusal

ADMISSION_LIMITED, FALLBACK_ACTIVE = "AdmissionLimited", "FallbackActive"
_TRUE = frozenset(
    {TrafficReason.ADMISSION_LIMITED, TrafficReason.NO_READY_REPLICA, TrafficReason.FALLBACK_ACTIVE}
)
_UNKNOWN = frozenset({TrafficReason.LEARNING, TrafficReason.METRICS_MISSING, TrafficReason.TARGET_MISSING})


def admission_finding(
    decision: Decision[Admission], *, refusal: Refusal | None = None, problem: tuple[str, str] | None = None
) -> Finding:
    """Return the condition AdmissionLimited.

    `refusal` is why the classes are not told apart, `problem` (reason, message) why the gateways do not
    do as decided.
    """
    if problem is not None:
        return Finding(ADMISSION_LIMITED, Status.UNKNOWN, *problem)
    frozen = decision.value is not None and decision.value.enforced
    status = _status(decision.reason, frozen and decision.inputs.get("shed_ratio", 0.0) > LEAST_LIMITED)
    if refusal is not None:
        message = f"{refusal[1]}; until then all requests are alike; {decision.message}"
        return Finding(ADMISSION_LIMITED, status, refusal[0].value, message)
    return Finding(ADMISSION_LIMITED, status, decision.reason.value, decision.message)


def fallback_finding(decision: Decision[FallbackShare], *, problem: tuple[str, str] | None = None) -> Finding:
    """Return the condition FallbackActive; `problem` as in `admission_finding`."""
    if problem is not None and decision.value is not None:
        return Finding(FALLBACK_ACTIVE, Status.UNKNOWN, *problem)
    frozen = decision.value is not None and decision.value.active_ratio > 0
    status = _status(decision.reason, frozen)
    return Finding(FALLBACK_ACTIVE, status, decision.reason.value, decision.message)


def _status(reason: AnyReason, frozen_active: bool) -> Status:  # noqa: FBT001 - private
    if reason is TrafficReason.PAUSED:
        return Status.TRUE if frozen_active else Status.FALSE
    if reason in _TRUE:
        return Status.TRUE
    return Status.UNKNOWN if reason in _UNKNOWN else Status.FALSE
