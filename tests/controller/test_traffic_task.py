"""What gateways are told second by second, over walked time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from fakes.gateway_world import CHAT, GatewayWorld, closed, routed_chat
from penstock.controller.gateway_ports import ExternalGateways
from penstock.controller.service_state import ServiceState
from penstock.dataplane.envoy.ports import NoPortError
from penstock.model.spec import ServiceKey, ServiceSpec
from penstock.model.traffic import GatewayGroup, RoutePlan, RouteState

UNLUCKY = ServiceKey("prod", "a-unlucky")


async def test_nothing_is_told_before_the_first_decision() -> None:
    world = GatewayWorld(rate=lambda _: 10.0, spec=routed_chat(), target=2)
    world._watch()
    await world.traffic.once(world.now)
    assert world.gateways.published == {}


async def test_the_limit_is_that_of_the_replicas_that_serve() -> None:
    world = GatewayWorld(rate=lambda _: 20.0, spec=routed_chat(min=2), target=2)
    await world.seconds(60)
    plan = world.gateways.route.plan
    assert plan.per_replica is not None
    assert plan.limit is not None
    assert plan.limit.running == 2 * plan.per_replica.running
    assert len(world.gateways.route.endpoints) == 2


async def test_a_lost_replica_lowers_the_limit_at_once_and_its_return_raises_it_step_by_step() -> None:
    world = GatewayWorld(rate=lambda _: 20.0, spec=routed_chat(min=2, max=2), target=2)
    await world.seconds(60)
    full = world.gateways.route.plan.limit
    world.unready.add("chat-0")
    await world.seconds(1)
    half = world.gateways.route.plan.limit
    assert full is not None
    assert half is not None
    assert half.running == full.running / 2
    world.unready.clear()
    await world.seconds(1)
    rising = world.gateways.route.plan.limit
    assert rising is not None
    assert half.in_flight < rising.in_flight <= 1.1 * half.in_flight + 1
    await world.seconds(14)
    assert world.gateways.route.plan.limit == full


async def test_replicas_follow_what_is_offered_not_what_is_let_in() -> None:
    """At max, three quarters are turned away; once max is raised the target follows the whole load."""
    world = GatewayWorld(rate=lambda _: 80.0, spec=routed_chat(min=1, max=1), target=1)
    await world.seconds(180)
    assert world.target == 1
    assert world.shed > 0.6 * world.offered
    world.spec["replicas"]["max"] = 12
    world.spec_generation += 1
    await world.seconds(45)
    assert world.target >= 5


async def test_observe_lets_everything_pass_and_says_what_it_would_do() -> None:
    world = GatewayWorld(rate=lambda _: 80.0, spec=routed_chat(max=1) | {"mode": "Observe"}, target=1)
    await world.seconds(60)
    assert world.gateways.route.plan.limit is None
    limited = world.condition("AdmissionLimited")
    assert (limited["status"], limited["reason"]) == ("False", "Observing")


async def test_enforce_to_observe_opens_the_gateways_in_one_tick() -> None:
    world = GatewayWorld(rate=lambda _: 80.0, spec=routed_chat(max=1), target=1)
    await world.seconds(60)
    assert world.gateways.route.plan.limit is not None
    world.spec["mode"] = "Observe"
    world.spec_generation += 1
    await world.seconds(1)
    assert world.gateways.route.plan.limit is None


async def test_paused_freezes_the_limit_per_replica_but_not_the_endpoints() -> None:
    world = GatewayWorld(rate=lambda _: 20.0, spec=routed_chat(min=2, max=4), target=2)
    await world.seconds(60)
    before = world.gateways.route.plan
    world.spec["mode"] = "Paused"
    world.spec_generation += 1
    world.scale_by_hand(3)
    await world.seconds(120)
    after = world.gateways.route.plan
    assert after.per_replica == before.per_replica
    assert after.per_replica is not None
    assert after.limit is not None
    assert after.limit.running == 3 * after.per_replica.running


async def drained_world() -> GatewayWorld:
    """Three busy replicas of which one would do; the stabilisation window has passed.

    It is longer than the forecast's cell: a shorter one ends before the fall has widened the margin.
    """
    world = GatewayWorld(
        rate=lambda t: 45.0 if t < 60 else 5.0, spec=routed_chat(scaleDownWindow="2m"), target=3
    )
    world.streams = {"chat-0": 9.0, "chat-1": 2.0, "chat-2": 5.0}
    await world.seconds(60)
    for _ in range(40):
        await world.seconds(15)
        if closed([world.gateways.route]):
            break
    return world


async def test_the_idlest_pods_are_closed_and_the_target_waits_for_their_streams() -> None:
    world = await drained_world()
    target = world.target
    assert "chat-1" in closed([world.gateways.route])
    assert "chat-0" not in closed([world.gateways.route])
    await world.seconds(30)
    assert world.target == target
    for pod in closed([world.gateways.route]):
        world.streams[pod] = 0.0
    emptied = closed([world.gateways.route])
    await world.seconds(5)
    assert world.target == target - len(emptied)
    assert {pod.name for pod in world.gone} == emptied


async def test_a_pod_that_turns_unready_before_the_target_falls_loses_no_stream() -> None:
    world = await drained_world()
    victims = closed([world.gateways.route])
    survivor = next(pod.name for pod in world.pods if pod.name not in victims)
    for pod in victims:
        world.streams[pod] = 0.0
    world.unready.add(survivor)  # a ReplicaSet would take it first, streams and all
    target = world.target
    await world.seconds(5)
    assert world.target == target
    world.streams[survivor] = 0.0
    await world.seconds(5)
    assert world.target < target
    assert all(world.streams.get(pod.name, 0.0) == 0 for pod in world.gone)


async def test_survivors_serve_between_the_lowered_target_and_the_next_decision() -> None:
    world = await drained_world()
    world.streams.clear()
    target, victims = world.target, closed([world.gateways.route])
    ever_closed: set[str] = set()
    publish = world.gateways.publish

    def noted(group: str, routes: Sequence[RouteState]) -> None:
        ever_closed.update(closed(routes))
        publish(group, routes)

    world.gateways.publish = noted  # type: ignore[method-assign]
    await world.seconds(15)  # one tick, and then seconds by what it saw: more replicas than there are now
    assert world.target == target - len(victims)
    assert ever_closed == victims


async def test_load_that_returns_reopens_the_victims() -> None:
    world = await drained_world()
    assert closed([world.gateways.route])
    world.rate = lambda _: 45.0
    await world.seconds(90)
    assert not any(each.draining for each in world.gateways.route.endpoints)


@pytest.mark.parametrize(
    ("reachable", "rejected", "reason"),
    [(False, {}, "GatewayUnreachable"), (True, {CHAT: "route prod_chat: bad"}, "ConfigurationRejected")],
)
async def test_gateways_that_do_not_do_as_decided_are_a_condition(
    reachable: bool, rejected: dict[object, str], reason: str
) -> None:
    world = GatewayWorld(rate=lambda _: 20.0, spec=routed_chat(), target=2)
    await world.seconds(15)
    world.gateways.reachable, world.gateways.rejected = reachable, rejected  # type: ignore[assignment]
    await world.seconds(31)
    limited = world.condition("AdmissionLimited")
    assert (limited["status"], limited["reason"]) == ("Unknown", reason)


async def test_a_gateway_that_does_not_answer_may_hold_streams() -> None:
    world = await drained_world()
    target = world.target
    for pod in closed([world.gateways.route]):
        world.streams[pod] = 0.0
    world.gateways.answering = 1  # of two
    await world.seconds(10)
    assert world.target == target
    world.gateways.answering = 2
    await world.seconds(5)
    assert world.target < target


async def test_a_fallback_that_is_not_checked_yet_keeps_its_clusters_and_gets_nothing() -> None:
    # An operator that has just started: clusters that it leaves out are gone before the routes to them are.
    small = {"backendRef": {"kind": "Service", "name": "small", "port": 8000, "maxInFlight": 8}}
    spec = routed_chat() | {"fallback": small}
    spec["workload"] |= {"modelNames": ["llama"]}  # nobody has said yet that small serves it
    world = GatewayWorld(rate=lambda _: 10.0, spec=spec, target=2)
    world.endpoints.see_service(
        {"metadata": {"namespace": "prod", "name": "small"}, "spec": {"ports": [{"port": 8000}]}}
    )
    await world.seconds(2)
    (route,) = world.gateways.published["penstock"]
    assert route.plan.fallback is not None
    assert route.plan.fallback.backend.service == "small"
    assert (route.plan.fallback.planned_ratio, route.plan.fallback.in_flight_limit) == (0.0, 0)


async def test_a_new_service_does_not_hold_up_what_its_neighbours_are_told() -> None:
    world = GatewayWorld(rate=lambda _: 20.0, spec=routed_chat(min=2, max=2), target=2)
    await world.seconds(60)
    full = world.gateways.route.plan.limit
    about = {"namespace": "prod", "name": "new", "uid": "u-2", "generation": 1}
    world.cache.see_service({"metadata": about, "spec": routed_chat()})
    world.unready.add("chat-0")
    world._watch()
    await world.traffic.once(world.now)
    half = world.gateways.route.plan.limit
    assert full is not None
    assert half is not None
    assert half.running == full.running / 2


async def test_after_a_restart_nobody_is_told_before_all_of_a_group_are_decided() -> None:
    world = GatewayWorld(rate=lambda _: 20.0, spec=routed_chat(min=2, max=2), target=2)
    await world.seconds(60)
    world.restart_operator()
    world.gateways.published.clear()
    about = {"namespace": "prod", "name": "new", "uid": "u-2", "generation": 1}
    world._watch()
    await world.loop.tick(world.now)
    world.cache.see_service({"metadata": about, "spec": routed_chat()})
    for _ in range(3):
        await world.traffic.once(world.now)
        assert world.gateways.published == {}
        world.now += 1


async def test_what_gateways_were_blamed_for_ends_with_the_routing_by_them() -> None:
    world = GatewayWorld(rate=lambda _: 20.0, spec=routed_chat(min=2, max=2), target=2)
    await world.seconds(60)
    world.gateways.reachable = False
    await world.seconds(30)
    assert world.condition("AdmissionLimited")["reason"] == "GatewayUnreachable"
    world.spec = {key: value for key, value in world.spec.items() if key != "routing"}
    world.spec_generation += 1
    await world.seconds(30)
    assert world.condition("AdmissionLimited")["reason"] == "NoGateway"
    assert world.loop.states[CHAT].gateway.problem is None


async def test_an_api_server_that_hangs_in_a_drain_delays_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await drained_world()
    assert closed([world.gateways.route])
    before = world.gateways.route.plan.limit
    answers, listed = asyncio.Event(), world.list

    async def hang(*args: Any, **more: Any) -> list[dict[str, Any]]:
        await answers.wait()
        return await listed(*args, **more)

    monkeypatch.setattr(world, "list", hang)
    survivor = next(pod.name for pod in world.pods if pod.name not in closed([world.gateways.route]))
    world.unready.add(survivor)
    for _ in range(3):
        world._watch()
        await asyncio.wait_for(world.traffic.once(world.now), 5.0)
        world.now += 1
    after = world.gateways.route.plan.limit
    assert before is not None
    assert after is not None
    assert after.running < before.running
    target = world.target
    world.unready.clear()
    world.streams = dict.fromkeys(world.streams, 0.0)
    answers.set()
    await world.seconds(15)
    assert world.target < target, "the drain that was waited for goes on"


class TwoRouted(GatewayWorld):
    """A world with another service that gateways serve: it only looks at the same Deployment."""

    def _watch(self) -> None:
        about = {"namespace": "prod", "name": UNLUCKY.name, "uid": "u-2", "generation": 1}
        self.cache.see_service({"metadata": about, "spec": routed_chat() | {"mode": "Observe"}})
        super()._watch()

    def by_key(self) -> dict[ServiceKey, RouteState]:
        return {route.plan.key: route for route in self.gateways.published["penstock"]}

    async def decided(self) -> None:
        """One tick, and a second of the task."""
        self._watch()
        await self.loop.tick(self.now)
        await self.follow()

    async def follow(self) -> None:
        """A second of the task."""
        self._watch()
        await self.traffic.once(self.now)
        self.now += 1.0


async def test_a_defect_in_one_route_keeps_it_as_it_was_and_lets_the_others_follow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = TwoRouted(rate=lambda _: 20.0, spec=routed_chat(min=2, max=2), target=2)
    await world.decided()
    await world.decided()
    before = world.by_key()
    assert set(before) == {CHAT, UNLUCKY}
    route_of = world.traffic._route

    def unlucky(group: str, spec: ServiceSpec, state: ServiceState, *rest: Any) -> RouteState | None:
        if spec.key == UNLUCKY:
            raise ZeroDivisionError("float division by zero")
        return route_of(group, spec, state, *rest)

    monkeypatch.setattr(world.traffic, "_route", unlucky)
    world.unready.add("chat-0")
    with capture_logs() as logs:
        await world.follow()
    after = world.by_key()
    assert after[UNLUCKY].plan == before[UNLUCKY].plan
    assert sum(each.serving for each in after[CHAT].endpoints) == 1
    assert [(each["event"], each["failed"]) for each in logs] == [
        ("not all gateways could be told", ["prod/a-unlucky"])
    ]


async def test_a_group_that_cannot_be_told_stops_no_other_and_is_told_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = TwoRouted(rate=lambda _: 20.0, spec=routed_chat(min=2, max=2), target=2)
    monkeypatch.setattr(world.traffic._parts.ports, "group_of", lambda key: f"group-{key.name}")
    publish, broken = world.gateways.publish, True

    def fail(group: str, routes: Sequence[RouteState]) -> None:
        if broken and group == "group-a-unlucky":
            raise ZeroDivisionError("float division by zero")
        publish(group, routes)

    monkeypatch.setattr(world.gateways, "publish", fail)
    with capture_logs() as logs:
        await world.decided()
        await world.decided()
    assert set(world.gateways.published) == {"group-chat"}
    assert [each["failed"] for each in logs if each["event"] == "not all gateways could be told"] == [
        ["group-a-unlucky"]
    ] * 2
    broken = False
    await world.follow()
    assert set(world.gateways.published) == {"group-chat", "group-a-unlucky"}


@dataclass
class NotedPorts(ExternalGateways):
    """Ports that note what was asked of the cluster in the last round."""

    plans: Mapping[str, Sequence[RoutePlan]] = field(default_factory=dict)
    reached: Collection[ServiceKey] = ()
    existing: Collection[ServiceKey] = ()
    with_tls: Collection[ServiceKey] = ()

    def tls_services(self) -> Collection[ServiceKey]:
        return self.with_tls

    def __post_init__(self) -> None:
        super().__init__()

    def follow(
        self,
        routes: Mapping[str, Sequence[RoutePlan]],
        existing: Collection[ServiceKey],
        *,
        reached: Collection[ServiceKey],
        now: float,
    ) -> Mapping[ServiceKey, tuple[str, str]]:
        self.plans, self.reached, self.existing = routes, reached, existing
        return {}


def noted_ports(world: GatewayWorld) -> NotedPorts:
    ports = NotedPorts()
    world.traffic._parts = replace(world.traffic._parts, ports=ports)
    return ports


async def test_a_route_is_reached_when_all_gateways_have_it_whatever_its_neighbours_and_this_round_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = TwoRouted(rate=lambda _: 20.0, spec=routed_chat(min=2, max=2), target=2)
    ports, behind, published = noted_ports(world), frozenset({UNLUCKY}), world.gateways.publish

    def groups() -> Mapping[str, GatewayGroup]:
        # The unlucky one's is refused for good; what was published in this second nobody has said yet.
        late = world.by_key().keys() if fresh else behind
        return {"penstock": GatewayGroup("penstock", 2, 0, {}, frozenset(late))} if told else {}

    def publish(group: str, routes: Sequence[RouteState]) -> None:
        nonlocal told, fresh
        told = fresh = True
        published(group, routes)

    told = fresh = False
    monkeypatch.setattr(world.gateways, "groups", groups)
    monkeypatch.setattr(world.gateways, "publish", publish)
    await world.decided()
    assert ports.reached == set()
    for unready in ({"chat-0"}, set(), {"chat-1"}):
        fresh, world.unready = False, unready
        await world.follow()
        assert ports.reached == {CHAT}


async def test_a_service_that_returns_is_reached_a_round_after_it_is_told_again() -> None:
    """Until then what all gateways have of it is the route that its predecessor left behind."""
    world = GatewayWorld(rate=lambda _: 20.0, spec=routed_chat(min=2, max=2), target=2)
    ports = noted_ports(world)
    await world.seconds(2)
    assert ports.reached == {CHAT}
    reached = []
    for deleted in (True, True, False, False):
        world._watch()
        if deleted:
            world.cache.forget_service(CHAT.namespace, CHAT.name)
        await world.traffic.once(world.now)
        world.now += 1.0
        reached.append(set(ports.reached))
    assert reached == [set(), set(), set(), {CHAT}]


@pytest.mark.parametrize("why", ["unreadable", "ambiguous", "deleted"])
async def test_objects_are_kept_up_for_a_frozen_route_while_its_service_exists(why: str) -> None:
    spec = routed_chat(min=2, max=2)
    spec["routing"] |= {"envoy": {"tls": {"secretName": "chat-tls"}}}
    world = TwoRouted(rate=lambda _: 20.0, spec=spec, target=2)
    ports = noted_ports(world)
    await world.decided()
    (before,) = (plan for plan in ports.plans["penstock"] if plan.key == CHAT)
    assert before.tls_secret == "chat-tls"
    world._watch()
    if why == "unreadable":
        world.spec["slo"] = {"ttft": {"p95": "soon"}}
        world.spec_generation += 1
        world._watch()
    elif why == "ambiguous":
        world.endpoints.forget_service("prod", "chat")
    else:
        world.cache.forget_service(CHAT.namespace, CHAT.name)
    await world.traffic.once(world.now)
    assert CHAT in world.by_key(), "published as it was"
    found = [plan for plan in ports.plans.get("penstock", ()) if plan.key == CHAT]
    assert [plan.tls_secret for plan in found] == ([] if why == "deleted" else ["chat-tls"])


@pytest.mark.parametrize("change", ["deleted", "routed otherwise"])
async def test_the_route_of_a_service_with_tls_lasts_as_long_as_its_service_leads_to_the_gateways(
    change: str,
) -> None:
    spec = routed_chat(min=2, max=2)
    spec["routing"] |= {"envoy": {"tls": {"secretName": "chat-tls"}}}
    world = GatewayWorld(rate=lambda _: 20.0, spec=spec, target=2)
    ports = noted_ports(world)
    await world.seconds(60)
    assert world.gateways.route.plan.limit is not None
    ports.with_tls = {CHAT}

    async def second() -> None:
        world._watch()
        if change == "deleted":
            world.cache.forget_service(CHAT.namespace, CHAT.name)
        await world.traffic.once(world.now)
        world.now += 1.0

    if change != "deleted":
        world.spec["routing"] = {"type": "None"}
        world.spec_generation += 1
    for _ in range(200):
        await second()
    plan = world.gateways.route.plan
    assert (plan.key, plan.limit, plan.per_replica) == (CHAT, None, None)
    assert [each.tls_secret for each in ports.plans["penstock"]] == ["chat-tls"], "its pods keep the Secret"
    assert CHAT not in ports.existing
    ports.with_tls = set()  # somebody has deleted its Service
    for _ in range(62):
        await second()
    assert world.gateways.published == {"penstock": []}


async def test_a_service_that_gets_no_port_says_so() -> None:
    class NoPorts(ExternalGateways):
        def listen_port(self, *_: object) -> int:
            raise NoPortError("all 10,000 ports of the gateways are taken")

    world = GatewayWorld(rate=lambda _: 20.0, spec=routed_chat(min=2, max=2), target=2)
    world.traffic._parts = replace(world.traffic._parts, ports=NoPorts())
    await world.seconds(45)
    limited = world.condition("AdmissionLimited")
    assert (limited["reason"], limited["message"]) == (
        "NoGatewayPort",
        "all 10,000 ports of the gateways are taken",
    )


async def test_a_defect_in_the_middle_of_a_drain_opens_the_victims_again() -> None:
    world = await drained_world()
    assert closed([world.gateways.route])
    world.loop.states[CHAT].defect = "ZeroDivisionError: float division by zero"
    for _ in range(3):
        world._watch()
        await world.traffic.once(world.now)
        world.now += 1
    assert not closed([world.gateways.route])


async def test_a_service_that_cannot_be_decided_holds_its_group_for_a_minute_after_a_start() -> None:
    world = GatewayWorld(rate=lambda _: 20.0, spec=routed_chat(min=2, max=2), target=2)
    world._watch()
    await world.loop.tick(world.now)
    about = {"namespace": "prod", "name": "a-unlucky", "uid": "u-2", "generation": 1}
    world.cache.see_service({"metadata": about, "spec": routed_chat()})
    world.loop.states[UNLUCKY] = ServiceState(uid="u-2", defect="ZeroDivisionError")
    began = world.now
    while not world.gateways.published:
        await world.traffic.once(world.now)
        world.now += 1
    assert world.now - began == 61
    assert world.gateways.route.plan.key == CHAT
