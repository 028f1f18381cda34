"""Watches what happens and tells it: the InferenceService, its Deployment and pods, the child processes.

What it saw last is there for those who act; what it sampled is for the report. Anything that dies and was
not killed on purpose ends the demo.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from penstock.kube.api import DEPLOYMENTS, INFERENCE_SERVICES, Object
from penstock.sandbox.demo.cluster import DemoCluster, DemoError
from penstock.sandbox.demo.commentary import Kind, PodCounts, Say, remarks
from penstock.sandbox.demo.gateway_process import GatewayProcess
from penstock.sandbox.demo.operator_process import OperatorProcess
from penstock.sandbox.demo.scene import NAME, NAMESPACE
from penstock.sandbox.demo.usage import ReplicaUse

SAMPLE_SECONDS = 0.25


@dataclass(slots=True)
class Witness:
    """What was seen last; `tasks` keep it up to date while they run."""

    cluster: DemoCluster
    operator: OperatorProcess
    gateway: GatewayProcess | None
    say: Say
    status: dict[str, Any] = field(default_factory=dict, init=False)
    target: int = field(default=0, init=False)  # the Deployment's ``spec.replicas``
    pods: PodCounts | None = field(default=None, init=False)
    use: ReplicaUse = field(default_factory=ReplicaUse, init=False)
    _began: float | None = field(default=None, init=False)

    @property
    def reason(self) -> str:
        """Why the replica count is what it is; empty before the first decision."""
        return str((self.status.get("decision") or {}).get("reason", ""))

    @property
    def elapsed_seconds(self) -> float:
        """Time since the start of the load."""
        return asyncio.get_running_loop().time() - (self._began or 0.0)

    def begin(self) -> None:
        """Take now for the start of the load: samples count from here."""
        self._began = asyncio.get_running_loop().time()

    def tasks(self) -> list[asyncio.Task[None]]:
        """Start to watch; each task runs until cancelled, or fails with what went wrong."""
        return [
            asyncio.create_task(self._follow_service(), name="the watch of the InferenceService"),
            asyncio.create_task(self._follow_deployment(), name="the watch of the Deployment"),
            asyncio.create_task(self._sample(), name="the sampling of pods"),
            asyncio.create_task(self._watch_children(), name="the watch over child processes"),
        ]

    async def until(self, condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
        """Wait for what is seen; raises `DemoError` that says `otherwise` and the operator's last words."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():  # noqa: ASYNC110 - the state of other processes
                    await asyncio.sleep(SAMPLE_SECONDS)
        except TimeoutError:
            raise DemoError(f"{otherwise} within {seconds:.0f} s: {self.operator.last_words}") from None

    async def _follow_service(self) -> None:
        async for changes in self.cluster.rest.follow(INFERENCE_SERVICES.path(NAMESPACE)):
            for change in changes:
                if change.body["metadata"]["name"] != NAME:
                    continue  # the fallback's own affairs
                status: Object = change.body.get("status") or {}
                for remark in remarks(self.status, status):
                    self.say(remark.kind, remark.text)
                self.status = status

    async def _follow_deployment(self) -> None:
        async for changes in self.cluster.rest.follow(DEPLOYMENTS.path(NAMESPACE)):
            for change in changes:
                if change.body["metadata"]["name"] != NAME:
                    continue  # the fallback's; on a real cluster the operator's own is here too
                target = int(change.body["spec"]["replicas"])
                before, self.target = self.target, target
                if before and target != before:
                    await asyncio.sleep(SAMPLE_SECONDS)  # the reason first: it is written a moment later
                    self.say(Kind.REPLICAS, f"Deployment {NAME} scaled from {before} to {target}")

    async def _sample(self) -> None:
        while True:
            pods = self.cluster.pods(self.target)
            if pods != self.pods and pods.target:
                if self.pods is None or pods.ready != self.pods.ready:
                    remark = pods.remark()
                    self.say(remark.kind, remark.text)
                self.pods = pods
            if self._began is not None:
                self.use.add(self.elapsed_seconds, pods)
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _watch_children(self) -> None:
        """Raise when a child died that nobody killed."""
        operator_ran = gateway_ran = False
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            if not self.cluster.prometheus.running:
                raise DemoError(f"Prometheus died: {self.cluster.prometheus.log.strip()[-300:]}")
            controllers = self.cluster.controllers
            if controllers is not None and controllers.done():
                raise DemoError(f"the sandbox's controllers failed: {controllers.exception()!r}")
            if operator_ran and not self.operator.running and not self.operator.is_killed:
                raise DemoError(f"the operator died: {self.operator.last_words}")
            operator_ran = self.operator.running
            if self.gateway is not None:
                if gateway_ran and not self.gateway.running:
                    raise DemoError(f"the gateway died: {self.gateway.last_words}")
                gateway_ran = self.gateway.running
