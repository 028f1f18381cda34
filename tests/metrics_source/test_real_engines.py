"""The whole catalogue on a real Prometheus that scrapes real expositions: every signal with its value.

Counters advance evenly (see fakes.replayed_engine), so values are known: a tolerance of 4 % is left for
scrapes that are not exactly half a second apart in a window of 4 s.
"""

from __future__ import annotations

import pytest

from fakes.replayed_engine import buckets, recorded
from fakes.scraped_fleet import ScrapedFleet, collector_for
from fakes.watched import P50_AND_P95, custom, watched
from penstock.metrics_source.histogram import histogram_quantile
from penstock.metrics_source.identity import IdentifyBy, Watched
from penstock.model.observation import Load
from penstock.model.reading import Absence, Reading
from penstock.model.spec import EngineType, ServiceKey, Signal

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.parametrize("identify_by", IdentifyBy),
]
SECONDS = 10.0  # the replayed engines' recording is spread over this


async def load_of(fleet: ScrapedFleet, identify_by: IdentifyBy, service: Watched) -> Load:
    collector, source = collector_for(fleet.prometheus, identify_by)
    loads = await collector.collect([service], at=fleet.now)
    await source.close()
    return loads[service.key]


def near(expected: float) -> object:
    return pytest.approx(expected, rel=0.04)


def test_the_recordings_hold_what_the_checks_rely_on(fleet: ScrapedFleet, identify_by: IdentifyBy) -> None:
    del identify_by
    text = fleet.engines["chat-1"].text
    assert recorded(text, "vllm:time_to_first_token_seconds_count") == 179
    assert recorded(text, "vllm:request_time_per_output_token_seconds_count") == 176
    assert recorded(text, "vllm:num_requests_running") == 3


async def test_vllm_gives_every_signal_of_two_replicas(fleet: ScrapedFleet, identify_by: IdentifyBy) -> None:
    chat = watched("chat", "chat-1", "chat-2", objectives=P50_AND_P95)
    load = await load_of(fleet, identify_by, chat)
    text = fleet.engines["chat-1"].text
    both = 1.5 / SECONDS  # the second replica runs at half the pace
    assert load.arrival_rate.value == near(179 * both)
    assert load.input_token_rate.value == near(recorded(text, "vllm:prompt_tokens_total") * both)
    assert load.output_token_rate.value == near(recorded(text, "vllm:generation_tokens_total") * both)
    assert load.running == Reading(6.0)
    assert load.queue_growth.value == pytest.approx(0.5, abs=0.02)
    waited = fleet.now - fleet.engines["chat-1"].began
    assert load.waiting.value == pytest.approx(0.5 * waited, abs=1.0)
    seconds = recorded(text, "vllm:request_time_per_output_token_seconds_sum")
    assert load.tpot_mean.value == near(seconds / 176)
    for family, histogram in (
        (load.ttft, "vllm:time_to_first_token_seconds"),
        (load.tpot, "vllm:request_time_per_output_token_seconds"),
        (load.latency, "vllm:e2e_request_latency_seconds"),
    ):
        assert list(family) == [0.5, 0.95]
        for percentile, reading in family.items():
            assert reading.value == near(histogram_quantile(percentile, buckets(text, histogram)))
    assert load.reporting_pods == Reading(2.0)
    assert load.sample_age_seconds.value == pytest.approx(0.3, abs=0.6)
    assert load.warnings == ()


async def test_vllm_gives_the_lengths_of_requests(fleet: ScrapedFleet, identify_by: IdentifyBy) -> None:
    load = await load_of(fleet, identify_by, watched("chat", "chat-1", "chat-2"))
    text = fleet.engines["chat-1"].text
    for found, histogram in (
        (load.input_lengths, "vllm:request_prompt_tokens"),
        (load.output_lengths, "vllm:request_generation_tokens"),
    ):
        cumulative = buckets(text, histogram)
        assert found is not None
        assert found.upper_bounds == tuple(sorted(cumulative))
        assert sum(found.counts) == near(176 * 1.5 / SECONDS)
        assert found.mean == pytest.approx(recorded(text, f"{histogram}_sum") / 176, rel=1e-6)
        shares = [count / sum(found.counts) for count in found.counts]
        total, before = 0.0, 0.0
        for bound, share in zip(found.upper_bounds, shares, strict=True):
            total, before = cumulative[bound] / 176, total
            assert share == pytest.approx(total - before, abs=1e-6)


