"""A plan without its endpoints, as gateways enforce it now: limits follow from those per replica.

For whoever has a plan and no decision: the agents while the operator is down, and the operator for a service
that it cannot decide.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from math import ceil

from penstock.controller.endpoints import EndpointCache
from penstock.model.traffic import Backend, Endpoint, FleetLimit, RoutePlan, RouteState
from penstock.policy.arms import canary_room, limit_of_both


def route_of(
    plan: RoutePlan, endpoints: EndpointCache, gateways: int = 1, *, closed: Collection[str] = ()
) -> RouteState:
    """Return a plan as one of `gateways` that share its limits enforces it now.

    `closed` are pods of its namespace that get no new requests.
    """
    own = _behind(plan.backend, endpoints, closed)
    limit = None
    if plan.per_replica is not None:
        # One replica's where none serves, so that recovery can begin; as the operator does.
        serving = max(1, sum(each.serving for each in own))
        limit = FleetLimit(
            ceil(plan.per_replica.running * serving / gateways),
            ceil(plan.per_replica.queued * serving / gateways),
        )
    fallback, canary = plan.fallback, plan.canary
    spilled: tuple[Endpoint, ...] = ()
    tried: tuple[Endpoint, ...] = ()
    if fallback is not None:
        fallback = replace(fallback, in_flight_limit=ceil(fallback.in_flight_limit / gateways))
        spilled = _behind(fallback.backend, endpoints, closed)
    if canary is not None:
        tried = _behind(canary.backend, endpoints, closed)
        room = canary_room(canary, plan.per_replica, sum(each.serving for each in tried))
        canary = replace(canary, in_flight_limit=None if room is None else ceil(room / gateways))
        limit = limit_of_both(limit, canary.weight_percent, canary.in_flight_limit)
    return RouteState(replace(plan, limit=limit, fallback=fallback, canary=canary), own, spilled, tried)


def _behind(backend: Backend, endpoints: EndpointCache, closed: Collection[str]) -> tuple[Endpoint, ...]:
    return endpoints.of(backend.namespace, backend.service, backend.port, draining=closed)
