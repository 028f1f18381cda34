"""Plays the scene: applies, loads, watches, kills the operator, and measures what users got.

Several tasks beside the load: one samples the pods, one follows the InferenceService and tells what
Penstock says, one does what the scene asks (Enforce, the kill). Any that fails ends the demo.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from penstock.engine.arrivals import ArrivalProcess, scheduled
from penstock.engine.load_generator import LoadGenerator, LoadLimits
from penstock.engine.stream_client import RequestShape
from penstock.engine.targets import Balancing, Targets
from penstock.kube.api import DEPLOYMENTS, INFERENCE_SERVICES, LEASES, SERVICES, Object
from penstock.sandbox.demo.cluster import DemoCluster, DemoError
from penstock.sandbox.demo.commentary import Kind, PodCounts, Say, remarks
from penstock.sandbox.demo.operator_process import OperatorProcess
from penstock.sandbox.demo.report import DemoReport, build_report
from penstock.sandbox.demo.scene import (
    MODEL,
    NAME,
    NAMESPACE,
    Scene,
    deployment,
    inference_service,
    inference_service_yaml,
    service,
)
from penstock.sandbox.demo.usage import ReplicaUse

SAMPLE_SECONDS = 0.25
READY_WITHIN_SECONDS = 60.0
HISTORY_SECONDS = 6.0  # beyond a rate window: Prometheus needs up to 5 s to find its targets
LOOK_SECONDS = 3.0  # at what Observe says, before Enforce
LEADS_WITHIN_SECONDS = 40.0
AWAY_SECONDS = 2.0  # from the operator's death to its successor
# What the operator says while it has nothing to decide from.
_NOT_YET = ("", "Learning", "MetricsMissing")
SEED = 2  # draws within 5 % of the rates that are announced: 1.9, 8.9, 2.1 (1 draws 8.05 of 9)


@dataclass(slots=True)
class Play:
    """One performance on a cluster that is open."""

    cluster: DemoCluster
    operator: OperatorProcess
    scene: Scene
    say: Say
    show_yaml: Callable[[str], None]
    _use: ReplicaUse = field(default_factory=ReplicaUse)
    _status: dict[str, Any] = field(default_factory=dict)
    _target: int = 0
    _pods: PodCounts | None = None
    _began: float | None = None

    async def run(self) -> DemoReport:
        """Play it and return what was measured; raises `DemoError` when a part fails."""
        tasks = [
            asyncio.create_task(self._perform(), name="the load"),
            asyncio.create_task(self._follow_service(), name="the watch of the InferenceService"),
            asyncio.create_task(self._follow_deployment(), name="the watch of the Deployment"),
            asyncio.create_task(self._sample(), name="the sampling of pods"),
            asyncio.create_task(self._watch_children(), name="the watch over child processes"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks[1:]:
                if task.done():
                    task.result()
                    raise DemoError(f"{task.get_name()} ended by itself")
            report = tasks[0].result()
            assert isinstance(report, DemoReport)  # noqa: S101 - what _perform returns
            return report
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _perform(self) -> DemoReport:
        cluster, scene = self.cluster, self.scene
        await cluster.apply(DEPLOYMENTS, deployment(scene))
        await cluster.apply(SERVICES, service())
        self.operator.start()
        await self._until(
            lambda: self._pods is not None and self._pods.ready >= scene.initial_replicas,
            READY_WITHIN_SECONDS,
            "the first replicas were not ready",
        )
        targets = Targets(
            (),
            file=cluster.urls_file,
            balancing=Balancing.LEAST_REQUESTS,
            chance=random.Random(SEED),  # noqa: S311 - ties between replicas
        )
        limits = LoadLimits(duration_seconds=scene.load_seconds, drain_seconds=30.0)
        generator = LoadGenerator(targets, RequestShape(model_name=MODEL), limits, seed=SEED)
        plan = scheduled(
            scene.rates,
            scene.lengths,
            process=ArrivalProcess.POISSON,
            duration_seconds=scene.load_seconds,
            chance=np.random.default_rng(SEED),
        )
        self._began = asyncio.get_running_loop().time()
        beats = [
            asyncio.create_task(self._announce_phases()),
            asyncio.create_task(self._hand_over()),
            asyncio.create_task(self._lose_the_operator()),
        ]
        try:
            result = await generator.run(plan)
            for beat in beats:
                if beat.done():
                    beat.result()
        finally:
            for beat in beats:
                beat.cancel()
            await asyncio.gather(*beats, return_exceptions=True)
        return build_report(scene, result, self._use)

    async def _announce_phases(self) -> None:
        at = 0.0
        for phase in self.scene.phases:
            await self._sleep_until(at)
            self.say(Kind.LOAD, phase.says)
            at += phase.seconds

    async def _hand_over(self) -> None:
        """Apply the InferenceService to the service that runs already; Observe first, then Enforce."""
        scene = self.scene
        await self._sleep_until(scene.rate_window_seconds + HISTORY_SECONDS)
        self.say(
            Kind.APPLY,
            f"the objective: 95 % of requests get their first token within {scene.ttft_p95_seconds:g} s. "
            "This YAML is the whole interface:",
        )
        self.show_yaml(inference_service_yaml(scene))
        await self.cluster.apply(INFERENCE_SERVICES, inference_service(scene))
        if scene.first_mode != "Observe":
            return
        await self._until(
            lambda: self._reason() not in _NOT_YET,
            scene.phases[0].seconds,
            "the operator reached no decision while it observed",
        )
        await asyncio.sleep(LOOK_SECONDS)
        self.say(
            Kind.NOTE,
            f"mode Observe: Penstock has said what it would do and left the Deployment at {self._target}. "
            "That looks right, so let it:",
        )
        self.say(Kind.APPLY, f'kubectl patch psvc {NAME} --type merge -p \'{{"spec":{{"mode":"Enforce"}}}}\'')
        path = INFERENCE_SERVICES.path(NAMESPACE, NAME)
        await self.cluster.rest.merge(path, {"spec": {"mode": "Enforce"}})

    async def _lose_the_operator(self) -> None:
        """Kill the operator under load: nothing may change, and a successor must go on."""
        at = self.scene.operator_killed_after_seconds
        if at is None:
            return
        await self._sleep_until(at)
        self.say(
            Kind.OPERATOR,
            "kill -9 of the operator, under full load. Nobody decides now; the engines serve on, and "
            "the Deployment keeps its replicas.",
        )
        await asyncio.to_thread(self.operator.kill)
        before = await self._replicas()
        await asyncio.sleep(AWAY_SECONDS)
        self.operator.start()
        self.say(
            Kind.OPERATOR,
            "started again. It may decide only when the Lease of the dead one has run out (15 s).",
        )
        async with asyncio.timeout(LEADS_WITHIN_SECONDS):
            while not await self._leads():
                if (now := await self._replicas()) != before:
                    raise DemoError(f"the target went from {before} to {now} without an operator")
                await asyncio.sleep(SAMPLE_SECONDS)
        self.say(Kind.OPERATOR, f"the new one leads and goes on from the {before} replicas it found.")

    async def _replicas(self) -> int:
        """Ask the API for the Deployment's ``spec.replicas``."""
        body = await self.cluster.rest.get(DEPLOYMENTS.path(NAMESPACE, NAME))
        return int(body["spec"]["replicas"])

    async def _leads(self) -> bool:
        """Ask the API whether the Lease is held by the present operator."""
        lease = await self.cluster.rest.get(LEASES.path(NAMESPACE, "penstock"))
        return str(lease["spec"].get("holderIdentity", "")).endswith(self.operator.lease_suffix)

    async def _follow_service(self) -> None:
        async for changes in self.cluster.rest.follow(INFERENCE_SERVICES.path(NAMESPACE)):
            for change in changes:
                status: Object = change.body.get("status") or {}
                for remark in remarks(self._status, status):
                    self.say(remark.kind, remark.text)
                self._status = status

    async def _follow_deployment(self) -> None:
        async for changes in self.cluster.rest.follow(DEPLOYMENTS.path(NAMESPACE)):
            for change in changes:
                if change.body["metadata"]["name"] != NAME:
                    continue  # on a real cluster the operator's own Deployment is here too
                target = int(change.body["spec"]["replicas"])
                before, self._target = self._target, target
                if before and target != before:
                    await asyncio.sleep(SAMPLE_SECONDS)  # the reason first: it is written a moment later
                    self.say(Kind.REPLICAS, f"Deployment {NAME} scaled from {before} to {target}")

    async def _sample(self) -> None:
        while True:
            pods = self.cluster.pods(self._target)
            if pods != self._pods and pods.target:
                if self._pods is None or pods.ready != self._pods.ready:
                    self.say(*_parts(pods))
                self._pods = pods
            if self._began is not None:
                self._use.add(self._elapsed(), pods)
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _watch_children(self) -> None:
        """Raise when a child died that nobody killed."""
        was_running = False
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            if not self.cluster.prometheus.running:
                raise DemoError(f"Prometheus died: {self.cluster.prometheus.log.strip()[-300:]}")
            controllers = self.cluster.controllers
            if controllers is not None and controllers.done():
                raise DemoError(f"the sandbox's controllers failed: {controllers.exception()!r}")
            if was_running and not self.operator.running and not self.operator.is_killed:
                raise DemoError(f"the operator died: {self.operator.last_words}")
            was_running = self.operator.running

    def _reason(self) -> str:
        return str((self._status.get("decision") or {}).get("reason", ""))

    def _elapsed(self) -> float:
        return asyncio.get_running_loop().time() - (self._began or 0.0)

    async def _sleep_until(self, at_seconds: float) -> None:
        await asyncio.sleep(max(0.0, at_seconds - self._elapsed()))

    async def _until(self, condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not condition():  # noqa: ASYNC110 - the state of other processes
                    await asyncio.sleep(SAMPLE_SECONDS)
        except TimeoutError:
            raise DemoError(f"{otherwise} within {seconds:.0f} s: {self.operator.last_words}") from None


def _parts(pods: PodCounts) -> tuple[Kind, str]:
    remark = pods.remark()
    return remark.kind, remark.text
