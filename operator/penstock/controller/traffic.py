"""The one-second task beside the tick: what was decided, as far as endpoints and ramps allow, now.

Reads the gateways' counters, moves limits towards what the tick decided, publishes routes with the
endpoints of this moment, and carries drains on. It never decides: without a tick nothing new comes.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from penstock.controller.arm_endpoints import stable_backend
from penstock.controller.cache import FleetCache
from penstock.controller.canary_routes import canary_route, observe_published
from penstock.controller.closed_pods import Closed, all_know, closed_pods, helped_by
from penstock.controller.departed_routes import DepartedRoutes
from penstock.controller.draining import Drainer
from penstock.controller.endpoints import EndpointCache
from penstock.controller.fallbacks import Fallbacks, backend_of
from penstock.controller.gateway_ports import GatewayPorts
from penstock.controller.route_plans import fallback_service, route_state
from penstock.controller.service_state import Outcome, ServiceState
from penstock.controller.step import replicas_to_write
from penstock.controller.stopping import cancelled
from penstock.dataplane.api import DataPlane
from penstock.dataplane.envoy.ports import NoPortError
from penstock.model.spec import RoutingType, ServiceKey, ServiceSpec
from penstock.model.traffic import GatewayGroup, RoutePlan, RouteState
from penstock.policy.gateway_load import bypassing, observe_gateway

log = structlog.get_logger(__name__)
EVERY_SECONDS = 1.0
HELD_SECONDS = 60.0  # of a group after a start of ours, for a service that cannot be decided
DRAIN_PATIENCE_SECONDS = 0.3  # of a round; limits and endpoints wait no longer
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
        self._told: frozenset[ServiceKey] = frozenset()  # in the last round
        self._helped: Mapping[ServiceKey, Collection[ServiceKey]] = {}  # in the last round, by their fallback
        self._began_at: float | None = None  # of the first round
        self._departed = DepartedRoutes(parts.endpoints)
        self._recalled = False  # what was told before a restart
        self._drains: dict[ServiceKey, asyncio.Task[bool]] = {}

    async def run(self) -> None:
        """Repeat until cancelled; a failed round is logged and followed by the next."""
        try:
            while True:
                began = time.monotonic()
                try:
                    await self.once(self._clock())
                except Exception:
                    # Gateways keep what they have; the task must outlive a defect.
                    log.exception("gateways could not be told")
                await asyncio.sleep(max(0.05, EVERY_SECONDS - (time.monotonic() - began)))
        finally:
            for drain in self._drains.values():
                await cancelled(drain)

    async def once(self, now: float) -> None:
        """Read, drain, publish, and keep up what gateways need in the cluster."""
        served = {
            known.key: known.spec
            for known in self._parts.cache.services.values()
            if known.spec is not None and known.spec.routing_type is RoutingType.ENVOY
        }
        await self._read(now, served)
        before = self._parts.plane.groups()
        routes: dict[str, list[RouteState]] = defaultdict(list)
        undecidable = self._undecidable(served, now)
        undecided = self._undecided(served.keys() - undecidable)
        if not self._parts.dry_run:
            await self._drain(self._told_of(served, before, undecided), now)
        closed = closed_pods(self._states, served, now)
        portless: dict[ServiceKey, Problem] = {}
        failed: dict[str, Exception] = {}  # by service or group; what was published of it stays
        for key, spec in served.items():
            group = self._parts.ports.group_of(key)
            state = self._states.get(key)
            if state is None or state.outcome is None:
                continue
            try:
                route = self._route(group, spec, state, closed, now)
            except NoPortError as error:
                portless[key] = ("NoGatewayPort", str(error))
                continue
            except Exception as error:  # noqa: BLE001 - logged below, once for all
                failed[str(key)] = error
                continue
            if route is not None:
                routes[group].append(route)
                if state.canary is not None or state.gateway.canary is not None:
                    observe_published(state.gateway, route, before.get(group), key)
        unreadable = {known.key for known in self._parts.cache.services.values() if known.spec is None}
        self._recall(now)
        lasting = frozenset(self._parts.ports.tls_services()) - served.keys() - unreadable
        kept = self._departed.beside(
            routes, served=served.keys(), unreadable=unreadable, lasting=lasting, closed=closed, now=now
        )
        told = {group: routes[group] for group in {*routes, *kept, *self._published} - undecided}
        untold = set()
        for group, states in told.items():
            try:
                self._parts.plane.publish(group, [*states, *kept.get(group, ())])
            except Exception as error:  # noqa: BLE001 - logged below, once for all
                failed[group] = error
                untold.add(group)
        self._published = frozenset({*routes, *kept} - undecided - untold) | (self._published & untold)
        if failed:
            first = next(iter(failed.values()))
            log.error("not all gateways could be told", failed=sorted(failed), exc_info=first)
        keys = {route.plan.key for name, states in told.items() if name not in untold for route in states}
        reached = self._reached(keys, before)
        self._told = frozenset(keys)
        led = (route.plan for states in (*told.values(), *kept.values()) for route in states)
        self._helped = helped_by(led)
        frozen = {route.plan.key for states in kept.values() for route in states}
        existing = {*served, *unreadable} - (undecidable - frozen)  # theirs lead past the gateways
        plans = _plans(told, kept, existing | lasting)
        hindered = self._parts.ports.follow(plans, existing, reached=reached, now=now)
        self._notice(served, {**portless, **hindered})

    def _recall(self, now: float) -> None:
        """Take over the routes of before a restart: of what cannot be decided now, gateways keep them."""
        if not self._recalled and (stored := self._parts.ports.stored()) is not None:
            self._departed.recall(stored, now)
            self._recalled = True

    def _undecidable(self, served: Iterable[ServiceKey], now: float) -> set[ServiceKey]:
        """Return the services that a defect keeps from a first decision for longer than others may wait."""
        if self._began_at is None:
            self._began_at = now
        if now - self._began_at < HELD_SECONDS:
            return set()
        states = ((key, self._states.get(key)) for key in served)
        return {key for key, state in states if state is not None and state.defect and state.outcome is None}

    def _undecided(self, served: Iterable[ServiceKey]) -> set[str]:
        """Return the groups that are told nothing yet, because a service of theirs is still to be decided.

        Told without it, its gateways would drop what they have of it from before a restart of ours. In a
        group that was told before, it is new: the others go on, and it is told when it is decided.
        """
        groups = set()
        for key in served:
            state = self._states.get(key)
            if state is None or state.outcome is None:
                groups.add(self._parts.ports.group_of(key))
        return groups - self._published

    def _told_of(
        self,
        served: Mapping[ServiceKey, ServiceSpec],
        groups: Mapping[str, GatewayGroup],
        undecided: Collection[str],
    ) -> Iterator[tuple[ServiceSpec, ServiceState, bool]]:
        """Yield the services that may drain, and whether all gateways have which pods of each are closed.

        Not those of a group that is told nothing yet: its gateways would send on to the victims.
        """
        for key, spec in served.items():
            state, name = self._states.get(key), self._parts.ports.group_of(key)
            if state is not None and name not in undecided:
                yield spec, state, all_know(groups.get(name), key, self._helped.get(key, ()))

    async def _read(self, now: float, served: Collection[ServiceKey]) -> None:
        for key, reading in (await self._parts.plane.read(now)).items():
            state = self._states.get(key)
            if state is not None and key in served:  # what comes late by a departed route is not the load
                state.gateway.memory = observe_gateway(
                    state.gateway.memory, reading, window_seconds=self._parts.window_seconds
                )

    async def _drain(self, waiting: Iterable[tuple[ServiceSpec, ServiceState, bool]], now: float) -> None:
        """Carry drains on; (spec, state, whether all gateways have which of its pods are closed).

        Each lists pods and writes: one that the API server lets wait goes on beside the next rounds.
        """
        for spec, state, acknowledged in waiting:
            if spec.key not in self._drains and (
                step := self._next_step(spec, state, now, acknowledged=acknowledged)
            ):
                self._drains[spec.key] = asyncio.create_task(step, name="drain")
        if not self._drains:
            return
        done, _ = await asyncio.wait(self._drains.values(), timeout=DRAIN_PATIENCE_SECONDS)
        for key in [key for key, task in self._drains.items() if task in done]:
            if error := self._drains.pop(key).exception():
                log.error("a drain failed", service=str(key), exc_info=error)

    def _next_step(
        self, spec: ServiceSpec, state: ServiceState, now: float, *, acknowledged: bool
    ) -> Coroutine[Any, Any, bool] | None:
        """Return what carries on with the drain of a service; None where none is wanted or under way."""
        outcome = state.outcome
        pool = outcome.seen.pool if outcome else None
        workload = self._parts.cache.workload(spec.key.namespace, spec.target)
        if outcome is None or pool is None or workload is None or outcome.spec.target != spec.target:
            return None  # what was decided of another target says nothing about the pods of this one
        if workload.pool_since(state, spec.target).target != pool.target:
            # Lowered a moment ago, or by another hand: victims counted from what the tick saw would be the
            # survivors, all of them where half were to go.
            return None
        # Nothing is lowered by what an earlier tick decided; victims are opened again.
        wanted = None if state.defect else replicas_to_write(outcome, state)
        if wanted is None or wanted >= pool.target:
            if not state.gateway.drain.victims:
                return None
            wanted = pool.target
        selector = workload.label_selector
        return self._parts.drainer.step(outcome, state, selector, wanted, now, acknowledged=acknowledged)

    def _route(
        self, group: str, spec: ServiceSpec, state: ServiceState, closed: Closed, now: float
    ) -> RouteState | None:
        """Return the route of a service; None where it has no Service or no port yet. Raises NoPortError."""
        backend = backend_of(spec, self._parts.cache, self._parts.endpoints)
        port = self._parts.ports.listen_port(group, spec.key)
        if state.outcome is None or backend is None or port is None:
            return None
        fallback, endpoints = self._parts.fallbacks.backend(spec), self._parts.endpoints
        backend = stable_backend(spec, backend, endpoints)
        canary = canary_route(state.outcome, state.gateway, backend, endpoints, now)
        return route_state(
            state.outcome,
            state,
            backend,
            fallback,
            endpoints,
            listen_port=port,
            now=now,
            canary=canary,
            fallback_closed=closed.get(spec.key.namespace, ()),
        )

    def _reached(self, keys: Iterable[ServiceKey], before: Mapping[str, GatewayGroup]) -> set[ServiceKey]:
        """Return the services whose routes were told in the last round, and are in all gateways since.

        What changed in this round no proxy has said yet: asked now, a service whose endpoints move would
        never be there. Nor does it wait for its neighbours: one of theirs may be refused for days.
        """
        return {
            key
            for key in self._told.intersection(keys)
            if (group := before.get(self._parts.ports.group_of(key))) is not None and group.acknowledged(key)
        }

    def _notice(
        self, served: Mapping[ServiceKey, ServiceSpec], hindered: Mapping[ServiceKey, Problem]
    ) -> None:
        """Keep what hinders gateways, for the conditions."""
        groups = self._parts.plane.groups()
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


def _plans(
    told: Mapping[str, Sequence[RouteState]],
    kept: Mapping[str, Sequence[RouteState]],
    existing: Collection[ServiceKey],
) -> dict[str, list[RoutePlan]]:
    """Return what gateways need objects for: also frozen routes of services that exist, and lasting ones.

    Left out, a route's Secret would go from the gateways' pods: they roll, and cannot end its TLS.
    """
    plans = {}
    for name, states in told.items():
        frozen = [each.plan for each in kept.get(name, ()) if each.plan.key in existing]
        if found := [*(each.plan for each in states), *frozen]:
            plans[name] = found
    return plans


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
