"""What a tick does for services of which nothing changes: counted, as times are noise on a busy machine."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest

from fakes.world import chat
from penstock.controller import loop
from penstock.controller.apply import ScaleWriter
from penstock.controller.cache import FleetCache
from penstock.controller.loop import ControlLoop, LoopParts
from penstock.controller.show import StatusWriter
from penstock.controller.step import StepContext
from penstock.controller.tables import CapacityTables
from penstock.controller.work_ahead import work_ahead
from penstock.kube.events import EventRecorder
from penstock.metrics_source.identity import Watched
from penstock.model.observation import Load
from penstock.model.reading import Reading
from penstock.model.spec import ServiceKey
from penstock.policy import beliefs, demand
from penstock.policy.beliefs import LoopTimes
from penstock.policy.engine_look import compare
from penstock.policy.forecast import ForecastMemory, close_cell
from penstock.telemetry.metrics import OperatorMetrics

# Twenty requests a second on two replicas: what the profile says of them, so that nothing is left to learn.
LOAD = Load(
    arrival_rate=Reading(20.0),
    queue_growth=Reading(0.0),
    waiting=Reading(0.0),
    running=Reading(46.0),
    input_token_rate=Reading(20.0 * 1155),
    output_token_rate=Reading(20.0 * 211),
    tpot_mean=Reading(0.0125),
    ttft_mean=Reading(0.06),
    ttft={0.95: Reading(0.21)},
    tpot={0.95: Reading(0.021)},
    reporting_pods=Reading(2.0),
    sample_age_seconds=Reading(5.0),
)
# Python calls of one service at a tick: 154 to 173 were counted, 356 at every fourth one while all services
# compared their speed at the same. One more for each of 10,000 services is about a millisecond.
MOST_CALLS = 185


class Fleet:
    """`count` services under steady load: collector, API server and loop."""

    def __init__(self, count: int, times: LoopTimes | None = None) -> None:
        self.requests: Counter[str] = Counter()
        self.now = 1_000_000.0
        self.cache = FleetCache()
        for index in range(count):
            self._watch(f"team-{index}")
        self.tables = CapacityTables(lambda: ThreadPoolExecutor(1))
        metrics = OperatorMetrics()
        self.loop = ControlLoop(
            LoopParts(
                context=StepContext(self.cache, self.tables, times or LoopTimes()),
                collector=self,  # type: ignore[arg-type] - the collector's two calls are played below
                scale=ScaleWriter(self, self._in_flight),  # type: ignore[arg-type]
                status=StatusWriter(self, EventRecorder(self, instance="test"), metrics),  # type: ignore[arg-type]
                metrics=metrics,
                pods_identify=False,
            ),
            clock=lambda: self.now,
        )

    async def tick(self, count: int) -> None:
        for _ in range(count):
            await self.loop.tick(self.now)
            await self.loop.statuses.settled()
            await self.tables.settled()
            self.now += 15

    async def collect(self, services: Sequence[Watched], *, at: float) -> dict[ServiceKey, Load]:
        self.requests["collect"] += 1
        return dict.fromkeys((each.key for each in services), LOAD)

    async def rate_history(self, *_: object, **__: object) -> Mapping[ServiceKey, Any]:
        return {}

    async def patch(self, resource: Any, namespace: str, *_: object, **__: object) -> dict[str, Any]:
        self.requests[f"patch {resource.plural}"] += 1
        return {}

    async def create(self, resource: Any, *_: object) -> dict[str, Any]:
        self.requests[f"create {resource.plural}"] += 1
        return {}

    async def _in_flight(self, *_: object) -> Mapping[str, float]:
        raise AssertionError("nobody is scaled down")

    def _watch(self, namespace: str) -> None:
        about = {"namespace": namespace, "name": "chat", "generation": 1, "resourceVersion": "5"}
        self.cache.see_service({"metadata": about | {"uid": namespace}, "spec": chat(min=2)})
        counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas"), 2)
        self.cache.see_workload(
            "Deployment",
            {
                "metadata": about | {"uid": f"{namespace}-d"},
                "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "chat"}}},
                "status": {"observedGeneration": 1, **counts},
            },
        )


async def calls_per_service(fleet: Fleet, ticks: int) -> float:
    """Return the calls of Python functions that a service costs at a tick."""
    counted = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal counted
        counted += event == "call"

    sys.setprofile(count)
    try:
        await fleet.tick(ticks)
    finally:
        sys.setprofile(None)
    return counted / ticks / len(fleet.loop.states)


async def all_before_its_tick(fleet: Fleet, done: Sequence[float]) -> None:
    """Let a minute pass; nothing is `done` in its ticks, where the gaps before them do it."""
    for _ in range(4):
        await work_ahead(fleet.loop.states.values(), fleet.now, LoopTimes())
        before = len(done)
        await fleet.tick(1)
        assert len(done) == before


async def test_a_tick_of_unchanged_services_writes_nothing_asks_once_and_calls_little() -> None:
    fleet = Fleet(60)
    await fleet.tick(60)
    fleet.requests.clear()
    calls = [await calls_per_service(fleet, 1) for _ in range(8)]
    assert fleet.requests == {"collect": 8}
    assert max(calls) <= MOST_CALLS, "at every single tick: services take turns"


async def test_the_work_of_a_tick_grows_no_faster_than_the_fleet() -> None:
    small, large = Fleet(20), Fleet(80)
    for fleet in (small, large):
        await fleet.tick(60)
    assert await calls_per_service(large, 8) <= 1.05 * await calls_per_service(small, 8)


async def test_the_loop_forecasts_in_each_gap_for_the_time_of_the_next_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet, asked, twice = Fleet(1, LoopTimes(tick_seconds=0.2)), list[float](), asyncio.Event()

    async def note(_: object, next_at: float, __: object) -> None:
        asked.append(next_at - fleet.now)
        if len(asked) == 2:
            twice.set()

    monkeypatch.setattr(loop, "work_ahead", note)
    running = asyncio.create_task(fleet.loop.run())
    try:
        async with asyncio.timeout(10):
            await twice.wait()
    finally:
        running.cancel()
        await asyncio.wait([running])
        gc.enable()  # the loop takes the collector over
        gc.unfreeze()
    assert all(0 < seconds <= 0.2 for seconds in asked), asked


async def test_forecasts_are_made_between_ticks_not_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(20)
    await fleet.tick(60)
    closed = []

    def close(*words: Any) -> ForecastMemory:
        closed.append(fleet.now)
        return close_cell(*words)

    monkeypatch.setattr(demand, "close_cell", close)
    await fleet.tick(4)
    assert len(closed) == 20, "in the ticks, where nobody does it before"
    await all_before_its_tick(fleet, closed)
    assert len(closed) == 40


async def test_engines_are_compared_with_their_profile_between_ticks_not_in_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = Fleet(20)
    await fleet.tick(60)
    compared = []

    def note(*words: Any) -> Any:
        compared.append(fleet.now)
        return compare(*words)

    monkeypatch.setattr(beliefs, "compare", note)
    await all_before_its_tick(fleet, compared)
    assert len(compared) == 20, "each once a minute"


async def test_a_look_that_cannot_be_compared_fails_one_tick_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = Fleet(1)
    await fleet.tick(60)
    (state,) = fleet.loop.states.values()
    while state.memory.look is None:
        await fleet.tick(1)

    def fail(*_: object) -> Any:
        raise ArithmeticError

    with monkeypatch.context() as broken:
        broken.setattr(beliefs, "compare", fail)
        await work_ahead(fleet.loop.states.values(), fleet.now, LoopTimes())
        await fleet.tick(1)
        assert state.defect == "ArithmeticError: "
        await fleet.tick(1)
        assert state.defect == ""


async def test_a_forecast_that_fails_ahead_is_left_to_the_tick_and_stops_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = Fleet(2)
    await fleet.tick(60)
    broken, sound = fleet.loop.states.values()

    def close(forecast: ForecastMemory, *words: Any) -> ForecastMemory:
        if forecast is broken.memory.demand.forecast:
            raise ArithmeticError
        return close_cell(forecast, *words)

    monkeypatch.setattr(demand, "close_cell", close)
    await work_ahead(fleet.loop.states.values(), fleet.now + 60, LoopTimes())
    assert broken.ahead is None
    assert sound.ahead is not None
    await fleet.tick(4)
    assert broken.defect == "ArithmeticError: ", "counted and shown by the tick"
    assert sound.defect == ""
