"""Victims of a scale-down that no gateway drains: the idlest go, for the ReplicaSet controller knew them.

A cost that was written in the same second as /scale does not count in this world.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from fakes.world import TICK, World, chat
from penstock.controller import apply
from penstock.kube.api import PODS, Forbidden, Resource

ROUTINGS: dict[str, dict[str, Any]] = {
    "None": {},
    "GatewayAPI": {
        "routing": {"type": "GatewayAPI", "gatewayAPI": {"httpRouteRef": {"name": "chat", "rule": "main"}}}
    },
}
DENIED = 'admission webhook "pods.policy" denied the request'


class Streaming(World):
    """A world that tells which pods have requests in flight; by default the first ones are busy."""

    guard = ""
    quota = 1000  # pods

    def __init__(self, **arguments: Any) -> None:
        self.streams: dict[str, float] = {f"chat-{index}": 10.0 - index for index in range(9)}
        super().__init__(**arguments)

    def _set_target(self, replicas: int) -> None:
        super()._set_target(replicas)
        del self.pods[self.quota :]

    async def _in_flight(self, _: object, pods: Sequence[str], __: float) -> Mapping[str, float]:
        return {pod: self.streams[pod] for pod in pods if pod in self.streams}

    async def patch(self, resource: Resource, *where: Any, **how: Any) -> dict[str, Any]:
        if resource == PODS and self.guard == "refuses":
            raise Forbidden(DENIED, status=403)
        if resource == PODS and self.guard == "strips":
            return {}
        return await super().patch(resource, *where, **how)

    @property
    def lost(self) -> set[str]:
        return {pod.name for pod in self.gone}

    @property
    def marked(self) -> set[str]:
        return {name for name, cost in self.costs.items() if cost == apply.VICTIM_COST}


async def observed(target: int = 4, **arguments: Any) -> Streaming:
    """A world that decides and writes nothing by itself: the test asks for targets."""
    world = Streaming(rate=lambda _: 30.0, spec=chat() | {"mode": "Observe"}, target=target, **arguments)
    await world.run(60)
    return world


async def write(world: World, replicas: int) -> bool:
    """Ask for a target as a tick does that knows no newest version, then let a tick's time pass."""
    (state,) = world.loop.states.values()
    assert state.outcome is not None
    written = await world.loop._parts.scale.write(state.outcome, state, replicas, world.now)
    world.now += TICK
    return written


@pytest.mark.parametrize("routing", ROUTINGS)
async def test_the_idlest_pods_go_when_the_load_has_fallen(routing: str) -> None:
    spec = chat(scaleDownWindow="2m") | ROUTINGS[routing]
    world = Streaming(rate=lambda t: 60.0 if t < 300 else 10.0, spec=spec, target=4)
    world.loop._parts = replace(world.loop._parts, gateways_serve=True)  # others in the fleet
    await world.run(300)
    busiest_first = sorted((pod.name for pod in world.pods), key=lambda name: -world.streams[name])
    await world.run(1200)
    assert world.target < len(busiest_first)
    assert sorted(pod.name for pod in world.pods) == busiest_first[: world.target]


async def test_a_scale_down_waits_a_tick_for_the_costs_of_its_victims() -> None:
    world = await observed()
    assert not await write(world, 2)
    assert (world.target, world.marked) == (4, {"chat-2", "chat-3"})
    assert await write(world, 2)
    assert (world.target, world.lost) == (2, {"chat-2", "chat-3"})


async def test_the_next_scale_down_waits_for_its_own_victims() -> None:
    world = await observed()
    assert [await write(world, 3), await write(world, 3)] == [False, True]
    await world.run(15)
    assert [await write(world, 1), await write(world, 1)] == [False, True]
    assert world.lost == {"chat-1", "chat-2"}


async def test_where_others_are_the_idlest_a_tick_later_it_waits_no_longer() -> None:
    world = await observed()
    assert not await write(world, 3)
    world.streams["chat-1"] = 0.0
    assert await write(world, 3)
    assert world.lost == {"chat-3"}


async def test_where_more_are_to_go_a_tick_later_those_marked_first_are_among_them() -> None:
    world = await observed()
    assert not await write(world, 3)
    assert await write(world, 2)
    assert "chat-3" in world.lost


async def test_victims_that_are_marked_already_are_not_waited_for() -> None:
    world = await observed()
    assert not await write(world, 2)
    world.restart_operator()
    await world.run(60)
    assert await write(world, 2)
    assert world.lost == {"chat-2", "chat-3"}


async def test_what_an_abandoned_scale_down_has_marked_does_not_choose_much_later() -> None:
    world = await observed()
    assert not await write(world, 3)
    world.streams["chat-1"] = 0.0
    world.now += apply.CHOICE_KEPT_SECONDS
    assert [await write(world, 3), await write(world, 3)] == [False, True]
    assert world.lost == {"chat-1"}
    assert world.marked == {"chat-1"}


async def test_a_refused_annotation_delays_nothing() -> None:
    world = await observed()
    world.guard = "refuses"
    with capture_logs() as logs:
        assert await write(world, 2)
    assert world.target == 2
    (said,) = [each for each in logs if each["event"] == "victims could not be chosen"]
    assert said["error"] == DENIED


async def test_an_annotation_that_does_not_stay_is_waited_for_once() -> None:
    world = await observed()
    world.guard = "strips"
    assert [await write(world, 2), await write(world, 2)] == [False, True]
    assert world.target == 2


async def test_a_scale_up_waits_for_nobody_and_marks_nobody() -> None:
    world = await observed()
    assert await write(world, 5)
    assert (world.target, world.marked) == (5, set())


async def test_a_scale_up_marks_nobody_while_pods_of_a_higher_target_still_serve() -> None:
    world = await observed()
    world.target = 2  # by another hand; the ReplicaSet controller has not removed its pods yet
    await world.run(15)
    assert await write(world, 3)
    assert (world.target, world.marked) == (3, set())


async def test_at_a_quota_no_more_pods_are_marked_than_are_to_go() -> None:
    world = await observed(target=8)
    world.quota = 4
    world.scale_by_hand(8)
    await world.run(15)
    assert [await write(world, 3), await write(world, 3)] == [False, True]
    assert world.lost == {"chat-3"}
