"""How a tick writes: targets first, each by the version that was seen, Events behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from fakes.world import World, chat
from penstock.controller.scaling_news import ScalingNews
from penstock.controller.tick_writes import TickWrites, Writers
from penstock.kube.api import EVENTS, Object, Resource, Scale
from penstock.model.spec import ServiceKey


class CountingWorld(World):
    """Counts looks at /scale; `foreign` edits happen between two ticks unseen by the watch."""

    looks = 0
    foreign = 0

    async def get_scale(self, resource: Resource, namespace: str, name: str) -> Scale:
        self.looks += 1
        return await super().get_scale(resource, namespace, name)

    async def patch_scale(self, *args: Any, replicas: int, resource_version: str) -> Scale:
        if self.foreign:
            self.foreign = 0
            self.version += 1  # its status moved meanwhile
        return await super().patch_scale(*args, replicas=replicas, resource_version=resource_version)


async def test_a_scale_up_goes_by_the_version_the_watch_has_shown() -> None:
    world = CountingWorld(rate=lambda t: 30.0 if t < 300 else 90.0, spec=chat(), target=2)
    await world.run(480)
    assert [count for _, count in world.scale_writes if count > 2]
    assert world.looks == 0


async def test_a_target_that_has_moved_since_is_looked_at_once_more() -> None:
    world = CountingWorld(rate=lambda t: 30.0 if t < 300 else 90.0, spec=chat(), target=2)
    await world.run(300)
    world.foreign = 1
    await world.run(180)
    assert [count for _, count in world.scale_writes if count > 2]
    assert world.looks == 1


async def test_an_event_that_hangs_delays_no_tick() -> None:
    world = World(rate=lambda t: 30.0 if t < 300 else 90.0, spec=chat(), target=2)
    await world.run(300)
    hang, create = asyncio.Event(), world.create

    async def slow(resource: Resource, *args: Any, **more: Any) -> Object:
        if resource is EVENTS:
            await hang.wait()
        return await create(resource, *args, **more)

    world.create = slow  # type: ignore[method-assign]
    told = len(world.events)
    for _ in range(8):
        world._flow()
        world._watch()
        await asyncio.wait_for(world.loop.tick(world.now), 5.0)
        world.now += 15
    assert world.scale_writes
    assert len(world.events) == told
    hang.set()
    await world.shown.events.settled()
    assert len(world.events) > told


class Recorded:
    """Takes targets and Events in the order in which they come; the second target takes its time."""

    def __init__(self) -> None:
        self.order: list[str] = []

    async def write(self, *_: object, **__: object) -> bool:
        await asyncio.sleep(0.01 * len(self.order))
        self.order.append("target")
        return True

    def announce_scaling(self, *_: object) -> None:
        self.order.append("event")


async def test_events_wait_until_the_last_target_of_the_tick_is_set() -> None:
    world = World(rate=lambda t: 30.0, spec=chat(), target=2)
    await world.run(60)
    state = world.loop.states[ServiceKey("prod", "chat")]
    assert state.outcome is not None
    outcome = replace(state.outcome, decision=replace(state.outcome.decision, value=4))
    parts = Recorded()
    writes = TickWrites(
        Writers(parts, ScalingNews(parts, world.metrics), drains=False, dry_run=False),  # type: ignore[arg-type]
        world.now,
    )
    writes.begin(state, outcome, 4, "1")
    await asyncio.sleep(0.005)
    writes.begin(state, outcome, 4, "1")
    await writes.targets_set()
    assert parts.order == ["target", "target", "event", "event"]
