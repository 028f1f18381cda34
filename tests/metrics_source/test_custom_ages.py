"""A value counts while what it is made of still reports: missing is never zero, and unknown is not either."""

from __future__ import annotations

import asyncio
import time

import pytest

from fakes.custom_load import answering, by_selector, load_of
from fakes.prometheus_fixture import wait_until
from fakes.replayed_engine import ReplayedEngine
from fakes.scraped_fleet import WINDOW_SECONDS, collector_for, target
from fakes.scripted_source import Samples, ScriptedSource
from fakes.watched import custom
from penstock.metrics_source.base import ErrorKind, QueryError
from penstock.model.observation import Load
from penstock.model.reading import Absence, Reading
from penstock.model.spec import Signal
from penstock.sandbox.prometheus import PrometheusProcess

ZERO = Reading(0.0)
SLOW = QueryError(ErrorKind.TIMEOUT, "q", "no answer within 2 s")
SAME_LABELS = QueryError(ErrorKind.BAD_QUERY, "q", "vector cannot contain metrics with the same labelset")
FILLED = (
    f"count_over_time(up[{WINDOW_SECONDS:g}s]) >= {2 * WINDOW_SECONDS:g} and up offset {WINDOW_SECONDS:g}s"
)


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


AGE_UNKNOWN = Reading.missing(
    Absence.QUERY_FAILED, "the query for the age of the custom series failed: no answer within 2 s"
)


@pytest.mark.parametrize("question", ["timestamp", "last_over_time"])
async def test_an_unknown_age_leaves_the_values_but_nothing_is_scaled_down_by_them(question: str) -> None:
    queries = {Signal.RUNNING: "busy", Signal.ARRIVAL_RATE: "req_total or vector(0)"}
    ages: Samples | QueryError = SLOW if question == "timestamp" else [({"part": "0"}, 5.0)]
    load = await load_of(answering({"timestamp": ages, "last_over_time": SLOW}), queries)
    assert (load.running, load.arrival_rate) == (Reading(2.0), Reading(2.0))
    assert load.sample_age_seconds == (AGE_UNKNOWN if question == "timestamp" else Reading(5.0))
    assert load.queue_growth == Reading.missing(
        Absence.QUERY_FAILED,
        "it could not be asked whether what the query for ArrivalRate reads still reports: no answer "
        "within 2 s; until it can, a 0 is not counted and nothing is scaled down: fewer selectors are "
        "asked about sooner (query: req_total or vector(0))",
    )


@pytest.mark.parametrize(
    "kind", [ErrorKind.TIMEOUT, ErrorKind.BAD_QUERY, ErrorKind.UNAVAILABLE, ErrorKind.UNAUTHORIZED]
)
async def test_a_zero_of_which_nobody_can_say_whether_its_series_report_is_missing(kind: ErrorKind) -> None:
    failed = QueryError(kind, "q", "as it is")
    source = answering({"timestamp": failed, "last_over_time": failed}, value=0.0)
    load = await load_of(source, {Signal.ARRIVAL_RATE: "sum(rate(r_total[1m])) or vector(0)"})
    assert load.arrival_rate == load.queue_growth
    assert load.arrival_rate.absence is Absence.QUERY_FAILED
    assert "reads still reports: as it is; until" in load.arrival_rate.detail


async def test_an_unknown_age_leaves_the_zero_of_a_query_that_reads_no_series() -> None:
    source = answering({"timestamp": SLOW, "last_over_time": SLOW}, value=0.0)
    load = await load_of(source, {Signal.ARRIVAL_RATE: "vector(0)", Signal.RUNNING: "busy or vector(0)"})
    assert (load.arrival_rate, load.running.absence) == (ZERO, Absence.QUERY_FAILED)


