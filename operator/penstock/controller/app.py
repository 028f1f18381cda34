"""One operator process: adapters, cache, loop, Lease, health, kopf, put together and taken apart.

Order matters: kopf cancels every task that was created after it started, so ours are created before.
A replica without the Lease answers health and metrics and does nothing else; one that loses it exits,
because a decision under way cannot be taken back.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

import aiohttp
import kopf
import structlog
from aiohttp import web

from penstock.controller.adopted_arms import AdoptedArms
from penstock.controller.apply import ScaleWriter
from penstock.controller.between_ticks import BetweenTicks
from penstock.controller.budgets import Budgets
from penstock.controller.cache import FleetCache
from penstock.controller.canaries import Canaries
from penstock.controller.canary_actions import CanaryActions, CanaryParts
from penstock.controller.canary_counters import CanaryCounters
from penstock.controller.canary_step import CanaryStep
from penstock.controller.clock_watch import until_clock_jumps
from penstock.controller.draining import Drainer
from penstock.controller.endpoints import EndpointCache
from penstock.controller.fallbacks import Fallbacks
from penstock.controller.gateway_server import GatewayServer, keep_leader_label
from penstock.controller.handlers import WatchMarks, build_registry, feeds
from penstock.controller.httproutes import HttpRoutes
from penstock.controller.loop import ControlLoop, LoopParts
from penstock.controller.model_check import ModelCheck
from penstock.controller.namespaces import Namespaces, find_namespaces, until_changed
from penstock.controller.observed_source import ObservedSource
from penstock.controller.record_files import record_files
from penstock.controller.recording import Recorder
from penstock.controller.relist import Relister, needed_types
from penstock.controller.revisions import RevisionObjects
from penstock.controller.route_weights import RouteWeights
from penstock.controller.scalable_targets import ScalableTargets
from penstock.controller.scaling_news import ScalingNews
from penstock.controller.service_state import ServiceState
from penstock.controller.settings import OperatorSettings
from penstock.controller.show import StatusWriter
from penstock.controller.solver import solver_processes
from penstock.controller.step import StepContext
from penstock.controller.stopping import came_before, cancelled, stop_on_signals, take_signals_back
from penstock.controller.tables import CapacityTables
from penstock.controller.traffic import TrafficTask
from penstock.kube.aio_client import AioKubeApi, connect
from penstock.kube.api import SCALED_OBJECTS, KubeApi, KubeError, NotFound
from penstock.kube.events import EventRecorder
from penstock.kube.lease import NOT_REACHED, LeaseElector, LeaseLost
from penstock.metrics_source.adapters import prometheus_source
from penstock.metrics_source.ask import CollectLimits
from penstock.metrics_source.collector import Collector
from penstock.metrics_source.connection import Connection
from penstock.metrics_source.identity import IdentifyBy, SeriesSettings
from penstock.metrics_source.in_flight import InFlight
from penstock.model.spec import ServiceKey
from penstock.policy.beliefs import LoopTimes
from penstock.telemetry.health import Liveness, Probe, health_app
from penstock.telemetry.metrics import OperatorMetrics

log = structlog.get_logger(__name__)
# Fewer would restart the operator because Prometheus or the API server has a bad minute.
TICKS_WITHOUT_SUCCESS = 10
FIRST_TICK_SECONDS = 120.0  # 10,000 services take some 30 s to list


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
    """The parts of one process and their life; `stack` takes apart what was put together."""

    def __init__(self, settings: OperatorSettings, stack: AsyncExitStack) -> None:
        self._settings, self._stack = settings, stack
        self._identity = f"{socket.gethostname()}-{os.getpid()}"
        self._metrics = OperatorMetrics()
        self._cache = FleetCache()
        self._marks = WatchMarks()
        self._loop: ControlLoop | None = None
        self._relister: Relister | None = None
        self._namespaces = Namespaces()
        self._traffic: TrafficTask | None = None
        self._parts: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}  # that begin when all is listed
        self._liveness = Liveness(TICKS_WITHOUT_SUCCESS * settings.tick_seconds + FIRST_TICK_SECONDS)
        self._elector: LeaseElector | None = None
        # A standby finds out too, before it is needed.
        self._record_files = record_files(settings.record_directory, settings.record_limit_bytes)

    async def run(self) -> int:
        """Serve health, wait for the Lease, then watch and tick; return the exit code."""
        settings, stop, lost = self._settings, asyncio.Event(), asyncio.Event()
        stop_on_signals(stop)
        await self._serve_health()
        kube = await connect(kubeconfig=settings.kubeconfig, on_request=self._count_request)
        self._stack.push_async_callback(kube.close)
        if settings.leader_election:
            elector = LeaseElector(kube, settings.lease_namespace, settings.lease_name, self._identity)
            self._elector = elector
            unlabelled = asyncio.create_task(self._label(kube, leads=None), name="label")
            self._stack.push_async_callback(cancelled, unlabelled)
            # Before the attempt: a stop during the acquiring write must not leave the Lease held.
            self._stack.push_async_callback(elector.release)
            if not await came_before(elector.acquire(), stop):
                return 0
            await cancelled(unlabelled)
            keeping = asyncio.create_task(_keep(elector, lost), name="lease")
            self._stack.push_async_callback(cancelled, keeping)
            log.info(
                "leading", lease=f"{settings.lease_namespace}/{settings.lease_name}", identity=self._identity
            )
        self._metrics.leader.set(1)
        code = await self._lead(kube, stop, lost)
        self._metrics.leader.set(0)
        if lost.is_set():
            log.error("the Lease is lost, exiting: another replica decides now")
            return 1
        return code

    async def _lead(self, kube: AioKubeApi, stop: asyncio.Event, lost: asyncio.Event) -> int:
        """Watch, list and tick until told to stop, the Lease is lost or a part fails."""
        self._liveness.leads(lambda: self._loop.succeeded_at if self._loop else None)
        await self._build_loop(kube, has_keda=await _has_keda(kube))
        assert self._relister is not None  # noqa: S101 - built just now
        # Before kopf starts: it cancels every task created after it.
        ours = [asyncio.create_task(self._relister.run(self._settings.relist_seconds), name="relist")]
        ours.append(asyncio.create_task(self._label(kube, leads="true"), name="label"))
        ours.append(asyncio.create_task(until_clock_jumps(), name="clock"))
        if self._settings.namespaces:
            changed = until_changed(kube, self._namespaces, needed_types(self._watched))
            ours.append(asyncio.create_task(changed, name="namespaces"))
        ours += [
            asyncio.create_task(self._when_listed(part), name=name) for name, part in self._parts.items()
        ]
        ends = [asyncio.create_task(stop.wait(), name="stop"), asyncio.create_task(lost.wait(), name="lost")]
        end_watches, watching = asyncio.Event(), asyncio.Event()
        signals = asyncio.create_task(take_signals_back(watching, stop), name="signals")
        namespaces = self._namespaces.watched
        watches = asyncio.create_task(
            kopf.operator(
                registry=build_registry(self._watched, self._marks),
                clusterwide=not namespaces,
                namespaces=namespaces,
                standalone=True,
                stop_flag=end_watches,
                ready_flag=watching,
            ),
            name="watches",
        )
        await asyncio.wait([*ours, *ends, watches], return_when=asyncio.FIRST_COMPLETED)
        code = 0
        parts: tuple[asyncio.Task[Any], ...] = (*ours, watches)
        for task in parts:
            if task.done() and not stop.is_set():
                code = 1
                cause = "cancelled" if task.cancelled() else task.exception()
                log.error("a part of the operator ended by itself", part=task.get_name(), cause=str(cause))
        end_watches.set()
        for ended in (*ours, *ends, signals):
            await cancelled(ended)
        # Not wait_for: on Python 3.11 it can swallow a cancellation that meets the end of the task.
        with suppress(asyncio.CancelledError, TimeoutError):
            async with asyncio.timeout(10.0):
                await watches
        return code

    async def _build_loop(self, kube: AioKubeApi, *, has_keda: bool) -> None:
        """Put the loop together; nothing is fetched yet."""
        settings, prometheus = self._settings, self._settings.prometheus
        connection = Connection(
            prometheus.url,
            bearer_token_file=prometheus.bearer_token_file,
            headers=dict(prometheus.headers),
            ca_file=prometheus.ca_file,
            insecure_skip_verify=prometheus.insecure_skip_verify,
        )
        source = ObservedSource(prometheus_source(prometheus.client, connection), self._metrics)
        self._stack.push_async_callback(source.close)
        pods_identify = settings.identity == "pod"
        series = SeriesSettings(
            identify_by=IdentifyBy.POD if pods_identify else IdentifyBy.SERVICE,
            namespace_label=prometheus.namespace_label,
            pod_label=prometheus.pod_label,
            service_label=prometheus.service_label,
            matchers=dict(prometheus.matchers),
            scrape_interval_seconds=prometheus.scrape_interval_seconds,
            rate_window_seconds=prometheus.rate_window_seconds,
            stale_after_seconds=4 * prometheus.scrape_interval_seconds,
        )
        times = LoopTimes(
            tick_seconds=settings.tick_seconds,
            rate_window_seconds=series.rate_window_seconds,
            length_window_seconds=series.length_window_seconds,
        )
        collector = Collector(source, series, CollectLimits(query_timeout_seconds=prometheus.timeout_seconds))
        tables = CapacityTables(lambda: solver_processes(settings.solver_processes))
        self._stack.callback(tables.close)
        states: dict[ServiceKey, ServiceState] = {}
        gateways, endpoints = None, EndpointCache(settings.gateways.endpoint_host)
        serves = settings.gateways.scope != "off"
        self._watched = feeds(
            self._cache,
            pods_identify=pods_identify,
            has_keda=has_keda,
            # By label and without gateways nobody asks for addresses: 10,000 services' worth of memory.
            endpoints=endpoints if serves or pods_identify else None,
        )
        self._namespaces = await find_namespaces(kube, settings.namespaces, needed_types(self._watched))
        session = aiohttp.ClientSession()
        self._stack.push_async_callback(session.close)
        fallbacks = Fallbacks(self._cache, states, endpoints, ModelCheck(session), tables)
        status = StatusWriter(kube, EventRecorder(kube, instance=self._identity), self._metrics)
        self._stack.push_async_callback(status.events.close)
        if serves:
            gateways = GatewayServer(
                settings.gateways,
                kube,
                self._stack,
                endpoints=endpoints,
                namespaces=self._namespaces.watched,
                tell=status.events.put,
            )
        gap = BetweenTicks()
        self._relister = Relister(kube, self._watched, self._metrics, self._namespaces.watched, gap)
        scale = ScaleWriter(kube, InFlight(source, series).by_pod)
        asked = endpoints if serves or pods_identify else None
        counters = CanaryCounters(kube, self._cache, source, series, asked)
        tries = CanaryStep(self._cache, asked, times, series.scrape_interval_seconds)
        revisions, arms = RevisionObjects(kube, self._cache), AdoptedArms(kube, self._cache)
        actions = CanaryActions(
            CanaryParts(kube, self._cache, revisions, arms, status, self._metrics, dry_run=settings.dry_run)
        )
        self._loop = ControlLoop(
            LoopParts(
                context=StepContext(self._cache, tables, times, fallbacks, tries),
                collector=collector,
                scale=scale,
                status=status,
                metrics=self._metrics,
                pods_identify=pods_identify,
                gateways_serve=gateways is not None,
                canaries=Canaries(counters, actions),
                other_targets=ScalableTargets(kube, self._cache),
                recorder=self._recorder(times),
            ),
            states,
            dry_run=settings.dry_run,
            gap=gap,
        )
        self._stack.push_async_callback(self._loop.statuses.close)
        weights = RouteWeights(HttpRoutes(kube), self._cache, states, asked)
        self._parts = {
            "ticks": self._loop.run,
            "routes": partial(weights.run, settings.tick_seconds),
            "budgets": Budgets(source, series, states, gap).run,
        }
        if gateways is not None:
            self._traffic = await gateways.start(
                self._cache,
                states,
                fallbacks,
                Drainer(scale, ScalingNews(status, self._metrics)),
                window_seconds=series.rate_window_seconds,
                dry_run=settings.dry_run,
            )
            self._parts["gateways"] = self._traffic.run

    async def _label(self, kube: KubeApi, *, leads: str | None) -> None:
        """Let gateways find the pod that leads, by its label; nothing to do where none are served."""
        if self._settings.gateways.scope == "off":
            await asyncio.Event().wait()
        await keep_leader_label(kube, leads=leads)

    def _recorder(self, times: LoopTimes) -> Recorder | None:
        """Return what writes records; None where none are wanted."""
        if self._record_files is None:
            return None
        recorder = Recorder(self._record_files, times, self._metrics)
        self._stack.push_async_callback(asyncio.to_thread, recorder.close)
        return recorder

    async def _when_listed(self, part: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a part once the cache is complete: half a fleet is none, a service missed loses its route."""
        assert self._relister is not None  # noqa: S101 - built before
        await self._relister.complete.wait()
        await part()

    async def _serve_health(self) -> None:
        app = health_app(
            alive=self._liveness.probe,
            ready=self._ready,
            registry=self._metrics.registry,
            fleet=lambda: self._loop.samples() if self._loop else (),
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, self._settings.listen_host, self._settings.listen_port).start()

    def _ready(self) -> Probe:
        """A standby is ready to take over; a leader when its cache is complete."""
        if self._relister is not None:
            return Probe() if self._relister.complete.is_set() else Probe(self._relister.problem)
        return Probe(NOT_REACHED if self._elector is None else self._elector.unreachable())

    def _count_request(self, verb: str, resource: str, code: str, seconds: float) -> None:
        self._metrics.api_requests.labels(verb, resource, code).inc()


async def _has_keda(kube: KubeApi) -> bool:
    """Whether ScaledObjects exist in this cluster; assumed when it cannot be told."""
    try:
        await kube.resource_of(SCALED_OBJECTS.group, SCALED_OBJECTS.kind)
    except NotFound:
        return False
    except KubeError:
        return True
    return True


async def _keep(elector: LeaseElector, lost: asyncio.Event) -> None:
    """Renew the Lease; say so when it is lost, or when nobody renews it any more."""
    try:
        await elector.keep()
    except LeaseLost:
        lost.set()
    except Exception as error:  # noqa: BLE001 - whatever it is: who decides without a Lease is one of two
        log.error("the Lease is not renewed any more", cause=f"{type(error).__name__}: {error}")
        lost.set()
