"""Counting requests that missed their objective, by hand and on a real Prometheus."""

from __future__ import annotations

import math

import pytest

from fakes.replayed_engine import buckets, recorded
from fakes.scraped_fleet import ScrapedFleet, quick_settings
from fakes.watched import watched
from penstock.metrics_source.connection import Connection
from penstock.metrics_source.identity import IdentifyBy
from penstock.metrics_source.missed_requests import missed, read_missed
from penstock.metrics_source.prometheus_http import PrometheusHttp
from penstock.model.objective_counts import Counted
from penstock.model.spec import EngineType, Metric, Objective

CUMULATIVE = {0.1: 10.0, 0.5: 60.0, 1.0: 90.0, math.inf: 100.0}


@pytest.mark.parametrize(
    ("seconds", "beyond"),
    [
        (0.05, 95.0),  # evenly within the first bucket, from 0
        (0.1, 90.0),
        (0.3, 65.0),
        (0.5, 40.0),
        (1.0, 10.0),
        (5.0, 10.0),  # how far beyond 1 s nobody knows: all of them missed
    ],
)
def test_observations_lie_evenly_within_a_bucket(seconds: float, beyond: float) -> None:
    assert missed(CUMULATIVE, seconds) == Counted(100.0, pytest.approx(beyond))


@pytest.mark.parametrize(
    "cumulative", [{}, {math.inf: 3.0}, {0.5: 1.0, 1.0: 2.0}, {0.5: 1.0, math.inf: math.nan}]
)
def test_what_is_no_histogram_counts_nothing(cumulative: dict[float, float]) -> None:
    assert missed(cumulative, 0.5) is None


def test_buckets_of_different_scrapes_never_miss_more_than_there_were() -> None:
    assert missed({0.5: 12.0, math.inf: 10.0}, 0.5) == Counted(10.0, 0.0)


@pytest.mark.prometheus
@pytest.mark.parametrize("identify_by", IdentifyBy)
async def test_a_real_prometheus_counts_both_replicas(fleet: ScrapedFleet, identify_by: IdentifyBy) -> None:
    ttft, tpot = Objective(Metric.TTFT, 0.95, 0.08), Objective(Metric.TPOT, 0.5, 0.02)
    chat = watched("chat", "chat-1", "chat-2", objectives=(ttft, tpot))
    idle = watched("idle", "idle-1", objectives=(ttft,))
    tgi = watched("tgi", "tgi-1", engine=EngineType.TGI, objectives=(ttft,))
    source = PrometheusHttp(Connection(fleet.prometheus.url))
    try:
        found = await read_missed(
            source, [chat, idle, tgi], quick_settings(identify_by), at=fleet.now, seconds=4.0
        )
    finally:
        await source.close()
    text = fleet.engines["chat-1"].text
    for objective, histogram in (
        (ttft, "vllm:time_to_first_token_seconds"),
        (tpot, "vllm:request_time_per_output_token_seconds"),
    ):
        whole = missed(buckets(text, histogram), objective.seconds)
        assert whole is not None
        # The recording goes by in 10 s, at the second replica in 20 s; 4 s of it were counted.
        counted = found[chat.key][objective]
        assert counted.requests == pytest.approx(whole.requests * 0.6, rel=0.1)
        assert counted.missed / counted.requests == pytest.approx(whole.missed / whole.requests, abs=0.02)
    assert recorded(text, "vllm:time_to_first_token_seconds_count") == 179
    assert found[idle.key] == {ttft: Counted(0.0, 0.0)}
    assert tgi.key not in found  # it has no such histogram
