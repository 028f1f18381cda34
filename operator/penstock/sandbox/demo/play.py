"""Plays the scene: applies, loads, kills the operator, and measures what users got.

Beside the load run the witness, who tells what happens, and what the scene asks for: the hand-over to
Penstock, the operator's loss. Any that fails ends the demo.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from penstock.engine.arrivals import ArrivalProcess, scheduled
from penstock.engine.load_generator import LoadGenerator, LoadLimits
from penstock.engine.stream_client import RequestShape
from penstock.engine.targets import Balancing, Targets
from penstock.kube.api import DEPLOYMENTS, LEASES, SERVICES
from penstock.sandbox.demo.cluster import DemoCluster, DemoError
from penstock.sandbox.demo.commentary import Kind, Say
from penstock.sandbox.demo.gateway_process import GatewayProcess
from penstock.sandbox.demo.hand_over import Clients, HandOver
from penstock.sandbox.demo.manifests import deployments, services
from penstock.sandbox.demo.operator_process import OperatorProcess
from penstock.sandbox.demo.report import DemoReport, build_report
from penstock.sandbox.demo.scene import MODEL, NAME, NAMESPACE, Scene
from penstock.sandbox.demo.witness import SAMPLE_SECONDS, Witness

READY_WITHIN_SECONDS = 60.0
LEADS_WITHIN_SECONDS = 40.0
AWAY_SECONDS = 2.0  # from the operator's death to its successor
SEED = 2  # draws within 5 % of the rates that are announced: 1.9, 8.9, 2.1 (1 draws 8.05 of 9)


@dataclass(slots=True)
class Play:
    """One performance on a cluster that is open; `gateway` None: clients send to the engines."""

    cluster: DemoCluster
    operator: OperatorProcess
    scene: Scene
    say: Say
    show_yaml: Callable[[str], None]
    gateway: GatewayProcess | None = None

    async def run(self) -> DemoReport:
        """Play it and return what was measured; raises `DemoError` when a part fails."""
        witness = Witness(self.cluster, self.operator, self.gateway, self.say)
        playing = asyncio.create_task(self._perform(witness), name="the load")
        watching = witness.tasks()
        try:
            await asyncio.wait([playing, *watching], return_when=asyncio.FIRST_COMPLETED)
            for task in watching:
                if task.done():
                    task.result()
                    raise DemoError(f"{task.get_name()} ended by itself")
            return playing.result()
        finally:
            for each in (playing, *watching):
                each.cancel()
            await asyncio.gather(playing, *watching, return_exceptions=True)

    async def _perform(self, witness: Witness) -> DemoReport:
        cluster, scene = self.cluster, self.scene
        for body in deployments(scene):
            await cluster.apply(DEPLOYMENTS, body)
        for body in services(scene):
            await cluster.apply(SERVICES, body)
        self.operator.start()
        if self.gateway is not None:
            self.gateway.start()
        await witness.until(
            lambda: (
                witness.pods is not None and witness.pods.ready >= scene.initial_replicas and cluster.is_ready
            ),
            READY_WITHIN_SECONDS,
            "the first replicas were not ready",
        )
        clients = Clients(cluster.home / "clients.urls")
        clients.use(cluster.urls_file)
        generator = self._generator(clients)
        plan = scheduled(
            scene.rates,
            scene.lengths,
            process=ArrivalProcess.POISSON,
            duration_seconds=scene.load_seconds,
            chance=np.random.default_rng(SEED),
        )
        witness.begin()
        hand_over = HandOver(cluster, witness, clients, self.gateway, scene, self.say, self.show_yaml)
        beats = [
            asyncio.create_task(self._announce_phases(witness)),
            asyncio.create_task(hand_over.run()),
            asyncio.create_task(self._lose_the_operator(witness)),
        ]
        loading = asyncio.create_task(generator.run(plan), name="the load")
        pending: set[asyncio.Task[object]] = {loading, *beats}
        try:
            while not loading.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in (loading, *beats):
                task.cancel()
            await asyncio.gather(loading, *beats, return_exceptions=True)
        return build_report(scene, loading.result(), witness.use)

    def _generator(self, clients: Clients) -> LoadGenerator:
        targets = Targets(
            (),
            file=clients.file,
            balancing=Balancing.LEAST_REQUESTS,
            chance=random.Random(SEED),  # noqa: S311 - ties between replicas
        )
        limits = LoadLimits(duration_seconds=self.scene.load_seconds, drain_seconds=30.0)
        return LoadGenerator(
            targets,
            RequestShape(model_name=MODEL),
            limits,
            seed=SEED,
            engines=self.cluster.engine_urls,  # behind a gateway the targets are no engines
        )

    async def _announce_phases(self, witness: Witness) -> None:
        at = 0.0
        for phase in self.scene.phases:
            await _sleep_until(witness, at)
            self.say(Kind.LOAD, phase.says)
            at += phase.seconds

    async def _lose_the_operator(self, witness: Witness) -> None:
        """Kill the operator under load: nothing may change, and a successor must go on."""
        at = self.scene.operator_killed_after_seconds
        if at is None:
            return
        await _sleep_until(witness, at)
        path = "the engines serve on" if self.gateway is None else "the gateway and the engines serve on"
        self.say(
            Kind.OPERATOR,
            f"kill -9 of the operator, under full load. Nobody decides now; {path}, and the Deployment "
            "keeps its replicas.",
        )
        await asyncio.to_thread(self.operator.kill)
        before = await self._replicas()
        await asyncio.sleep(AWAY_SECONDS)
        self.operator.start()
        self.say(
            Kind.OPERATOR,
            "started again. It may decide only once it has seen the dead one's Lease unrenewed for 15 s.",
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


async def _sleep_until(witness: Witness, at_seconds: float) -> None:
    await asyncio.sleep(max(0.0, at_seconds - witness.elapsed_seconds))
