"""A wall clock that somebody sets ends the operator; one that is corrected gently does not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import accumulate, chain, repeat

import pytest

from fakes.fake_time import on_fake_time
from penstock.controller.clock_watch import ClockJumpedError, until_clock_jumps


def clock(*steps: float) -> Iterator[float]:
    """A clock that goes on by `steps`, then by a second a second."""
    return accumulate(chain(steps, repeat(1.0)), initial=1_000.0)


async def watch_for(seconds: float, wall: Iterator[float], steady: Iterator[float]) -> None:
    async with asyncio.timeout(seconds):
        await until_clock_jumps(wall.__next__, steady.__next__)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (3601.0, "the clock of this machine was set 3600 s ahead"),
        (-3599.0, "the clock of this machine was set 3600 s back"),
        (32.0, "the clock of this machine was set 31 s ahead"),
    ],
)
@on_fake_time
async def test_a_clock_that_was_set_is_told_with_how_far(step: float, said: str) -> None:
    with pytest.raises(ClockJumpedError, match=said):
        await watch_for(60.0, clock(1.0, 1.0, step), clock())


@pytest.mark.parametrize("steps", [(1.0,) * 3, (1.5,) * 600, (20.0,), (0.5,) * 600])
@on_fake_time
async def test_gentle_corrections_are_no_jump(steps: tuple[float, ...]) -> None:
    with pytest.raises(TimeoutError):
        await watch_for(700.0, clock(*steps), clock())


@on_fake_time
async def test_a_process_that_stood_still_sees_no_jump() -> None:
    with pytest.raises(TimeoutError):
        await watch_for(60.0, clock(1.0, 900.0), clock(1.0, 900.0))
