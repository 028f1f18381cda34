"""What the collector says while things break and come back, with a real Prometheus."""

from __future__ import annotations

import asyncio
import time

import pytest

from fakes.prometheus_fixture import wait_until
from fakes.replayed_engine import VLLM, ReplayedEngine
from fakes.scraped_fleet import WINDOW_SECONDS, collector_for, target
from fakes.watched import watched
from penstock.model.observation import Load
from penstock.model.reading import Absence, Reading
from penstock.sandbox.prometheus import PrometheusProcess, ScrapeTarget

pytestmark = [pytest.mark.prometheus, pytest.mark.slow]
CHAT = watched("chat", "chat-1")
FILLED = (
    f"count_over_time(up[{WINDOW_SECONDS:g}s]) >= {2 * WINDOW_SECONDS:g} and up offset {WINDOW_SECONDS:g}s"
)
NOBODY = "nobody has any; check engine.type and that Prometheus scrapes the pods"
NO_LABEL = "series exist, none has the label 'pod'; set the label that your scrapes write"


async def now(process: PrometheusProcess) -> Load:
    collector, source = collector_for(process)
    loads = await collector.collect([CHAT], at=time.time())
    await source.close()
    return loads[CHAT.key]


async def until(process: PrometheusProcess, absence: Absence | None, *, within_seconds: float = 15.0) -> Load:
    """Collect until the arrival rate is missing for that reason (None: present)."""
    deadline = time.monotonic() + within_seconds
    while True:
        load = await now(process)
        if load.arrival_rate.absence is absence:
            return load
        assert time.monotonic() < deadline, load.arrival_rate
        await asyncio.sleep(0.1)


async def test_an_exporter_that_ends_is_stale_then_without_series(prometheus: PrometheusProcess) -> None:
    with ReplayedEngine(VLLM.read_text()) as engine:
        prometheus.set_targets([target(engine, "chat-1")])
        await asyncio.to_thread(wait_until, prometheus, FILLED)
        before = await now(prometheus)
        assert before.arrival_rate.present
    # The rate goes on for a window, falling: it must not be taken for falling load.
    stale = await until(prometheus, Absence.STALE, within_seconds=3)
    assert stale.arrival_rate.detail == (
        'no sample of vllm:num_requests_running with namespace="prod", pod="chat-1" is younger than 3 s: '
        "its pods are gone or Prometheus fails to scrape them, see the targets page of Prometheus"
    )
    assert stale.waiting == stale.running == stale.ttft[0.95] == stale.queue_growth == stale.arrival_rate
    assert stale.reporting_pods == Reading(0.0)
    assert stale.input_lengths is None
    ended = await until(prometheus, Absence.NO_SERIES, within_seconds=3 * WINDOW_SECONDS)
    assert NOBODY in ended.arrival_rate.detail


@pytest.mark.seconds(25)
async def test_prometheus_down_makes_all_missing_and_back_up_it_waits_for_a_full_window(
    prometheus: PrometheusProcess,
) -> None:
    with ReplayedEngine(VLLM.read_text()) as engine:
        prometheus.set_targets([target(engine, "chat-1")])
        await asyncio.to_thread(wait_until, prometheus, FILLED)
        truth = (await now(prometheus)).arrival_rate.value
        await asyncio.to_thread(prometheus.stop)
        down = await now(prometheus)
        for reading in (down.arrival_rate, down.waiting, down.running, down.tpot_mean, down.ttft[0.95]):
            assert reading.absence is Absence.QUERY_FAILED
        assert down.arrival_rate.detail == (
            f"the query for arrival_rate failed: cannot reach {prometheus.url}: connection refused; "
            "check the address, that Prometheus runs, and network policies between here and there"
        )
        assert down.reporting_pods.absence is Absence.QUERY_FAILED
        await asyncio.sleep(WINDOW_SECONDS + 1)
        await asyncio.to_thread(prometheus.start)
        began = await until(prometheus, Absence.TOO_FEW_SAMPLES)
        assert began.arrival_rate.detail == (
            "Prometheus has samples for less than 4 s, the window that rates are taken over: "
            "it was down or has just begun to scrape"
        )
        assert began.running == Reading(3.0)  # gauges need no window
        rates = []
        while len(rates) < 5:
            load = await now(prometheus)
            if load.arrival_rate.value is not None:
                rates.append(load.arrival_rate.value)
            await asyncio.sleep(0.1)
    assert truth is not None
    assert min(rates) > 0.8 * truth


async def test_samples_with_old_timestamps_are_stale(prometheus: PrometheusProcess) -> None:
    # An exporter that stamps its samples (federation, a push gateway) leaves no staleness marks.
    with ReplayedEngine("") as engine:
        stamp = round((time.time() - 1) * 1000)
        text = f"vllm:num_requests_running 3 {stamp}\nvllm:num_requests_waiting 0 {stamp}\n"
        engine.body = text.encode()
        prometheus.set_targets([target(engine, "chat-1")])
        await asyncio.to_thread(wait_until, prometheus, "vllm:num_requests_running")
        load = await until(prometheus, Absence.STALE)
    assert load.sample_age_seconds.value is not None
    assert load.sample_age_seconds.value > 3.0
    assert load.running.absence is Absence.STALE


async def test_series_without_the_identifying_label_are_told(prometheus: PrometheusProcess) -> None:
    with ReplayedEngine(VLLM.read_text()) as engine:
        prometheus.set_targets(
            [ScrapeTarget(engine.address, {"namespace": "prod", "kubernetes_pod": "chat-1"})]
        )
        await asyncio.to_thread(wait_until, prometheus, "vllm:num_requests_running")
        load = await now(prometheus)
    assert load.running.absence is Absence.NO_SERIES
    assert NO_LABEL in load.running.detail


async def test_a_pod_that_does_not_report_is_counted_out(prometheus: PrometheusProcess) -> None:
    with ReplayedEngine(VLLM.read_text()) as engine:
        prometheus.set_targets([target(engine, "chat-1")])
        await asyncio.to_thread(wait_until, prometheus, "vllm:num_requests_running")
        both = watched("chat", "chat-1", "chat-2")
        collector, source = collector_for(prometheus)
        load = (await collector.collect([both], at=time.time()))[both.key]
        await source.close()
    assert load.reporting_pods == Reading(1.0)
    assert load.running == Reading(3.0)
