"""What can wait steps aside while a tick decides, but not for ever."""

from __future__ import annotations

import asyncio

import pytest

from fakes.world import World, chat
from penstock.controller import between_ticks
from penstock.controller.between_ticks import BetweenTicks


async def test_in_the_gap_nobody_waits() -> None:
    await asyncio.wait_for(BetweenTicks().come(), 1.0)


async def test_in_a_tick_everybody_waits_for_its_end() -> None:
    gap = BetweenTicks()
    with gap.tick():
        waiting = asyncio.create_task(gap.come())
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 1.0)


async def test_a_tick_that_fails_opens_the_gap() -> None:
    gap = BetweenTicks()
    with pytest.raises(ValueError, match="defect"), gap.tick():
        raise ValueError("defect")
    await asyncio.wait_for(gap.come(), 1.0)


async def test_a_tick_without_end_holds_nobody_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(between_ticks, "PATIENCE_SECONDS", 0.01)
    gap = BetweenTicks()
    with gap.tick():
        await asyncio.wait_for(gap.come(), 1.0)


async def test_a_status_is_written_when_the_tick_has_ended() -> None:
    world = World(rate=lambda _: 30.0, spec=chat(), target=2)
    await world.run(120)
    outbox, (known,) = world.loop.statuses, world.cache.services.values()
    written = len(world.status_writes)
    world.loop.states[known.key].shown_findings = None  # as if nothing had been shown yet
    with world.loop.gap.tick():
        outbox.put([(known, world.loop.states[known.key])], world.now)
        await asyncio.sleep(0.01)
        assert (outbox.waiting, len(world.status_writes)) == (1, written)
    await outbox.settled()
    assert outbox.waiting == 0
    assert world.loop.states[known.key].shown_findings is not None
