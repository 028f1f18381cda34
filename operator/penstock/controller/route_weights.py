"""The portable data plane: planned fallback shares and canaries as weights of users' HTTPRoutes, once a tick.

nothing decided, or neither fallback nor canary --> the route stays as it is
Enforce --> weights as planned
Observe, fallback refused or removed --> all to the service, once, where weights were ours before

A fallback about which nothing is decided keeps its share while a canary moves. The rule's weights are there
when the API server has them: how fast the user's gateway follows nobody tells.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog

from penstock.controller.cache import FleetCache
from penstock.controller.endpoints import EndpointCache
from penstock.controller.given_shares import GivenShares
from penstock.controller.httproutes import HttpRoutes
from penstock.controller.revision_objects import Arm, arm_service_name
from penstock.controller.service_state import Outcome, ServiceState
from penstock.dataplane.gatewayapi.weights import CanaryWeight, split
from penstock.kube.api import KubeError
from penstock.model.spec import BackendKind, Mode, RoutingType, ServiceKey, ServiceSpec
from penstock.policy.modes import weaker

log = structlog.get_logger(__name__)


class RouteWeights:
    """Keeps the weights of all services with routing.type GatewayAPI; problems go to their state."""

    def __init__(
        self,
        routes: HttpRoutes,
        cache: FleetCache,
        states: Mapping[ServiceKey, ServiceState],
        endpoints: EndpointCache | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._routes, self._cache, self._states, self._clock = routes, cache, states, clock
        self._endpoints = endpoints
        self._shares = GivenShares(routes, cache)
        self._tried: set[ServiceKey] = set()  # a canary has, or had, a place in the rule

    async def run(self, every_seconds: float) -> None:
        """Repeat until cancelled; a failed round is logged and followed by the next."""
        while True:
            try:
                await self.once(self._clock())
            except Exception:
                # Routes keep their weights; the task must outlive a defect.
                log.exception("weights could not be set")
            await asyncio.sleep(every_seconds)

    async def once(self, now: float) -> None:
        """Bring every route to what was decided last; `now` is Unix seconds."""
        served = {
            known.key: known.spec
            for known in self._cache.services.values()
            if known.spec is not None and known.spec.routing_type is RoutingType.GATEWAY_API
        }
        unreadable = {known.key for known in self._cache.services.values() if known.spec is None}
        for key in (self._tried | self._shares.keys()) - served.keys() - unreadable:
            self._tried.discard(key)
            self._shares.forget(key)
            self._routes.forget(key)
        for spec in served.values():
            await self._set(spec, now)

    async def _set(self, spec: ServiceSpec, now: float) -> None:
        state, ref = self._states.get(spec.key), spec.routing.http_route
        if state is None or state.outcome is None or ref is None:
            self._shares.before_decided(self._cache.services[spec.key])
            return
        front, canary = self._service_of(spec), self._canary(spec, state.outcome)
        fallback = self._fallback_of(spec, front)
        try:
            share = await self._shares.weight(spec, ref, state.outcome, fallback, now)
        except KubeError as error:
            name = f"HTTPRoute {spec.key.namespace}/{ref.name}"
            state.gateway.problem = ("RouteNotWritten", f"{name} cannot be read: {error.message}")
            return
        if canary is None and not share.moves:
            state.gateway.problem = None
            return
        if front is None:
            return  # the conditions say which Service is missing
        primary = front if canary is None else self._stable_of(spec, front, canary.service)
        weights = dict.fromkeys(share.ended, 0) | split(primary, fallback, share.ratio, canary)
        state.gateway.problem = await self._routes.set_weights(
            spec.key, ref, weights, primary=primary, now=now
        )
        if canary is not None:
            state.gateway.acknowledged = state.gateway.problem is None
        if state.gateway.problem is None:
            self._shares.given_back(spec.key, share.ended)

    def _canary(self, spec: ServiceSpec, outcome: Outcome) -> CanaryWeight | None:
        """Return the canary's place in the rule; None where it is not ours to say."""
        plan, service = outcome.canary.value, arm_service_name(spec.key, Arm.CANARY)
        if plan is not None and plan.routed:
            self._tried.add(spec.key)
            return CanaryWeight(service, plan.weight_percent)
        if spec.canary is None or weaker(spec.mode, spec.canary.mode) is not Mode.ENFORCE:
            # What is over, or observed only, gives its weight back once.
            was = spec.key in self._tried and spec.mode is not Mode.PAUSED
            self._tried -= {spec.key} if was else set()
            return CanaryWeight(service, 0) if was else None
        # After a restart as well: what a canary had when it ended is not left to it. But nothing is known
        # before a decision.
        return None if plan is None else CanaryWeight(service, 0)

    def _stable_of(self, spec: ServiceSpec, front: str, canary: str) -> str:
        """Return the Service of the stable arm: the one in front, unless that leads to the canary as well."""
        if self._endpoints is None or spec.canary is None or spec.canary.target is None:
            return front
        namespace = spec.key.namespace
        behind, tried = (
            {
                each.pod
                for port in self._endpoints.ports(namespace, service)[:1]
                for each in self._endpoints.of(namespace, service, port)
            }
            for service in (front, canary)
        )
        return arm_service_name(spec.key, Arm.STABLE) if behind & tried else front

    def _service_of(self, spec: ServiceSpec) -> str | None:
        found = self._cache.services_in_front(spec)
        return found[0] if len(found) == 1 else None

    def _fallback_of(self, spec: ServiceSpec, front: str | None) -> str | None:
        """Return the Service of the fallback; None where there is none beside the one in front."""
        if spec.fallback is None:
            return None
        ref = spec.fallback.backend
        if ref.kind is BackendKind.SERVICE:
            return ref.name if ref.name != front else None
        known = self._cache.services.get(ServiceKey(spec.key.namespace, ref.name))
        found = None if known is None or known.spec is None else self._service_of(known.spec)
        return found if found != front else None
