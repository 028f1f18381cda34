"""What gateways are told of a canary, second by second, and whether all of them have it.

The share moves as the tick's plan says; here it only falls at once where no endpoint of the canary is left.
A canary that is over keeps its clusters at weight 0 until its streams have ended: a promoted one's streams
run on there, while new requests go to the very same pods as the stable arm's.
"""

from __future__ import annotations

from dataclasses import replace

from penstock.controller.arm_endpoints import canary_backend, in_flight
from penstock.controller.endpoints import EndpointCache
from penstock.controller.gateway_state import ArmsTold, GatewayState
from penstock.controller.service_state import Outcome
from penstock.model.spec import ServiceKey
from penstock.model.traffic import Backend, CanaryRoute, GatewayGroup, RouteState
from penstock.policy.drain import DRAIN_DEADLINE_SECONDS, SETTLE_SECONDS


def canary_route(
    outcome: Outcome, gateway: GatewayState, stable: Backend, endpoints: EndpointCache, now: float
) -> CanaryRoute | None:
    """Return the canary's part of a route; None where gateways need no second arm. `now` in Unix seconds."""
    plan, spec = outcome.canary.value, outcome.spec
    to = canary_backend(spec, stable, endpoints) if plan is not None and plan.routed else None
    if plan is None or to is None:
        return _leaving(gateway, now)
    gateway.canary_left_at = None
    there = endpoints.of(to.namespace, to.service, to.port, draining=gateway.closed(now))
    serves = any(each.serving for each in there)
    return CanaryRoute(
        backend=to,
        weight_percent=plan.weight_percent if serves else 0,
        sticky_header=spec.canary.sticky_header if spec.canary is not None else "",
        in_flight_limit=plan.in_flight_limit,
    )


def observe_published(
    gateway: GatewayState, route: RouteState, group: GatewayGroup | None, key: ServiceKey
) -> None:
    """Remember what is being published, and whether all gateways have it already.

    `group` is as it was before: what proxies have said so far is about the route before this one.
    """
    canary = route.plan.canary
    weight = 0 if canary is None else canary.weight_percent
    told = ArmsTold.of(route.endpoints, route.canary_endpoints, weight)
    if group is None or not group.proxies:
        gateway.acknowledged = None
    else:
        gateway.acknowledged = told == gateway.told and group.acknowledged(key)
    gateway.told, gateway.canary = told, canary


def _leaving(gateway: GatewayState, now: float) -> CanaryRoute | None:
    """Return the last route at weight 0 while its streams end."""
    if gateway.canary is None:
        return None
    if gateway.canary_left_at is None:
        gateway.canary_left_at = now
    waited, (_, busy) = now - gateway.canary_left_at, in_flight(gateway, now)
    if waited >= DRAIN_DEADLINE_SECONDS or (waited >= SETTLE_SECONDS and busy == 0):
        gateway.canary_left_at = None
        return None
    return replace(gateway.canary, weight_percent=0)
