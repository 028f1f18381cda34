"""Statuses are written behind the tick: who waits, who is written, and what a hung API server delays."""

from __future__ import annotations

import asyncio
from typing import Any

from fakes.world import World, chat
from penstock.kube.api import INFERENCE_SERVICES, Object, Resource
from penstock.model.spec import ServiceKey

CHAT = ServiceKey("prod", "chat")


class SlowStatus(World):
    """Its API server answers a write of status only when `goes_on` is set."""

    def __post_init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.under_way = 0
        self.most_under_way = 0
        self.defect: Exception | None = None
        super().__post_init__()

    async def patch(self, resource: Resource, *args: Any, **more: Any) -> Object:
        if resource is INFERENCE_SERVICES:
            if self.defect is not None:
                raise self.defect
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            await self.goes_on.wait()
            self.under_way -= 1
        return await super().patch(resource, *args, **more)

    async def tick(self) -> None:
        """One tick, which nobody waits for statuses after."""
        self._flow()
        self._watch()
        await asyncio.wait_for(self.loop.tick(self.now), 5.0)
        await self.tables.settled()
        self.now += 15


def up_after_five_minutes(seconds: float) -> float:
    return 30.0 if seconds < 300 else 90.0


async def test_a_target_is_set_while_the_api_server_sits_on_every_status() -> None:
    world = SlowStatus(rate=up_after_five_minutes, spec=chat(), target=2)
    await world.run(300)
    world.goes_on.clear()
    for _ in range(8):
        await world.tick()
    assert [count for _, count in world.scale_writes if count > 2]
    assert (world.under_way, world.most_under_way) == (1, 1), "one writer a service, whatever it waits for"
    world.goes_on.set()
    await world.run(30)
    decided = world.loop.states[CHAT].outcome
    assert decided is not None
    assert world.status["replicas"]["desired"] == decided.decision.value
    assert world.loop.statuses.waiting == 0


async def test_what_is_noted_as_shown_is_what_was_written_not_what_was_decided_meanwhile() -> None:
    world = SlowStatus(rate=up_after_five_minutes, spec=chat(), target=2)
    await world.run(300)
    world.goes_on.clear()
    for _ in range(8):
        await world.tick()
    state = world.loop.states[CHAT]
    latest = state.outcome
    world.goes_on.set()
    await world.loop.statuses.settled()
    assert latest is not None
    assert state.shown_decision is not latest.decision
    await world.run(15)
    assert state.outcome is not None
    assert state.shown_decision is state.outcome.decision


async def test_a_defect_while_showing_one_service_is_counted_and_its_target_is_set_all_the_same() -> None:
    world = SlowStatus(rate=up_after_five_minutes, spec=chat(), target=2)
    await world.run(300)
    world.defect = ZeroDivisionError("nobody expects this")
    await world.run(180)
    assert [count for _, count in world.scale_writes if count > 2]
    assert world.loop.states[CHAT].unshown == "ZeroDivisionError: nobody expects this"
    failed = world.metrics.registry.get_sample_value("penstock_failed_steps_total")
    assert failed is not None
    assert failed > 0
    world.defect = None
    await world.run(60)
    assert world.status["replicas"]["desired"] == world.target
    assert world.loop.states[CHAT].unshown == ""


async def test_closing_gives_up_what_waits() -> None:
    world = SlowStatus(rate=up_after_five_minutes, spec=chat(), target=2)
    world.goes_on.clear()
    await world.tick()
    await asyncio.wait_for(world.loop.statuses.close(), 5.0)
    assert (world.loop.statuses.waiting, world.status) == (0, {})
