"""Show what was decided: status when it tells something new, Events on transitions.

The same reason and sentence go to the condition, the Event, the log line and the metric's label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import structlog

from penstock.controller.cache import KnownService
from penstock.controller.canary_shown import canary_shown, has_moved
from penstock.controller.defects import note_defect
from penstock.controller.learned_shown import learned_shown
from penstock.controller.objectives_shown import objectives_shown
from penstock.controller.service_state import Outcome, ServiceState
from penstock.controller.shown_numbers import have_moved, shown_numbers, utilization
from penstock.controller.status_pace import StatusPace
from penstock.controller.traffic_shown import (
    admission_shown,
    fallback_shown,
    load_source,
    offered_shown,
)
from penstock.kube.api import INFERENCE_SERVICES, Conflict, KubeApi, KubeError, NotFound
from penstock.kube.event_outbox import EventOutbox, PendingEvent
from penstock.kube.events import QUIET_SECONDS, EventRecorder, EventType, ObjectReference
from penstock.model.conditions import (
    Condition,
    Finding,
    Status,
    read_conditions,
    set_conditions,
    truncated,
)
from penstock.model.resource_status import (
    Floor,
    StatusValues,
    build_status,
)
from penstock.model.spec import Mode, ServiceKey
from penstock.model.status_change import meaningful_change, status_patch, wording
from penstock.policy.conditions import not_accepted
from penstock.telemetry.metrics import OperatorMetrics

log = structlog.get_logger(__name__)
# The status of a condition that somebody should look at, where False is not simply "no".
_TROUBLE = {
    "Ready": None,  # follows from Accepted
    "Accepted": Status.FALSE,
    "MetricsAvailable": Status.FALSE,
    "ObjectivesMet": Status.FALSE,
    "ScalingLimited": Status.TRUE,
    "AdmissionLimited": Status.TRUE,
    "FallbackActive": Status.TRUE,
    "ModelTrusted": Status.FALSE,
}


class StatusWriter:
    """Writes status and Events of single services; a failed write is tried again at a later tick."""

    def __init__(self, kube: KubeApi, events: EventRecorder, metrics: OperatorMetrics) -> None:
        self._kube, self._metrics = kube, metrics
        self._pace = StatusPace()
        self.events = EventOutbox(
            events,
            written=lambda reason: metrics.events.labels(reason).inc(),
            dropped=lambda reason: metrics.events_dropped.labels(reason).inc(),
        )

    def differs(self, known: KnownService, state: ServiceState, outcome: Outcome, now: float) -> bool:
        """Whether the outcome is worth looking at more closely; cheap, it is asked after every tick."""
        if state.shown_findings is None or state.shown_generation != known.generation:
            return True
        if outcome.decision is not state.shown_decision:
            return True
        if state.canary is not None and has_moved(state.canary):
            return True
        if _differ(state.findings, state.shown_findings):
            return True
        if not self._pace.is_due(known.key, state.shown_at, now):
            return False
        state.shown_at = now
        moved = have_moved(shown_numbers(outcome, state), state.shown_numbers)
        if not moved and not _reworded(state.findings, state.shown_findings):
            return False
        self._pace.spend()
        return True

    async def show(self, known: KnownService, state: ServiceState, outcome: Outcome, now: float) -> None:
        """Write the status if it tells something new, and an Event for each new trouble.

        What is noted as shown is of this `outcome`: a newer tick may decide while the write is under way.
        """
        if outcome.decision is not state.shown_decision:
            state.decided_at = now
            self._metrics.decisions.labels("replicas", outcome.decision.reason.value).inc()
        values = status_values(known, state, outcome, now)
        numbers = shown_numbers(outcome, state)
        remembered = None if state.canary is None else state.canary.memory
        if await self._write(known, state, values, state.findings, now):
            state.shown_numbers = numbers
            if state.canary is not None and remembered is not None:
                state.canary.shown = remembered
        state.shown_decision = outcome.decision

    async def show_invalid(self, known: KnownService, state: ServiceState, now: float) -> None:
        """Write what is wrong with a spec that cannot be parsed (an API server without our CEL rules)."""
        if known.invalid is None or state.shown_generation == known.generation:
            return
        found = not_accepted("InvalidSpec", str(known.invalid))
        conditions = _conditions(known, found, now)
        await self._write(known, state, StatusValues(known.generation, conditions), found, now)

    async def show_defect(self, known: KnownService, state: ServiceState, now: float) -> None:
        """Write that a defect of ours keeps a service from being decided; its numbers stay as they were."""
        message = f"a defect of Penstock met this service: {state.defect[:500]}"
        found = not_accepted(
            "InternalError", f"{message}; its target stays, report it with the operator's log"
        )
        if found == state.shown_findings and state.shown_generation == known.generation:
            return
        conditions = _conditions(known, found, now)
        values = StatusValues(known.generation, conditions)
        if state.outcome is not None:
            values = replace(status_values(known, state, state.outcome, now), conditions=conditions)
        await self._write(known, state, values, found, now)

    def failed(self, key: ServiceKey, state: ServiceState, error: Exception) -> None:
        """Note a defect that kept a service from being shown."""
        event = "a service could not be shown"
        state.unshown = note_defect(error, state.unshown, event=event, key=key, metrics=self._metrics)

    def announce_scaling(self, outcome: Outcome, replicas: int, before: int) -> None:
        """Tell a scale-up or scale-down on the InferenceService."""
        action = "ScaleUp" if replicas > before else "ScaleDown"
        self._record(
            outcome.spec.key.namespace,
            outcome.spec.key.name,
            outcome.spec.uid,
            EventType.NORMAL,
            outcome.decision.reason.value,
            outcome.decision.message,
            action,
        )

    def announce_canary(self, outcome: Outcome, *, kind: EventType, reason: str, message: str) -> None:
        """Tell how a canary goes on, on the InferenceService."""
        key = outcome.spec.key
        self._record(key.namespace, key.name, outcome.spec.uid, kind, reason, message, "Canary")

    async def _write(
        self,
        known: KnownService,
        state: ServiceState,
        values: StatusValues,
        found: tuple[Finding, ...],
        now: float,
    ) -> bool:
        """Write what is worth it, and tell troubles; whether status holds all of `values` that is news."""
        status = build_status(values)
        news = [each for each in found if each not in (state.shown_findings or ()) and _is_trouble(each)]
        fresh = _essence(news) - _essence(state.shown_findings or _stored(known))
        stored = known.status
        if meaningful_change(stored, status, seconds_since_write=now - state.written_status_at):
            patch = status_patch(stored, status)
            try:
                await self._kube.patch(
                    INFERENCE_SERVICES,
                    known.key.namespace,
                    known.key.name,
                    {"status": patch},
                    subresource="status",
                )
            except NotFound:
                return False  # deleted meanwhile
            except (Conflict, KubeError) as error:
                log.warning("status cannot be written", service=str(known.key), error=error.message)
                return False
            self._metrics.status_writes.inc()
            state.written_status_at = now
            shown = found
        else:
            shown = _as_stored(found, stored)
        state.shown_findings, state.shown_at, state.shown_generation = shown, now, known.generation
        for each in news:
            if (each.type, each.status, each.reason) not in fresh:
                continue
            if now - state.announced.get((each.type, each.reason), -QUIET_SECONDS) < QUIET_SECONDS:
                continue  # trouble that comes and goes is told once; its age is in the condition
            state.announced[each.type, each.reason] = now
            self._record(
                known.key.namespace,
                known.key.name,
                known.uid,
                EventType.WARNING,
                each.reason,
                each.message,
                each.type,
            )
        return True

    def _record(
        self, namespace: str, name: str, uid: str, kind: EventType, reason: str, message: str, action: str
    ) -> None:
        version = f"{INFERENCE_SERVICES.group}/{INFERENCE_SERVICES.version}"
        about = ObjectReference(version, INFERENCE_SERVICES.kind, namespace, name, uid)
        self.events.put(PendingEvent(about, kind, reason, message, action))


def status_values(known: KnownService, state: ServiceState, outcome: Outcome, now: float) -> StatusValues:
    """Gather all that status shows of one service."""
    spec, seen, memory = outcome.spec, outcome.seen, state.memory
    floor = memory.replicas
    shows_floor = floor.floor_until > now and floor.floor > 0 and spec.mode is Mode.ENFORCE
    return StatusValues(
        generation=known.generation,
        conditions=_conditions(known, state.findings, now),
        decision=outcome.decision,
        decided_at=state.decided_at,
        pool=seen.pool,
        load=seen.load,
        offered_per_second=offered_shown(outcome),
        load_source=load_source(outcome),
        utilization_ratio=utilization(outcome),
        objectives=objectives_shown(outcome, state),
        learned=learned_shown(memory),
        floor=Floor(floor.floor, floor.floor_until) if shows_floor else None,
        admission=admission_shown(outcome, memory.admission),
        fallback=fallback_shown(outcome),
        canary=canary_shown(outcome, state.canary),
    )


def _conditions(known: KnownService, found: tuple[Finding, ...], now: float) -> tuple[Condition, ...]:
    """Return conditions to write, with the times of those that the status carries already."""
    return set_conditions(read_conditions(known.status), found, generation=known.generation, now=now)


def _differ(new: tuple[Finding, ...], old: tuple[Finding, ...]) -> bool:
    """Whether conditions differ in status or reason; both are in the same order."""
    if len(new) != len(old):
        return True
    for one, other in zip(new, old, strict=True):
        # Most are the very same ones at every tick.
        if one is not other and (one.reason != other.reason or one.status is not other.status):
            return True
    return False


def _reworded(new: tuple[Finding, ...], old: tuple[Finding, ...]) -> bool:
    """Whether a message says something else for the same reason, like other names; numbers do not count."""
    return any(
        one is not other
        and one.message != other.message
        and wording(one.type, one.message) != wording(other.type, other.message)
        for one, other in zip(new, old, strict=True)
    )


def _as_stored(found: tuple[Finding, ...], stored: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Return findings with the messages that status keeps for now: the next look compares with those."""
    messages = {each.type: each.message for each in read_conditions(stored)}
    return tuple(
        each
        if (kept := messages.get(each.type)) is None or kept == truncated(each.message)
        else Finding(each.type, each.status, each.reason, kept)
        for each in found
    )


def _is_trouble(finding: Finding) -> bool:
    return _TROUBLE.get(finding.type) is finding.status


def _essence(found: Iterable[Finding]) -> set[tuple[str, Status, str]]:
    return {(each.type, each.status, each.reason) for each in found}


def _stored(known: KnownService) -> tuple[Finding, ...]:
    """Return the conditions that the status carried before this process began."""
    return tuple(
        Finding(each.type, each.status, each.reason, each.message) for each in read_conditions(known.status)
    )