async def test_a_query_that_failed_does_not_hide_that_another_has_lost_its_series() -> None:
    refused = QueryError(ErrorKind.BAD_QUERY, "q", "Prometheus refuses the query: bad escape")

    def script(query: str) -> Samples | QueryError:
        if "ttft" in query:
            return refused
        if "timestamp" in query:
            return by_selector(query, 5.0, without=("req_total",))
        return by_selector(query, 1.0) if "last_over_time" in query else [({}, 0.0)]

    queries = {
        Signal.ARRIVAL_RATE: "rate(req_total[1m]) or vector(0)",
        Signal.RUNNING: "busy",
        Signal.TTFT_P95: r'max(ttft{pod=~"\\Q"})',
    }
    source = ScriptedSource(script)
    load = await load_of(source, queries)
    assert (load.arrival_rate, load.running) == (LOST, ZERO)
    assert load.ttft[0.95].absence is Absence.QUERY_FAILED
    assert sum("ttft" in each for each in source.asked) == 1


@pytest.mark.parametrize(
    ("promql", "expected"),
    [("rate(req_total[1m]) or vector(0)", LOST), ("rate(twice[1m]) or vector(0)", ZERO)],
    ids=["ended", "still there"],
)
async def test_a_selector_that_has_no_age_does_not_hide_that_another_has_ended(
    promql: str, expected: Reading
) -> None:
    def script(query: str) -> Samples | QueryError:
        if "timestamp" in query:
            return SAME_LABELS
        if "label_replace" in query:
            return by_selector(query, 1.0)
        if query.startswith("group("):
            return [] if "req_total" in query else [({}, 1.0)]
        return [({}, 0.0)]

    source = ScriptedSource(script)
    load = await load_of(source, {Signal.RUNNING: "twice", Signal.ARRIVAL_RATE: promql})
    assert (load.running, load.arrival_rate) == (ZERO, expected)
    assert 'group(twice{namespace="prod"} and last_over_time(twice{namespace="prod"}[60s]))' in source.asked


async def test_a_zero_does_not_count_where_no_selector_that_was_asked_for_alone_is_fresh() -> None:
    source = answering({"timestamp": SAME_LABELS, "last_over_time": []}, value=0.0)
    load = await load_of(source, {Signal.RUNNING: "twice or vector(0)"})
    assert load.running.absence is Absence.STALE


@pytest.mark.parametrize(("kind", "asked"), [(ErrorKind.BAD_QUERY, 16), (ErrorKind.UNAVAILABLE, 0)])
async def test_selectors_are_asked_for_alone_up_to_a_bound_and_not_of_a_server_that_is_down(
    kind: ErrorKind, asked: int
) -> None:
    source = answering({"timestamp": QueryError(kind, "q", "as it is")})
    await load_of(source, {Signal.RUNNING: " + ".join(f"m{number}" for number in range(40))})
    assert sum(each.startswith("group(") for each in source.asked) == asked


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


@pytest.mark.prometheus
async def test_on_a_real_prometheus_two_metrics_of_the_same_labels_are_fresh_or_gone(
    prometheus: PrometheusProcess,
) -> None:
    promql = 'sum({__name__=~"queued|queue_length"}) or vector(0)'
    own = custom("own", {Signal.QUEUE_DEPTH: promql, Signal.RUNNING: "sum(busy)"})

    async def load_when(condition: str) -> Load:
        await asyncio.to_thread(wait_until, prometheus, condition)
        collector, source = collector_for(prometheus)
        load = (await collector.collect([own], at=time.time()))[own.key]
        await source.close()
        return load

    with ReplayedEngine("queued 2\nqueue_length 2\nbusy 3\n") as engine:
        prometheus.set_targets([target(engine, "own-1")])
        load = await load_when(f"count({FILLED}) == 1")
        assert (load.waiting, load.running) == (Reading(4.0), Reading(3.0))
        assert "same labelset" in load.sample_age_seconds.detail

        engine.text = "busy 3\n"
        load = await load_when("absent(queued) and on() busy")
        assert (load.waiting.absence, load.running) == (Absence.STALE, Reading(3.0))
