"""The catalogue against what real engines print, against the documentation, and against its own budget."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.builders import service
from fakes.replayed_engine import ENGINES, LLAMA_CPP, VLLM
from fakes.watched import watched as a_service
from penstock.metrics_source.catalogue import CATALOGUE, PERCENTILES, EngineSeries, FleetQuery
from penstock.metrics_source.identity import IdentifyBy, SeriesSettings, Watched
from penstock.metrics_source.plan import Planner, plan_tick
from penstock.metrics_source.promql import QueryWriter, Shard, duration
from penstock.model.spec import EngineSpec, EngineType, Metric, Objective, ServiceSpec

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics-read.md"
EXPOSITIONS = {
    EngineType.VLLM: VLLM,
    EngineType.LLAMA_CPP: LLAMA_CPP,
    EngineType.SGLANG: ENGINES / "sglang-from-source.txt",
    EngineType.TGI: ENGINES / "tgi-from-source.txt",
}
# In the catalogue ahead of the engine: proposed, not yet merged (see the entry's advice).
AHEAD = {(EngineType.SGLANG, FleetQuery.TPOT)}


def series_names(series: EngineSeries, query: FleetQuery) -> set[str]:
    """Return the series that a query selects."""
    writer = QueryWriter(series, SeriesSettings(identify_by=IdentifyBy.SERVICE))
    text = re.sub(r'"[^"]*"', "", writer.write(query, (0.95,)))
    return set(re.findall(r"\b(?:vllm:|sglang:|llamacpp:|tgi_)\w+", text))


@pytest.mark.parametrize("engine", CATALOGUE)
@pytest.mark.parametrize("query", FleetQuery)
def test_every_series_of_the_catalogue_is_printed(engine: EngineType, query: FleetQuery) -> None:
    printed = {re.split(r"[{ ]", line)[0] for line in EXPOSITIONS[engine].read_text().splitlines()}
    names = series_names(CATALOGUE[engine], query)
    assert names <= printed if (engine, query) not in AHEAD else not names & printed


@pytest.mark.parametrize("engine", CATALOGUE)
@pytest.mark.parametrize("query", FleetQuery)
def test_a_signal_has_series_or_advice(engine: EngineType, query: FleetQuery) -> None:
    series = CATALOGUE[engine]
    assert bool(series_names(series, query)) == bool(series.metric(query))
    assert series.metric(query) or series.advice[query]


@pytest.mark.parametrize("engine", CATALOGUE)
def test_the_document_lists_what_is_read(engine: EngineType) -> None:
    section = DOCUMENT.read_text().split(f"### {engine.value}\n")[1].split("\n#")[0]
    rows = dict(re.findall(r"^\| (\w+) \| (.*) \|$", section, re.MULTILINE))
    series = CATALOGUE[engine]
    expected = {
        query.value: f"`{series.metric(query)}`" if series.metric(query) else "—" for query in FleetQuery
    }
    expected[FleetQuery.TPOT_MEAN.value] = f"`{series.tpot_seconds}` / `{series.tpot_tokens}`"
    if series.ttft_seconds:
        expected["ttft_mean"] = f"`{series.ttft_seconds}` / `{series.first_tokens}`"
    rows.pop("signal", None)
    assert rows == expected


@pytest.mark.parametrize("identify_by", IdentifyBy)
@pytest.mark.parametrize("engine", CATALOGUE)
def test_at_most_twelve_queries_a_tick(engine: EngineType, identify_by: IdentifyBy) -> None:
    objectives = tuple(Objective(metric, each, 1.0) for metric in Metric for each in (0.5, 0.9, 0.95, 0.99))
    watched = Watched(_of(engine, objectives))
    (plan,) = plan_tick([watched] * 1000, SeriesSettings(identify_by=identify_by), 0)
    assert len([text for text in plan.queries.values() if text]) <= 12


def test_only_percentiles_that_an_objective_uses_are_asked_for() -> None:
    watched = Watched(_of(EngineType.VLLM, (Objective(Metric.TTFT, 0.9, 1.0),)))
    (plan,) = plan_tick([watched], SeriesSettings(identify_by=IdentifyBy.SERVICE), 0)
    assert "histogram_quantile(0.9," in plan.queries[PERCENTILES[Metric.TTFT]]
    assert "0.95" not in plan.queries[PERCENTILES[Metric.TTFT]]
    assert FleetQuery.TPOT not in plan.queries
    assert FleetQuery.LATENCY not in plan.queries


@pytest.mark.parametrize(
    ("query", "identify_by", "expected"),
    [
        (
            FleetQuery.WAITING,
            IdentifyBy.POD,
            'sum by (namespace, pod) (vllm:num_requests_waiting{job="a\\"b"})',
        ),
        (
            FleetQuery.ARRIVAL_RATE,
            IdentifyBy.SERVICE,
            'sum by (namespace, service) (rate(vllm:time_to_first_token_seconds_count{job="a\\"b"}[60s]))',
        ),
        (
            FleetQuery.TTFT,
            IdentifyBy.POD,
            'sum by (namespace, pod, le) (rate(vllm:time_to_first_token_seconds_bucket{job="a\\"b"}[60s]))',
        ),
    ],
)
def test_queries_carry_the_configured_matchers(
    query: FleetQuery, identify_by: IdentifyBy, expected: str
) -> None:
    settings = SeriesSettings(identify_by=identify_by, matchers={"job": 'a"b'})
    assert QueryWriter(CATALOGUE[EngineType.VLLM], settings).write(query, (0.5,)) == expected


def test_a_shard_is_matched_literally() -> None:
    shard = Shard({"namespace": ("a.b",), "pod": ("x-1", "x-2")})
    assert shard.matchers() == ['namespace=~"a\\\\.b"', 'pod=~"x-1|x-2"']


@pytest.mark.parametrize(("seconds", "text"), [(60.0, "60s"), (2.5, "2500ms"), (0.5, "500ms")])
def test_durations_are_written_exactly(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("given", "window", "stale"),
    [
        ({}, 60.0, 60.0),
        ({"scrape_interval_seconds": 30.0}, 120.0, 120.0),
        ({"scrape_interval_seconds": 0.5, "rate_window_seconds": 2.0, "stale_after_seconds": 3.0}, 2.0, 3.0),
    ],
)
def test_windows_follow_the_scrape_interval(given: dict[str, float], window: float, stale: float) -> None:
    settings = SeriesSettings(**given)  # type: ignore[arg-type]
    assert (settings.rate_window_seconds, settings.stale_after_seconds) == (window, stale)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"rate_window_seconds": 30.0},
            "a rate window of 30 s is shorter than 4 scrape intervals of 15 s: use at least 60 s",
        ),
        ({"scrape_interval_seconds": 0.0}, "the scrape interval must be positive, not 0.0"),
        ({"pod_label": "po d"}, "'po d' cannot identify series: use a label name such as 'namespace'"),
        ({"service_label": "part"}, "'part' cannot identify series: use a label name such as 'namespace'"),
        ({"matchers": {"le": "1"}}, "'le' cannot identify series: use a label name such as 'namespace'"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SeriesSettings(**given)  # type: ignore[arg-type]


def _of(engine: EngineType, objectives: tuple[Objective, ...]) -> ServiceSpec:
    return replace(service(objectives=objectives), engine=EngineSpec(type=engine))


def test_a_plan_holds_until_a_service_moves() -> None:
    planner = Planner(SeriesSettings(length_shard_services=1))
    chat, mail = a_service("chat", "chat-1"), a_service("mail", "mail-1")
    (first,) = planner.plan([chat, mail], 0)
    (second,) = planner.plan([chat, mail], 1)
    assert first.index is second.index
    assert "chat-1" in first.queries[FleetQuery.INPUT_LENGTHS]
    assert "mail-1" in second.queries[FleetQuery.INPUT_LENGTHS]
    (moved,) = planner.plan([a_service("chat", "chat-1", "chat-2"), mail], 2)
    assert moved.index.rows == {"prod": {"chat-1": 0, "chat-2": 0, "mail-1": 1}}
    (fewer,) = planner.plan([mail], 3)
    assert fewer.services == (mail,)