async def test_an_idle_engine_is_a_true_zero(fleet: ScrapedFleet, identify_by: IdentifyBy) -> None:
    load = await load_of(fleet, identify_by, watched("idle", "idle-1", objectives=P50_AND_P95))
    zero = Reading(0.0)
    assert (load.arrival_rate, load.waiting, load.running, load.queue_growth) == (zero, zero, zero, zero)
    assert (load.input_token_rate, load.output_token_rate) == (zero, zero)
    nothing = Reading.missing(Absence.NO_REQUESTS, "no request finished within 4 s")
    assert load.tpot_mean == nothing
    for family in (load.ttft, load.tpot, load.latency):
        assert family == {0.5: nothing, 0.95: nothing}
    assert load.reporting_pods == Reading(1.0)


@pytest.mark.parametrize(("name", "engine"), [("sgl-new", EngineType.SGLANG), ("tgi-new", EngineType.TGI)])
async def test_an_engine_that_never_served_is_idle_though_it_has_no_counters(
    fleet: ScrapedFleet, identify_by: IdentifyBy, name: str, engine: EngineType
) -> None:
    load = await load_of(
        fleet, identify_by, watched(name, f"{name}-1", engine=engine, objectives=P50_AND_P95)
    )
    assert load.arrival_rate == Reading(0.0)
    assert load.output_token_rate == Reading(0.0)
    assert {each.absence for each in load.latency.values()} == {Absence.NO_REQUESTS}


async def test_llama_cpp_has_totals_and_says_what_it_has_not(
    fleet: ScrapedFleet, identify_by: IdentifyBy
) -> None:
    llama = watched("llama", "llama-1", engine=EngineType.LLAMA_CPP, objectives=P50_AND_P95)
    load = await load_of(fleet, identify_by, llama)
    text = fleet.engines["llama-1"].text
    assert (load.running, load.waiting) == (Reading(4.0), Reading(96.0))
    assert load.queue_growth.value == pytest.approx(0.0, abs=1e-9)
    assert load.input_token_rate.value == near(recorded(text, "llamacpp:prompt_tokens_total") / SECONDS)
    assert load.output_token_rate.value == near(recorded(text, "llamacpp:tokens_predicted_total") / SECONDS)
    assert load.tpot_mean.value == near(14.1918 / 1781)
    assert load.arrival_rate == Reading.missing(
        Absence.NOT_EXPOSED,
        "llama.cpp does not count requests; count them at the gateway: "
        "engine.type Custom with a query for ArrivalRate",
    )
    assert {each.absence for family in (load.ttft, load.tpot, load.latency) for each in family.values()} == {
        Absence.NOT_EXPOSED
    }


async def test_sglang_gives_all_but_tpot_percentiles(fleet: ScrapedFleet, identify_by: IdentifyBy) -> None:
    load = await load_of(
        fleet, identify_by, watched("sgl", "sgl-1", engine=EngineType.SGLANG, objectives=P50_AND_P95)
    )
    text = fleet.engines["sgl-1"].text
    assert load.arrival_rate.value == near(50 / SECONDS)
    assert (load.running, load.waiting) == (Reading(6.0), Reading(2.0))
    assert load.input_token_rate.value == near(12000 / SECONDS)
    assert load.output_token_rate.value == near(9000 / SECONDS)
    assert load.tpot_mean.value == near(112.0 / 8950)
    assert load.ttft_mean.value == near(recorded(text, "sglang:time_to_first_token_seconds_sum") / 50)
    expected = histogram_quantile(0.95, buckets(text, "sglang:time_to_first_token_seconds"))
    assert load.ttft[0.95].value == near(expected)
    assert load.tpot[0.95].absence is Absence.TOO_FEW_SAMPLES
    assert "sgl-project/sglang#40228" in load.tpot[0.95].detail
    assert load.input_lengths is not None
    assert load.input_lengths.mean == pytest.approx(240.0)


