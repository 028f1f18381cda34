"""Arrival rates of the past, for an operator that was restarted."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from fakes.defective import defective
from fakes.fake_time import on_fake_time
from fakes.scripted_source import ScriptedSource
from fakes.watched import custom, watched
from penstock.metrics_source import history
from penstock.metrics_source.base import (
    DEFAULT_LIMITS,
    ErrorKind,
    Labels,
    QueryError,
    QueryLimits,
    RangeResult,
)
from penstock.metrics_source.collector import Collector
from penstock.metrics_source.history import TIMEOUT_SECONDS
from penstock.metrics_source.identity import IdentifyBy, SeriesSettings
from penstock.model.spec import EngineType, Signal

CHAT = watched("chat", "chat-7d9f8c6b5d-x2x4z")
Points = tuple[Labels, list[tuple[float, float]]]
Series = list[Points]


def source_of(series: Series) -> ScriptedSource:
    return ScriptedSource(lambda _: [], series=RangeResult(series))


def pod(
    name: str, *points: tuple[float, float], namespace: str = "prod"
) -> tuple[Labels, list[tuple[float, float]]]:
    return {"namespace": namespace, "pod": name}, list(points)


async def test_the_rates_of_a_services_pods_are_added_up_instant_by_instant() -> None:
    series = [
        pod("chat-7d9f8c6b5d-x2x4z", (20.0, 2.0), (10.0, 1.0)),
        pod("chat-7d9f8c6b5d-abcde", (20.0, 3.0), (30.0, 4.0)),  # of the same Deployment, gone by now
        pod("chat-55c4c87fb6-zzzzz", (10.0, 5.0)),  # of its rollout before
        pod("chat-small-7d9f8c6b5d-x2x4z", (10.0, 100.0)),  # another Deployment
        pod("chat-7d9f8c6b5d-abcde", (10.0, 100.0), namespace="other"),
    ]
    found = await Collector(source_of(series)).rate_history([CHAT], start=10, end=30, step=10)
    assert found == {CHAT.key: ((10.0, 6.0), (20.0, 5.0), (30.0, 4.0))}


async def test_pods_of_a_stateful_set_are_known_by_their_ordinals() -> None:
    found = await Collector(source_of([pod("chat-3", (10.0, 1.5))])).rate_history(
        [watched("chat", "chat-0")], start=10, end=10, step=10
    )
    assert found == {CHAT.key: ((10.0, 1.5),)}


async def test_by_service_the_label_says_whose_it_is() -> None:
    series: Series = [({"namespace": "prod", "service": "chat"}, [(10.0, 1.5), (20.0, math.nan)])]
    collector = Collector(source_of(series), SeriesSettings(identify_by=IdentifyBy.SERVICE))
    assert await collector.rate_history([CHAT], start=10, end=20, step=10) == {CHAT.key: ((10.0, 1.5),)}


async def test_only_the_services_that_are_asked_for_are_read_and_pods_that_are_gone() -> None:
    source = source_of([])
    await Collector(source).rate_history([CHAT], start=10, end=20, step=10)
    by_service = SeriesSettings(identify_by=IdentifyBy.SERVICE)
    await Collector(source, by_service).rate_history([CHAT], start=10, end=20, step=10)
    assert 'namespace=~"prod",pod=~"chat-7d9f8c6b5d-x2x4z|chat-.*"' in source.asked[0]
    assert 'namespace=~"prod",service=~"chat"' in source.asked[1]


async def test_a_service_without_history_is_left_out() -> None:
    llama = watched("llama", "llama-1", engine=EngineType.LLAMA_CPP)
    source = source_of([])
    assert await Collector(source).rate_history([CHAT, llama], start=10, end=20, step=10) == {}
    assert len(source.asked) == 1


async def test_a_custom_rate_has_a_history_too() -> None:
    own = custom("own", {Signal.ARRIVAL_RATE: "sum(rate(r[1m]))", Signal.RUNNING: "busy"})
    source = source_of([({}, [(10.0, 1.0), (20.0, -1.0), (30.0, 3.0)])])
    found = await Collector(source).rate_history([own], start=10, end=30, step=10)
    assert found == {own.key: ((10.0, 1.0), (30.0, 3.0))}
    assert source.asked == ['sum ( rate ( r{namespace="prod"} [1m] ) )']


@dataclass
class FaultySource(ScriptedSource):
    """Answers range queries but those that contain `refused` or `slow`."""

    refused: str = "nothing"
    slow: str = "nothing"

    async def range(
        self, query: str, *, start: float, end: float, step: float, limits: QueryLimits = DEFAULT_LIMITS
    ) -> RangeResult:
        if self.refused in query:
            raise QueryError(ErrorKind.BAD_QUERY, query, "Prometheus refuses the query: bad label")
        if self.slow in query:
            await asyncio.sleep(limits.timeout_seconds)
            raise QueryError(ErrorKind.TIMEOUT, query, "no answer in time")
        return await super().range(query, start=start, end=end, step=step, limits=limits)


async def test_a_custom_rate_that_cannot_be_read_leaves_out_that_service_only() -> None:
    services = [custom(name, {Signal.ARRIVAL_RATE: f"sum({name}_rate)"}) for name in ("first", "bad", "last")]
    series = RangeResult([pod("chat-7d9f8c6b5d-x2x4z", (10.0, 1.5))])
    source = FaultySource(lambda _: [], series=series, refused="bad_rate")
    with capture_logs() as logs:
        found = await Collector(source).rate_history([*services, CHAT], start=10, end=10, step=10)
    assert found == {each.key: ((10.0, 1.5),) for each in (services[0], services[2], CHAT)}
    assert logs == [
        {
            "event": "the history of a custom rate is left out",
            "service": "prod/bad",
            "error": "Prometheus refuses the query: bad label",
            "log_level": "warning",
        }
    ]


@on_fake_time
async def test_custom_rates_that_time_out_do_not_take_their_time_one_after_the_other() -> None:
    slow = [custom(f"slow-{number}", {Signal.ARRIVAL_RATE: f"slow_{number}"}) for number in range(60)]
    quick = custom("quick", {Signal.ARRIVAL_RATE: "quick"})
    elsewhere = custom("elsewhere", {Signal.ARRIVAL_RATE: "quick"}, namespace="other")
    source = FaultySource(lambda _: [], series=RangeResult([({}, [(10.0, 1.5)])]), slow="slow_")
    with capture_logs() as logs:
        found = await Collector(source).rate_history([quick, *slow, elsewhere], start=10, end=10, step=10)
    assert found == {quick.key: ((10.0, 1.5),), elsewhere.key: ((10.0, 1.5),)}
    assert asyncio.get_running_loop().time() == pytest.approx(TIMEOUT_SECONDS / 2)
    assert len(logs) == 60


async def test_a_custom_rate_of_which_the_server_warns_that_it_is_a_part_is_no_past() -> None:
    own = custom("own", {Signal.ARRIVAL_RATE: "sum(r)"})
    source = ScriptedSource(
        lambda _: [], series=RangeResult([({}, [(10.0, 1.0)])], warnings=("store 7 is down",))
    )
    with capture_logs() as logs:
        assert await Collector(source).rate_history([own], start=10, end=10, step=10) == {}
    assert [each["error"] for each in logs] == [
        "the answer to the query for ArrivalRate may be incomplete, the server warns: store 7 is down"
    ]


async def test_a_defect_that_one_custom_rate_meets_leaves_out_that_service_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "confined", defective(history.confined, "bad_rate"))
    services = [custom(name, {Signal.ARRIVAL_RATE: f"sum({name}_rate)"}) for name in ("bad", "good")]
    with capture_logs() as logs:
        found = await Collector(source_of([({}, [(10.0, 1.5)])])).rate_history(
            services, start=10, end=10, step=10
        )
    assert found == {services[1].key: ((10.0, 1.5),)}
    assert [(each["service"], each["log_level"]) for each in logs] == [("prod/bad", "error")]


async def test_a_rate_over_an_absurd_time_costs_nobody_else_its_past() -> None:
    absurd = custom("absurd", {Signal.ARRIVAL_RATE: f"rate(x[{'9' * 310}s])"})
    good = custom("good", {Signal.ARRIVAL_RATE: "sum(r)"})
    source = source_of([({}, [(10.0, 1.5)])])
    found = await Collector(source).rate_history([absurd, good], start=10, end=10, step=10)
    assert found == {good.key: ((10.0, 1.5),)}


async def test_engines_whose_rates_cannot_be_read_are_an_error() -> None:
    source = FaultySource(lambda _: [], refused="vllm:")
    with pytest.raises(QueryError, match="Prometheus refuses the query: bad label"):
        await Collector(source).rate_history([CHAT], start=10, end=10, step=10)


@pytest.mark.parametrize("times", [{"start": 20, "end": 10, "step": 5}, {"start": 10, "end": 20, "step": 0}])
async def test_times_out_of_order_are_a_mistake(times: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a history needs start <= end and a positive step"):
        await Collector(source_of([])).rate_history([CHAT], **times)
