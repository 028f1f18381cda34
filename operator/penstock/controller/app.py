"""One operator process: adapters, cache, loop, Lease, health, kopf, put together and taken apart.

Order matters: kopf cancels every task that was created after it started, so ours are created before.
A replica without the Lease answers health and metrics and does nothing else; one that loses it exits,
because a decision under way cannot be taken back.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, suppress

import kopf
import structlog
from aiohttp import web

from penstock.controller.apply import ScaleWriter
from penstock.controller.cache import FleetCache
from penstock.controller.handlers import WatchMarks, build_registry, feeds
from penstock.controller.loop import ControlLoop, LoopParts
from penstock.controller.relist import Relister
from penstock.controller.settings import OperatorSettings
from penstock.controller.show import StatusWriter
from penstock.controller.step import StepContext
from penstock.controller.tables import CapacityTables
from penstock.kube.aio_client import connect
from penstock.kube.events import EventRecorder
from penstock.kube.lease import LeaseElector, LeaseLost
from penstock.metrics_source.collector import Collector
from penstock.policy.beliefs import LoopTimes
from penstock.telemetry.health import Probe, health_app
from penstock.telemetry.metrics import OperatorMetrics

log = structlog.get_logger(__name__)
# A watch that is silent for this long has missed several bookmarks; health tells, the kubelet restarts.
TICKS_WITHOUT_SUCCESS = 5


def run_operator(settings: OperatorSettings) -> int:
    """Run until a signal or the loss of the Lease; return the exit code."""
    if settings.kubeconfig:
        os.environ["KUBECONFIG"] = settings.kubeconfig  # kopf logs in by the environment
    try:
        return asyncio.run(_main(settings))
    except KeyboardInterrupt:
        return 130


async def _main(settings: OperatorSettings) -> int:
    async with AsyncExitStack() as stack:
        return await Operator(settings, stack).run()


class Operator:
    """The parts of one process and their life."""

    def __init__(self, settings: OperatorSettings, stack: AsyncExitStack) -> None:
        self._settings, self._stack = settings, stack
        self._metrics = OperatorMetrics()
        self._cache = FleetCache()
        self._marks = WatchMarks()
        self._loop: ControlLoop | None = None
        self._relister: Relister | None = None
        self._role = "standby"
        self._started = time.monotonic()

    async def run(self) -> int:
        """Serve health, wait for the Lease, then watch and tick; return the exit code."""
        settings, stop = self._settings, asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await self._serve_health()
        kube = await connect(kubeconfig=settings.kubeconfig, on_request=self._count_request)
        self._stack.push_async_callback(kube.close)
        lost = asyncio.Event()
        if settings.leader_election:
            elector = LeaseElector(
                kube, settings.lease_namespace, settings.lease_name, identity=f"{socket.gethostname()}-{os.getpid()}"
            )
            if not await _first(elector.acquire(), stop):
                return 0
            self._stack.push_async_callback(elector.release)
            keeping = asyncio.create_task(self._keep(elector, lost))
            self._stack.push_async_callback(_cancelled, keeping)
        self._role = "leader"
        self._metrics.leader.set(1)
        log.info("leading", lease=f"{settings.lease_namespace}/{settings.lease_name}")
        await self._lead(kube, stop, lost)
        if lost.is_set():
            log.error("the Lease is lost, exiting: another replica decides now")
            return 1
        return 0

    async def _lead(self, kube: KubeApi, stop: asyncio.Event, lost: asyncio.Event) -> None:
        """Watch, list, tick until told to stop or the Lease is lost."""
        settings = self._settings
        prometheus, times = settings.prometheus, LoopTimes(
            tick_seconds=settings.tick_seconds, rate_window_seconds=settings.prometheus.rate_window_seconds
        )
        source = prometheus_source(prometheus, observer=self._observe_query)
        self._stack.push_async_callback(source.close)
        collector = Collector(source, series_settings(prometheus, settings.identity))
        tables = CapacityTables(lambda: ProcessPoolExecutor(settings.solver_processes, mp_context=_spawn()))
        self._stack.callback(tables.close)
        pods_identify = settings.identity == "pod"
        watched = feeds(self._cache, pods_identify=pods_identify)
        self._relister = Relister(kube, self._cache, watched, self._metrics, settings.namespaces)
        recorder = EventRecorder(kube, instance=self._identity)
        self._loop = ControlLoop(
            LoopParts(
                context=StepContext(self._cache, tables, times),
                collector=collector,
                scale=ScaleWriter(kube, collector.in_flight_by_pod),
                status=StatusWriter(kube, recorder, self._metrics),
                metrics=self._metrics,
                pods_identify=pods_identify,
            ),
            dry_run=settings.dry_run,
        )
        self._metrics.expose_fleet(self._loop.samples)
        # Before kopf starts: it cancels every task created after it.
        tasks = [
            asyncio.create_task(self._relister.run(settings.relist_seconds), name="relist"),
            asyncio.create_task(self._tick_when_listed(), name="ticks"),
            asyncio.create_task(_any_of(stop, lost), name="stop"),
        ]
        flag = asyncio.Event()
        watching = asyncio.create_task(
            kopf.operator(
                registry=build_registry(watched, self._marks),
                clusterwide=not settings.namespaces,
                namespaces=list(settings.namespaces),
                standalone=True,
                stop_flag=flag,
            ),
            name="watches",
        )
        try:
            done, _ = await asyncio.wait([*tasks, watching], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task is not tasks[-1]:
                    log.error("a part of the operator ended", part=task.get_name(), error=str(task.exception()))
        finally:
            flag.set()
            for task in tasks:
                await _cancelled(task)
            with suppress(Exception, asyncio.CancelledError):
                await asyncio.wait_for(watching, 20.0)

    async def _tick_when_listed(self) -> None:
        """Begin to tick when the cache is complete: half a fleet is not a fleet."""
        assert self._relister is not None  # noqa: S101 - set just before
        assert self._loop is not None  # noqa: S101
        while not self._relister.complete:
            await asyncio.sleep(0.1)
        await self._loop.run()
