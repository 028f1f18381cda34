"""Tri-state readings from scripted answers: a value, a true zero, or a reason."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import orjson
import pytest

from fakes.scripted_source import Samples, ScriptedSource
from fakes.watched import watched
from penstock.metrics_source.answer import read_instant
from penstock.metrics_source.ask import CollectLimits
from penstock.metrics_source.base import (
    DEFAULT_LIMITS,
    ErrorKind,
    Labels,
    QueryError,
    QueryLimits,
    QueryResult,
)
from penstock.metrics_source.collector import Collector
from penstock.metrics_source.identity import IdentifyBy, SeriesSettings, Watched
from penstock.model.observation import Load
from penstock.model.reading import Absence, Reading
from penstock.model.spec import EngineType, Metric, Objective, ServiceKey

BY_SERVICE = SeriesSettings(identify_by=IdentifyBy.SERVICE)
AT = 1000.0
TTFT_AND_TPOT = (Objective(Metric.TTFT, 0.95, 0.5), Objective(Metric.TPOT, 0.95, 0.05))
DOWN = QueryError(ErrorKind.UNAVAILABLE, "q", "cannot reach http://p: connection refused")
BUSY = QueryError(ErrorKind.TIMEOUT, "q", "no answer from http://p within 5 s")

# What each query is recognised by, most telling first, and the service's field it becomes.
SIGNS = {
    "timestamp(": "pulse",
    "deriv(": "growth",
    "num_requests_waiting": "waiting",
    "first_token_seconds_count": "arrival",
    "prompt_tokens_total": "input",
    "generation_tokens_total": "output",
    "request_prompt_tokens": "lengths",
    "request_generation_tokens": "lengths",
    "first_token_seconds_bucket": "ttft",
    "output_token_seconds_bucket": "tpot",
    "output_token_seconds_sum": "mean",
}


def kind_of(query: str) -> str:
    return next(kind for sign, kind in SIGNS.items() if sign in query)


def of(name: str, **more: str) -> Labels:
    return {"namespace": "prod", "service": name} | more


def pulse(name: str, *, age: float = 5.0, running: float = 3.0, pods: float = 2.0) -> Samples:
    return [
        (of(name, part="running"), running),
        (of(name, part="age"), age),
        (of(name, part="pods"), pods),
        ({"part": "before"}, 10.0),
    ]


def healthy(name: str = "chat") -> dict[str, QueryResult | QueryError | Samples]:
    """Return answers of a busy service, by kind of query."""
    return {
        "pulse": pulse(name),
        "growth": [(of(name), 0.1)],
        "waiting": [(of(name), 4.0)],
        "arrival": [(of(name), 17.2)],
        "input": [(of(name), 20000.0)],
        "output": [(of(name), 3600.0)],
        "lengths": [],
        "ttft": [(of(name, part="0.95"), 0.31)],
        "tpot": [(of(name, part="0.95"), 0.027)],
        "mean": [(of(name, part="tpot"), 0.021), (of(name, part="first_tokens"), 17.2 * 0.06)],
    }


def nothing_for(*kinds: str) -> dict[str, Samples]:
    """Return empty answers."""
    return {kind: [] for kind in kinds}


async def collect(
    answers: dict[str, QueryResult | QueryError | Samples], *services: Watched, **more: object
) -> dict[ServiceKey, Load]:
    source = ScriptedSource(lambda query: answers[kind_of(query)], **more)  # type: ignore[arg-type]
    return await Collector(source, BY_SERVICE).collect(services, at=AT)


async def load_of(answers: dict[str, QueryResult | QueryError | Samples], **more: object) -> Load:
    chat = watched("chat", objectives=TTFT_AND_TPOT)
    return (await collect(answers, chat, **more))[chat.key]


def signals(load: Load) -> dict[str, Reading]:
    """Return every reading of a load that Prometheus gives, by name; percentiles as ``ttft.0.95``."""
    found: dict[str, Reading] = {}
    for each in fields(load):
        if each.name == "offered_rate":
            continue  # a gateway's
        value = getattr(load, each.name)
        if isinstance(value, Reading):
            found[each.name] = value
        elif isinstance(value, dict):
            found |= {f"{each.name}.{key}": reading for key, reading in value.items()}
    return found


async def test_a_healthy_service_has_every_signal() -> None:
    load = await load_of(healthy())
    assert {name: reading.value for name, reading in signals(load).items()} == {
        "arrival_rate": 17.2,
        "queue_growth": 0.1,
        "waiting": 4.0,
        "running": 3.0,
        "input_token_rate": 20000.0,
        "output_token_rate": 3600.0,
        "tpot_mean": 0.021,
        "ttft_mean": pytest.approx(0.06),
        "ttft.0.95": 0.31,
        "tpot.0.95": 0.027,
        "reporting_pods": 2.0,
        "sample_age_seconds": 5.0,
    }


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("arrival", {"arrival_rate", "ttft_mean"}),
        ("growth", {"queue_growth"}),
        ("waiting", {"waiting"}),
        ("ttft", {"ttft.0.95"}),
        ("mean", {"tpot_mean", "ttft_mean"}),
        ("pulse", {"running", "reporting_pods", "sample_age_seconds"}),
    ],
)
async def test_a_failed_query_makes_only_its_signal_missing(kind: str, names: set[str]) -> None:
    load = await load_of(healthy() | {kind: BUSY})
    missing = {name for name, reading in signals(load).items() if not reading.present}
    assert missing == names
    for name in names:
        assert signals(load)[name].absence is Absence.QUERY_FAILED
        assert signals(load)[name].detail.endswith("failed: no answer from http://p within 5 s")


async def test_prometheus_down_makes_everything_missing_and_nothing_zero() -> None:
    load = await load_of(dict.fromkeys(healthy(), DOWN))
    assert {reading.absence for reading in signals(load).values()} == {Absence.QUERY_FAILED}


async def test_stale_samples_make_every_signal_missing_but_the_age() -> None:
    load = await load_of(healthy() | {"pulse": pulse("chat", age=75.0, pods=0.0)})
    assert load.sample_age_seconds == Reading(75.0)
    assert load.reporting_pods == Reading(0.0)
    facts = ("sample_age_seconds", "reporting_pods")
    rest = {name: each for name, each in signals(load).items() if name not in facts}
    assert {each.absence for each in rest.values()} == {Absence.STALE}
    assert load.arrival_rate.detail == (
        'no sample of vllm:num_requests_running with namespace="prod", service="chat" is younger than 60 s: '
        "its pods are gone or Prometheus fails to scrape them, see the targets page of Prometheus"
    )


async def test_a_rate_that_outlives_its_pods_is_stale_not_falling_load() -> None:
    load = await load_of(healthy() | {"pulse": [({"part": "before"}, 10.0)], "waiting": [], "growth": []})
    assert load.arrival_rate.absence is Absence.STALE


async def test_no_series_at_all_is_said_once_for_all_signals() -> None:
    load = await load_of(nothing_for(*healthy()))
    assert {name for name, each in signals(load).items() if each.absence is not Absence.NO_SERIES} == {
        "reporting_pods"
    }
    assert load.running.detail.startswith(
        'no series of vllm:num_requests_running with namespace="prod", service="chat": nobody has any; '
        "check engine.type and that Prometheus scrapes the pods (query: "
    )


async def test_one_services_silence_does_not_touch_another() -> None:
    chat, ghost = watched("chat", objectives=TTFT_AND_TPOT), watched("ghost", objectives=TTFT_AND_TPOT)
    alone = await load_of(healthy())
    loads = await collect(healthy(), ghost, chat)
    assert loads[chat.key] == alone
    assert loads[ghost.key].arrival_rate.absence is Absence.NO_SERIES


async def test_zero_requests_are_no_fault_of_the_percentiles() -> None:
    idle = {"arrival": [(of("chat"), 0.0)], "ttft": [(of("chat", part="0.95"), math.nan)]}
    idle |= {"tpot": [(of("chat", part="0.95"), math.nan)], "mean": [(of("chat", part="tpot"), math.nan)]}
    load = await load_of(healthy() | idle)
    nothing = Reading.missing(Absence.NO_REQUESTS, "no request finished within 60 s")
    assert load.arrival_rate == Reading(0.0)
    assert load.ttft[0.95] == load.tpot[0.95] == load.tpot_mean == nothing


async def test_long_streams_may_end_none_within_a_window() -> None:
    load = await load_of(
        healthy()
        | {"tpot": [(of("chat", part="0.95"), math.nan)], "mean": [(of("chat", part="tpot"), math.nan)]}
    )
    assert load.arrival_rate == Reading(17.2)
    assert load.ttft[0.95] == Reading(0.31)
    assert load.tpot[0.95].absence is load.tpot_mean.absence is Absence.NO_REQUESTS


async def test_not_a_number_under_load_is_broken() -> None:
    broken = {"ttft": [(of("chat", part="0.95"), math.nan)], "input": [(of("chat"), math.inf)]}
    load = await load_of(healthy() | broken)
    assert load.ttft[0.95] == Reading.missing(
        Absence.NOT_A_NUMBER,
        "vllm:time_to_first_token_seconds gives NaN: its series hold values that are no numbers",
    )
    assert load.input_token_rate.detail.startswith("vllm:prompt_tokens_total gives +Inf")


async def test_pods_that_have_just_started_have_no_rate_yet() -> None:
    load = await load_of(
        healthy() | nothing_for("arrival", "input", "output", "ttft", "tpot", "mean", "growth")
    )
    assert load.running == Reading(3.0)
    assert load.waiting == Reading(4.0)
    assert load.arrival_rate == Reading.missing(
        Absence.TOO_FEW_SAMPLES,
        "vllm:time_to_first_token_seconds_count has fewer than two samples in 60 s: pods that have just "
        "started need two scrapes; if this stays, the engine does not expose it",
    )
    assert load.ttft[0.95].absence is Absence.TOO_FEW_SAMPLES
    assert load.tpot[0.95].detail.endswith("(it needs vLLM 0.11 or newer)")


@pytest.mark.parametrize("before", [[], [({"part": "before"}, 31.0)]], ids=["just begun", "after an outage"])
async def test_rates_wait_until_prometheus_has_a_whole_window(before: Samples) -> None:
    load = await load_of(healthy() | {"pulse": [*pulse("chat")[:3], *before]})
    missing = {name for name, each in signals(load).items() if each.absence is Absence.TOO_FEW_SAMPLES}
    assert missing == {"arrival_rate", "input_token_rate", "output_token_rate", "ttft_mean"}
    assert load.running.present
    assert load.ttft[0.95].present


@pytest.mark.parametrize(
    ("skew", "detail"),
    [
        (15.5, "Prometheus's clock is more than 15 s ahead of the operator's; "),
        (-100.0, "Prometheus's clock is more than 90 s behind the operator's; "),
    ],
)
async def test_clocks_that_differ_too_much_make_everything_missing(skew: float, detail: str) -> None:
    load = await load_of(healthy(), skew=skew)
    assert {each.absence for name, each in signals(load).items() if name != "reporting_pods"} == {
        Absence.CLOCK_SKEW
    }
    assert load.arrival_rate.detail == (
        f"{detail}at most 15 s can be worked with: synchronise the clocks of the nodes (NTP)"
    )


@pytest.mark.parametrize("skew", [None, 0.0, 14.9, -14.9])
async def test_a_small_or_unknown_skew_is_worked_with(skew: float | None) -> None:
    assert (await load_of(healthy(), skew=skew)).arrival_rate == Reading(17.2)


async def test_warnings_reach_every_service_that_was_asked_for() -> None:
    partial = QueryResult([(of("chat"), 17.2)], warnings=("store 7 is down",), infos=("not a counter",))
    load = await load_of(healthy() | {"arrival": partial})
    assert load.warnings == ("store 7 is down",)
    assert load.arrival_rate == Reading(17.2)
    assert load.sample_age_seconds.absence is Absence.PARTIAL, "nothing is scaled down by it"


async def test_only_the_percentiles_of_its_own_objectives_reach_a_service() -> None:
    answers = healthy() | {"ttft": [(of("chat", part=part), 1.0) for part in ("0.5", "0.95")]}
    one = watched("chat", objectives=(Objective(Metric.TTFT, 0.5, 1.0),))
    other = watched("other", objectives=(Objective(Metric.TTFT, 0.95, 1.0),))
    loads = await collect(answers, one, other)
    assert list(loads[one.key].ttft) == [0.5]
    assert list(loads[other.key].ttft) == [0.95]
    assert loads[one.key].tpot == {}


async def test_two_resources_on_one_target_see_the_same_series() -> None:

    first = watched("chat", objectives=TTFT_AND_TPOT)
    second = replace(first, spec=replace(first.spec, key=ServiceKey("prod", "twin")), series_name="chat")
    loads = await collect(healthy(), first, second)
    assert loads[first.key] == loads[second.key]


async def test_lengths_are_read_for_a_shard_of_the_services_in_turns() -> None:
    services = [watched(f"s{number}") for number in range(5)]
    settings = SeriesSettings(identify_by=IdentifyBy.SERVICE, length_shard_services=2)
    source = ScriptedSource(lambda query: [])
    collector = Collector(source, settings)
    seen = []
    for _ in range(4):
        source.asked.clear()
        await collector.collect(services, at=AT)
        (query,) = [each for each in source.asked if "request_prompt_tokens" in each]
        seen.append(query.split('service=~"')[1].split('"')[0])
    assert seen == ["s0|s1", "s2|s3", "s4", "s0|s1"]


async def test_lengths_come_with_counts_per_bucket_and_the_mean() -> None:
    buckets = [(of("chat", le=bound), value) for bound, value in (("100", 1.0), ("200", 3.0), ("+Inf", 4.0))]
    load = await load_of(healthy() | {"lengths": [*buckets, (of("chat", le="sum"), 600.0)]})
    assert load.input_lengths is not None
    assert load.input_lengths.upper_bounds == (100.0, 200.0, math.inf)
    assert load.input_lengths.counts == (1.0, 2.0, 1.0)
    assert load.input_lengths.mean == 150.0


async def test_a_tick_has_a_deadline_however_many_queries_it_has() -> None:
    source = ScriptedSource(lambda query: [])
    limits = CollectLimits(query_timeout_seconds=5.0, deadline_seconds=0.0)
    chat = watched("chat")
    load = (await Collector(source, BY_SERVICE, limits).collect([chat], at=AT))[chat.key]
    assert source.asked == []
    assert load.arrival_rate.detail == (
        "the query for arrival_rate failed: Prometheus was too slow: 0 s were not enough for all queries"
    )


async def test_queries_carry_the_time_they_may_take() -> None:
    source = ScriptedSource(lambda query: [])
    limits = CollectLimits(query_timeout_seconds=3.0, deadline_seconds=2.0)
    await Collector(source, BY_SERVICE, limits).collect([watched("chat")], at=AT)
    assert all(1.5 < each.timeout_seconds <= 2.0 for each in source.limits)


async def test_nothing_to_collect_asks_nothing() -> None:
    source = ScriptedSource(lambda query: DOWN)
    assert await Collector(source, BY_SERVICE).collect([], at=AT) == {}
    assert source.asked == []


async def test_an_engine_without_a_metric_is_not_asked_for_it() -> None:
    source = ScriptedSource(lambda query: [])
    llama = watched("llama", engine=EngineType.LLAMA_CPP, objectives=TTFT_AND_TPOT)
    load = (await Collector(source, BY_SERVICE).collect([llama], at=AT))[llama.key]
    assert not any("arrival" in each or "_bucket" in each for each in source.asked)
    assert load.arrival_rate.absence is Absence.NO_SERIES  # the whole service is silent


def test_default_limits_leave_room_within_a_tick() -> None:
    limits = CollectLimits()
    assert limits.query_timeout_seconds <= limits.deadline_seconds < 15.0
    assert QueryLimits().answer_bytes == 64 * 1024 * 1024


async def test_a_long_answer_that_breaks_in_the_midst_costs_only_its_own_signal() -> None:
    samples = [(of(f"chat-{index}"), 4.0) for index in range(4000)] + [(of("chat"), 4.0)]
    result = [{"metric": labels, "value": [AT, str(value)]} for labels, value in samples]
    answer = {"status": "success", "data": {"resultType": "vector", "result": result}}
    body = orjson.dumps(answer).replace(b'"value"', b'"valu"', 1)
    load = await load_of(healthy() | {"waiting": read_instant(body, "waiting", DEFAULT_LIMITS)})
    assert load.waiting.absence is Absence.QUERY_FAILED
    assert load.waiting.detail == (
        "the query for waiting failed: the answer is JSON, but not that of a Prometheus API; give the root "
        "of a Prometheus API with its path prefix, without /api/v1"
    )
    assert load.arrival_rate.value == 17.2
