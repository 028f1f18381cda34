"""The portable data plane: planned fallback shares as weights of users' HTTPRoutes, once a tick.

nothing decided, refused, or no fallback --> the route stays as it is
Enforce --> weights as planned;   Observe --> all to the service, where weights were ours before
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog

from penstock.controller.cache import FleetCache
from penstock.controller.httproutes import HttpRoutes
from penstock.controller.service_state import ServiceState
from penstock.dataplane.gatewayapi.weights import split
from penstock.model.spec import BackendKind, RoutingType, ServiceKey, ServiceSpec

log = structlog.get_logger(__name__)


class RouteWeights:
    """Keeps the weights of all services with routing.type GatewayAPI; problems go to their state."""

    def __init__(
        self,
        routes: HttpRoutes,
        cache: FleetCache,
        states: Mapping[ServiceKey, ServiceState],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._routes, self._cache, self._states, self._clock = routes, cache, states, clock
        self._steered: set[ServiceKey] = set()

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
        for key in self._steered - served.keys():
            self._steered.discard(key)
            self._routes.forget(key)
        for spec in served.values():
            await self._set(spec, now)

    async def _set(self, spec: ServiceSpec, now: float) -> None:
        state, ref = self._states.get(spec.key), spec.routing.http_route
        if state is None or state.outcome is None or ref is None:
            return
        share = state.outcome.fallback.value
        if share is None or not (share.enforced or spec.key in self._steered):
            state.gateway.problem = None
            return
        primary, fallback = self._service_of(spec), self._fallback_of(spec)
        if primary is None or fallback is None:
            return  # the conditions say which Service is missing
        weights = split(primary, fallback, share.active_ratio)
        state.gateway.problem = await self._routes.set_weights(
            spec.key, ref, weights, primary=primary, now=now
        )
        if share.enforced:
            self._steered.add(spec.key)
        elif state.gateway.problem is None:
            self._steered.discard(spec.key)

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
