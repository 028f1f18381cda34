"""What is fetched for canaries before a tick decides: counters of both arms, revisions of adopted workloads.

Only for services that try revisions: without one nothing is asked. What cannot be fetched leaves what was
known; the counters of an arm that were not read are no counts of zero.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from penstock.controller.arm_endpoints import canary_target, workload_of
from penstock.controller.cache import FleetCache
from penstock.controller.canary_judging import error_source, is_counted, judged_metrics
from penstock.controller.canary_state import CanaryState
from penstock.controller.endpoints import EndpointCache
from penstock.controller.revision_objects import Arm, arm_service_name, stable_service_name
from penstock.controller.service_state import ServiceState
from penstock.kube.api import KubeApi, KubeError
from penstock.metrics_source.arms import ArmsRead, ArmsWanted, ErrorSource, read_arms
from penstock.metrics_source.base import MetricsSource
from penstock.metrics_source.identity import SeriesSettings
from penstock.model.revision import template_revision
from penstock.model.spec import ServiceKey, ServiceSpec, TargetRef, WorkloadType
from penstock.model.traffic import GatewayReading
from penstock.policy.gateway_load import STALE_SECONDS

log = structlog.get_logger(__name__)
READS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class _Template:
    uid: str
    generation: int
    revision: str


class CanaryCounters:
    """Reads both arms of every canary at one instant, and pod templates when they have changed."""

    def __init__(
        self,
        kube: KubeApi,
        cache: FleetCache,
        source: MetricsSource,
        settings: SeriesSettings,
        endpoints: EndpointCache | None = None,
    ) -> None:
        self._kube, self._cache, self._source, self._settings = kube, cache, source, settings
        self._endpoints = endpoints
        self._templates: dict[tuple[str, TargetRef], _Template] = {}

    async def look(self, services: Sequence[tuple[ServiceSpec, ServiceState]], now: float) -> None:
        """Bring the state of services with a canary up to `now` (Unix seconds)."""
        if not services:
            return
        gate = asyncio.Semaphore(READS_AT_ONCE)
        await asyncio.gather(*(self._revisions(spec, state, gate) for spec, state in services))
        wanted = []
        for spec, state in services:
            canary = state.canary
            assert canary is not None  # noqa: S101 - made with the state
            canary.read = None
            if is_counted(spec, canary.plan):
                wanted.append(self._wanted(spec, state, canary, now))
        found = await self.read(wanted, now)
        for spec, state in services:
            if state.canary is not None:
                state.canary.read = found.get(spec.key)

    async def read(self, wanted: Sequence[ArmsWanted], now: float) -> Mapping[ServiceKey, ArmsRead]:
        """Return the counters of both arms of each service as of `now`."""
        return await read_arms(self._source, wanted, at=now, settings=self._settings)

    def _wanted(self, spec: ServiceSpec, state: ServiceState, canary: CanaryState, now: float) -> ArmsWanted:
        evidence, plan = canary.evidence, canary.plan
        assert spec.canary is not None  # noqa: S101 - it is counted
        assert plan is not None  # noqa: S101
        if evidence.errors_from is None or evidence.run != plan.run:
            evidence.errors_from = error_source(spec)
        reading: GatewayReading | None = None
        if evidence.errors_from is ErrorSource.GATEWAY and state.gateway.memory.readings:
            latest = state.gateway.memory.readings[-1]
            reading = latest if now - latest.at <= STALE_SECONDS else None
        return ArmsWanted(
            key=spec.key,
            engine=spec.engine.type,
            stable_pods=self._pods(spec, Arm.STABLE, spec.target),
            canary_pods=self._pods(spec, Arm.CANARY, canary_target(spec, plan.revision)),
            metrics=judged_metrics(spec),
            checks=spec.canary.checks,
            errors_from=evidence.errors_from,
            gateway=reading,
        )

    def _pods(self, spec: ServiceSpec, arm: Arm, target: TargetRef | None) -> frozenset[str]:
        """Return the pods of an arm, ready or not."""
        namespace, service = spec.key.namespace, arm_service_name(spec.key, arm)
        if arm is Arm.STABLE and spec.workload_type is WorkloadType.TEMPLATE:
            service = stable_service_name(spec)
        pods = self._cache.pods_behind(namespace, service)
        if not pods and self._endpoints is not None:
            ports = self._endpoints.ports(namespace, service)
            pods = frozenset(
                each.pod for port in ports for each in self._endpoints.of(namespace, service, port)
            )
        if spec.workload_type is not WorkloadType.TEMPLATE or target is None:
            return pods
        # The Service may have been led to another revision this second.
        return frozenset(pod for pod in pods if pod.startswith(f"{target.name}-"))

    async def _revisions(self, spec: ServiceSpec, state: ServiceState, gate: asyncio.Semaphore) -> None:
        """Learn the revisions of an adopted canary and of what it is compared with."""
        canary = state.canary
        if canary is None or spec.canary is None or spec.canary.target is None:
            return
        memory = canary.memory
        canary.stable = await self._revision(spec, spec.target, gate) or canary.stable or memory.against
        found = await self._revision(spec, spec.canary.target, gate)
        canary.wanted = found or canary.wanted or memory.revision

    async def _revision(self, spec: ServiceSpec, target: TargetRef, gate: asyncio.Semaphore) -> str:
        """Return the revision of a workload's pod template; read again when its generation has moved."""
        workload, key = workload_of(self._cache, spec, target), (spec.key.namespace, target)
        if workload is None:
            return ""
        known = self._templates.get(key)
        if known is not None and (known.uid, known.generation) == (workload.uid, workload.generation):
            return known.revision
        try:
            async with gate:
                resource = await self._kube.resource_of(target.group, target.kind)
                body = await self._kube.get(resource, spec.key.namespace, target.name)
        except KubeError as error:
            log.warning("a canary's workload cannot be read", workload=str(target), error=error.message)
            return known.revision if known is not None else ""
        metadata = body["metadata"]
        revision = template_revision((body.get("spec") or {}).get("template") or {})
        self._templates[key] = _Template(
            str(metadata.get("uid", "")), int(metadata.get("generation") or 0), revision
        )
        return revision
