"""The condition CanaryHealthy, from the decision itself.

True: nothing is tried, or what was tried is good. Unknown: no verdict. False: it was taken back or cannot
be tried, and somebody should look. `kubectl wait --for=condition=CanaryHealthy` waits for a verdict.
"""

from __future__ import annotations

from penstock.model.canary import CanaryPhase, CanaryPlan
from penstock.model.conditions import ConditionType, Finding, Status
from penstock.model.decision import Decision, RolloutReason
from penstock.policy.canary_explanation import NONE_SET

CANARY_HEALTHY = ConditionType.CANARY_HEALTHY.value
_TRUE = frozenset(
    {
        RolloutReason.NO_CANARY,
        RolloutReason.NOTHING_TO_TRY,
        RolloutReason.FIRST_REVISION,
        RolloutReason.PROMOTING,
        RolloutReason.PROMOTED,
        RolloutReason.PROMOTED_BY_HAND,
        RolloutReason.HAND_OVER,
    }
)
_FALSE = frozenset(
    {
        RolloutReason.CANARY_NOT_READY,
        RolloutReason.REJECTED_REVISION,
        RolloutReason.NO_GATEWAY,
        RolloutReason.CANARY_IS_STABLE,
        RolloutReason.CANARY_NOT_FOUND,
        RolloutReason.CANARY_NOT_ROUTED,
        RolloutReason.CANARY_CONFLICT,
        RolloutReason.STICKY_SPLIT_NOT_POSSIBLE,
        RolloutReason.STABLE_MISSING,
        RolloutReason.ABORTED,
    }
)
_TAKEN_BACK = (CanaryPhase.ROLLING_BACK, CanaryPhase.ROLLED_BACK)
_NOT_ITS_FAULT = (RolloutReason.SUPERSEDED, RolloutReason.WITHDRAWN)


def canary_finding(decision: Decision[CanaryPlan], *, problem: tuple[str, str] | None = None) -> Finding:
    """Return the condition; `problem` (reason, message) is why the gateways do not do as decided."""
    plan = decision.value
    if problem is not None and plan is not None and plan.routed:
        return Finding(CANARY_HEALTHY, Status.UNKNOWN, *problem)
    return Finding(CANARY_HEALTHY, _status(decision), decision.reason.value, decision.message)


def _status(decision: Decision[CanaryPlan]) -> Status:
    plan, reason = decision.value, decision.reason
    if plan is not None and plan.phase in _TAKEN_BACK:
        return Status.UNKNOWN if reason in _NOT_ITS_FAULT else Status.FALSE
    if reason in _TRUE:
        return Status.TRUE
    return Status.FALSE if reason in _FALSE else Status.UNKNOWN


NO_CANARY = canary_finding(NONE_SET)
