"""A service's own queries: one number each, only its own namespace, and nothing read into silence."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Collection

import pytest

from fakes.builders import TTFT_500MS
from fakes.prometheus_fixture import wait_until
from fakes.replayed_engine import ReplayedEngine
from fakes.scraped_fleet import WINDOW_SECONDS, ScrapedFleet, collector_for, target
from fakes.scripted_source import Samples, ScriptedSource, scalar
from fakes.watched import custom, watched
from penstock.metrics_source.ask import CollectLimits
from penstock.metrics_source.base import ErrorKind, QueryError, QueryResult
from penstock.metrics_source.collector import Collector
from penstock.model.observation import Load
from penstock.model.reading import Absence, Reading
from penstock.model.spec import EngineType, Signal
from penstock.policy.beliefs import offered_rate
from penstock.sandbox.prometheus import PrometheusProcess

AT = 1000.0
ZERO = Reading(0.0)
FILLED = (
    f"count_over_time(up[{WINDOW_SECONDS:g}s]) >= {2 * WINDOW_SECONDS:g} and up offset {WINDOW_SECONDS:g}s"
)
FULL = {
    Signal.ARRIVAL_RATE: "sum(rate(req_total[1m]))",
    Signal.QUEUE_DEPTH: "sum(queue)",
    Signal.RUNNING: "sum(busy)",
    Signal.TTFT_P95: "max(ttft)",
}


def by_selector(query: str, value: float, without: Collection[str] = ()) -> Samples:
    """Answer `value` for each selector of a question about their samples, but those of some metrics."""
    asked = re.findall(r"(\w+)\{.*?\}.*?, \"part\", \"(\d+)\"", query)
    return [({"part": number}, value) for metric, number in asked if metric not in without]


def answering(special: dict[str, QueryResult | QueryError | Samples], value: float = 2.0) -> ScriptedSource:
    """Answer `value` to everything but the queries that contain a key of `special`."""

    def script(query: str) -> QueryResult | QueryError | Samples:
        for sign, answer in special.items():
            if sign in query:
                return answer
        return by_selector(query, 5.0) if "timestamp" in query else [({}, value)]

    return ScriptedSource(script)


async def load_of(source: ScriptedSource, queries: dict[Signal, str]) -> Load:
    service = custom("own", queries)
    return (await Collector(source).collect([service], at=AT))[service.key]


async def test_every_query_becomes_its_signal_and_the_queue_also_its_growth() -> None:
    source = answering({"deriv": [({}, 0.25)], "rate (": [({}, 17.2)], "max (": [({}, 0.31)]})
    load = await load_of(source, FULL)
    assert load.arrival_rate == Reading(17.2 - 0.25)
    assert (load.waiting, load.running) == (Reading(2.0), Reading(2.0))
    assert load.queue_growth == Reading(0.25)
    assert load.ttft == {0.95: Reading(0.31)}
    assert load.sample_age_seconds == Reading(5.0)
    assert source.asked == [
        'sum ( rate ( req_total{namespace="prod"} [1m] ) )',
        'sum ( queue{namespace="prod"} )',
        'sum ( busy{namespace="prod"} )',
        'max ( ttft{namespace="prod"} )',
        " or ".join(
            f'label_replace(min(time() - timestamp({name}{{namespace="prod"}})), "part", "{number}", "", "")'
            for number, name in enumerate(("req_total", "queue", "busy", "ttft"))
        ),
        'deriv((sum ( queue{namespace="prod"} ))[60s:15s])',
    ]


async def test_custom_queries_are_bounded_in_time_and_size() -> None:
    source = answering({})
    await load_of(source, FULL)
    limits = CollectLimits()
    for query, each in zip(source.asked, source.limits, strict=True):
        assert each.timeout_seconds <= limits.custom_timeout_seconds == 2.0
        assert each.answer_bytes == 256 * 1024
        assert each.series == (len(FULL) + 1 if "timestamp" in query else 2)


async def test_signals_without_a_query_say_which_to_add() -> None:
    load = await load_of(answering({}), {Signal.RUNNING: "busy"})
    assert load.arrival_rate == Reading.missing(
        Absence.NOT_EXPOSED, "spec.engine.queries has no query for ArrivalRate: add one"
    )
    assert load.queue_growth.detail == "spec.engine.queries has no query for QueueDepth: add one"
    assert load.ttft[TTFT_500MS.percentile].detail == "spec.engine.queries has no query for TTFTP95: add one"
    assert load.reporting_pods.absence is Absence.NOT_EXPOSED


@pytest.mark.parametrize(
    ("answer", "absence", "detail"),
    [
        (
            [],
            Absence.NO_SERIES,
            "the query for Running gives no series in namespace prod, the only one it can read: "
            "check names and labels (query: busy)",
        ),
        (
            [({"a": "1"}, 1.0), ({"a": "2"}, 1.0)],
            Absence.SEVERAL_SERIES,
            "the query for Running gives several series where one is expected: "
            "put sum(...) around it, or match more labels (query: busy)",
        ),
        (
            [({}, math.nan)],
            Absence.NOT_A_NUMBER,
            "the query for Running gives NaN: guard divisions, for example with '... / (x > 0)' "
            "(query: busy)",
        ),
        (
            [({}, -1.0)],
            Absence.NOT_A_NUMBER,
            "the query for Running gives a negative number, which it cannot be (query: busy)",
        ),
        (
            QueryError(ErrorKind.TIMEOUT, "q", "no answer within 2 s"),
            Absence.QUERY_FAILED,
            "the query for Running failed: no answer within 2 s",
        ),
    ],
)
async def test_each_way_to_fail_has_its_own_words(
    answer: QueryError | Samples, absence: Absence, detail: str
) -> None:
    load = await load_of(answering({'busy{namespace="prod"}': answer}), {Signal.RUNNING: "busy"})
    assert load.running == Reading.missing(absence, detail)


async def test_a_query_that_is_not_promql_is_never_sent() -> None:
    source = answering({})
    load = await load_of(source, {Signal.RUNNING: 'busy{a="b"', Signal.QUEUE_DEPTH: "queue"})
    assert load.running == Reading.missing(
        Absence.QUERY_FAILED,
        "the query for Running cannot be used: the end at character 11, "
        "where a comma or a closing brace is expected",
    )
    assert load.waiting == Reading(2.0)
    assert not any("busy" in each for each in source.asked)


@pytest.mark.parametrize("age", [[({"part": "0"}, 75.0), ({"part": "1"}, 5.0)], []], ids=["old", "none"])
async def test_a_zero_that_stands_in_for_vanished_series_does_not_count(age: Samples) -> None:
    queries = {Signal.ARRIVAL_RATE: "rate(req_total[1m]) or vector(0)", Signal.RUNNING: "busy or vector(0)"}
    load = await load_of(answering({"timestamp": age}, value=0.0), queries)
    assert (
        load.arrival_rate
        == load.running
        == Reading.missing(
            Absence.STALE,
            "the series that spec.engine.queries read have no sample younger than 60 s: "
            "what exports them is gone or Prometheus fails to scrape it",
        )
    )


LOST = Reading.missing(
    Absence.STALE,
    "the series that the query for ArrivalRate reads have ended within the last hour: what exports them is "
    "gone or Prometheus fails to scrape it (query: rate(req_total[1m]) or vector(0))",
)


@pytest.mark.parametrize(
    ("promql", "never", "expected"),
    [
        ("rate(req_total[1m]) or vector(0)", (), LOST),
        ("rate(req_total[1m]) or vector(0)", ("req_total",), Reading(0.0)),
        # What still reports speaks for the query: a name of old ends with an upgrade.
        ("rate(busy[1m]) or rate(req_total[1m])", (), Reading(0.0)),
        ("vector(0)", (), Reading(0.0)),
    ],
    ids=["ended", "never there", "one of two", "no series"],
)
async def test_a_zero_for_series_that_ended_does_not_count_though_others_report(
    promql: str, never: tuple[str, ...], expected: Reading
) -> None:
    def script(query: str) -> Samples:
        if "timestamp" in query:
            return by_selector(query, 5.0, without=("req_total",))
        return by_selector(query, 1.0, without=never) if "last_over_time" in query else [({}, 0.0)]

    source = ScriptedSource(script)
    load = await load_of(source, {Signal.RUNNING: "busy", Signal.ARRIVAL_RATE: promql})
    assert load.arrival_rate == expected
    assert (load.running, load.sample_age_seconds) == (Reading(0.0), Reading(5.0))
    remembered = 'label_replace(group(last_over_time(req_total{namespace="prod"}[1h])), "part", "1", "", "")'
    assert (remembered in source.asked) == ("req_total" in promql)


async def test_the_growth_of_a_queue_whose_series_ended_is_not_known_either() -> None:
    def script(query: str) -> Samples:
        return by_selector(query, 5.0, without=("queue",)) if "timestamp" in query else [({"part": "1"}, 0.0)]

    queries = {Signal.RUNNING: "busy", Signal.QUEUE_DEPTH: "sum(queue) or vector(0)"}
    load = await load_of(ScriptedSource(script), queries)
    assert load.waiting.absence is Absence.STALE
    assert load.queue_growth == load.waiting


@pytest.mark.parametrize("question", ["timestamp", "last_over_time"])
async def test_an_unknown_age_leaves_the_values(question: str) -> None:
    slow = QueryError(ErrorKind.TIMEOUT, "q", "no answer within 2 s")
    source = answering({"timestamp": [({"part": "0"}, 5.0)]} | {question: slow})
    load = await load_of(source, {Signal.RUNNING: "busy", Signal.ARRIVAL_RATE: "req_total or vector(0)"})
    assert (load.running, load.arrival_rate) == (Reading(2.0), Reading(2.0))
    unknown = Reading.missing(
        Absence.QUERY_FAILED, "the query for the age of the custom series failed: no answer within 2 s"
    )
    assert load.sample_age_seconds == (unknown if question == "timestamp" else Reading(5.0))


@pytest.mark.parametrize(
    ("growth", "taken_up"),
    [(0.5, 16.5), (-0.5, 17.5), (20.0, 0.0), (None, 17.0)],
    ids=["grows", "drains", "grows by more than arrives", "not known"],
)
async def test_offered_is_what_arrives_and_the_growth_of_the_queue_is_not_counted_twice(
    growth: float | None, taken_up: float
) -> None:
    source = answering({"deriv": [] if growth is None else [({}, growth)], "rate (": [({}, 17.0)]})
    load = await load_of(source, FULL)
    assert load.arrival_rate == Reading(taken_up)
    assert offered_rate(load, taken_up) == 17.0
    assert load.queue_growth.present == (growth is not None)


async def test_a_scalar_is_a_number_too_and_its_growth_can_be_asked_for() -> None:
    source = answering({"deriv": [({}, 0.0)], "scalar": scalar(3.0)})
    load = await load_of(source, {Signal.QUEUE_DEPTH: "scalar(queue)"})
    assert load.waiting == Reading(3.0)
    assert 'deriv((vector(scalar ( queue{namespace="prod"} )))[60s:15s])' in source.asked


async def test_the_growth_of_a_queue_that_has_just_appeared_is_not_known_yet() -> None:
    load = await load_of(answering({"deriv": []}), {Signal.QUEUE_DEPTH: "queue"})
    assert load.queue_growth.absence is Absence.TOO_FEW_SAMPLES


async def test_a_named_engine_may_have_a_signal_from_elsewhere() -> None:
    def script(query: str) -> Samples:
        labels = {"namespace": "prod", "pod": "llama-1"}
        if "timestamp" in query:
            return [(labels | {"part": "age"}, 1.0), (labels | {"part": "running"}, 4.0)]
        return [({}, 12.5)] if "gateway" in query else [(labels, 1.0)]

    queries = {Signal.ARRIVAL_RATE: "gateway_requests_per_second"}
    llama = watched("llama", "llama-1", engine=EngineType.LLAMA_CPP, queries=queries)
    load = (await Collector(ScriptedSource(script)).collect([llama], at=AT))[llama.key]
    assert load.arrival_rate == Reading(12.5)
    assert load.running == Reading(4.0)
    assert load.reporting_pods == Reading(1.0)


async def test_one_services_broken_query_does_not_touch_anothers() -> None:
    good, bad = custom("good", {Signal.RUNNING: "busy"}), custom("bad", {Signal.RUNNING: "sum("})
    loads = await Collector(answering({})).collect([bad, good], at=AT)
    assert loads[good.key].running == Reading(2.0)
    assert loads[bad.key].running.absence is Absence.QUERY_FAILED


@pytest.mark.prometheus
async def test_on_a_real_prometheus_own_queries_see_their_namespace_only(fleet: ScrapedFleet) -> None:
    buckets = "vllm:e2e_request_latency_seconds_bucket"
    queries = {
        Signal.RUNNING: "sum(vllm:num_requests_running)",
        Signal.QUEUE_DEPTH: 'sum(vllm:num_requests_waiting{pod="chat-1"})',
        Signal.ARRIVAL_RATE: 'sum(rate(vllm:request_success_total{namespace=~".+"}[4s]))',
        Signal.LATENCY_P95: f"histogram_quantile(0.95, sum by (le) (rate({buckets}[4s])))",
        Signal.MEAN_TPOT: "vllm:num_requests_running",
        Signal.INPUT_TOKEN_RATE: "rate(",
    }
    ours = custom("own", queries)
    theirs = custom("own", queries, namespace="other")
    nobody = custom("own", queries, namespace="empty")
    collector, source = collector_for(fleet.prometheus)
    loads = await collector.collect([ours, theirs, nobody], at=fleet.now)
    await source.close()
    # prod: chat-1 and chat-2 run three each, idle-1 none; other: chat-1 only.
    assert loads[ours.key].running == Reading(6.0)
    assert loads[theirs.key].running == Reading(3.0)
    for key, arriving in ((ours.key, 17.6 * 1.5), (theirs.key, 17.6)):
        assert offered_rate(loads[key], loads[key].arrival_rate.otherwise(0.0)) == pytest.approx(
            arriving, rel=0.04
        )
    assert loads[ours.key].queue_growth.value == pytest.approx(0.5, abs=0.3)
    assert loads[ours.key].latency[0.95].value == pytest.approx(0.285, rel=0.01)
    assert loads[ours.key].tpot_mean.absence is Absence.SEVERAL_SERIES
    assert loads[ours.key].input_token_rate.absence is Absence.QUERY_FAILED
    assert loads[ours.key].sample_age_seconds.value == pytest.approx(0.3, abs=0.7)
    assert loads[nobody.key].running.absence is Absence.NO_SERIES


@pytest.mark.prometheus
async def test_on_a_real_prometheus_series_that_ended_are_told_from_those_that_never_were(
    prometheus: PrometheusProcess,
) -> None:
    queries = {
        Signal.ARRIVAL_RATE: 'sum(rate(gateway_requests_total{code=~"2.."}[4s])) or vector(0)',
        Signal.QUEUE_DEPTH: 'sum({__name__=~"queued|queue_length"}) or vector(0)',
        Signal.RUNNING: "sum(busy)",
        Signal.OUTPUT_TOKEN_RATE: "sum(rate(tokens_total[4s])) or vector(0)",
    }
    ours, theirs = custom("own", queries), custom("own", queries, namespace="other")

    async def loads_when(promql: str) -> tuple[Load, Load]:
        """Return what is collected for both once the condition holds."""
        await asyncio.to_thread(wait_until, prometheus, promql)
        collector, source = collector_for(prometheus)
        loads = await collector.collect([ours, theirs], at=time.time())
        await source.close()
        return loads[ours.key], loads[theirs.key]

    first, second = (f'gateway_requests_total{{code="{code}"}} 80\n' for code in (200, 204))
    with ReplayedEngine(f"{first}{second}queued 2\nbusy 3\n") as engine, ReplayedEngine("busy 1\n") as alone:
        prometheus.set_targets([target(engine, "own-1"), target(alone, "own-1", namespace="other")])
        mine, others = await loads_when(f"count({FILLED}) == 2")
        assert mine.arrival_rate.value == pytest.approx(16.0, rel=0.1)
        assert (mine.waiting, mine.running, mine.output_token_rate) == (Reading(2.0), Reading(3.0), ZERO)
        assert (others.arrival_rate, others.waiting, others.running) == (ZERO, ZERO, Reading(1.0))

        # One of the first selector's series is left, the other's has another name now.
        engine.text = f"{first}queue_length 2\nbusy 3\n"
        mine, _ = await loads_when('queue_length and on() absent(gateway_requests_total{code="204"})')
        assert (mine.arrival_rate.present, mine.waiting) == (True, Reading(2.0))

        engine.text = "busy 3\n"
        mine, others = await loads_when("absent(gateway_requests_total) and absent(queue_length)")
    assert mine.arrival_rate == Reading.missing(
        Absence.STALE,
        "the series that the query for ArrivalRate reads have ended within the last hour: what exports them "
        f"is gone or Prometheus fails to scrape it (query: {queries[Signal.ARRIVAL_RATE]})",
    )
    assert mine.waiting.absence is mine.queue_growth.absence is Absence.STALE
    assert (mine.running, mine.output_token_rate) == (Reading(3.0), ZERO)
    assert mine.sample_age_seconds.value == pytest.approx(0.3, abs=0.7)
    assert (others.arrival_rate, others.waiting, others.running) == (ZERO, ZERO, Reading(1.0))
