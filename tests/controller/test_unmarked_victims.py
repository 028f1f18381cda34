"""Victims of a scale-down that cannot be marked: it is said, they go on serving, and nobody waits for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from fakes.gateway_world import GatewayWorld, routed_chat
from fakes.world import World, chat
from penstock.controller import apply
from penstock.kube.api import PODS, Forbidden, Resource

DENIED = 'admission webhook "pods.policy" denied the request'


class Guarded(GatewayWorld):
    """A world of which a webhook guards the pods; the load falls after a minute."""

    guard = "refuses"

    def __init__(self) -> None:
        falling = routed_chat(scaleDownWindow="2m")
        super().__init__(rate=lambda t: 45.0 if t < 60 else 5.0, spec=falling, target=3)

    async def patch(self, resource: Resource, *where: str, **how: Any) -> dict[str, Any]:
        if resource == PODS and self.guard == "refuses":
            raise Forbidden(DENIED, status=403)
        if resource == PODS and self.guard == "strips":
            return {}
        return await super().patch(resource, *where, **how)

    @property
    def closed(self) -> frozenset[str]:
        (state,) = self.loop.states.values()
        return state.gateway.closed(self.now)

    def limited(self) -> dict[str, Any]:
        return next(each for each in self.status["conditions"] if each["type"] == "ScalingLimited")

    async def until_the_load_has_fallen(self) -> None:
        for _ in range(36):
            await self.seconds(15)


async def test_a_refusal_is_a_condition_and_the_victims_serve_on() -> None:
    world = Guarded()
    with capture_logs() as logs:
        await world.until_the_load_has_fallen()
    assert (world.target, world.closed) == (3, frozenset())
    limited = world.limited()
    assert (limited["status"], limited["reason"]) == ("True", "WriteRefused")
    assert limited["message"] == (
        f"the pods that Deployment/chat is to lose cannot be annotated: {DENIED}; "
        "grant it with the chart's RBAC"
    )
    tries = [each for each in logs if each["event"] == "victims cannot be marked"]
    assert 1 <= len(tries) <= 2  # once in five minutes, not once a second


async def test_an_annotation_that_does_not_stay_is_said_and_the_victims_serve_on() -> None:
    world = Guarded()
    world.guard = "strips"
    await world.until_the_load_has_fallen()
    assert "the annotation does not stay: does a webhook remove it?" in world.limited()["message"]
    assert (world.target, world.closed) == (3, frozenset())


async def test_once_it_may_mark_them_it_scales_down_and_takes_the_condition_back() -> None:
    world = Guarded()
    await world.until_the_load_has_fallen()
    world.guard = ""
    for _ in range(24):
        await world.seconds(15)
    assert world.target < 3
    assert world.limited()["reason"] != "WriteRefused"


async def test_a_scale_down_behind_gateways_is_told_as_any_other() -> None:
    world = Guarded()
    world.guard = ""
    with capture_logs() as logs:
        await world.until_the_load_has_fallen()
    (state,) = world.loop.states.values()
    assert state.outcome is not None
    assert world.target < 3
    said = [each for each in logs if each["event"] == "scaled"]
    assert [(each["replicas_before"], each["replicas"]) for each in said] == [(3, world.target)]
    counted = world.metrics.registry.get_sample_value("penstock_scale_writes_total", {"direction": "down"})
    assert counted == 1
    told = [reason for _, reason, _ in world.events]
    assert told.count(said[0]["reason"]) == 1


class SlowPods(World):
    """A world in which each patch of a pod takes its time: a webhook hangs."""

    def __init__(self, seconds: float) -> None:
        self.seconds_of_a_patch, self.at_once, self.most_at_once = seconds, 0, 0
        super().__init__(rate=lambda t: 300.0, spec=chat(min=1, max=24), target=22)

    async def patch(self, resource: Resource, *where: str, **how: Any) -> dict[str, Any]:
        if resource != PODS:
            return await super().patch(resource, *where, **how)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.seconds_of_a_patch)
            return await super().patch(resource, *where, **how)
        finally:
            self.at_once -= 1

    async def lower_to(self, replicas: int) -> bool:
        """Write a target as a tick does."""
        await self.run(60)
        (state,) = self.loop.states.values()
        assert state.outcome is not None
        self.most_at_once = 0
        return await self.loop._parts.scale.write(state.outcome, state, replicas, self.now)


async def test_many_victims_are_marked_side_by_side() -> None:
    world = SlowPods(0.01)
    assert not await world.lower_to(2)
    assert world.most_at_once == apply.MARKS_AT_ONCE
    assert await world.lower_to(2)
    assert world.target == 2


async def test_a_hanging_webhook_stops_no_scale_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "CHOICE_SECONDS", 0.1)
    world = SlowPods(0.0)
    await world.run(15)
    world.seconds_of_a_patch = 30.0
    with capture_logs() as logs:
        assert await asyncio.wait_for(world.lower_to(2), 20)
    assert world.target == 2
    said = next(each for each in logs if each["event"] == "victims could not be chosen")
    assert said["error"] == "not within 0.1 s"
