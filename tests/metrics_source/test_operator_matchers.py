"""Labels that the operator was told to match: every selector of every question carries them."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from fakes.prometheus_fixture import wait_until
from fakes.replayed_engine import VLLM, ReplayedEngine
from fakes.scraped_fleet import target
from fakes.scripted_source import ScriptedSource
from fakes.watched import P50_AND_P95, custom, watched
from penstock.metrics_source.arms import ArmsWanted, read_arms
from penstock.metrics_source.collector import Collector
from penstock.metrics_source.connection import Connection
from penstock.metrics_source.identity import IdentifyBy, SeriesSettings
from penstock.metrics_source.in_flight import InFlight
from penstock.metrics_source.missed_requests import read_missed
from penstock.metrics_source.prometheus_http import PrometheusHttp
from penstock.metrics_source.promql_scope import scope
from penstock.model.canary_counts import Metric
from penstock.model.canary_spec import CanaryCheck, CheckType
from penstock.model.spec import EngineType, Signal
from penstock.sandbox.prometheus import PrometheusProcess

ONE_CLUSTER = {"cluster": 'prod"1'}
QUOTED = r'cluster="prod\"1"'
SELECTOR = re.compile(r"([a-z_]+:?[a-z_]*)\{((?:[^{}\"]|\"(?:[^\"\\]|\\.)*\")*)\}")
CHAT = watched("chat", "chat-1", objectives=P50_AND_P95)
OWN = custom("own", {Signal.ARRIVAL_RATE: "rate(req_total[1m])", Signal.QUEUE_DEPTH: "sum(queue)"})
CHECKS = (
    CanaryCheck("bad", CheckType.COUNTERS, bad='b{pod=~"$arm_pods"}', total='t{pod=~"$arm_pods"}'),
    CanaryCheck("mem", CheckType.THRESHOLD, query='m{pod=~"$arm_pods"}', at_most=1.0),
)


@pytest.mark.parametrize("identify_by", IdentifyBy)
async def test_whoever_asks_every_selector_has_them(identify_by: IdentifyBy) -> None:
    source = ScriptedSource(lambda _: [])
    settings = SeriesSettings(identify_by=identify_by, matchers=ONE_CLUSTER)
    collector = Collector(source, settings)
    await collector.collect([CHAT, OWN], at=1000.0)
    await collector.rate_history([CHAT, OWN], start=0.0, end=10.0, step=10.0)
    await read_missed(source, [CHAT], settings, at=1000.0, seconds=60.0)
    await InFlight(source, settings).by_pod(CHAT.spec, ("chat-1", "chat-2"), 1000.0)
    arms = ArmsWanted(
        key=CHAT.key,
        engine=EngineType.VLLM,
        stable_pods=CHAT.pods,
        canary_pods=frozenset({"new-1"}),
        metrics=tuple(Metric),
        checks=CHECKS,
    )
    await read_arms(source, [arms], at=1000.0, settings=settings)
    asked = [(query, match) for query in source.asked for match in SELECTOR.finditer(query)]
    seen = {match[1] for _, match in asked}
    assert {
        "vllm:num_requests_running",
        "vllm:request_success_total",
        "req_total",
        "queue",
        "b",
        "t",
        "m",
    } <= seen
    assert [query for query, match in asked if QUOTED not in match[2].split(",")] == []


@pytest.mark.parametrize("own", ['cluster=~".*"', 'cluster!="prod-1"', 'cluster="other"', 'cluster=""'])
def test_a_matcher_of_a_users_query_on_the_same_label_stands_beside_the_operators(own: str) -> None:
    scoped = scope(f"x{{{own}}}", label="namespace", value="prod", more={"cluster": "prod-1"})
    assert scoped.promql == f'x{{{own},namespace="prod",cluster="prod-1"}}'


@pytest.mark.prometheus
async def test_on_a_real_prometheus_a_pod_that_is_scraped_twice_counts_once(
    prometheus: PrometheusProcess,
) -> None:
    with ReplayedEngine(VLLM.read_text()) as engine:
        once = target(engine, "chat-1")
        twice = [replace(once, labels={**once.labels, "cluster": each}) for each in ("prod-1", "prod-2")]
        prometheus.set_targets(twice)
        wait_until(prometheus, "count(vllm:num_requests_running) == 2")
        source = PrometheusHttp(Connection(prometheus.url))
        try:
            asking = [InFlight(source, SeriesSettings(matchers=each)) for each in ({}, {"cluster": "prod-1"})]
            both, one = [await each.by_pod(CHAT.spec, ("chat-1",), time.time()) for each in asking]
            own = scope(
                'sum(vllm:num_requests_running{cluster=~".*"})',
                label="namespace",
                value="prod",
                more={"cluster": "prod-1"},
            )
            answer = await source.instant(own.promql, time.time())
            values = [value for _, value in answer.samples]
        finally:
            await source.close()
    assert both == {"chat-1": 2 * one["chat-1"]}
    assert values == [3.0]
