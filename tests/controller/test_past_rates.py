"""New services learn from the past before they are decided on, some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from fakes.watched import watched
from fakes.world import World, chat
from penstock.controller import past_rates
from penstock.controller.past_rates import PastRates
from penstock.controller.service_state import ServiceState
from penstock.metrics_source.base import ErrorKind, QueryError
from penstock.metrics_source.collector import Collector, RateHistory
from penstock.metrics_source.identity import Watched
from penstock.policy.beliefs import LoopTimes

NOW = 1_700_000_000.0
Waiting = list[tuple[Watched | None, ServiceState]]


class Past:
    """Two hours at two requests a second of every service, or an error."""

    def __init__(self, error: QueryError | None = None) -> None:
        self.error = error
        self.asked: list[int] = []

    async def rate_history(
        self, services: Sequence[Watched], *, start: float, end: float, step: float
    ) -> RateHistory:
        self.asked.append(len(services))
        if self.error is not None:
            raise self.error
        points = tuple((start + index * step, 2.0) for index in range(int((end - start) / step) + 1))
        return {each.key: points for each in services}


def waiting(count: int) -> Waiting:
    return [
        (watched(f"chat-{index}"), ServiceState(uid=str(index), awaits_past=True)) for index in range(count)
    ]


def learner(past: Past, tick_seconds: float = 15.0) -> PastRates:
    return PastRates(cast("Collector", past), LoopTimes(tick_seconds=tick_seconds))


@pytest.fixture(autouse=True)
def _two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_rates, "SERVICES_AT_ONCE", 2)


async def test_each_part_of_the_fleet_is_asked_for_apart() -> None:
    past, services = Past(), waiting(5)
    await learner(past).learn(services, NOW)
    assert past.asked == [2, 2, 2, 2, 1, 1], "the last hour and a half, then the day before"
    assert not any(state.awaits_past for _, state in services)
    assert all(state.memory.demand.level == 2.0 for _, state in services)


async def test_what_an_interval_has_no_time_for_waits_for_the_next_tick() -> None:
    past, services = Past(), waiting(5)
    learning = learner(past, tick_seconds=0.0)
    await learning.learn(services, NOW)
    assert [state.awaits_past for _, state in services] == [False, False, True, True, True]
    await learning.learn([each for each in services if each[1].awaits_past], NOW)
    assert [state.awaits_past for _, state in services] == [False, False, False, False, True]


async def test_others_have_their_turn_after_each_service() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await learner(Past()).learn(waiting(5), NOW)
    task.cancel()
    assert turns >= 5


@pytest.mark.parametrize("error", [None, QueryError(ErrorKind.UNAVAILABLE, "q", "Prometheus is away")])
async def test_who_has_no_series_or_an_unreachable_past_begins_without(error: QueryError | None) -> None:
    past = Past(error)
    services: Waiting = [*waiting(3), (None, ServiceState(uid="none", awaits_past=True))]
    await learner(past).learn(services, NOW)
    assert not any(state.awaits_past for _, state in services)
    assert services[-1][1].memory.demand.level == 0.0
    if error is not None:
        assert past.asked == [2], "asked once: a server that is away costs each part its time-out"


async def test_nothing_is_decided_or_written_on_a_service_whose_past_is_not_known_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(rate=lambda _: 60.0, spec=chat(), target=2)

    async def later(*_: object) -> None:
        """Learn nothing yet."""

    with monkeypatch.context() as patched:
        patched.setattr(PastRates, "learn", later)
        await world.run(120)
    (state,) = world.loop.states.values()
    assert state.outcome is None
    assert not world.status_writes
    assert not world.scale_writes
    await world.run(300)
    assert world.target > 2, "from then on as ever"
