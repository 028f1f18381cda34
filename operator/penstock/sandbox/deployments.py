"""Runs the Deployments of one namespace as local processes, against any Kubernetes API.

Deployment controller, ReplicaSet controller, scheduler, kubelet and endpoint-slice controller in one:
it watches Deployments, Services and Pods, keeps as many `penstock engine` processes as a Deployment
wants, and writes what the real ones write. Level-triggered: a change of anything marks the state as
dirty, and one loop brings processes and API into line, so a lost event costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from penstock.kube.api import DEPLOYMENTS, PODS, SERVICES, Object, Resource
from penstock.sandbox.bodies import HASH, MANAGED, command_of, pod_body
from penstock.sandbox.bodies import template_hash as hash_of
from penstock.sandbox.discovery_files import DiscoveryFiles
from penstock.sandbox.endpoint_slices import EndpointSlices
from penstock.sandbox.local_pod import LocalPod, PodLife
from penstock.sandbox.local_process import ContainerRuntime
from penstock.sandbox.nodes import NodePool
from penstock.sandbox.reports import Reports
from penstock.sandbox.rest import Change, RestClient, RestError
from penstock.sandbox.rollout import plan_pods, strategy_of

log = structlog.get_logger(__name__)
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
RETRY_SECONDS = 0.5
RESYNC_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PodTimes:
    """How long things take on the simulated nodes, in seconds."""

    startup_seconds: float = 2.0  # on a warm node: until ready, after the process listens
    backoff_seconds: float = 1.0  # before the first restart of a crashed container; kubelet: 10
    longest_grace_seconds: float = 30.0  # caps terminationGracePeriodSeconds
    farewell_seconds: float = 2.0  # grace of all pods when the sandbox itself ends


@dataclass(slots=True)
class _Owned:
    """A Deployment and its pods."""

    body: Object
    lives: dict[str, PodLife] = field(default_factory=dict)
    failure: str = ""
    gone: bool = False


class LocalDeployments:
    """The controllers of one namespace. `run` until cancelled; then all processes are ended."""

    def __init__(
        self,
        api: RestClient,
        namespace: str,
        *,
        runtime: ContainerRuntime,
        nodes: NodePool,
        files: DiscoveryFiles,
        times: PodTimes | None = None,
    ) -> None:
        self.nodes = nodes
        self._api = api
        self._namespace = namespace
        self._runtime = runtime
        self._files = files
        self._times = times or PodTimes()
        self._owned: dict[str, _Owned] = {}
        self._services: dict[str, Object] = {}
        self._slices = EndpointSlices(api, namespace)
        self._reports = Reports(api, namespace)
        self._dirty = asyncio.Event()
        self._endings: set[asyncio.Task[None]] = set()

    @property
    def pods(self) -> list[LocalPod]:
        """All pods, those on their way out included."""
        return [life.pod for owned in self._owned.values() for life in owned.lives.values()]

    async def run(self) -> None:
        """Reconcile until cancelled."""
        followers = [
            asyncio.create_task(self._follow(DEPLOYMENTS, self._see_deployment)),
            asyncio.create_task(self._follow(SERVICES, self._see_service)),
            asyncio.create_task(self._follow(PODS, self._see_pod)),
        ]
        try:
            while True:
                wait = await self._reconcile_all()
                # Not wait_for: before Python 3.12 it swallows a cancellation that meets the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._dirty.wait()
        finally:
            for task in (*followers, *self._endings):
                task.cancel()
            await asyncio.gather(*followers, *self._endings, return_exceptions=True)
            lives = [life for owned in self._owned.values() for life in owned.lives.values()]
            farewell = self._times.farewell_seconds
            await asyncio.gather(*(life.stop(farewell, notice_seconds=0) for life in lives))
            self._files.write((), {})

    async def _follow(self, resource: Resource, see: Callable[[Change], Awaitable[None]]) -> None:
        async for changes in self._api.follow(resource.path(self._namespace)):
            for change in changes:
                await see(change)
            self._dirty.set()

    async def _see_deployment(self, change: Change) -> None:
        metadata = change.body["metadata"]
        owned = self._owned.setdefault(metadata["name"], _Owned(change.body))
        if metadata["uid"] != owned.body["metadata"]["uid"]:  # deleted and made anew: not its pods
            for life in owned.lives.values():
                if not life.pod.terminating:
                    self._end(life)
        owned.body, owned.gone = change.body, change.deleted

    async def _see_service(self, change: Change) -> None:
        name = change.body["metadata"]["name"]
        if change.deleted:
            self._services.pop(name, None)
        else:
            self._services[name] = change.body

    async def _see_pod(self, change: Change) -> None:
        metadata = change.body["metadata"]
        life = next(
            (o.lives[metadata["name"]] for o in self._owned.values() if metadata["name"] in o.lives), None
        )
        if life is None:
            # Left by an earlier run whose processes are gone. One that is being created has no uid yet.
            if not change.deleted and (metadata.get("annotations") or {}).get(MANAGED):
                with contextlib.suppress(RestError):
                    await self._api.delete(PODS.path(self._namespace, metadata["name"]))
            return
        life.pod.deletion_cost = _cost(metadata)
        if (change.deleted or "deletionTimestamp" in metadata) and not life.pod.terminating:
            self._end(life)

    async def _reconcile_all(self) -> float:
        self._dirty.clear()
        wait = RESYNC_SECONDS
        try:
            for name, owned in list(self._owned.items()):
                await self._reconcile(owned)
                if owned.gone and not owned.lives:
                    del self._owned[name]
            due = self._schedule()
            if due is not None:
                wait = min(wait, max(0.0, due - time.time()))
            await self._report()
        except RestError as error:
            log.warning("the API refused a write of the sandbox", error=str(error))
            wait = RETRY_SECONDS
        return wait

    async def _reconcile(self, owned: _Owned) -> None:
        spec = owned.body["spec"]
        replicas = 0 if owned.gone else spec.get("replicas", 1)
        wanted = hash_of(spec["template"])
        alive = [life.pod for life in owned.lives.values() if not life.pod.terminating]
        current = [pod for pod in alive if pod.template_hash == wanted]
        old = [pod for pod in alive if pod.template_hash != wanted]
        strategy = strategy_of(spec, replicas)
        plan = plan_pods(replicas, strategy, current, old)
        if plan.delete:
            # Costs are annotated just before /scale is written, and the two watches may be out of step.
            await self._refresh_costs(owned)
            plan = plan_pods(replicas, strategy, current, old)
        for pod in plan.delete:
            self._end(owned.lives[pod.name])
        owned.failure = ""
        for _ in range(plan.create):
            try:
                await self._create(owned, wanted)
            except RestError as error:
                if error.status == 0:
                    raise
                owned.failure = str(error)  # quota, admission: what ReplicaFailure says
                return

    async def _create(self, owned: _Owned, template_hash: str) -> None:
        body = owned.body
        template = body["spec"]["template"]
        labels = (template.get("metadata") or {}).get("labels") or {}
        containers = (template.get("spec") or {}).get("containers") or [{}]
        pod = LocalPod(
            name=f"{body['metadata']['name']}-{template_hash}-{secrets.token_hex(3)[:5]}",
            deployment=body["metadata"]["name"],
            template_hash=template_hash,
            labels={**labels, HASH: template_hash},
            created_at=time.time(),
            container_name=containers[0].get("name", "engine"),
            shortage=self.nodes.shortage,
        )
        life = PodLife(
            pod,
            command_of(template),
            self._runtime,
            startup_seconds=self._times.startup_seconds,
            backoff_seconds=self._times.backoff_seconds,
            on_change=self._dirty.set,
        )
        owned.lives[pod.name] = life  # before the call: its watch event may be faster than its answer
        try:
            created = await self._api.create(PODS.path(self._namespace), pod_body(pod, body))
        except RestError:
            del owned.lives[pod.name]
            raise
        pod.uid = created["metadata"]["uid"]

    def _schedule(self) -> float | None:
        unplaced = 0
        for owned in self._owned.values():
            for life in owned.lives.values():
                if life.pod.node or life.pod.terminating:
                    continue
                node = self.nodes.place(life.pod.name)
                if node is None:
                    unplaced += 1
                    life.pod.shortage = self.nodes.shortage
                else:
                    life.start_on(node)
        return self.nodes.grow(unplaced=unplaced, now=time.time())

    def _end(self, life: PodLife) -> None:
        life.pod.terminating = True
        task = asyncio.create_task(self._end_pod(life), name=f"end {life.pod.name}")
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _end_pod(self, life: PodLife) -> None:
        pod = life.pod
        owned = self._owned[pod.deployment]
        grace = (owned.body["spec"]["template"].get("spec") or {}).get("terminationGracePeriodSeconds", 30)
        grace = min(grace, self._times.longest_grace_seconds)
        path = PODS.path(self._namespace, pod.name)
        with contextlib.suppress(RestError):  # the final deletion below is retried
            await self._api.delete(path, grace_seconds=max(1, int(grace)))
        await life.stop(grace)
        while True:
            try:
                await self._api.delete(path)
                break
            except RestError as error:
                log.warning("a pod could not be deleted", pod=pod.name, error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
        self.nodes.release(pod.name)
        owned.lives.pop(pod.name, None)
        self._dirty.set()

    async def _refresh_costs(self, owned: _Owned) -> None:
        listing = await self._api.get(PODS.path(self._namespace))
        for item in listing["items"]:
            life = owned.lives.get(item["metadata"]["name"])
            if life is not None:
                life.pod.deletion_cost = _cost(item["metadata"])

    async def _report(self) -> None:
        pods = self.pods
        services_of = {pod.name: self._selecting(pod) for pod in pods}
        self._files.write(pods, services_of)
        for pod in pods:
            if not pod.terminating and pod.uid:
                await self._reports.pod(pod)
        await self._slices.write(pods, services_of, self._services)
        for owned in self._owned.values():
            if not owned.gone:
                own = [life.pod for life in owned.lives.values()]
                owned.body = await self._reports.deployment(owned.body, own, owned.failure)

    def _selecting(self, pod: LocalPod) -> list[str]:
        return [
            name
            for name, service in sorted(self._services.items())
            if (selector := (service.get("spec") or {}).get("selector"))
            and all(pod.labels.get(key) == value for key, value in selector.items())
        ]


def _cost(metadata: Object) -> int:
    text = str((metadata.get("annotations") or {}).get(DELETION_COST, "0"))
    return int(text) if text.lstrip("-").isdecimal() else 0  # what does not parse counts as 0, as upstream
