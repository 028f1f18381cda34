"""Plays the canary scene: a service behind a gateway, even load, and revisions that are tried beside it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import aiohttp
import numpy as np
import yaml

from penstock.engine.arrivals import ArrivalProcess, PlannedRequest, RateStep, scheduled
from penstock.engine.load_generator import LoadGenerator, LoadLimits
from penstock.engine.stream_client import RequestShape
from penstock.engine.targets import Balancing, Targets
from penstock.kube.api import DEPLOYMENTS, INFERENCE_SERVICES, SERVICES
from penstock.sandbox.demo.canary_manifests import (
    canary_deployment,
    inference_service_yaml,
    service,
    stable_deployment,
)
from penstock.sandbox.demo.canary_report import (
    CanaryReport,
    TriedRevision,
    build_canary_report,
    tried_revision,
)
from penstock.sandbox.demo.canary_scene import CANARY, CanaryScene, Try
from penstock.sandbox.demo.canary_watch import CanaryWatch
from penstock.sandbox.demo.cluster import DemoCluster, DemoError
from penstock.sandbox.demo.commentary import Kind, Say
from penstock.sandbox.demo.gateway_process import GatewayProcess
from penstock.sandbox.demo.hand_over import HISTORY_SECONDS, Clients
from penstock.sandbox.demo.operator_process import OperatorProcess
from penstock.sandbox.demo.scene import MODEL, NAME, NAMESPACE
from penstock.sandbox.demo.witness import Witness

SEED = 3
READY_WITHIN_SECONDS = 60.0
SERVED_WITHIN_SECONDS = 30.0
DRAIN_SECONDS = 20.0
_ENDED = ("Promoted", "RolledBack")


@dataclass(slots=True)
class CanaryPlay:
    """One performance on a cluster that is open."""

    cluster: DemoCluster
    operator: OperatorProcess
    gateway: GatewayProcess
    scene: CanaryScene
    say: Say
    show_yaml: Callable[[str], None]
    _over: bool = field(default=False, init=False)

    async def run(self) -> CanaryReport:
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

    async def _perform(self, witness: Witness) -> CanaryReport:
        cluster, scene = self.cluster, self.scene
        await cluster.apply(DEPLOYMENTS, stable_deployment(scene))
        await cluster.apply(SERVICES, service(scene))
        self.operator.start()
        self.gateway.start()
        await witness.until(
            lambda: witness.pods is not None and witness.pods.ready >= scene.stable_replicas,
            READY_WITHIN_SECONDS,
            "the replicas were not ready",
        )
        clients = Clients(cluster.home / "clients.urls")
        clients.use(cluster.urls_file)
        generator = self._generator(clients)
        witness.begin()
        self.say(Kind.LOAD, f"{scene.per_second:g} requests/s, on {scene.stable_replicas} replicas.")
        loading = asyncio.create_task(generator.run(self._plan()), name="the load")
        try:
            async with aiohttp.ClientSession() as session:
                watch = CanaryWatch(witness, session, self.operator.listen_port, self.say)
                following = asyncio.create_task(watch.run(), name="the watch of the canary")
                telling = asyncio.create_task(self._tell(witness, watch, clients), name="the revisions")
                try:
                    done, _ = await asyncio.wait(
                        [loading, following, telling], return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in done - {telling}:
                        task.result()
                        raise DemoError(f"{task.get_name()} ended by itself")
                    tried = telling.result()
                finally:
                    for each in (following, telling):
                        each.cancel()
                    await asyncio.gather(following, telling, return_exceptions=True)
            self._over = True
            return build_canary_report(tried, await loading)
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)

    async def _tell(self, witness: Witness, watch: CanaryWatch, clients: Clients) -> list[TriedRevision]:
        """Apply the objective, send the clients through the gateway, and try every revision."""
        await asyncio.sleep(self.scene.cluster.rate_window_seconds + HISTORY_SECONDS)
        self.say(Kind.APPLY, "the objective, and how a new revision is to be tried:")
        text = inference_service_yaml(self.scene)
        self.show_yaml(text)
        await self.cluster.apply(INFERENCE_SERVICES, yaml.safe_load(text))
        await self._until_served()
        clients.swap(self.gateway.url)
        self.say(
            Kind.NOTE,
            f"the gateway (Envoy) serves {NAME} too. Clients swap one URL, to {self.gateway.url}; in a "
            f"cluster http://{NAME}-penstock.{NAMESPACE}.",
        )
        await asyncio.sleep(self.scene.quiet_seconds)
        return await self._try_all(witness, watch)

    async def _try_all(self, witness: Witness, watch: CanaryWatch) -> list[TriedRevision]:
        """Try one revision after another; stops at the first one without a verdict in time."""
        scene = self.scene
        tried: list[TriedRevision] = []
        for position, each in enumerate(scene.tries):
            watch.begin()
            before = watch.revision
            await self._deploy(each, is_first=position == 0)
            left = scene.most_seconds - witness.elapsed_seconds
            try:
                async with asyncio.timeout(left):
                    while not watch.has_ended(_ENDED, other_than=before):  # noqa: ASYNC110 - another process
                        await asyncio.sleep(0.25)
                    await asyncio.sleep(scene.after_seconds)
            except TimeoutError:
                self.say(Kind.NOTE, f"no verdict on the {each.name} revision in time.")
            tried.append(
                tried_revision(
                    each.name, each.expected, watch.stands, watch.readings, witness.elapsed_seconds
                )
            )
            if not tried[-1].verdict:
                break
        return tried

    async def _deploy(self, tried: Try, *, is_first: bool) -> None:
        self.say(Kind.APPLY, tried.says)
        body = canary_deployment(self.scene, tried)
        self.say(Kind.APPLY, f"Deployment {CANARY}: penstock engine ... {' '.join(tried.flags)}")
        if is_first:
            await self.cluster.apply(DEPLOYMENTS, body)
            return
        template = {"spec": {"template": body["spec"]["template"]}}
        await self.cluster.rest.merge(DEPLOYMENTS.path(NAMESPACE, CANARY), template)

    async def _until_served(self) -> None:
        try:
            async with asyncio.timeout(SERVED_WITHIN_SECONDS):
                await self.gateway.until_served(MODEL)
        except TimeoutError:
            said = self.gateway.last_words or self.operator.last_words
            raise DemoError(
                f"{NAME} is not reached through the gateway at {self.gateway.url}: {said}"
            ) from None

    def _plan(self) -> Iterator[PlannedRequest]:
        """Yield requests until the last verdict."""
        scene = self.scene
        plan = scheduled(
            (RateStep(scene.per_second, float("inf")),),
            scene.lengths,
            process=ArrivalProcess.POISSON,
            duration_seconds=float("inf"),
            chance=np.random.default_rng(SEED),
        )
        for each in plan:
            if self._over:
                return
            yield each

    def _generator(self, clients: Clients) -> LoadGenerator:
        targets = Targets(
            (),
            file=clients.file,
            balancing=Balancing.LEAST_REQUESTS,
            chance=random.Random(SEED),  # noqa: S311 - ties between replicas
        )
        # The plan says when the load is over, not the clock.
        limits = LoadLimits(duration_seconds=0.0, drain_seconds=DRAIN_SECONDS)
        return LoadGenerator(
            targets,
            RequestShape(model_name=MODEL),
            limits,
            seed=SEED,
            engines=self.cluster.engine_urls,
        )
