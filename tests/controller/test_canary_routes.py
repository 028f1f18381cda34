"""A decided canary as a route: its room, what agents keep of it, what a deleted service leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes.gateway_world import CHAT, GatewayWorld, routed_chat
from penstock.controller.departed_routes import DepartedRoutes
from penstock.controller.endpoints import EndpointCache
from penstock.controller.gateway_agent import endpoints_of
from penstock.controller.gateways import _structure
from penstock.controller.route_plans import route_state
from penstock.controller.undecided_routes import route_of
from penstock.dataplane.envoy.stored import read_plans, store_plans
from penstock.model.traffic import Backend, CanaryRoute, FleetLimit, RoutePlan, RouteState

STABLE = Backend("prod", "chat", 8000, "chat", "")
TRIED = Backend("prod", "chat-canary", 8000, "chat", "")


def slice_of(service: str, *pods: str, ready: bool = True) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "prod",
            "name": f"{service}-x",
            "labels": {"kubernetes.io/service-name": service},
        },
        "ports": [{"name": "", "port": 9000}],
        "endpoints": [
            {"addresses": [f"10.1.0.{index}"], "conditions": {"ready": ready}, "targetRef": {"name": pod}}
            for index, pod in enumerate(pods)
        ],
    }


def service(name: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "prod", "name": name}, "spec": {"ports": [{"port": 8000}]}}


async def routed(canary: CanaryRoute | None, *pods: str, ready: bool = True) -> RouteState:
    """The route of two stable replicas, and of a canary with these pods."""
    world = GatewayWorld(rate=lambda _: 20.0, spec=routed_chat(min=2, max=2), target=2)
    await world.seconds(60)
    world.endpoints.see_service(service("chat-canary"))
    world.endpoints.see(slice_of("chat-canary", *pods, ready=ready))
    state = world.loop.states[CHAT]
    assert state.outcome is not None
    state.gateway.limit = None  # nothing is on its way: the limit is there at once
    return route_state(
        state.outcome, state, STABLE, None, world.endpoints, listen_port=10_000, now=world.now, canary=canary
    )


async def test_a_canary_adds_to_the_limit_what_its_weight_brings_and_its_pods_carry() -> None:
    alone = (await routed(None)).plan
    assert alone.limit is not None
    assert alone.per_replica is not None
    route = await routed(CanaryRoute(TRIED, 20), "canary-0")
    assert [each.pod for each in route.canary_endpoints] == ["canary-0"]
    assert route.plan.canary == CanaryRoute(TRIED, 20, in_flight_limit=alone.per_replica.running)
    assert route.plan.limit is not None
    assert route.plan.limit.running == alone.limit.running
    brought = alone.limit.in_flight * 20 // 80
    assert route.plan.limit.in_flight - alone.limit.in_flight == min(brought, alone.per_replica.running)


@pytest.mark.parametrize(("weight", "ready"), [(0, True), (50, False)])
async def test_a_canary_that_may_get_nothing_adds_nothing_to_the_limit(weight: int, ready: bool) -> None:
    alone = (await routed(None)).plan
    assert (await routed(CanaryRoute(TRIED, weight), "canary-0", ready=ready)).plan.limit == alone.limit


def stored(weight: int = 20, limit: int | None = 15) -> RoutePlan:
    canary = CanaryRoute(TRIED, weight, "x-session", limit)
    return RoutePlan(CHAT, "uid", STABLE, 10_000, per_replica=FleetLimit(10, 4), canary=canary)


@pytest.mark.parametrize(
    ("pods", "gateways", "at_canary", "limit"),
    [
        (("canary-0", "canary-1"), 1, 15, FleetLimit(20, 8 + 7)),
        (("canary-0",), 2, 5, FleetLimit(10, 4 + 3)),
        ((), 1, 0, FleetLimit(20, 8)),
    ],
)
def test_an_agent_keeps_the_weight_and_follows_the_canarys_pods(
    pods: tuple[str, ...], gateways: int, at_canary: int, limit: FleetLimit
) -> None:
    [plan] = read_plans(store_plans([stored()]))
    slices = [slice_of("chat", "chat-0", "chat-1"), slice_of("chat-canary", *pods)]
    route = route_of(plan, endpoints_of(slices, [STABLE, TRIED]), gateways)
    assert route.plan.canary == CanaryRoute(TRIED, 20, "x-session", at_canary)
    assert route.plan.limit == limit
    assert tuple(each.pod for each in route.canary_endpoints) == pods


def test_a_weight_is_stored_at_once_and_what_moves_by_the_second_is_not() -> None:
    assert _structure([stored(weight=20)]) != _structure([stored(weight=0)])
    assert _structure([stored(limit=15)]) == _structure([stored(limit=9)])


def test_a_deleted_services_canary_gets_nothing_while_its_route_is_kept() -> None:
    endpoints = EndpointCache()
    for name, pod in (("chat", "chat-0"), ("chat-canary", "canary-0")):
        endpoints.see_service(service(name))
        endpoints.see(slice_of(name, pod))
    departed = DepartedRoutes(endpoints)
    departed.beside({"prod": [RouteState(stored(), ())]}, served=[CHAT], unreadable=(), now=0.0)
    [kept] = departed.beside({}, served=(), unreadable=(), now=1.0)["prod"]
    assert kept.plan.canary is not None
    assert kept.plan.canary.weight_percent == 0
    assert [each.pod for each in (*kept.endpoints, *kept.canary_endpoints)] == ["chat-0", "canary-0"]


def test_a_service_whose_target_no_service_selects_any_more_is_served_as_before() -> None:
    endpoints = EndpointCache()
    endpoints.see_service(service("chat"))
    endpoints.see(slice_of("chat", "chat-0"))
    departed = DepartedRoutes(endpoints)
    departed.beside({"prod": [RouteState(stored(), ())]}, served=[CHAT], unreadable=(), now=0.0)
    for now in (1.0, 1000.0):
        [kept] = departed.beside({}, served=[CHAT], unreadable=(), now=now)["prod"]
        # As it was told; its limits are those of the one pod there is, of a canary without pods 0.
        assert kept.plan == replace(stored(limit=0), limit=FleetLimit(10, 4))
        assert [each.pod for each in kept.endpoints] == ["chat-0"]
