"""A service under load with revisions that are tried: everything outside of the operator is played.

Requests come at `rate`, Poisson, and go where the published route says; a stream lasts `stream_seconds` and
belongs to a pod. What an image is like is in `images`. Time moves only by `seconds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fakes.canary_specs import CRASHING, inference_service, owned
from fakes.played_cluster import PlayedCluster
from fakes.played_requests import EDGES, Counted, PlayedRequests
from fakes.traffic import LimitedCapacity
from fakes.world import TICK, WINDOW
from penstock.controller.adopted_arms import AdoptedArms
from penstock.controller.apply import ScaleWriter
from penstock.controller.cache import FleetCache
from penstock.controller.canaries import Canaries
from penstock.controller.canary_actions import CanaryActions, CanaryParts
from penstock.controller.canary_counters import CanaryCounters
from penstock.controller.canary_step import CanaryStep
from penstock.controller.draining import Drainer
from penstock.controller.endpoints import EndpointCache
from penstock.controller.fallbacks import Fallbacks
from penstock.controller.gateway_ports import ExternalGateways
from penstock.controller.loop import ControlLoop, LoopParts
from penstock.controller.revisions import RevisionObjects
from penstock.controller.scaling_news import ScalingNews
from penstock.controller.show import StatusWriter
from penstock.controller.step import StepContext
from penstock.controller.traffic import TrafficParts, TrafficTask
from penstock.kube.events import EventRecorder
from penstock.metrics_source.arms import Arm, ArmsRead, ArmsWanted
from penstock.metrics_source.identity import SeriesSettings, Watched
from penstock.model.canary_counts import ArmReading, Histogram, PodCounters
from penstock.model.observation import Load
from penstock.model.reading import Reading
from penstock.model.spec import ServiceKey
from penstock.policy.beliefs import LoopTimes
from penstock.telemetry.metrics import OperatorMetrics


class CanaryWorld(PlayedRequests):
    """`spec` is that of the InferenceService ``prod/chat``."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        *deployments: Mapping[str, Any],
        rate: float = 30.0,
        stream_seconds: float = 6.0,
    ) -> None:
        self.now = 1_000_000.0
        super().__init__(PlayedCluster(now=self.now), rate=rate, stream_seconds=stream_seconds)
        self.cluster.crashing.add(CRASHING)
        self.silent: set[Arm] = set()
        for body in deployments:
            self.cluster.put(body)
        self.cluster.put(inference_service(spec))
        self.cluster.reconcile()
        self.restart_operator()

    def restart_operator(self) -> None:
        """Begin a new operator process: nothing is remembered but what the cluster holds."""
        cache, endpoints = FleetCache(), EndpointCache()
        self.cache, self.endpoints = cache, endpoints
        times = LoopTimes(tick_seconds=TICK, rate_window_seconds=WINDOW)
        kube: Any = self.cluster
        metrics = OperatorMetrics()
        self.shown = StatusWriter(
            kube, EventRecorder(kube, instance="t", monotonic=lambda: self.now), metrics
        )
        arms, revisions = AdoptedArms(kube, cache), RevisionObjects(kube, cache)
        counters = PlayedCounters(self, cache, endpoints)
        parts = CanaryParts(kube, cache, revisions, arms, self.shown, metrics)
        scale = ScaleWriter(kube, _nothing_in_flight)
        states: dict[ServiceKey, Any] = {}
        fallbacks = Fallbacks(cache, states, endpoints)
        context = StepContext(
            cache, SolvedTables(), times, fallbacks, CanaryStep(cache, endpoints, times)  # type: ignore[arg-type]
        )  # fmt: skip
        self.loop = ControlLoop(
            LoopParts(
                context=context,
                collector=self,  # type: ignore[arg-type] - its two calls are played below
                scale=scale,
                status=self.shown,
                metrics=metrics,
                pods_identify=True,
                gateways_serve=True,
                canaries=Canaries(counters, CanaryActions(parts)),
            ),
            states,
            clock=lambda: self.now,
        )
        self.traffic = TrafficTask(
            TrafficParts(
                plane=self,  # type: ignore[arg-type] - the gateways are played below
                endpoints=endpoints,
                cache=cache,
                fallbacks=fallbacks,
                drainer=Drainer(scale, ScalingNews(self.shown, metrics)),
                ports=ExternalGateways(),
                window_seconds=WINDOW,
            ),
            states,
            clock=lambda: self.now,
        )

    async def seconds(self, count: int) -> None:
        """Let the one-second task run `count` times, with a tick every 15 s before it."""
        for _ in range(count):
            self.cluster.now = self.now
            self.cluster.reconcile()
            self.cluster.feed(self.cache, self.endpoints)
            if int(self.now) % int(TICK) == 0:
                await self.loop.tick(self.now)
                await self.loop.statuses.settled()
                await self.shown.events.settled()
                self.cluster.feed(self.cache, self.endpoints)
            await self.traffic.once(self.now)
            self.serve()
            self.now += 1.0

    async def until(self, holds: Callable[[], bool], *, within: int) -> int:
        """Let time pass until `holds`; how many seconds it took."""
        for second in range(within):
            if holds():
                return second
            await self.seconds(1)
        raise AssertionError(f"not within {within} s: {self.status.get('canary')} {self.healthy}")

    @property
    def status(self) -> dict[str, Any]:
        body = self.cluster.objects.get(("InferenceService", "chat"), {})
        return dict(body.get("status") or {})

    @property
    def phase(self) -> str:
        return str((self.status.get("canary") or {}).get("phase", ""))

    @property
    def healthy(self) -> tuple[str, str, str]:
        """Return status, reason and message of the condition CanaryHealthy."""
        found = [each for each in self.status.get("conditions", ()) if each["type"] == "CanaryHealthy"]
        return tuple(found[0][name] for name in ("status", "reason", "message")) if found else ("", "", "")

    def annotate(self, command: str | None) -> None:
        """Set or remove the annotation that commands a canary."""
        metadata = {"name": "chat", "annotations": {"serving.penstock.dev/canary": command}}
        self.cluster.put({"kind": "InferenceService", "metadata": metadata})

    def change(self, **spec: Any) -> None:
        """Change fields of the InferenceService's spec."""
        self.cluster.put({"kind": "InferenceService", "metadata": {"name": "chat"}, "spec": spec})

    def streams_of(self, deployment: str) -> int:
        """Return how many streams the pods of a Deployment serve."""
        return sum(len(p.streams) for p in self.cluster.pods.values() if p.deployment == deployment)

    # Prometheus.

    async def collect(self, services: Sequence[Watched], *, at: float) -> dict[ServiceKey, Load]:
        load = Load(
            arrival_rate=Reading(self.rate),
            queue_growth=Reading(0.0),
            waiting=Reading(0.0),
            running=Reading(5.0),
            input_token_rate=Reading(self.rate * 1155.0),
            output_token_rate=Reading(self.rate * 211.0),
            ttft={0.95: Reading(0.3)},
            reporting_pods=Reading(100.0),
            sample_age_seconds=Reading(5.0),
        )
        return {each.key: load for each in services}

    async def rate_history(self, *_: object, **__: object) -> Mapping[ServiceKey, Any]:
        return {}


