"""A fallback that scales down: its victims get nothing of what others spill and rescue either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from fakes.canary import adopted
from fakes.gateway_world import CHAT, GatewayWorld, PlayedGateways, closed, routed_chat
from fakes.traffic import routed, to
from penstock.controller.cache import FleetCache
from penstock.controller.closed_pods import all_know, closed_pods, helped_by
from penstock.controller.endpoints import EndpointCache
from penstock.controller.fallbacks import Fallbacks
from penstock.controller.service_state import ServiceState
from penstock.model.spec import ServiceKey
from penstock.model.traffic import Backend, FallbackPlan, GatewayGroup, RoutePlan, RouteState
from penstock.policy.drain import DRAIN_DEADLINE_SECONDS, DrainMemory

BIG = ServiceKey("prod", "big")


@dataclass
class HeardGateways(PlayedGateways):
    """Gateways that may lack what was published of some services."""

    behind: frozenset[ServiceKey] = frozenset()

    def groups(self) -> Mapping[str, GatewayGroup]:
        return {
            name: GatewayGroup(name, 2, 2, self.rejected, self.behind if self.published else frozenset())
            for name in self.published
        }

    @property
    def route(self) -> RouteState:
        return self.of(CHAT)

    def of(self, key: ServiceKey) -> RouteState:
        (route,) = (each for each in self.published["penstock"] if each.plan.key == key)
        return route


class HelpingWorld(GatewayWorld):
    """A world whose service ``chat`` is the fallback of another, ``big``."""

    big_is_readable = True
    gateways: HeardGateways

    def restart_operator(self) -> None:
        self.gateways = HeardGateways()
        super().restart_operator()

    def _watch(self) -> None:
        about = {"namespace": "prod", "name": "big", "uid": "u-2", "generation": 2 - self.big_is_readable}
        spec = routed_chat() | {"mode": "Observe", "fallback": {"backendRef": {"name": "chat"}}}
        spec["workload"] |= {"serviceRef": {"name": "big"}}
        if not self.big_is_readable:
            spec["slo"] = {"ttft": {"p95": "soon"}}
        self.cache.see_service({"metadata": about, "spec": spec})
        self.endpoints.see_service(
            {"metadata": {"namespace": "prod", "name": "big"}, "spec": {"ports": [{"port": 8000}]}}
        )
        super()._watch()

    @property
    def spilled_to(self) -> set[str]:
        """The pods that get new requests of ``big``."""
        return {each.pod for each in self.gateways.of(BIG).fallback_endpoints if each.serving}

    @property
    def victims(self) -> set[str]:
        return closed([self.gateways.route])


async def draining_world() -> HelpingWorld:
    """Three busy replicas of ``chat`` of which one would do."""
    world = HelpingWorld(
        rate=lambda t: 45.0 if t < 60 else 5.0, spec=routed_chat(scaleDownWindow="2m"), target=3
    )
    world.streams = {"chat-0": 9.0, "chat-1": 2.0, "chat-2": 5.0}
    await world.seconds(60)
    assert world.spilled_to == {"chat-0", "chat-1", "chat-2"}
    for _ in range(40):
        await world.seconds(15)
        if world.victims:
            return world
    raise AssertionError("nobody was closed")


def empty(world: HelpingWorld) -> None:
    for pod in world.victims:
        world.streams[pod] = 0.0


@pytest.mark.parametrize("readable", [True, False])
async def test_a_victim_gets_nothing_of_what_others_spill_and_rescue(readable: bool) -> None:
    world = await draining_world()
    world.big_is_readable = readable  # else its route is frozen, but for the endpoints
    await world.seconds(2)
    assert world.spilled_to == {"chat-0", "chat-1", "chat-2"} - world.victims
    assert world.victims <= {each.pod for each in world.gateways.of(BIG).fallback_endpoints}
    empty(world)
    for _ in range(18):  # beyond /scale too, while the pod is still listed
        await world.seconds(1)
        assert not world.spilled_to & {each.name for each in world.gone}


async def test_a_victim_stays_until_all_gateways_send_no_more_of_others_requests_there() -> None:
    world = await draining_world()
    target = world.target
    world.gateways.behind = frozenset({BIG})
    empty(world)
    await world.seconds(10)
    assert world.target == target
    world.gateways.behind = frozenset()
    await world.seconds(5)
    assert world.target < target


@pytest.mark.parametrize("key", [BIG, CHAT])
async def test_gateways_that_never_say_that_they_know_are_not_waited_for_beyond_the_deadline(
    key: ServiceKey,
) -> None:
    world = await draining_world()
    world.gateways.behind = frozenset({key})
    world.streams.clear()
    target, drain = world.target, world.loop.states[CHAT].gateway.drain
    while world.target == target and world.now < drain.victims[-1][1] + 2 * DRAIN_DEADLINE_SECONDS:
        drain = world.loop.states[CHAT].gateway.drain
        await world.seconds(15)
    assert 0 <= world.now - drain.victims[-1][1] - DRAIN_DEADLINE_SECONDS <= 16
    assert {pod.name for pod in world.gone} == drain.names


@pytest.mark.parametrize(
    ("group", "known"),
    [
        (None, False),
        (GatewayGroup("penstock"), False),
        (GatewayGroup("penstock", 2), True),
        (GatewayGroup("penstock", 2, behind=frozenset({CHAT})), False),
        (GatewayGroup("penstock", 2, behind=frozenset({BIG})), False),
        (GatewayGroup("penstock", 2, behind=frozenset({ServiceKey("prod", "other")})), True),
        # Refused for days: it is not the endpoints that are.
        (GatewayGroup("penstock", 2, rejected={BIG: "refused"}, behind=frozenset({BIG})), True),
        (GatewayGroup("penstock", 2, rejected={CHAT: "refused"}, behind=frozenset({CHAT})), False),
    ],
)
def test_all_know_who_is_closed_once_they_have_it_of_the_service_and_of_those_it_helps(
    group: GatewayGroup | None, known: bool
) -> None:
    assert all_know(group, CHAT, {BIG}) is known


def test_services_are_helped_by_those_that_their_plans_name() -> None:
    own, there = Backend("prod", "big", 80, "big"), Backend("prod", "chat", 80, "chat")
    helped = RoutePlan(BIG, "u", own, 10_000, fallback=FallbackPlan(there, service=CHAT))
    plain = RoutePlan(ServiceKey("prod", "plain"), "u", own, 10_001, fallback=FallbackPlan(there))
    assert helped_by([helped, plain, RoutePlan(CHAT, "u", there, 10_002)]) == {CHAT: {BIG}}


def test_a_drain_that_is_not_carried_on_closes_nobody() -> None:
    state = ServiceState(uid="u")
    state.gateway.drain = DrainMemory((("chat-0", 0.0),))
    state.gateway.leaving = {"chat-1": 20.0}
    assert closed_pods({CHAT: state}, [CHAT, BIG], 10.0) == {"prod": {"chat-0", "chat-1"}}
    assert closed_pods({CHAT: state}, [BIG], 10.0) == {}


def seen(cache: EndpointCache, service: str, *pods: str) -> None:
    metadata: dict[str, Any] = {"namespace": "prod", "name": service}
    labels = {"kubernetes.io/service-name": service}
    cache.see_service({"metadata": metadata, "spec": {"ports": [{"name": "http", "port": 80}]}})
    cache.see(
        {
            "metadata": {"namespace": "prod", "name": f"{service}-x", "labels": labels},
            "ports": [{"name": "http", "port": 8000}],
            "endpoints": [{"addresses": ["10.0.0.1"], "targetRef": {"name": pod}} for pod in pods],
        }
    )


def test_what_is_spilled_to_a_service_that_tries_a_revision_goes_to_its_stable_arm() -> None:
    cache, endpoints = FleetCache(), EndpointCache()
    fallbacks, helped = Fallbacks(cache, {}, endpoints), routed(name="big", fallback=to("chat"))
    about = {"namespace": "prod", "name": "chat", "uid": "u", "generation": 1}
    cache.see_service({"metadata": about, "spec": routed_chat()})
    known = cache.services[CHAT]
    assert known.spec is not None
    cache.services[CHAT] = replace(known, spec=replace(adopted(), service=known.spec.service))
    seen(endpoints, "chat", "chat-1", "chat-canary-1")
    front = fallbacks.backend(helped)
    assert front is not None
    assert front.service == "chat"
    seen(endpoints, "chat-stable", "chat-1")
    backend = fallbacks.backend(helped)
    assert backend is not None
    assert backend.service == "chat-stable"
