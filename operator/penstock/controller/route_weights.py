"""The portable data plane: planned fallback shares and canaries as weights of users' HTTPRoutes, once a tick.

nothing decided, refused, or neither fallback nor canary --> the route stays as it is
Enforce --> weights as planned;   Observe --> all to the service, where weights were ours before

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
from penstock.controller.httproutes import HttpRoutes
from penstock.controller.revision_objects import Arm, arm_service_name
from penstock.controller.service_state import Outcome, ServiceState
from penstock.dataplane.gatewayapi.weights import CanaryWeight, split
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
        self._steered: set[ServiceKey] = set()
        self._tried: set[ServiceKey] = set()  # a canary has, or had, a place in the rule
        self._ratios: dict[ServiceKey, float] = {}  # of the fallback, as decided last

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
        for key in (self._steered | self._tried | self._ratios.keys()) - served.keys():
            self._steered.discard(key)
            self._tried.discard(key)
            self._ratios.pop(key, None)
            self._routes.forget(key)
        for spec in served.values():
            await self._set(spec, now)

    async def _set(self, spec: ServiceSpec, now: float) -> None:
        state, ref = self._states.get(spec.key), spec.routing.http_route
        if state is None or state.outcome is None or ref is None:
            return
        share, canary = state.outcome.fallback.value, self._canary(spec, state.outcome)
        enforced = canary is not None or (share is not None and share.enforced)
        if (share is None and canary is None) or not (enforced or spec.key in self._steered):
            state.gateway.problem = None
            return
        front, fallback = self._service_of(spec), self._fallback_of(spec)
        if front is None or (fallback is None and canary is None):
            return  # the conditions say which Service is missing
        if share is not None:
            self._ratios[spec.key] = share.active_ratio
        primary = front if canary is None else self._stable_of(spec, front, canary.service)
        weights = split(primary, fallback, self._ratios.get(spec.key, 0.0), canary)
        state.gateway.problem = await self._routes.set_weights(
            spec.key, ref, weights, primary=primary, now=now
        )
        if canary is not None:
            state.gateway.acknowledged = state.gateway.problem is None
        if enforced:
            self._steered.add(spec.key)
        elif state.gateway.problem is None:
            self._steered.discard(spec.key)

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

    def _fallback_of(self, spec: ServiceSpec) -> str | None:
        if spec.fallback is None:
            return None
        ref = spec.fallback.backend
        if ref.kind is BackendKind.SERVICE:
            return ref.name
        known = self._cache.services.get(ServiceKey(spec.key.namespace, ref.name))
        return None if known is None or known.spec is None else self._service_of(known.spec)