async def test_tgi_gives_all_but_ttft(fleet: ScrapedFleet, identify_by: IdentifyBy) -> None:
    load = await load_of(
        fleet, identify_by, watched("tgi", "tgi-1", engine=EngineType.TGI, objectives=P50_AND_P95)
    )
    assert load.arrival_rate.value == near(60 / SECONDS)
    assert (load.running, load.waiting) == (Reading(7.0), Reading(3.0))
    assert load.input_token_rate.value == near(7500 / SECONDS)
    assert load.output_token_rate.value == near(3500 / SECONDS)
    assert load.tpot_mean.value == near(1.0 / 50)
    assert load.ttft[0.5].absence is Absence.NOT_EXPOSED
    assert load.latency[0.5].value == near(1.189375)


async def test_a_service_without_series_says_what_was_looked_for(
    fleet: ScrapedFleet, identify_by: IdentifyBy
) -> None:
    load = await load_of(fleet, identify_by, watched("ghost", "ghost-2", "ghost-1"))
    label = 'pod="ghost-1" or its other pods' if identify_by is IdentifyBy.POD else 'service="ghost"'
    assert load.arrival_rate.absence is Absence.NO_SERIES
    assert load.arrival_rate.detail.startswith(
        f'no series of vllm:num_requests_running with namespace="prod", {label}: others have it; check that '
        "Prometheus scrapes its pods and that these labels match (query: "
    )
    assert load.waiting == load.running == load.ttft[0.95] == load.arrival_rate
    assert load.reporting_pods == Reading(0.0)


async def test_another_namespaces_pods_of_the_same_name_are_not_ours(
    fleet: ScrapedFleet, identify_by: IdentifyBy
) -> None:
    load = await load_of(fleet, identify_by, watched("chat", "chat-1", "chat-2", namespace="other"))
    assert load.running == Reading(3.0)
    assert load.reporting_pods == Reading(1.0)


async def test_the_services_of_all_engines_are_read_together(
    fleet: ScrapedFleet, identify_by: IdentifyBy
) -> None:
    finished = 'sum(rate(vllm:e2e_request_latency_seconds_count{pod="chat-1"}[4s]))'
    services = [
        watched("chat", "chat-1", "chat-2"),
        watched("sgl", "sgl-1", engine=EngineType.SGLANG),
        watched("tgi", "tgi-1", engine=EngineType.TGI),
        custom("own", {Signal.ARRIVAL_RATE: finished}),
    ]
    collector, source = collector_for(fleet.prometheus, identify_by)
    loads = await collector.collect(services, at=fleet.now)
    history = await collector.rate_history(services, start=fleet.now - 1, end=fleet.now, step=0.5)
    await source.close()
    rates = {key.name: load.arrival_rate.value for key, load in loads.items()}
    assert rates == {"chat": near(26.85), "sgl": near(5.0), "tgi": near(6.0), "own": near(17.6)}
    assert set(history) == {ServiceKey("prod", each) for each in rates}
    assert history[ServiceKey("prod", "chat")][-1][1] == near(26.85)


async def test_percentiles_agree_with_prometheus_own(fleet: ScrapedFleet, identify_by: IdentifyBy) -> None:
    at = fleet.now - 1.0  # all scrapes up to then are stored
    collector, source = collector_for(fleet.prometheus, identify_by)
    chat = watched("chat", "chat-1", "chat-2", objectives=P50_AND_P95)
    load = (await collector.collect([chat], at=at))[chat.key]
    for family, histogram in (
        (load.ttft, "vllm:time_to_first_token_seconds"),
        (load.tpot, "vllm:request_time_per_output_token_seconds"),
        (load.latency, "vllm:e2e_request_latency_seconds"),
    ):
        for percentile, reading in family.items():
            selector = f'{histogram}_bucket{{namespace="prod",pod=~"chat-.*"}}'
            query = f"histogram_quantile({percentile}, sum by (le) (rate({selector}[4s])))"
            ((_, expected),) = (await source.instant(query, at)).samples
            assert reading.value == pytest.approx(expected, rel=1e-9)
    await source.close()
