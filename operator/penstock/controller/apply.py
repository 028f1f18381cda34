"""Write a replica count: choose the victims of a scale-down, and patch /scale when their costs are known.

The ReplicaSet controller hears of pods and of replicas by two watches: where both were written in the same
second, on a busy node, it chose before it knew of the costs. So /scale follows a tick later.

A write is re-validated: it names the resourceVersion that was looked at, so if the target has moved
meanwhile the API server refuses and the next tick decides anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from penstock.controller.pod_state import DELETION_COST, PodState, choose_victims, read_pod
from penstock.controller.service_state import Outcome, ServiceState
from penstock.kube.api import PODS, Conflict, KubeApi, KubeError, NotFound, Scale, Unavailable
from penstock.model.observation import Pool
from penstock.model.spec import ServiceSpec, TargetRef
from penstock.policy.replicas import acknowledge

log = structlog.get_logger(__name__)
# Below every cost that a user is likely to set.
VICTIM_COST = "-1000000"
MARKS_AT_ONCE = 16
# A scale-down in a tick waits no longer for its victims to be chosen: a webhook on pods may hang.
CHOICE_SECONDS = 5.0
# Victims that have waited longer were of a scale-down that nobody wanted any more. The longest tick is 300 s.
CHOICE_KEPT_SECONDS = 600.0

InFlight = Callable[[ServiceSpec, Sequence[str], float], Awaitable[Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class _Choice:
    """The victims of a scale-down that waits for its next tick, and when they were marked (Unix seconds)."""

    victims: frozenset[str]
    at: float


class ScaleWriter:
    """Sets the replicas of targets. `in_flight` measures requests per pod, {} where unknown."""

    def __init__(self, kube: KubeApi, in_flight: InFlight) -> None:
        self._kube = kube
        self._in_flight = in_flight
        self._chosen: dict[tuple[str, TargetRef], _Choice] = {}  # by namespace and target, oldest first

    async def write(
        self,
        outcome: Outcome,
        state: ServiceState,
        replicas: int,
        now: float,
        *,
        victims: frozenset[str] | None = None,
        version: str = "",
    ) -> bool:
        """Set the target; whether it was written. A refusal is kept in ``state.write_error``.

        A scale-down whose victims had to be marked is left to the next call; a scale-up never is.
        `victims` are the pods to lose, drained already; None: those with the least in flight. `version`
        is the target's newest known resourceVersion: while it is still that, a scale-up needs no other look.
        """
        spec, pool = outcome.spec, outcome.seen.pool
        assert pool is not None  # noqa: S101 - a decision to write has seen the pool
        namespace, name = spec.key.namespace, spec.target.name
        try:
            resource = await self._kube.resource_of(spec.target.group, spec.target.kind)
            if version and replicas > pool.target:
                with suppress(Conflict):
                    written = await self._kube.patch_scale(
                        resource, namespace, name, replicas=replicas, resource_version=version
                    )
                    _note(state, spec.target, pool, replicas, written, now)
                    return True
            scale = await self._kube.get_scale(resource, namespace, name)
            if scale.replicas == replicas:
                # Ours, most likely: the answer to a write was lost, and its repetition met the new version.
                _note(state, spec.target, pool, replicas, scale, now)
                return True
            if scale.replicas != pool.target:
                return False
            if spec.target.kind == "Deployment":
                if victims:
                    await self._check_drained(outcome, scale.selector, victims)
                elif replicas < min(pool.ready, pool.target) and await self._mark_victims(
                    outcome, scale.selector, replicas, now
                ):
                    return False  # decided anew at the next tick
            written = await self._kube.patch_scale(
                resource, namespace, name, replicas=replicas, resource_version=scale.resource_version
            )
        except (Conflict, NotFound):
            return False
        except KubeError as error:
            if isinstance(error, Unavailable) and replicas > pool.target:
                # It may have been applied: if the watch shows it, no foreign hand did that.
                expected = replace(state.memory.replicas, in_force=replicas)
                state.memory = state.memory.with_replicas(expected)
            state.write_error = ("WriteRefused", f"{spec.target} cannot be scaled: {error.advised}")
            return False
        _note(state, spec.target, pool, replicas, written, now)
        return True

    async def list_pods(self, spec: ServiceSpec, selector: str) -> list[PodState]:
        """Return the pods of a workload; none where it names none: the API would list all there are."""
        if not selector:
            return []
        bodies = await self._kube.list(PODS, spec.key.namespace, label_selector=selector)
        return [read_pod(body) for body in bodies]

    async def mark(self, spec: ServiceSpec, pods: Sequence[PodState], victims: frozenset[str]) -> bool:
        """Annotate the victims of a drain, and no other; whether all were annotated already.

        Not in the second of /scale. Raises `KubeError`.
        """
        if spec.target.kind != "Deployment":
            return True
        return await self._set_costs(spec, pods, victims) == 0

    async def _mark_victims(self, outcome: Outcome, selector: str, replicas: int, now: float) -> bool:
        """Give the pods with the least in flight the lowest costs; whether to wait until these are known.

        That is once in a scale-down: where others are the idlest a tick later, those marked first go.
        Unready pods go first whatever their cost. Without permission, when the query fails or it takes
        long, Kubernetes chooses: a scale-down is not worth failing, nor the tick of all others.
        """
        spec = outcome.spec
        waited_for = self._waited_for(spec, now)
        try:
            async with asyncio.timeout(CHOICE_SECONDS):
                pods = await self.list_pods(spec, selector)
                alive = [pod for pod in pods if not pod.terminating]
                load = await self._in_flight(spec, [pod.name for pod in alive], outcome.seen.at)
                if waited_for is not None:
                    load = {**load, **dict.fromkeys(waited_for.victims, -1.0)}
                # Of the pods, not of the target: at a quota of 4 a target of 8 would make victims of all.
                excess = max(0, len(alive) - replicas)
                victims = frozenset(choose_victims(alive, load, excess))
                changed = await self._set_costs(spec, alive, victims)
        except (KubeError, TimeoutError) as error:
            cause = error.message if isinstance(error, KubeError) else f"not within {CHOICE_SECONDS:g} s"
            log.warning("victims could not be chosen", service=str(spec.key), error=cause)
            return False
        if waited_for is not None or not changed:
            return False
        self._chosen[spec.key.namespace, spec.target] = _Choice(victims, now)
        return True

    def _waited_for(self, spec: ServiceSpec, now: float) -> _Choice | None:
        """Take the choice that a target's scale-down has waited for; forget those that are too old."""
        while self._chosen and now - next(iter(self._chosen.values())).at > CHOICE_KEPT_SECONDS:
            del self._chosen[next(iter(self._chosen))]
        return self._chosen.pop((spec.key.namespace, spec.target), None)

    async def _check_drained(self, outcome: Outcome, selector: str, victims: frozenset[str]) -> None:
        """Make sure that the drained pods go and no others. Raises `KubeError`: then nothing may go."""
        for pod in await self.list_pods(outcome.spec, selector):
            if not (pod.ready or pod.terminating or pod.name in victims):
                # It would go before any victim, and it may have streams.
                raise Conflict(f"{pod.name} has turned unready")

    async def _set_costs(self, spec: ServiceSpec, pods: Sequence[PodState], victims: frozenset[str]) -> int:
        """Annotate the pods, lowest cost for the victims; the user's own costs stay. How many changed."""
        changes: list[tuple[str, str | None]] = []
        for pod in pods:
            cost = VICTIM_COST if pod.name in victims else None
            if cost == (pod.deletion_cost or None) or (cost is None and pod.deletion_cost != VICTIM_COST):
                continue
            changes.append((pod.name, cost))
        gate = asyncio.Semaphore(MARKS_AT_ONCE)

        async def annotate(name: str, cost: str | None) -> None:
            async with gate:
                body = {"metadata": {"annotations": {DELETION_COST: cost}}}
                await self._kube.patch(PODS, spec.key.namespace, name, body)

        done = await asyncio.gather(*(annotate(*each) for each in changes), return_exceptions=True)
        for result in done:
            if isinstance(result, BaseException):
                raise result
        return len(changes)


def _note(
    state: ServiceState, target: TargetRef, pool: Pool, replicas: int, written: Scale, now: float
) -> None:
    """Remember what was written: it counts until the watch has caught up, and is no foreign hand."""
    state.write_error = None
    state.written, state.written_to, state.written_version = replicas, target, written.resource_version
    state.memory = state.memory.with_replicas(
        acknowledge(state.memory.replicas, written=replicas, before=pool.target, now=now)
    )
