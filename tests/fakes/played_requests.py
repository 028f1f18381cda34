"""Requests on the pods of a played cluster, and the gateways in front: they send as was published, and count.

What an image is like is in `images`. A request is one of the gateways' cluster that it went by; where nobody
serves there, it has failed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fakes.canary_specs import SLOW
from fakes.played_cluster import NAMESPACE, PlayedCluster, PlayedPod
from penstock.model.spec import ServiceKey
from penstock.model.traffic import ArmCount, ClassCount, GatewayGroup, GatewayReading, RouteState

CHAT = ServiceKey(NAMESPACE, "chat")
EDGES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, math.inf)


@dataclass(frozen=True)
class Image:
    """What an engine of an image is like."""

    ttft_seconds: float = 0.18  # median
    error_ratio: float = 0.0


@dataclass
class Counted:
    """What one pod has counted."""

    requests: float = 0.0
    errors: float = 0.0
    ttft: Any = field(default_factory=lambda: np.zeros(len(EDGES)))


class PlayedRequests:
    """A data plane of two proxies for ``prod/chat``, and `rate` requests a second through it."""

    def __init__(self, cluster: PlayedCluster, *, rate: float, stream_seconds: float) -> None:
        self.cluster, self.rate, self.stream_seconds = cluster, rate, stream_seconds
        self.images: dict[str, Image] = {SLOW: Image(ttft_seconds=0.4)}
        self.random = np.random.default_rng(5)
        self.counted: dict[str, Counted] = {}
        self.offered, self.failed = 0.0, 0
        self.acknowledging = True
        self.published: dict[str, Sequence[RouteState]] = {}
        self.least_ready = 10**6  # replicas that got requests, both arms, since the first ones did
        self.weights: list[int] = []  # of the canary's route, second by second

    @property
    def route(self) -> RouteState | None:
        """Return what was published last of the service."""
        found = [route for routes in self.published.values() for route in routes]
        return found[0] if found else None

    @property
    def weight(self) -> int:
        route = self.route
        return route.plan.canary.weight_percent if route is not None and route.plan.canary is not None else 0

    def serve(self) -> None:
        route = self.route
        if route is None:
            return
        arms = [
            [
                self.cluster.pods[each.pod]
                for each in endpoints
                if each.serving and each.pod in self.cluster.pods
            ]
            for endpoints in (route.endpoints, route.canary_endpoints)
        ]
        stable, canary = ([pod for pod in arm if pod.is_ready(self.cluster.now)] for arm in arms)
        serving = {pod.name for pod in (*stable, *(canary if self.weight else ()))}
        if serving or self.least_ready < 10**6:
            self.least_ready = min(self.least_ready, len(serving))
        self.weights.append(self.weight)
        for _ in range(int(self.random.poisson(self.rate))):
            self.offered += 1
            cluster = "canary" if self.random.random() * 100 < self.weight else "stable"
            arm = canary if cluster == "canary" else stable
            if not arm:
                self.failed += 1
                continue
            self._answer(arm[int(self.random.integers(len(arm)))], cluster)

    def _answer(self, pod: PlayedPod, cluster: str) -> None:
        image = self.images.get(pod.image, Image())
        counted = self.counted.setdefault(pod.name, Counted())
        counted.requests += 1
        if self.random.random() < image.error_ratio:
            counted.errors += 1
            return
        ttft = image.ttft_seconds * math.exp(0.5 * self.random.standard_normal())
        counted.ttft += np.array(EDGES) >= ttft
        pod.streams.append((self.cluster.now + self.stream_seconds, cluster))

    def publish(self, group: str, routes: Sequence[RouteState]) -> None:
        self.published[group] = routes

    def groups(self) -> Mapping[str, GatewayGroup]:
        behind = frozenset() if self.acknowledging else frozenset({CHAT})
        return {name: GatewayGroup(name, 2, 2, {}, behind) for name in self.published}

    async def read(self, now: float) -> Mapping[ServiceKey, GatewayReading]:
        route = self.route
        if route is None:
            return {}
        both = [{each.pod for each in arm} for arm in (route.endpoints, route.canary_endpoints)]
        busy = {name: float(len(pod.streams)) for name, pod in self.cluster.pods.items()}
        stable, canary = (
            self._arm(pods, cluster) for pods, cluster in zip(both, ("stable", "canary"), strict=True)
        )
        reading = GatewayReading(
            at=now,
            proxies=2,
            in_flight=sum(busy.values()),
            classes={"": ClassCount(self.offered)},
            by_pod=busy,
        )
        if route.plan.canary is None:
            return {CHAT: reading}
        return {CHAT: replace(reading, stable_arm=stable, canary_arm=canary)}

    def _arm(self, pods: set[str], cluster: str) -> ArmCount:
        counted = [self.counted.get(name, Counted()) for name in pods]
        busy = [each for pod in self.cluster.pods.values() for each in pod.streams]
        streams = sum(by == cluster for _, by in busy)
        return ArmCount(
            sum(each.requests for each in counted), sum(each.errors for each in counted), float(streams)
        )
