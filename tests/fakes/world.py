"""A small world in walked time: one service, its pods, its load, its Prometheus, its API server.

Pods take time to start, nodes are finite, queues grow when capacity is short. The loop under test is
the real one; only what is outside of the process is played here. Time moves only by `run`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from penstock.controller.apply import ScaleWriter
from penstock.controller.cache import FleetCache
from penstock.controller.loop import ControlLoop, LoopParts
from penstock.controller.show import StatusWriter
from penstock.controller.step import StepContext
from penstock.controller.tables import CapacityTables
from penstock.kube.api import (
    DEPLOYMENTS,
    EVENTS,
    PODS,
    Conflict,
    Forbidden,
    NotFound,
    PatchType,
    Resource,
    Scale,
)
from penstock.kube.events import EventRecorder
from penstock.metrics_source.identity import Watched
from penstock.model.observation import Load
from penstock.model.reading import Absence, Reading
from penstock.model.spec import ServiceKey
from penstock.policy.beliefs import LoopTimes
from penstock.telemetry.metrics import OperatorMetrics

TICK, WINDOW = 15.0, 60.0
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
MISSING = Reading.missing(Absence.QUERY_FAILED, "Prometheus cannot be reached")


@dataclass
class FakePod:
    name: str
    asked_at: float
    ready_at: float | None  # None: no node has room
    needs_node: bool = False


@dataclass
class World:
    """One Deployment ``prod/chat`` under load.

    `rate` is requests a second at a time; `startup(n)` is (seconds, needs a new node) of the n-th
    pod ever started; `room` is how many pods fit on the nodes.
    """

    rate: Callable[[float], float]
    spec: dict[str, Any]
    target: int = 2
    startup: Callable[[int], tuple[float, bool]] = lambda _: (60.0, False)
    room: int = 1000
    seed: int = 1
    now: float = 1_000_000.0
    input_tokens: float = 1155.0
    output_tokens: float = 211.0
    capacity_per_replica: float = 19.0  # what a replica really serves, 1/s
    prometheus_up: bool = True
    forbidden: bool = False
    hpa: dict[str, Any] | None = None

    status: dict[str, Any] = field(default_factory=dict)
    status_writes: list[float] = field(default_factory=list)
    events: list[tuple[float, str, str]] = field(default_factory=list)
    scale_writes: list[tuple[float, int]] = field(default_factory=list)
    breaches: list[float] = field(default_factory=list)
    history: list[tuple[float, float, int, int]] = field(default_factory=list)  # time, rate, target, ready

    def __post_init__(self) -> None:
        self.began = self.now
        self.started = 0
        self.version = 100
        self.generation = 1
        self.spec_generation = 1
        self.waiting = 0.0
        self.served: list[float] = [self.rate(0.0) * TICK] * 8
        self.waits: list[float] = [0.0] * 8
        self.random = np.random.default_rng(self.seed)
        self.pods: list[FakePod] = []
        self.gone: list[FakePod] = []  # by the last scale-down
        self.costs: dict[str, str | None] = {}
        self.costed_at: dict[str, float] = {}
        self.costs_before: dict[str, str | None] = {}  # the second in which they were written
        for _ in range(self.target):
            self._start(ready_at=self.now)
        self.restart_operator()

    # The world.

    def restart_operator(self) -> None:
        """Begin a new operator process: nothing is remembered but what the cluster holds."""
        cache = FleetCache()
        self.cache = cache
        times = LoopTimes(tick_seconds=TICK, rate_window_seconds=WINDOW)
        self.metrics = OperatorMetrics()
        self.tables = CapacityTables(lambda: ThreadPoolExecutor(1))
        recorder = EventRecorder(self, instance="test", monotonic=lambda: self.now)
        self.shown = StatusWriter(self, recorder, self.metrics)
        self.loop = ControlLoop(
            LoopParts(
                context=StepContext(cache, self.tables, times),
                collector=self,  # type: ignore[arg-type] - the collector's two calls are played below
                scale=ScaleWriter(self, self._in_flight),
                status=self.shown,
                metrics=self.metrics,
                pods_identify=False,
            ),
            clock=lambda: self.now,
        )

    async def run(self, seconds: float) -> None:
        """Let time pass, one tick after the other."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self._flow()
            self._watch()
            await self.loop.tick(self.now)
            await self.tables.settled()
            await self.loop.statuses.settled()
            await self.shown.events.settled()
            self.now += TICK

    @property
    def ready(self) -> int:
        return sum(pod.ready_at is not None and pod.ready_at <= self.now for pod in self.pods)

    def scale_by_hand(self, replicas: int) -> None:
        """What ``kubectl scale`` does."""
        self._set_target(replicas)

    def condition(self, kind: str) -> dict[str, Any]:
        return next(each for each in self.status["conditions"] if each["type"] == kind)

    def _start(self, ready_at: float | None = None) -> None:
        seconds, needs_node = self.startup(self.started)
        fits = len([pod for pod in self.pods if pod.ready_at is not None]) < self.room
        if ready_at is None and fits:
            ready_at = self.now + seconds
        self.pods.append(FakePod(f"chat-{self.started}", self.now, ready_at if fits else None, needs_node))
        self.started += 1

    def _is_ready(self, name: str) -> bool:
        pod = next(each for each in self.pods if each.name == name)
        return pod.ready_at is not None and pod.ready_at <= self.now

    def _set_target(self, replicas: int) -> None:
        """Remove as a ReplicaSet does: unready pods first, then the lowest deletion cost it has heard of.

        Its watch of the pods may be behind: what was annotated in this second it does not know yet.
        """
        self.version += 1
        self.generation += 1
        self.target = replicas
        while len(self.pods) < replicas:
            self._start()
        if replicas < len(self.pods):
            ranked = sorted(
                self.pods,
                key=lambda pod: (self._is_ready(pod.name), self._known_cost(pod.name), -pod.asked_at),
            )
            excess = len(ranked) - replicas
            self.gone, self.pods = ranked[:excess], ranked[excess:]
        self.pods.sort(key=lambda pod: math.inf if pod.ready_at is None else pod.ready_at)

    def _known_cost(self, name: str) -> float:
        known = self.costs if self.costed_at.get(name, 0.0) < self.now else self.costs_before
        return float(known.get(name) or 0)

    def _flow(self) -> None:
        """Requests of one tick: what is ready serves, the rest waits."""
        rate = self.rate(self.now - self.began)
        arrived = float(self.random.poisson(rate * TICK))
        can = self.ready * self.capacity_per_replica * TICK
        served = min(arrived + self.waiting, can)
        self.waiting += arrived - served
        self.served = [*self.served[1:], served]
        self.waits = [*self.waits[1:], self.waiting]
        if self.waiting > 4 * max(1, self.ready):
            self.breaches.append(self.now)
        self.history.append((self.now, rate, self.target, self.ready))

    def _watch(self) -> None:
        """What the watches would have shown by now."""
        self.cache.see_service(
            {
                "apiVersion": "serving.penstock.dev/v1alpha1",
                "kind": "InferenceService",
                "metadata": {
                    "namespace": "prod",
                    "name": "chat",
                    "uid": "u-1",
                    "generation": self.spec_generation,
                    "resourceVersion": str(self.version),
                },
                "spec": self.spec,
                "status": self.status,
            }
        )
        self.cache.see_workload("Deployment", self._deployment())
        if self.hpa is not None:
            self.cache.see_autoscaler("HorizontalPodAutoscaler", self.hpa)
        else:
            self.cache.forget_autoscaler("HorizontalPodAutoscaler", "prod", "chat")

    def _deployment(self) -> dict[str, Any]:
        return {
            "metadata": {
                "namespace": "prod",
                "name": "chat",
                "uid": "d-1",
                "generation": self.generation,
                "resourceVersion": str(self.version),
            },
            "spec": {"replicas": self.target, "selector": {"matchLabels": {"app": "chat"}}},
            "status": {
                "observedGeneration": self.generation,
                "replicas": len(self.pods),
                "updatedReplicas": len(self.pods),
                "readyReplicas": self.ready,
            },
        }

    # Prometheus.

    async def collect(self, services: Sequence[Watched], *, at: float) -> dict[ServiceKey, Load]:
        if not self.prometheus_up:
            gone = Load(arrival_rate=MISSING, queue_growth=MISSING, waiting=MISSING, running=MISSING)
            return {each.key: gone for each in services}
        window = int(WINDOW / TICK)
        rate = sum(self.served[-window:]) / WINDOW
        growth = (self.waits[-1] - self.waits[-window]) / (WINDOW - TICK)
        wait = self.waiting / max(1e-9, self.ready * self.capacity_per_replica)
        tpot = 0.012 * (1 + rate / max(1, self.ready) / 20.0)
        noise = float(self.random.normal(1.0, 0.04))
        load = Load(
            arrival_rate=Reading(rate),
            queue_growth=Reading(growth),
            waiting=Reading(self.waiting),
            running=Reading(rate * self.output_tokens * tpot),
            input_token_rate=Reading(rate * self.input_tokens),
            output_token_rate=Reading(rate * self.output_tokens),
            ttft={0.95: Reading((0.15 + wait) * noise)},
            tpot={0.95: Reading(tpot * 1.2 * noise)},
            reporting_pods=Reading(float(self.ready)),
            sample_age_seconds=Reading(5.0),
        )
        return {each.key: load for each in services}

    async def rate_history(
        self, services: Sequence[Watched], *, start: float, end: float, step: float
    ) -> Mapping[ServiceKey, Any]:
        return {}

    async def _in_flight(self, _: object, pods: Sequence[str], __: float) -> Mapping[str, float]:
        return {pod: float(index) for index, pod in enumerate(pods)}

    # The API server: as much of the port as the loop uses.

    async def get_scale(self, resource: Resource, namespace: str, name: str) -> Scale:
        if (resource, namespace, name) != (DEPLOYMENTS, "prod", "chat"):
            raise NotFound("not found", status=404)
        return Scale(self.target, len(self.pods), "app=chat", str(self.version))

    async def patch_scale(
        self, resource: Resource, namespace: str, name: str, *, replicas: int, resource_version: str
    ) -> Scale:
        if self.forbidden:
            raise Forbidden(
                'deployments.apps "chat" is forbidden: cannot patch resource "deployments/scale"', status=403
            )
        if resource_version != str(self.version):
            raise Conflict("the object has been modified", status=409)
        self._set_target(replicas)
        self.scale_writes.append((self.now, replicas))
        return Scale(replicas, len(self.pods), "app=chat", str(self.version))

    async def resource_of(self, group: str, kind: str) -> Resource:
        return DEPLOYMENTS

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = ""
    ) -> list[dict[str, Any]]:
        assert resource == PODS
        return [
            {
                "metadata": {"name": pod.name, "annotations": self._annotations(pod)},
                "status": {
                    "conditions": [
                        {
                            "type": "Ready",
                            "status": "True" if self._is_ready(pod.name) else "False",
                        },
                        {
                            "type": "PodScheduled",
                            "status": "False",
                            "reason": "Unschedulable",
                            "message": "0/3 nodes are available: insufficient nvidia.com/gpu",
                        }
                        if pod.ready_at is None or (pod.needs_node and self.now < pod.ready_at - 30)
                        else {"type": "PodScheduled", "status": "True"},
                    ]
                },
            }
            for pod in self.pods
        ]

    def _annotations(self, pod: FakePod) -> dict[str, str]:
        cost = self.costs.get(pod.name)
        return {DELETION_COST: cost} if cost else {}

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Any,
        *,
        subresource: str = "",
        patch_type: PatchType = PatchType.MERGE,
    ) -> dict[str, Any]:
        if resource == PODS:
            if self.costed_at.get(name, 0.0) < self.now:
                self.costs_before[name] = self.costs.get(name)
            self.costs[name] = body["metadata"]["annotations"][DELETION_COST]
            self.costed_at[name] = self.now
            return {}
        assert subresource == "status"
        self.status = _merged(self.status, body["status"])
        self.status_writes.append(self.now)
        self.version += 1
        return {}

    async def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> dict[str, Any]:
        assert resource == EVENTS
        self.events.append((self.now, body["reason"], body["note"]))
        return {}

    async def get(self, *_: object) -> dict[str, Any]:
        raise NotFound("not found", status=404)

    async def replace(self, *_: object) -> dict[str, Any]:
        raise NotFound("not found", status=404)


def _merged(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7386."""
    result = dict(old)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            result[name] = _merged(result.get(name) or {}, value)
        else:
            result[name] = value
    return result


def chat(**replicas: Any) -> dict[str, Any]:
    """The spec of the service under test; keyword arguments go to ``replicas``."""
    return {
        "mode": "Enforce",
        "workload": {
            "type": "Target",
            "targetRef": {"group": "apps", "kind": "Deployment", "name": "chat"},
            "serviceRef": {"name": "chat"},
        },
        "slo": {"ttft": {"p95": "500ms"}, "tpot": {"p95": "50ms"}},
        "engine": {"type": "VLLM", "profile": {"type": "Named", "name": "llama-3.1-8b-h100"}},
        "replicas": {"min": 1, "max": 12} | replicas,
    }