class PlayedCounters(CanaryCounters):
    """Reads what the pods of the world have counted; a silent arm gives nothing."""

    def __init__(self, world: CanaryWorld, cache: FleetCache, endpoints: EndpointCache) -> None:
        super().__init__(world.cluster, cache, None, SeriesSettings(), endpoints)  # type: ignore[arg-type]
        self._world = world

    async def read(self, wanted: Sequence[ArmsWanted], now: float) -> Mapping[ServiceKey, ArmsRead]:
        found = {}
        for each in wanted:
            stable, canary = (self._arm(each, arm, now) for arm in Arm)
            found[each.key] = ArmsRead(stable, canary, each.errors_from)
        return found

    def _arm(self, wanted: ArmsWanted, arm: Arm, now: float) -> ArmReading | None:
        if arm in self._world.silent:
            return None
        pods = []
        for name in sorted(wanted.pods(arm)):
            counted = self._world.counted.get(name, Counted())
            ttft = Histogram(EDGES, tuple(map(float, counted.ttft)))
            pods.append(PodCounters(name, counted.requests, counted.errors, ttft=ttft))
        return ArmReading(now, tuple(pods)) if pods else None


@dataclass(frozen=True)
class SolvedCapacity(LimitedCapacity):
    """18 requests a second a replica."""

    queue_limit: float = 3.0
    saturation_rate_per_second: float = 20.0
    unreachable: tuple[str, ...] = ()


class SolvedTables:
    """Every problem is solved at once."""

    pending = 0

    def get(self, _: object) -> SolvedCapacity:
        return SolvedCapacity()

    def failure(self, _: object) -> str:
        return ""


async def _nothing_in_flight(*_: object) -> Mapping[str, float]:
    return {}


async def serving(**arguments: Any) -> CanaryWorld:
    """Return an owned service that serves its first revision; what failed before that is forgotten."""
    world = CanaryWorld(owned(), **arguments)
    await world.until(lambda: world.healthy[1] == "NothingToTry", within=120)
    await world.seconds(30)
    world.failed, world.least_ready = 0, 10**6
    return world
