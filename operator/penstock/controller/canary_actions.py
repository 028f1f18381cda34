"""Acts on what was decided about canaries: objects of the arms, the canary's replicas, Events, log lines.

The order of a promotion is the decider's; here the new revision's objects come first, and only once they are
written does everything else go by it. The canary is scaled in only as the plan says: its share is 0 and its
streams have ended by then. The stable arm's replicas are never touched from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from penstock.controller.adopted_arms import AdoptedArms
from penstock.controller.arm_endpoints import canary_pool, canary_target, scaled_by_another, workload_of
from penstock.controller.cache import FleetCache, KnownService
from penstock.controller.canary_state import CanaryState, Said, restored_state
from penstock.controller.defects import note_defect
from penstock.controller.found_revisions import stable_revision
from penstock.controller.pod_state import NONE_STUCK, read_pod, stuck_pods
from penstock.controller.revisions import RevisionObjects
from penstock.controller.service_state import Outcome, ServiceState
from penstock.controller.show import StatusWriter
from penstock.controller.target_change import leave_target
from penstock.controller.wanted_revisions import wanted_revisions
from penstock.kube.api import PODS, Conflict, KubeApi, KubeError, NotFound
from penstock.kube.events import EventType
from penstock.model.canary import CanaryPhase, CanaryPlan
from penstock.model.conditions import Status
from penstock.model.decision import RolloutReason
from penstock.model.spec import Mode, ServiceKey, ServiceSpec, WorkloadType
from penstock.telemetry.metrics import OperatorMetrics

log = structlog.get_logger(__name__)
ACTS_AT_ONCE = 16
LOOK_AT_PODS_AFTER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class CanaryParts:
    """What acts."""

    kube: KubeApi
    cache: FleetCache
    revisions: RevisionObjects
    arms: AdoptedArms
    status: StatusWriter
    metrics: OperatorMetrics
    dry_run: bool = False


class CanaryActions:
    """Brings the cluster to what was decided; one service's failure stops nobody else's."""

    def __init__(self, parts: CanaryParts) -> None:
        self._parts = parts

    def begin(self, known: KnownService, state: ServiceState, now: float) -> KnownService:
        """Make the state of a service whose revisions are tried; let its stable one serve an owned one.

        Returns the service as the rest of the tick goes by it.
        """
        spec = known.spec
        if spec is None:
            return known
        if state.canary is None:
            state.canary = restored_state(known.status, now)
            state.canary.dry_run = self._parts.dry_run
        if spec.workload_type is not WorkloadType.TEMPLATE or spec.template is None:
            return known
        canary, cache = state.canary, self._parts.cache
        canary.stable = stable_revision(
            spec.template.revision,
            canary.stable or _remembered(canary),
            cache.revisions.of(known.key),
            kept=self._parts.revisions.remembered(known.key),
        )
        if canary.stable:
            cache.serve_by(known.key, canary.stable)
        return cache.services.get(known.key, known)

    def forget(self, key: ServiceKey) -> None:
        """Drop what is known of a service that is gone."""
        self._parts.revisions.forget(key)
        self._parts.arms.forget(key)

    async def act(self, decided: Sequence[tuple[Outcome, ServiceState]], now: float) -> None:
        """Do what was decided for these services; `now` in Unix seconds."""
        gate = asyncio.Semaphore(ACTS_AT_ONCE)
        await asyncio.gather(
            *(
                self._try(outcome, state, state.canary, gate, now)
                for outcome, state in decided
                if state.canary is not None
            )
        )

    async def _try(
        self, outcome: Outcome, state: ServiceState, canary: CanaryState, gate: asyncio.Semaphore, now: float
    ) -> None:
        """Act for one service; a defect of ours that it meets is its own problem, and nobody else's."""
        try:
            await self._act(outcome, state, canary, gate, now)
        except Exception as error:  # noqa: BLE001 - a condition, a metric and a log line are made of it
            event, key = "a canary could not be acted upon", outcome.spec.key
            canary.defect = note_defect(
                error, canary.defect, event=event, key=key, metrics=self._parts.metrics
            )
            message = f"a defect of Penstock met its revisions: {canary.defect[:500]}"
            canary.problem = ("InternalError", f"{message}; report it with the operator's log")
        else:
            canary.defect = ""

    async def _act(
        self, outcome: Outcome, state: ServiceState, canary: CanaryState, gate: asyncio.Semaphore, now: float
    ) -> None:
        spec = outcome.spec
        self._announce(outcome, canary)
        if self._parts.dry_run:
            return
        async with gate:
            if spec.workload_type is WorkloadType.TEMPLATE:
                canary.problem = await self._keep_revisions(outcome, state, canary, now)
            else:
                canary.problem = await self._parts.arms.ensure(spec, now)
            plan = outcome.canary.value
            if plan is not None and spec.mode is Mode.ENFORCE:
                canary.problem = await self._scale(spec, canary, plan) or canary.problem
                await self._look_at_pods(spec, canary, plan, now)

    async def _keep_revisions(
        self, outcome: Outcome, state: ServiceState, canary: CanaryState, now: float
    ) -> tuple[str, str] | None:
        """Keep the objects of an owned workload; go by a promoted revision once it has its own."""
        spec, plan, cache = outcome.spec, outcome.canary.value, self._parts.cache
        if spec.template is None:
            return None
        wanted = wanted_revisions(
            spec,
            spec.template,
            plan,
            stable=canary.stable,
            found=cache.revisions.of(spec.key),
            target=outcome.decision.value or (outcome.seen.pool.target if outcome.seen.pool else None),
            switched_at=canary.switched_at,
            now=now,
        )
        problem = await self._parts.revisions.ensure(wanted, now)
        serves = wanted.stable.revision
        if problem is None and spec.mode is Mode.ENFORCE and serves != canary.stable:
            _switch(state, canary, serves, now)
            cache.serve_by(spec.key, serves)
            log.info("revision is stable", service=str(spec.key), revision=serves)
        return problem

    async def _scale(
        self, spec: ServiceSpec, canary: CanaryState, plan: CanaryPlan
    ) -> tuple[str, str] | None:
        """Give the canary's workload its replicas; return what hinders that."""
        target = canary_target(spec, plan.revision)
        pool = canary_pool(self._parts.cache, spec, canary, plan.revision)
        if plan.canary_replicas is None or target is None or pool is None or target == spec.target:
            return None
        if pool.target == plan.canary_replicas:
            return None
        if held := scaled_by_another(self._parts.cache, spec, target):
            return (RolloutReason.CANARY_CONFLICT.value, held)
        kube, namespace = self._parts.kube, spec.key.namespace
        try:
            resource = await kube.resource_of(target.group, target.kind)
            scale = await kube.get_scale(resource, namespace, target.name)
            if scale.replicas != pool.target:
                return None  # it has moved since the watch showed it: the next tick decides anew
            written = await kube.patch_scale(
                resource,
                namespace,
                target.name,
                replicas=plan.canary_replicas,
                resource_version=scale.resource_version,
            )
        except (Conflict, NotFound):
            return None
        except KubeError as error:
            return ("WriteRefused", f"{target} cannot be scaled: {error.advised}")
        canary.written, canary.written_to = plan.canary_replicas, target
        canary.written_version = written.resource_version
        log.info(
            "canary scaled",
            service=str(spec.key),
            target=str(target),
            replicas_before=pool.target,
            replicas=plan.canary_replicas,
            phase=plan.phase.value,
        )
        return None

    async def _look_at_pods(
        self, spec: ServiceSpec, canary: CanaryState, plan: CanaryPlan, now: float
    ) -> None:
        """List the canary's pods when replicas stay unready, to tell starting from crashing."""
        workload = workload_of(self._parts.cache, spec, canary_target(spec, plan.revision))
        if workload is None or workload.ready >= workload.target or not workload.label_selector:
            canary.unready_since, canary.stuck = None, NONE_STUCK
            return
        if canary.unready_since is None:
            canary.unready_since = now
        if now - max(canary.unready_since, canary.pods_listed_at) < LOOK_AT_PODS_AFTER_SECONDS:
            return
        canary.pods_listed_at = now
        selector = workload.label_selector
        try:
            bodies = await self._parts.kube.list(PODS, spec.key.namespace, label_selector=selector)
        except KubeError as error:
            log.warning("pods cannot be listed", service=str(spec.key), error=error.message)
            return
        canary.stuck = stuck_pods([read_pod(body) for body in bodies])

    def _announce(self, outcome: Outcome, canary: CanaryState) -> None:
        """Tell each change of phase or step, and what stands in the way, with the decision's numbers."""
        plan, decision = outcome.canary.value, outcome.canary
        phase = CanaryPhase.IDLE if plan is None else plan.phase
        bad = outcome.canary_finding.status is Status.FALSE
        reason, message = canary.problem or (decision.reason.value, decision.message)
        before, said = canary.said, Said(phase, 0 if plan is None else plan.step, reason)
        moved = (said.phase, said.step) != (before.phase, before.step)
        if not moved and not (bad and said.reason != before.reason):
            return
        canary.said = said
        log.info(
            "canary",
            service=str(outcome.spec.key),
            phase=phase.value,
            before=before.phase.value,
            reason=reason,
            message=message,
            **{name: round(value, 4) for name, value in decision.inputs.items()},
        )
        kind = EventType.WARNING if bad or phase is CanaryPhase.INCONCLUSIVE else EventType.NORMAL
        self._parts.status.announce_canary(outcome, kind=kind, reason=reason, message=message)


def _remembered(canary: CanaryState) -> str:
    """Return the stable revision as the status remembers it; "" where it does not."""
    memory = canary.memory
    if memory.phase in (CanaryPhase.IDLE, CanaryPhase.PROMOTED):
        return memory.promoted
    return memory.against


def _switch(state: ServiceState, canary: CanaryState, revision: str, now: float) -> None:
    """Go by another stable revision, whose Deployment is another target."""
    canary.stable, canary.switched_at = revision, now
    canary.written, canary.written_to, canary.written_version = None, None, ""
    leave_target(state)
