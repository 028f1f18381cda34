"""The stand-in's latencies against the queueing model that Penstock plans with.

First in virtual time, where a quarter of an hour takes a second: scheduler against model. Then in
real time, over HTTP, as a user would measure it; a machine that is too busy fails the test with its
lag instead of giving a verdict about the engine.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest

from penstock.engine.arrivals import ArrivalProcess, Lengths, PlannedRequest, RateStep, scheduled
from penstock.engine.batch_loop import BatchLoop, EngineLimits, Sequence, StepWork
from penstock.engine.lag import MAX_LAG_RATIO, StepLag
from penstock.engine.latency_sample import LatencySample
from penstock.engine.load_generator import LoadGenerator, LoadLimits, LoadResult
from penstock.engine.load_report import Trust
from penstock.engine.stream_client import RequestShape
from penstock.engine.targets import Balancing, Targets
from penstock.model.profiles import profile_named
from penstock.queueing.balancer import Balancer
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.traffic import TrafficShape
from penstock.sandbox.local_process import Container, LocalRuntime

PROFILE = "llama-3.1-8b-h100"


def poisson(rate: float, lengths: Lengths, seconds: float, seed: int) -> list[PlannedRequest]:
    chance = np.random.default_rng(seed)
    return list(
        scheduled(
            (RateStep(rate, seconds),),
            lengths,
            process=ArrivalProcess.POISSON,
            duration_seconds=seconds,
            chance=chance,
        )
    )


def served(profile: EngineProfile, plan: list[PlannedRequest]) -> list[Sequence]:
    """Serve a plan in virtual time."""
    limits = EngineLimits(
        slots=profile.max_sequences,
        kv_capacity_tokens=int(profile.kv_capacity_tokens),
        step_budget_tokens=profile.step_token_budget,
    )
    batch, law, now = BatchLoop(limits), profile.step_law, 0.0

    def seconds(work: StepWork) -> float:
        # the law's own formula on plain floats: ten times faster than on numpy's, checked once below
        return (
            law.base_seconds
            + max(law.weights_seconds, law.per_token_seconds * work.tokens)
            + law.per_token_pair_seconds * work.prefill_token_pairs
            + law.per_kv_token_seconds * work.kv_tokens
            + law.per_sequence_seconds * work.decoding
        )

    example = StepWork(prefill_tokens=900, decoding=30, prefill_token_pairs=4e5, kv_tokens=40_000)
    assert seconds(example) == pytest.approx(float(law.step_seconds(900, 30, 4e5, 40_000)))
    sequences = [
        batch.submit(
            input_tokens=request.input_tokens,
            output_tokens=request.output_tokens,
            arrived_at=request.at_seconds + profile.frontend_seconds,
        )
        for request in plan
    ]
    while (upcoming := batch.next_arrival()) is not None or batch.running_count:
        work = batch.begin_step(now)
        if work is None:
            assert upcoming is not None
            now = upcoming
            continue
        now += seconds(work)
        batch.finish_step(now)
    return sequences


@pytest.mark.parametrize("rho", [0.3, 0.5, 0.7, 0.85])
def test_in_virtual_time_the_scheduler_agrees_with_the_model(rho: float):
    profile = profile_named(PROFILE)
    model = ReplicaModel(profile, TrafficShape.lognormal(1155, 211, 0.75))
    rate = rho * model.saturation_rate_per_second
    predicted = model.pool(1, rate, balancer=Balancer.RANDOM)
    assert predicted.ttft is not None
    assert predicted.tpot is not None
    sequences = [
        sequence
        for seed in (1, 2)
        for sequence in served(profile, poisson(rate, Lengths(1155, 211, 0.75), 600, seed))
        if sequence.arrived_at > 30  # the batch fills up first
    ]
    ttft = np.array([s.first_token_at - s.arrived_at for s in sequences]) + profile.frontend_seconds
    tpot = np.array(
        [
            (s.last_token_at - s.first_token_at) / (s.output_tokens - 1)
            for s in sequences
            if s.output_tokens > 1
        ]
    )
    assert ttft.mean() == pytest.approx(predicted.ttft.mean, rel=0.05)
    for level in (0.5, 0.9, 0.95):
        assert np.quantile(ttft, level) == pytest.approx(predicted.ttft.quantile(level), rel=0.06)
    assert tpot.mean() == pytest.approx(predicted.tpot.mean, rel=0.05)
    assert np.quantile(tpot, 0.95) == pytest.approx(predicted.tpot.quantile(0.95), rel=0.10)


# Slow steps (120 to 170 ms) make a busy machine's delays small beside them; five replicas at once, with
# 180 to 250 tokens a second each, make up for the smaller sample of each.
SPEED = 0.1
ENGINES = 5
SECONDS = 80.0
WARMUP_SECONDS = 15.0
LENGTHS = Lengths(300, 30, 0.5)


async def measured(rate: float, directory: Path) -> list[LoadResult]:
    """Load all replicas at once, each with arrivals of its own: independent samples of one law."""
    runtime = LocalRuntime(directory)
    engines: list[Container] = []
    try:
        for number in range(ENGINES):
            command = ["penstock", "engine", f"--profile={PROFILE}", f"--speed={SPEED}"]
            engines.append(await runtime.start(f"engine-{number}", command, 0))
        limits = LoadLimits(duration_seconds=SECONDS, warmup_seconds=WARMUP_SECONDS)
        generators = [
            LoadGenerator(
                Targets((engine.url,), file=None, balancing=Balancing.RANDOM, chance=random.Random(0)),
                RequestShape(),
                limits,
                seed=seed,
            )
            for seed, engine in enumerate(engines, start=1)
        ]
        return await asyncio.gather(
            *(
                generator.run(poisson(rate, LENGTHS, SECONDS, seed))
                for seed, generator in enumerate(generators, start=1)
            )
        )
    finally:
        await asyncio.gather(*(engine.stop(2) for engine in engines))


def objection(results: list[LoadResult]) -> str:
    together = LoadResult(engine_lag=sum((result.engine_lag for result in results), StepLag()))
    trust = Trust(max_send_lag_seconds=0.04, max_engine_lag_ratio=MAX_LAG_RATIO / 2)
    return "; ".join(filter(None, (trust.objection(result) for result in (together, *results))))


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.5, 0.7])
@pytest.mark.seconds(90)
async def test_measured_over_http_the_engine_agrees_with_the_model_within_ten_percent(
    rho: float, tmp_path: Path
):
    profile = profile_named(PROFILE).at_speed(1 / SPEED)
    shape = TrafficShape.lognormal(LENGTHS.input_tokens, LENGTHS.output_tokens, LENGTHS.scv)
    model = ReplicaModel(profile, shape)
    rate = rho * model.saturation_rate_per_second
    predicted = model.pool(1, rate, balancer=Balancer.RANDOM)
    assert predicted.ttft is not None
    assert predicted.tpot is not None

    for _ in range(3):
        results = await measured(rate, tmp_path)
        if not objection(results):
            break  # else somebody else's burst of work may be over by the next time
    assert not objection(results), f"no verdict about the engine: {objection(results)}"

    records = [record for result in results for record in result.records]
    assert {record.outcome for record in records} == {"ok"}
    ttft = np.array([record.ttft_seconds for record in records])
    gaps = [result.inter_token for result in results]
    inter_token = sum(_total(sample) for sample in gaps) / sum(sample.count for sample in gaps)
    rows = {
        "TTFT mean": (ttft.mean(), predicted.ttft.mean),
        "TTFT p50": (np.median(ttft), predicted.ttft.quantile(0.5)),
        "TTFT p95": (np.quantile(ttft, 0.95), predicted.ttft.quantile(0.95)),
        "inter-token mean": (inter_token, predicted.tpot.mean),
    }
    lag = sum((result.engine_lag for result in results), StepLag()).ratio
    print(f"\nrho {rho}, {len(records)} requests, steps late by {lag:.1%} of their duration")
    for name, (seen, expected) in rows.items():
        print(f"{name:17} {seen * 1e3:6.1f} ms, predicted {expected * 1e3:6.1f} ({seen / expected - 1:+.1%})")
    for name, (seen, expected) in rows.items():
        assert seen == pytest.approx(expected, rel=0.10), name


def _total(sample: LatencySample) -> float:
    assert sample.mean is not None
    return sample.mean * sample.count
