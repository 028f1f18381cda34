"""What gateways are told of services that were deleted, or whose spec can no longer be read."""

from __future__ import annotations

from fakes.gateway_world import CHAT, GatewayWorld, routed_chat
from penstock.controller.departed_routes import DepartedRoutes
from penstock.controller.endpoints import EndpointCache
from penstock.model.traffic import Backend, CanaryRoute, FallbackPlan, RoutePlan


async def a_world() -> GatewayWorld:
    world = GatewayWorld(rate=lambda _: 20.0, spec=routed_chat(min=2, max=2), target=2)
    await world.seconds(60)
    assert world.gateways.route.plan.limit is not None
    return world


async def seconds_without(world: GatewayWorld, count: int) -> None:
    """Let time pass with the service deleted; its pods stay."""
    for _ in range(count):
        world._watch()
        world.cache.forget_service(CHAT.namespace, CHAT.name)
        await world.traffic.once(world.now)
        world.now += 1.0


async def test_the_route_of_a_deleted_service_lets_all_pass_until_clients_have_left() -> None:
    world = await a_world()
    port = world.gateways.route.plan.listen_port
    await seconds_without(world, 30)
    plan = world.gateways.route.plan
    assert (plan.listen_port, plan.limit, plan.per_replica) == (port, None, None)
    await seconds_without(world, 40)
    assert world.gateways.published == {"penstock": []}


async def test_a_kept_route_follows_the_pods() -> None:
    world = await a_world()
    assert sum(each.serving for each in world.gateways.route.endpoints) == 2
    world.unready.add("chat-0")
    await seconds_without(world, 5)
    assert sum(each.serving for each in world.gateways.route.endpoints) == 1


async def test_a_service_that_returns_is_limited_again() -> None:
    world = await a_world()
    await seconds_without(world, 10)
    world.spec_generation += 1
    await world.seconds(60)
    assert world.gateways.route.plan.limit is not None
    await world.seconds(60)
    assert len(world.gateways.published["penstock"]) == 1


async def test_a_spec_that_cannot_be_read_freezes_its_route() -> None:
    world = await a_world()
    before = world.gateways.route.plan
    world.spec["slo"] = {"ttft": {"p95": "soon"}}
    world.spec_generation += 1
    await world.seconds(300)
    assert world.cache.services[CHAT].spec is None
    assert world.gateways.route.plan == before


async def test_a_restart_keeps_the_route_of_a_spec_that_cannot_be_read() -> None:
    world = await a_world()
    before = world.gateways.route.plan
    world.spec["slo"] = {"ttft": {"p95": "soon"}}
    world.spec_generation += 1
    await world.seconds(60)
    world.restart_operator()
    world.gateways.published.clear()  # the new one has told nothing yet
    await world.seconds(300)
    assert world.cache.services[CHAT].spec is None
    assert world.gateways.route.plan == before


async def test_a_service_deleted_while_the_operator_was_away_is_led_on_until_clients_have_left() -> None:
    world = await a_world()
    world.restart_operator()
    world.gateways.published.clear()
    await seconds_without(world, 30)
    plan = world.gateways.route.plan
    assert (plan.key, plan.limit, plan.per_replica) == (CHAT, None, None)
    await seconds_without(world, 40)
    assert world.gateways.published == {"penstock": []}


async def test_the_limit_of_a_frozen_route_follows_the_pods() -> None:
    world = await a_world()
    before = world.gateways.route.plan
    assert before.limit is not None
    world.spec["slo"] = {"ttft": {"p95": "soon"}}
    world.spec_generation += 1
    world.unready.add("chat-0")
    await world.seconds(5)
    after = world.gateways.route.plan.limit
    assert after is not None
    assert after.running == before.limit.running // 2


def test_a_lasting_route_sends_nothing_to_its_fallback_and_canary_about_which_nobody_decides() -> None:
    chat, small = Backend("prod", "chat", 8000, "llama"), Backend("prod", "small", 8000, "tiny")
    plan = RoutePlan(
        CHAT,
        "u",
        chat,
        10_000,
        fallback=FallbackPlan(small, planned_ratio=0.4, in_flight_limit=7),
        canary=CanaryRoute(small, weight_percent=20),
        tls_secret="chat-tls",
    )
    departed = DepartedRoutes(EndpointCache())
    departed.recall({"prod": [plan]}, 0.0)
    for now in (100.0, 10_000.0):
        kept = departed.beside({}, served=(), unreadable=(), lasting=[CHAT], now=now)
        (route,) = kept["prod"]
        assert route.plan.fallback == FallbackPlan(small), "its clusters stay"
        assert route.plan.canary == CanaryRoute(small, weight_percent=0)
    assert departed.beside({}, served=(), unreadable=(), now=10_061.0) == {}
