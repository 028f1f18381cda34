"""A server answers with what it could reach, and warns of the rest: a part is no measure of the whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.custom_load import AT, FULL, answering, load_of
from fakes.scripted_source import Samples, ScriptedSource
from fakes.watched import watched
from penstock.metrics_source.base import QueryResult
from penstock.metrics_source.collector import Collector
from penstock.model.observation import Load
from penstock.model.reading import Absence, Reading
from penstock.model.spec import EngineType, Signal


def part(value: float) -> QueryResult:
    return QueryResult([({}, value)], warnings=("store 7 is down",))


def may_be_incomplete(what: str) -> Reading:
    return Reading.missing(
        Absence.PARTIAL,
        f"the answer to the query for {what} may be incomplete, the server warns: store 7 is down",
    )


async def test_a_part_of_what_arrives_is_counted_but_nothing_is_scaled_down_by_it() -> None:
    load = await load_of(answering({"rate (": part(17.0), "deriv": [({}, 0.5)]}), FULL)
    assert (load.arrival_rate, load.queue_growth) == (Reading(17.0), may_be_incomplete("ArrivalRate"))
    assert (load.waiting, load.running) == (Reading(2.0), Reading(2.0))
    assert load.warnings == ("store 7 is down",)


async def test_nothing_of_what_arrives_is_no_zero_where_the_answer_may_be_incomplete() -> None:
    load = await load_of(answering({"rate (": part(0.0)}), FULL)
    assert load.arrival_rate == load.queue_growth == may_be_incomplete("ArrivalRate")


async def test_an_empty_answer_that_may_be_incomplete_says_so() -> None:
    nothing = QueryResult([], warnings=("store 7 is down",))
    load = await load_of(answering({"rate (": nothing}), FULL)
    assert load.arrival_rate == may_be_incomplete("ArrivalRate")


async def test_a_part_of_any_other_signal_is_missing() -> None:
    load = await load_of(
        answering({"deriv": [({}, 0.5)], "sum ( queue": part(3.0), "max (": part(0.31)}), FULL
    )
    assert load.waiting == load.queue_growth == may_be_incomplete("QueueDepth")
    assert load.ttft == {0.95: may_be_incomplete("TTFTP95")}
    assert load.arrival_rate == Reading(2.0)


async def test_the_growth_of_a_part_of_the_queue_is_not_known() -> None:
    load = await load_of(answering({"deriv": part(0.5)}), FULL)
    assert (load.waiting, load.queue_growth) == (Reading(2.0), may_be_incomplete("the growth of QueueDepth"))


async def test_a_zero_is_missing_where_the_ages_may_be_incomplete() -> None:
    ages = QueryResult([], warnings=("store 7 is down",))
    load = await load_of(answering({"timestamp": ages}, value=0.0), {Signal.RUNNING: "busy or vector(0)"})
    assert load.running.absence is Absence.QUERY_FAILED
    assert "may be incomplete, the server warns: store 7 is down; until it can" in load.running.detail


@pytest.mark.parametrize(
    ("warning", "told"),
    [
        ("PromQL warning: quantile value should be between 0 and 1", True),
        ("results truncated due to limit", False),
    ],
)
async def test_warnings_of_another_kind_do_not_make_an_answer_a_part(warning: str, told: bool) -> None:
    answer = QueryResult([({}, 3.0)], warnings=(warning,))
    source = answering({"timestamp": [({"part": "0"}, 5.0)], "busy": answer})
    load = await load_of(source, {Signal.RUNNING: "busy"})
    assert load.running == Reading(3.0)
    assert load.warnings == ((warning,) if told else ())


async def test_a_part_of_what_arrives_at_a_named_engine_scales_nothing_down_either() -> None:
    def script(query: str) -> QueryResult | Samples:
        labels = {"namespace": "prod", "pod": "llama-1"}
        if "timestamp" in query:
            pulse = [(labels | {"part": "age"}, 1.0), (labels | {"part": "running"}, 4.0)]
            return QueryResult(pulse, warnings=("store 3 is slow",))
        return part(12.5) if "gateway" in query else [(labels, 1.0)]

    queries = {Signal.ARRIVAL_RATE: "gateway_requests_per_second"}
    llama = watched("llama", "llama-1", engine=EngineType.LLAMA_CPP, queries=queries)
    load = (await Collector(ScriptedSource(script)).collect([llama], at=AT))[llama.key]
    assert (load.arrival_rate, load.queue_growth) == (Reading(12.5), may_be_incomplete("ArrivalRate"))
    assert load.warnings == ("store 3 is slow", "store 7 is down")


# What each query is recognised by, most telling first.
SIGNS = {
    "timestamp(": "running",
    "deriv(": "queue_growth",
    "num_requests_waiting": "waiting",
    "first_token_seconds_count": "arrival_rate",
    "vllm:prompt_tokens_total": "input_token_rate",
    "vllm:generation_tokens_total": "output_token_rate",
    "": "a mean, a percentile or lengths",
}
POD = {"namespace": "prod", "pod": "chat-1"}
PULSE = [(POD | {"part": "running"}, 4.0), (POD | {"part": "age"}, 1.0), ({"part": "before"}, 1.0)]


async def vllm(
    *incomplete: str, warning: str = "store 7 is down", queries: dict[Signal, str] | None = None
) -> Load:
    """Return the load of a vLLM whose answers all hold 1, and may be incomplete for the named queries."""

    def script(query: str) -> QueryResult | Samples:
        kind = next(each for sign, each in SIGNS.items() if sign in query)
        samples = PULSE if kind == "running" else [(POD, 1.0)]
        return QueryResult(samples, warnings=(warning,) if kind in incomplete else ())

    chat = watched("chat", "chat-1", queries=queries or {})
    return (await Collector(ScriptedSource(script)).collect([chat], at=AT))[chat.key]


@pytest.mark.parametrize("query", [each for sign, each in SIGNS.items() if sign])
async def test_a_part_of_a_named_engines_load_is_used_and_its_age_says_that_it_is_a_part(query: str) -> None:
    whole, part_of_it = await vllm(), await vllm(query)
    age, warnings = may_be_incomplete(query), ("store 7 is down",)
    assert part_of_it == replace(whole, sample_age_seconds=age, warnings=warnings)


async def test_of_several_parts_the_first_in_the_order_of_the_queries_is_told() -> None:
    load = await vllm("arrival_rate", "waiting")
    assert load.sample_age_seconds == may_be_incomplete("waiting")


async def test_a_part_of_the_requests_tells_means_and_percentiles_well_enough() -> None:
    load = await vllm("a mean, a percentile or lengths")
    assert (load.sample_age_seconds, load.warnings) == (Reading(1.0), ("store 7 is down",))


async def test_a_warning_of_what_a_query_means_makes_a_named_engines_load_no_part() -> None:
    warning = "PromQL warning: metric might not be a counter"
    load = await vllm("arrival_rate", warning=warning)
    assert (load.sample_age_seconds, load.warnings) == (Reading(1.0), (warning,))


async def test_a_query_of_ones_own_does_not_make_the_rest_of_the_load_whole() -> None:
    load = await vllm("arrival_rate", queries={Signal.QUEUE_DEPTH: "queued"})
    assert load.sample_age_seconds == may_be_incomplete("arrival_rate")
