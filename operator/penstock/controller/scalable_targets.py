"""Targets of other kinds than Deployment and StatefulSet: anything with /scale.

Nothing watches them, since their kinds are known only from specs: /scale and the pods that its selector names
are read before each tick. A fleet has few of them. Needs permission for the kind's /scale (the chart's
`rbac.extraTargets`); without it the condition says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import structlog

from penstock.controller.cache import FleetCache, KnownService, is_watched
from penstock.controller.pod_state import read_pod
from penstock.controller.service_state import ServiceState
from penstock.controller.stopping import cancelled
from penstock.controller.workloads import Workload, WorkloadKey, workload_key
from penstock.kube.api import PODS, Forbidden, KubeApi, KubeError, NotFound, Scale
from penstock.model.spec import ServiceKey, ServiceSpec

log = structlog.get_logger(__name__)
READS_AT_ONCE = 16
# Of a tick: what is not read by then keeps its numbers of before.
PATIENCE_SECONDS = 3.0


class ScalableTargets:
    """Reads them into the cache."""

    def __init__(self, kube: KubeApi, cache: FleetCache) -> None:
        self._kube, self._cache = kube, cache
        self._known: set[WorkloadKey] = set()
        self._refused: set[ServiceKey] = set()
        self._late: set[ServiceKey] = set()

    async def look(self, fleet: Iterable[KnownService], states: Mapping[ServiceKey, ServiceState]) -> None:
        """Read the targets of the services that have one of another kind; problems go to their states."""
        specs = [each.spec for each in fleet if each.spec is not None and not is_watched(each.spec.target)]
        keys = {workload_key(spec.key.namespace, spec.target) for spec in specs}
        for gone in self._known - keys:
            self._cache.workloads.pop(gone, None)
        self._known = keys
        problems = await self._read_all(specs) if specs else {}
        for key in self._refused | problems.keys():
            if (state := states.get(key)) is not None:
                state.target_problem = problems.get(key, "")
        self._refused = set(problems)

    async def _read_all(self, specs: Sequence[ServiceSpec]) -> dict[ServiceKey, str]:
        """Read targets, all of them within a time; return why those that may not be read may not."""
        gate = asyncio.Semaphore(READS_AT_ONCE)
        # First those that were not read last time: some that hang must not keep the same ones waiting.
        turns = sorted(specs, key=lambda spec: spec.key not in self._late)
        reads = {asyncio.create_task(self._read(spec, gate)): spec for spec in turns}
        late: set[asyncio.Task[str]] = set(reads)
        try:
            done, late = await asyncio.wait(reads, timeout=PATIENCE_SECONDS)
        finally:
            for read in late:
                await cancelled(read)
        self._late = {reads[read].key for read in late}
        if late:
            log.warning("targets were not read in time", services=sorted(map(str, self._late)))
        return {reads[read].key: problem for read in done if (problem := read.result())}

    async def _read(self, spec: ServiceSpec, gate: asyncio.Semaphore) -> str:
        """Put a target into the cache; return why it may not be read, empty where it may."""
        key, target = workload_key(spec.key.namespace, spec.target), spec.target
        try:
            async with gate:
                self._cache.workloads[key] = await self._workload(spec)
        except NotFound:
            self._cache.workloads.pop(key, None)
        except Forbidden as error:
            self._cache.workloads.pop(key, None)
            return f"{target} cannot be read: {error.message}; grant it with the chart's rbac.extraTargets"
        except KubeError as error:  # it keeps its numbers of before
            log.warning("a target cannot be read", service=str(spec.key), error=error.message)
        except Exception as error:
            # Anybody may write a kind with /scale: one that answers oddly must not stop the others.
            log.exception("the /scale of a target cannot be understood", service=str(spec.key))
            self._cache.workloads.pop(key, None)
            return f"the /scale of {target} cannot be understood: {type(error).__name__}: {error}"
        return ""

    async def _workload(self, spec: ServiceSpec) -> Workload:
        namespace = spec.key.namespace
        resource = await self._kube.resource_of(spec.target.group, spec.target.kind)
        scale = await self._kube.get_scale(resource, namespace, spec.target.name)
        ready = scale.current
        if scale.selector:
            bodies = await self._kube.list(PODS, namespace, label_selector=scale.selector)
            pods = [read_pod(body) for body in bodies]
            ready = sum(pod.ready and not pod.terminating for pod in pods)
        return workload_of_scale(scale, ready)


def workload_of_scale(scale: Scale, ready: int) -> Workload:
    """Return a workload as /scale tells it; rollouts and refused pods are not to be seen there."""
    pairs = [each.partition("=") for each in scale.selector.split(",") if each]
    plain = all(sign and not name.endswith("!") for name, sign, _ in pairs)
    labels = {name: value.removeprefix("=") for name, _, value in pairs} if plain else {}
    return Workload(
        uid="",
        resource_version=scale.resource_version,
        target=scale.replicas,
        current=scale.current,
        ready=ready,
        selector=labels,
        label_selector=scale.selector,
        pod_labels=labels,
        rolling_out=False,
        rollout_failed=False,
        generation=0,
        refused="",
    )
