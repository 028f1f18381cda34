"""A service's own queries: one number each, only its own namespace, and nothing read into silence."""

from __future__ import annotations

import math

import pytest
from structlog.testing import capture_logs

from fakes.builders import TTFT_500MS
from fakes.custom_load import AT, FULL, answering, load_of
from fakes.defective import defective
from fakes.scraped_fleet import ScrapedFleet, collector_for
from fakes.scripted_source import Samples, ScriptedSource, scalar
from fakes.watched import custom, watched
from penstock.metrics_source import custom as module
from penstock.metrics_source.ask import CollectLimits
from penstock.metrics_source.base import ErrorKind, QueryError
from penstock.metrics_source.collector import Collector
from penstock.model.reading import Absence, Reading
from penstock.model.spec import EngineType, Signal
from penstock.policy.beliefs import offered_rate


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


@pytest.mark.parametrize("engine", [EngineType.CUSTOM, EngineType.VLLM])
async def test_a_defect_that_one_services_queries_meet_is_that_services_alone(
    engine: EngineType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "confined", defective(module.confined, "evil"))
    good = custom("good", {Signal.RUNNING: "busy"})
    bad = watched("bad", "bad-1", engine=engine, queries={Signal.RUNNING: "evil", Signal.QUEUE_DEPTH: "q"})
    with capture_logs() as logs:
        loads = await Collector(answering({})).collect([bad, good], at=AT)
    assert loads[good.key].running == Reading(2.0)
    why = Reading.missing(
        Absence.QUERY_FAILED,
        "a defect of Penstock met its own queries: OverflowError: int too large to convert to float; the log "
        "has more, report it",
    )
    load = loads[bad.key]
    assert load.arrival_rate == load.running == load.queue_growth == load.ttft[TTFT_500MS.percentile] == why
    assert [(each["event"], each["service"], each["log_level"]) for each in logs] == [
        ("a service's own queries could not be read", "prod/bad", "error")
    ]


async def test_a_rate_over_an_absurd_time_costs_nobody_else_its_signals() -> None:
    good = custom("good", {Signal.RUNNING: "busy"})
    bad = custom("bad", {Signal.ARRIVAL_RATE: f"rate(x[{'9' * 310}s])"})
    loads = await Collector(answering({})).collect([bad, good], at=AT)
    assert loads[good.key].running == Reading(2.0)
    assert loads[bad.key].arrival_rate == Reading.missing(
        Absence.QUERY_FAILED,
        "the query for ArrivalRate cannot be used: a duration has more than 10 digits: 9999999999...",
    )


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
