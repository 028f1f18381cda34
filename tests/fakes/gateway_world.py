"""The walked-time world with gateways in front: they admit up to their limit, count, and hold streams."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fakes.world import TICK, WINDOW, World, chat
from penstock.controller.draining import Drainer
from penstock.controller.endpoints import EndpointCache
from penstock.controller.fallbacks import Fallbacks
from penstock.controller.gateway_ports import ExternalGateways
from penstock.controller.scaling_news import ScalingNews
from penstock.controller.traffic import TrafficParts, TrafficTask
from penstock.model.spec import ServiceKey
from penstock.model.traffic import ClassCount, GatewayGroup, GatewayReading, RoutePlan, RouteState

CHAT = ServiceKey("prod", "chat")


@dataclass
class PlayedGateways:
    """A data plane that keeps what was published and tells what the test has set."""

    published: dict[str, Sequence[RouteState]] = field(default_factory=dict)
    reading: GatewayReading | None = None
    reachable: bool = True
    answering: int = 2  # proxies whose statistics are read
    rejected: dict[ServiceKey, str] = field(default_factory=dict)

    def publish(self, group: str, routes: Sequence[RouteState]) -> None:
        self.published[group] = routes

    def groups(self) -> Mapping[str, GatewayGroup]:
        count = 2 if self.reachable else 0
        return {name: GatewayGroup(name, count, count, self.rejected) for name in self.published}

    async def read(self, now: float) -> Mapping[ServiceKey, GatewayReading]:
        return {} if self.reading is None else {CHAT: replace(self.reading, at=now, proxies=self.answering)}

    @property
    def route(self) -> RouteState:
        (route,) = self.published["penstock"]
        return route


class RememberedGateways(ExternalGateways):
    """Ports of gateways whose agents have what an operator before this one stored."""

    def __init__(self, published: Mapping[str, Sequence[RouteState]]) -> None:
        super().__init__()
        # As stored: without the limit of the whole pool.
        self._stored = {
            group: [replace(route.plan, limit=None) for route in routes]
            for group, routes in published.items()
        }

    def stored(self) -> Mapping[str, Sequence[RoutePlan]]:
        return self._stored


class GatewayWorld(World):
    """`World` whose service is served by gateways; `streams` are requests in flight by pod."""

    def __init__(self, **arguments: Any) -> None:
        self.endpoints = EndpointCache()
        self.gateways = PlayedGateways()
        self.streams: dict[str, float] = {}
        self.unready: set[str] = set()
        self.shed = 0.0
        self.offered = 0.0
        super().__init__(**arguments)

    def restart_operator(self) -> None:
        super().restart_operator()
        parts = self.loop._parts
        fallbacks = Fallbacks(self.cache, self.loop.states, self.endpoints)
        context = replace(parts.context, fallbacks=fallbacks)
        self.loop._parts = replace(parts, context=context, gateways_serve=True)
        self.traffic = TrafficTask(
            TrafficParts(
                plane=self.gateways,
                endpoints=self.endpoints,
                cache=self.cache,
                fallbacks=fallbacks,
                drainer=Drainer(parts.scale, ScalingNews(parts.status, parts.metrics)),
                ports=RememberedGateways(self.gateways.published),
                window_seconds=WINDOW,
            ),
            self.loop.states,
            clock=lambda: self.now,
        )

    async def seconds(self, count: int) -> None:
        """Let the one-second task run `count` times, with a tick every 15 s, before them."""
        for index in range(count):
            if index % int(TICK) == 0:
                self._flow()
                self._watch()
                await self.loop.tick(self.now)
                await self.loop.statuses.settled()
                await self.tables.settled()
            self._serve(1.0)
            self._watch()
            await self.traffic.once(self.now)
            self.now += 1.0

    def _serve(self, seconds: float) -> None:
        """Count what comes and what the limit in force turns away."""
        rate = self.rate(self.now - self.began)
        can = self.ready * self.capacity_per_replica
        limited = bool(self.gateways.published) and self.gateways.route.plan.limit is not None
        self.offered += rate * seconds
        self.shed += max(0.0, rate - can) * seconds if limited else 0.0
        if limited:
            self.waiting = min(self.waiting, 3.0 * self.ready)
        self.gateways.reading = GatewayReading(
            at=self.now,
            proxies=2,
            in_flight=sum(self.streams.values()),
            classes={"default": ClassCount(self.offered, self.shed, 0.0)},
            by_pod=dict(self.streams),
        )

    def _watch(self) -> None:
        super()._watch()
        self.endpoints.see_service(
            {"metadata": {"namespace": "prod", "name": "chat"}, "spec": {"ports": [{"port": 8000}]}}
        )
        self.endpoints.see(
            {
                "metadata": {
                    "namespace": "prod",
                    "name": "chat-x",
                    "labels": {"kubernetes.io/service-name": "chat"},
                },
                "ports": [{"name": "", "port": 9000}],
                "endpoints": [
                    {
                        "addresses": [f"10.0.0.{index}"],
                        "conditions": {"ready": self._is_ready(pod.name)},
                        "targetRef": {"kind": "Pod", "name": pod.name},
                    }
                    for index, pod in enumerate(self.pods)
                ],
            }
        )

    def _is_ready(self, name: str) -> bool:
        return name not in self.unready and super()._is_ready(name)


def routed_chat(**replicas: Any) -> dict[str, Any]:
    """The spec of a service that gateways serve."""
    return chat(**replicas) | {"routing": {"type": "Envoy", "balancer": "LeastRequests"}}


def closed(routes: Collection[RouteState]) -> set[str]:
    """Return the pods that get no new requests."""
    return {each.pod for route in routes for each in route.endpoints if not each.serving}
