"""Keeps an owned workload in the cluster: a Deployment per revision, and a Service for each arm.

Called at every tick; writes on change only. What it writes follows from an explicit value, so the order of a
rollout is the decider's. Nothing is written unless the mode is Enforce, nothing of anybody else's is taken
over, and nothing carries a finalizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from penstock.controller.cache import FleetCache
from penstock.controller.found_revisions import FoundRevision, read_revision
from penstock.controller.owned_objects import RESOURCES, ObjectApi, OwnedObjects, Problem, Purpose
from penstock.controller.revision_objects import (
    ARM_LABEL,
    Arm,
    arm_service_name,
    owned_service,
    pod_port,
    revision_deployment,
    stable_service_name,
    taken_by_another,
    with_replicas,
)
from penstock.controller.wanted_revisions import Revision, Step, WantedRevisions, steps_back
from penstock.kube.api import Conflict, Forbidden, KubeError, NotFound, Object, PatchType, Resource, Scale
from penstock.model.revision import owned_target
from penstock.model.spec import Mode, ServiceKey, ServiceSpec

log = structlog.get_logger(__name__)
DEPLOYMENT = RESOURCES["Deployment"]
FOR_REVISIONS = Purpose("Revision", "install the chart with ownedWorkloads.enabled=true", taken_by_another)
# A hand that changed a field is noticed no sooner: objects are applied again after minutes anyway.
LOOK_EVERY_SECONDS = 60.0


class RevisionApi(ObjectApi, Protocol):
    """What is asked of the API server for revisions. All calls raise `KubeError`."""

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: object,
        *,
        subresource: str = "",
        patch_type: PatchType = PatchType.MERGE,
    ) -> Object:
        """Patch an object."""

    async def patch_scale(
        self, resource: Resource, namespace: str, name: str, *, replicas: int, resource_version: str
    ) -> Scale:
        """Set the wanted replicas if the object is still at `resource_version`; else `Conflict`."""


@dataclass(frozen=True, slots=True)
class _Settled:
    """What was wanted and found when everything was as wanted, and when."""

    wanted: WantedRevisions
    found: tuple[FoundRevision, ...]
    at: float


class RevisionObjects:
    """Brings the cluster to what is wanted; what hinders it is a (reason, message), never an exception."""

    def __init__(self, kube: RevisionApi, cache: FleetCache) -> None:
        self._kube, self._cache = kube, cache
        self._objects = OwnedObjects(kube, FOR_REVISIONS)
        self._templates: dict[ServiceKey, dict[str, Mapping[str, Any]]] = {}
        self._settled: dict[ServiceKey, _Settled] = {}

    def remembered(self, key: ServiceKey) -> frozenset[str]:
        """Return the revisions whose templates are at hand, whatever becomes of their Deployments."""
        return frozenset(self._templates.get(key, ()))

    def forget(self, key: ServiceKey) -> None:
        """Drop what is known of a service that is gone."""
        self._templates.pop(key, None)
        self._settled.pop(key, None)

    async def ensure(self, wanted: WantedRevisions, now: float) -> Problem | None:
        """Bring the Deployments and Services of an owned workload to what is wanted; `now` in Unix seconds.

        Returns the first problem. What a canary is hindered by hinders nothing of the stable arm.
        """
        spec, found = wanted.spec, self._cache.revisions.of(wanted.spec.key)
        if spec.mode is not Mode.ENFORCE:
            return _not_created(wanted, found)
        if self._is_settled(wanted, found, now):
            return None
        if stable_service_name(spec) == arm_service_name(spec.key, Arm.CANARY):
            name = stable_service_name(spec)
            return (
                "RevisionNameTaken",
                f"Service {name} is the canary's: name another in workload.serviceRef",
            )
        problems = [await self._ensure_arm(spec, wanted.stable, Arm.STABLE, now)]
        if wanted.canary is not None:
            problems.append(await self._ensure_arm(spec, wanted.canary, Arm.CANARY, now))
        earlier = steps_back(found, wanted)
        # Before its successor is there, nothing of an earlier revision may go.
        if problems[0] is None:
            problems += [await self._step_back(spec, step, each) for step, each in earlier]
        templates = self._templates.get(spec.key, {})
        self._templates[spec.key] = {each: templates[each] for each in wanted.in_use if each in templates}
        problem = next((each for each in problems if each is not None), None)
        if problem is None and not earlier:
            self._settled[spec.key] = _Settled(wanted, found, now)
        return problem

    def _is_settled(self, wanted: WantedRevisions, found: tuple[FoundRevision, ...], now: float) -> bool:
        before, key = self._settled.get(wanted.spec.key), wanted.spec.key
        if before is None or now - before.at >= LOOK_EVERY_SECONDS:
            return False
        if before.wanted != wanted or before.found != found:
            return False
        if not wanted.in_use <= {each.revision for each in found}:
            return False
        arms = (Arm.STABLE,) if wanted.canary is None else (Arm.STABLE, Arm.CANARY)
        names = [_service_name(wanted.spec, arm) for arm in arms]
        return all((key.namespace, name) in self._cache.own_services for name in names)

    async def _ensure_arm(
        self, spec: ServiceSpec, revision: Revision, arm: Arm, now: float
    ) -> Problem | None:
        """Keep one revision's Deployment and the Service that selects it."""
        template = await self._template(spec, revision)
        if isinstance(template, tuple):
            return template
        body = revision_deployment(spec, revision.revision, template, arm)
        problem = await self._apply(body, now, first=with_replicas(body, revision.replicas))
        if problem is not None:
            return problem
        self._templates.setdefault(spec.key, {})[revision.revision] = template
        port = pod_port(template, spec.service.port if spec.service is not None else None)
        if port is None:
            return (
                "NoPort",
                "no container of workload.template names a port: add "
                "ports: [{name: http, containerPort: 8000}] to the engine's, or set workload.serviceRef.port",
            )
        name = _service_name(spec, arm)
        return await self._apply(owned_service(spec, name, revision.revision, port, arm), now)

    async def _template(self, spec: ServiceSpec, revision: Revision) -> Mapping[str, Any] | Problem:
        """Return a revision's pod template: as wanted, as remembered, else as its Deployment has it."""
        if revision.template is not None:
            return revision.template.body()
        known = self._templates.get(spec.key, {}).get(revision.revision)
        if known is not None:
            return known
        name = owned_target(spec.key.name, revision.revision).name
        try:
            body = await self._kube.get(DEPLOYMENT, spec.key.namespace, name)
        except NotFound:
            return (
                "RevisionLost",
                f"Deployment {spec.key.namespace}/{name} is gone, and its pod template with it: "
                "write that to workload.template once more to have it back",
            )
        except KubeError as error:
            return ("RevisionNotRead", f"Deployment {spec.key.namespace}/{name}: {error.message}")
        template: Mapping[str, Any] = body["spec"]["template"]
        return template

    async def _apply(self, body: Object, now: float, *, first: Object | None = None) -> Problem | None:
        """Apply an object; at once where the watch shows that somebody has deleted it."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        if body["kind"] == "Deployment":
            shown = (namespace, "Deployment", name) in self._cache.workloads
        else:
            shown = (namespace, name) in self._cache.own_services
        if not shown:
            self._objects.doubt(body, now)
        return await self._objects.apply(body, now, first=first)

    async def _step_back(self, spec: ServiceSpec, step: Step, earlier: FoundRevision) -> Problem | None:
        """Take one step with an earlier revision; one that has moved since waits for the next tick."""
        try:
            if step is Step.DELETE:
                await self._delete(spec, earlier)
            elif step is Step.SCALE_IN:
                await self._scale_in(spec, earlier)
            else:
                label = {"metadata": {"labels": {ARM_LABEL: Arm.RETIRED.value}}}
                await self._kube.patch(DEPLOYMENT, spec.key.namespace, earlier.name, label)
        except (NotFound, Conflict):
            return None
        except KubeError as error:
            name = f"Deployment {spec.key.namespace}/{earlier.name}"
            advice = f"; {FOR_REVISIONS.grant}" if isinstance(error, Forbidden) else ""
            said = f"{name}, an earlier revision, cannot be written: {error.message}{advice}"
            return ("RevisionNotWritten", said)
        return None

    async def _scale_in(self, spec: ServiceSpec, earlier: FoundRevision) -> None:
        """Scale an idle revision to zero."""
        workload = self._cache.workloads[spec.key.namespace, "Deployment", earlier.name]
        await self._kube.patch_scale(
            DEPLOYMENT,
            spec.key.namespace,
            earlier.name,
            replicas=0,
            resource_version=workload.resource_version,
        )
        log.info("earlier revision scaled in", service=str(spec.key), revision=earlier.revision)

    async def _delete(self, spec: ServiceSpec, earlier: FoundRevision) -> None:
        """Delete a revision that is still empty and ours."""
        live = await self._kube.get(DEPLOYMENT, spec.key.namespace, earlier.name)
        parsed = read_revision(live)
        claim = revision_deployment(spec, earlier.revision, {}, Arm.RETIRED)
        if parsed is not None and parsed[1].empty and not taken_by_another(live, claim):
            await self._kube.delete(DEPLOYMENT, spec.key.namespace, earlier.name)
            log.info("earlier revision deleted", service=str(spec.key), revision=earlier.revision)


def _service_name(spec: ServiceSpec, arm: Arm) -> str:
    """Return the Service that selects an arm; that of the canary stays as it is when there is none."""
    return stable_service_name(spec) if arm is Arm.STABLE else arm_service_name(spec.key, arm)


def _not_created(wanted: WantedRevisions, found: tuple[FoundRevision, ...]) -> Problem | None:
    """Return that nothing is written, where a Deployment is missing for that."""
    if any(each.revision == wanted.stable.revision for each in found):
        return None
    name, mode = owned_target(wanted.spec.key.name, wanted.stable.revision).name, wanted.spec.mode
    return (
        "RevisionNotCreated",
        f"Deployment {name} does not exist, and mode {mode.value} writes nothing: set mode Enforce",
    )
