"""Slow queries of one namespace: whose time they take, and how long everybody waits for the tick."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from fakes.fake_time import on_fake_time
from fakes.scripted_source import ScriptedSource
from fakes.watched import custom, watched
from penstock.metrics_source.arms import ArmsWanted, read_arms
from penstock.metrics_source.ask import Asker, CollectLimits
from penstock.metrics_source.base import DEFAULT_LIMITS, ErrorKind, QueryError, QueryLimits, QueryResult
from penstock.metrics_source.collector import Collector
from penstock.metrics_source.fair_gate import OPERATOR, FairGate
from penstock.metrics_source.identity import SeriesSettings, Watched
from penstock.model.canary_spec import CanaryCheck, CheckType
from penstock.model.reading import Absence, Reading
from penstock.model.spec import EngineType, ServiceKey, Signal

AT = 1000.0
LIMITS = CollectLimits()
QUICK_SECONDS = 0.01


@dataclass
class UnevenSource(ScriptedSource):
    """Answers in 10 ms, but for queries that contain `slow`: those take all the time they are given."""

    slow: str = "slow"
    at_once: int = 0
    most_at_once: int = 0

    async def instant(self, query: str, at: float, limits: QueryLimits = DEFAULT_LIMITS) -> QueryResult:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.slow in query:
                await asyncio.sleep(limits.timeout_seconds)
                raise QueryError(ErrorKind.TIMEOUT, query, "no answer in time")
            await asyncio.sleep(QUICK_SECONDS)
            return await super().instant(query, at, limits)
        finally:
            self.at_once -= 1


def slow_ones(namespace: str, count: int = 30) -> list[Watched]:
    queries = {Signal.RUNNING: "slow"}
    return [custom(f"slow-{number}", queries, namespace=namespace) for number in range(count)]


def ticking() -> UnevenSource:
    return UnevenSource(lambda query: [({"part": "0"}, 5.0)])


@pytest.mark.parametrize("bad", [("bad",), ("bad-1", "bad-2", "bad-3", "bad-4")], ids=["one", "four"])
def test_slow_queries_of_others_leave_a_namespace_its_answers(bad: Iterable[str]) -> None:
    @on_fake_time
    async def tick() -> None:
        quick = custom("quick", {Signal.RUNNING: "busy", Signal.QUEUE_DEPTH: "queue"}, namespace="good")
        services = [*(each for name in bad for each in slow_ones(name)), quick]
        loads = await Collector(ticking()).collect(services, at=AT)
        load = loads[quick.key]
        assert (load.running, load.waiting, load.queue_growth) == (Reading(5.0), Reading(5.0), Reading(5.0))

    tick()


@on_fake_time
async def test_slow_queries_hold_up_the_decisions_on_the_fleet_for_half_of_the_deadline_at_most() -> None:
    services = slow_ones("bad")
    loads = await Collector(ticking()).collect(services, at=AT)
    assert asyncio.get_running_loop().time() <= LIMITS.deadline_seconds / 2 + LIMITS.custom_timeout_seconds
    assert loads[services[-1].key].running == Reading.missing(
        Absence.QUERY_FAILED,
        "the query for Running failed: other queries of namespace bad time out, which left no time for this "
        "one: make those cheaper, or give Prometheus more CPU",
    )


@on_fake_time
async def test_a_namespace_whose_queries_are_quick_uses_the_places_that_nobody_else_wants() -> None:
    source = UnevenSource(lambda query: [({"part": "0"}, 5.0)], slow="nothing is")
    services = [custom(f"quick-{number}", {Signal.RUNNING: "busy"}) for number in range(100)]
    loads = await Collector(source).collect(services, at=AT)
    assert all(loads[each.key].running.present for each in services)
    assert source.most_at_once == LIMITS.concurrency - 1
    answers = 2 * len(services)  # the value and its age
    assert asyncio.get_running_loop().time() == pytest.approx(answers * QUICK_SECONDS / source.most_at_once)


@on_fake_time
async def test_slow_checks_of_one_namespaces_canaries_leave_anothers_its_own() -> None:
    def canary(namespace: str, query: str) -> ArmsWanted:
        return ArmsWanted(
            key=ServiceKey(namespace, "chat"),
            engine=EngineType.CUSTOM,
            stable_pods=frozenset(),
            canary_pods=frozenset({"new-1"}),
            metrics=(),
            checks=tuple(
                CanaryCheck(f"check-{number}", CheckType.THRESHOLD, query=query, at_most=0.9)
                for number in range(20)
            ),
        )

    bad, good = canary("bad", "slow"), canary("good", "mem")
    read = await read_arms(
        UnevenSource(lambda query: [({}, 0.7)]), [bad, good], at=AT, settings=SeriesSettings()
    )
    arm = read[good.key].canary
    assert arm is not None
    assert set(arm.thresholds.values()) == {0.7}
    assert read[bad.key].canary is None


@on_fake_time
async def test_the_operators_own_questions_do_not_wait_behind_those_of_tenants() -> None:
    source = ticking()
    asker = Asker(source, LIMITS, AT)
    tenants = [asker.on_behalf_of(f"tenant-{number}") for number in range(20)]
    asking = [asyncio.ensure_future(each.one("busy", LIMITS.custom())) for each in tenants]
    await asyncio.sleep(0)
    asking.append(asyncio.ensure_future(asker.one("fleet", DEFAULT_LIMITS)))
    await asyncio.gather(*asking)
    assert source.asked.index("fleet") == LIMITS.concurrency


@on_fake_time
async def test_a_slow_answer_to_the_operator_itself_takes_no_place_from_it() -> None:
    source = UnevenSource(lambda query: [], slow="vllm")
    services = [watched(f"chat-{number}", f"chat-{number}-0") for number in range(3)]
    await Collector(source).collect(services, at=AT)
    assert source.most_at_once == LIMITS.concurrency


class Takers:
    """Tenants at a gate; each notes its place and keeps it until it is told to leave."""

    def __init__(self, places: int) -> None:
        self.gate = FairGate(places)
        self.taken: list[str] = []
        self._leave: list[asyncio.Event] = []

    def come(self, *askers: str) -> list[asyncio.Task[None]]:
        return [asyncio.ensure_future(self._take(each)) for each in askers]

    async def leave(self, *numbers: int) -> None:
        """Let those leave who took their places as the given ones."""
        for each in numbers:
            self._leave[each].set()
        await asyncio.sleep(0.1)

    async def _take(self, asker: str) -> None:
        async with self.gate.place(asker):
            leave = asyncio.Event()
            self.taken.append(asker)
            self._leave.append(leave)
            await leave.wait()


@on_fake_time
async def test_tenants_take_turns() -> None:
    takers = Takers(1)
    takers.come("first", "a", "a", "a", "b", "b", "c")
    await asyncio.sleep(0.1)
    for number in range(7):
        await takers.leave(number)
    assert takers.taken == ["first", "a", "b", "c", "a", "b", "a"]


@on_fake_time
async def test_a_place_goes_to_the_operator_first_and_then_to_the_tenant_with_the_fewest() -> None:
    takers = Takers(4)
    takers.come("a", "a", "a", "a", "b", "b", OPERATOR)
    await asyncio.sleep(0.1)
    assert takers.taken == ["a", "a", "a", "b"]  # the last one not to who has all others
    await takers.leave(0)
    assert takers.taken[4:] == [OPERATOR]
    await takers.leave(4)
    assert takers.taken[5:] == ["b"]
    await takers.leave(1, 2, 3, 5)
    assert takers.taken[6:] == ["a"]


@on_fake_time
async def test_a_tenant_that_was_slowed_down_asks_one_at_a_time() -> None:
    takers = Takers(4)
    takers.gate.slow_down("a")
    takers.come("a", "a", "b", "b")
    await asyncio.sleep(0.1)
    assert takers.taken == ["a", "b", "b"]
    await takers.leave(1, 2)
    assert takers.taken == ["a", "b", "b"]
    await takers.leave(0)
    assert takers.taken[3:] == ["a"]


@on_fake_time
async def test_who_gives_up_leaves_its_place_to_the_others() -> None:
    takers = Takers(1)
    holding, waiting, _ = takers.come("a", "b", "c")
    await asyncio.sleep(0.1)
    waiting.cancel()
    holding.cancel()
    await asyncio.sleep(0.1)
    assert takers.taken == ["a", "c"]
    await takers.leave(1)
    takers.come("d")
    await asyncio.sleep(0.1)
    assert takers.taken == ["a", "c", "d"]


@on_fake_time
async def test_who_gives_up_in_the_moment_of_its_turn_leaves_its_place_too() -> None:
    takers = Takers(1)
    async with takers.gate.place("a"):
        (next_one,) = takers.come("b")
        await asyncio.sleep(0.1)
    next_one.cancel()  # it was given the place and has not run since
    takers.come("c")
    await asyncio.sleep(0.1)
    assert takers.taken == ["c"]
