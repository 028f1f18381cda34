"""The one-second task beside the tick: what was decided, as far as endpoints and ramps allow, now.

Reads the gateways' counters, moves limits towards what the tick decided, publishes routes with the
endpoints of this moment, and carries drains on. It never decides: without a tick nothing new comes.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import structlog

from penstock.controller.arm_endpoints import stable_backend
from penstock.controller.cache import FleetCache
from penstock.controller.canary_routes import canary_route, observe_published
from penstock.controller.departed_routes import DepartedRoutes
from penstock.controller.draining import Drainer
from penstock.controller.endpoints import EndpointCache
from penstock.controller.fallbacks import Fallbacks, backend_of
from penstock.controller.gateway_ports import GatewayPorts
from penstock.controller.route_plans import fallback_service, route_state
from penstock.controller.service_state import Outcome, ServiceState
from penstock.controller.step import replicas_to_write
from penstock.dataplane.api import DataPlane
from penstock.dataplane.envoy.ports import NoPortError
from penstock.model.spec import RoutingType, ServiceKey, ServiceSpec
from penstock.model.traffic import GatewayGroup, RouteState
from penstock.policy.gateway_load import bypassing, observe_gateway

log = structlog.get_logger(__name__)
EVERY_SECONDS = 1.0
Problem = tuple[str, str]  # reason, message
NO_GATEWAY = (
    "GatewayUnreachable",
    "no gateway has asked for its configuration in the last half minute: see the pods of Deployment "
    "penstock-gateway; requests keep the way they have",
)


@dataclass(frozen=True, slots=True)
class TrafficParts:
    """What the task works with."""

    plane: DataPlane
    endpoints: EndpointCache
    cache: FleetCache
    fallbacks: Fallbacks
    drainer: Drainer
    ports: GatewayPorts
    window_seconds: float
    dry_run: bool = False


class TrafficTask:
    """Follows the fleet's decisions every second."""

    def __init__(
        self,
        parts: TrafficParts,
        states: Mapping[ServiceKey, ServiceState],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._parts, self._states, self._clock = parts, states, clock
        self._published: frozenset[str] = frozenset()
        self._departed = DepartedRoutes(parts.endpoints)

    async def run(self) -> None:
        """Repeat until cancelled; a failed round is logged and followed by the next."""
        while True:
            began = time.monotonic()
            try:
                await self.once(self._clock())
            except Exception:
                # Gateways keep what they have; the task must outlive a defect.
                log.exception("gateways could not be told")
            await asyncio.sleep(max(0.05, EVERY_SECONDS - (time.monotonic() - began)))

    async def once(self, now: float) -> None:
        """Read, drain, publish."""
        served = {
            known.key: known.spec
            for known in self._parts.cache.services.values()
            if known.spec is not None and known.spec.routing_type is RoutingType.ENVOY
        }
        await self._read(now)
        before = self._parts.plane.groups()
        routes: dict[str, list[RouteState]] = defaultdict(list)
        undecided: set[str] = set()
        for key, spec in served.items():
            group = self._parts.ports.group_of(key)
            state = self._states.get(key)
            if state is None or state.outcome is None:
                # Told without it, its gateways would drop what they have of it from before a restart.
                undecided.add(group)
                continue
            if not self._parts.dry_run:
                gateways = before.get(group)
                acknowledged = gateways is not None and gateways.acknowledged(key)
                await self._drain(spec, state, now, acknowledged=acknowledged)
            try:
                route = self._route(group, spec, state, now)
            except NoPortError as error:
                state.gateway.problem = ("NoGatewayPort", str(error))
                continue
            if route is not None:
                routes[group].append(route)
                if state.canary is not None or state.gateway.canary is not None:
                    observe_published(state.gateway, route, before.get(group), key)
        unreadable = {known.key for known in self._parts.cache.services.values() if known.spec is None}
        kept = self._departed.beside(routes, served=served.keys(), unreadable=unreadable, now=now)
        told = {group: routes[group] for group in {*routes, *kept, *self._published} - undecided}
        for group, states in told.items():
            self._parts.plane.publish(group, [*states, *kept.get(group, ())])
        self._published = frozenset({*routes, *kept})
        self._notice(served, unreadable, told, now)

    async def _read(self, now: float) -> None:
        for key, reading in (await self._parts.plane.read(now)).items():
            state = self._states.get(key)
            if state is not None:
                state.gateway.memory = observe_gateway(
                    state.gateway.memory, reading, window_seconds=self._parts.window_seconds
                )

    async def _drain(self, spec: ServiceSpec, state: ServiceState, now: float, *, acknowledged: bool) -> None:
        outcome = state.outcome
        pool = outcome.seen.pool if outcome else None
        workload = self._parts.cache.workloads.get((spec.key.namespace, spec.target.kind, spec.target.name))
        if outcome is None or pool is None or workload is None:
            return
        if workload.pool_since(state).target != pool.target:
            # Lowered a moment ago, or by another hand: victims counted from what the tick saw would be the
            # survivors, all of them where half were to go.
            return
        wanted = replicas_to_write(outcome, state)
        if wanted is None or wanted >= pool.target:
            if not state.gateway.drain.victims:
                return
            wanted = pool.target
        selector = workload.label_selector
        await self._parts.drainer.step(outcome, state, selector, wanted, now, acknowledged=acknowledged)

    def _route(self, group: str, spec: ServiceSpec, state: ServiceState, now: float) -> RouteState | None:
        """Return the route of a service; None where it has no Service or no port yet. Raises NoPortError."""
        backend = backend_of(spec, self._parts.cache, self._parts.endpoints)
        port = self._parts.ports.listen_port(group, spec.key)
        if state.outcome is None or backend is None or port is None:
            return None
        fallback, endpoints = self._parts.fallbacks.backend(spec), self._parts.endpoints
        backend = stable_backend(spec, backend, endpoints)
        canary = canary_route(state.outcome, state.gateway, backend, endpoints, now)
        return route_state(
            state.outcome, state, backend, fallback, endpoints, listen_port=port, now=now, canary=canary
        )

    def _notice(
        self,
        served: Mapping[ServiceKey, ServiceSpec],
        unreadable: Collection[ServiceKey],
        told: Mapping[str, list[RouteState]],
        now: float,
    ) -> None:
        """Keep up what gateways need in the cluster; keep what hinders them, for the conditions."""
        groups = self._parts.plane.groups()
        reached = {
            route.plan.key
            for name, states in told.items()
            if (group := groups.get(name)) is not None and 0 < group.proxies == group.current
            for route in states
        }
        plans = {group: [each.plan for each in states] for group, states in told.items() if states}
        existing = {*served, *unreadable}
        hindered = self._parts.ports.follow(plans, existing, reached=reached, now=now)
        # Their engines serve what others spill too: counted at another listener, it bypasses nothing.
        helping = {fallback_service(spec) for spec in served.values()}
        for key in served:
            state = self._states.get(key)
            if state is not None:
                group = groups.get(self._parts.ports.group_of(key))
                state.gateway.proxies = group.proxies if group is not None else 0
                problem = hindered.get(key) or _problem(key, group)
                if problem is None and key not in helping:
                    problem = _bypassed(state.outcome)
                state.gateway.problem = problem


def _problem(key: ServiceKey, group: GatewayGroup | None) -> Problem | None:
    """Return why the gateways of a service do not do as decided; None where they do."""
    if group is None or not group.proxies:
        return NO_GATEWAY
    rejected = group.rejected.get(key)
    return None if rejected is None else ("ConfigurationRejected", rejected)


def _bypassed(outcome: Outcome | None) -> Problem | None:
    """Return that load reaches the engines past the gateways; None where none is known to."""
    if outcome is None or outcome.rates is None or outcome.seen.load.offered_rate.value is None:
        return None
    said = bypassing(outcome.rates, outcome.seen.load.arrival_rate)
    return ("GatewayBypassed", said) if said else None
