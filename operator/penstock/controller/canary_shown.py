"""What status shows of a canary, and when that is worth a look beside the numbers' own pace."""

from __future__ import annotations

from dataclasses import replace

from penstock.controller.canary_state import CanaryState
from penstock.controller.service_state import Outcome
from penstock.model.canary import CanaryMemory, CanaryPhase
from penstock.model.canary_status import CanaryShown
from penstock.policy.canary_memory import stored_canary

_AT_A_STEP = (CanaryPhase.TESTING, CanaryPhase.PAUSED, CanaryPhase.INCONCLUSIVE)


def canary_shown(outcome: Outcome, canary: CanaryState | None) -> CanaryShown | None:
    """Return status.canary; None where no revision can be tried."""
    if canary is None:
        return None
    memory, spec, verdict = canary.memory, outcome.spec, canary.evidence.verdict
    plan, rejected = outcome.canary.value, canary.memory.rejected
    tested = spec.canary is not None and memory.phase in _AT_A_STEP
    return CanaryShown(
        phase=memory.phase,
        since=memory.since,
        revision=memory.revision,
        stable_revision=canary.stable,
        rejected_revision=rejected.revision if rejected is not None else "",
        rejected_because=rejected.message if rejected is not None else "",
        rejected_before=memory.rejected_before,
        step=memory.step + 1 if tested else 0,
        steps=len(spec.canary.step_percents) if tested and spec.canary is not None else 0,
        weight_percent=plan.weight_percent if plan is not None else 0,
        evidence=verdict.message if verdict is not None else "",
        rows=verdict.evidence if verdict is not None else (),
        memory=stored_canary(memory, canary.evidence.judge),
    )


def has_moved(canary: CanaryState) -> bool:
    """Whether status is to be written although no condition has changed: a restart must find it there."""
    return essence(canary.memory) != essence(canary.shown)


def essence(memory: CanaryMemory) -> CanaryMemory:
    """Return the memory without what is seen again within a tick or two of a restart."""
    return replace(memory, unready_since=None, reached_at=None, requests_before=0.0)


def canary_numbers(outcome: Outcome, canary: CanaryState | None) -> tuple[float | None, ...]:
    """Return the numbers of status.canary that move by themselves."""
    if canary is None:
        return ()
    verdict, plan = canary.evidence.verdict, outcome.canary.value
    rows = verdict.evidence if verdict is not None else ()
    return (
        None if plan is None else plan.weight_percent,
        *(number for row in rows for number in (row.canary_total, row.canary_failures)),
    )
