"""The pool: where formulas are exact, how balancers compare, admission and fallback."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fakes.sim_scenarios import TENTH, every, scenario
from penstock.queueing import MD1, MMc
from penstock.queueing.step_law import StepLaw
from penstock.sim.run import RequestStatus
from penstock.sim.scenario import Admission, Fallback, Objectives, Routing
from penstock.sim.simulate import simulate
from penstock.sim.static import Static

SECOND = replace(TENTH, step_law=StepLaw(base_seconds=1.0), max_sequences=1)


def poisson(rate: float, count: int) -> np.ndarray:
    gaps = np.random.default_rng(11).exponential(1, count)
    return np.asarray(np.cumsum(gaps / gaps.mean()) / rate)


def test_one_slot_and_one_token_make_an_m_d_1_queue():
    run = simulate(scenario(poisson(0.8, 200_000), 1, 1, profile=SECOND), Static(1), seed=1)
    waits = run.ttft_seconds - 1.0
    queue = MD1(0.8, 1.0)
    assert waits.mean() == pytest.approx(queue.mean_wait, rel=0.03)
    for wait in (1.0, 3.0, 5.0):
        assert (waits > wait).mean() == pytest.approx(queue.wait_tail(wait), abs=0.006)


def test_slots_with_geometric_outputs_make_an_m_m_c_queue():
    # Steps of 1 ms against services of 100 ms: a sequence is a busy server.
    profile = replace(TENTH, step_law=StepLaw(base_seconds=0.001), max_sequences=4)
    outputs = np.random.default_rng(3).geometric(0.01, 150_000)
    run = simulate(scenario(poisson(32.0, 150_000), 1, outputs, profile=profile), Static(1), seed=1)
    queue = MMc(32.0, 10.0, 4)
    waits = run.ttft_seconds - 0.0015  # the first step, and half of the one in progress
    assert waits.mean() == pytest.approx(queue.mean_wait, rel=0.06)
    assert (waits > 0.1).mean() == pytest.approx(queue.wait_tail(0.1), abs=0.01)


def test_a_random_split_of_poisson_arrivals_makes_separate_queues():
    arrivals = poisson(3.2, 200_000)
    pool = scenario(arrivals, 1, 1, profile=SECOND, initial_replicas=4, routing=Routing.RANDOM)
    waits = simulate(pool, Static(4), seed=1).ttft_seconds - 1.0
    assert waits.mean() == pytest.approx(MD1(0.8, 1.0).mean_wait, rel=0.04)


def test_balancers_rank_by_what_they_know():
    arrivals = poisson(7.2, 60_000)
    rng = np.random.default_rng(5)
    inputs = np.minimum(rng.lognormal(4, 2, arrivals.size).astype(np.int64) + 1, 20_000)
    law = StepLaw(base_seconds=0.005, per_token_seconds=0.0035 * 1.0)
    p95 = {}
    for routing in Routing:
        pool = scenario(
            arrivals,
            inputs,
            2,
            profile=replace(TENTH, step_law=law, kv_capacity_tokens=1e6),
            initial_replicas=8,
            routing=routing,
        )
        p95[routing] = float(np.quantile(simulate(pool, Static(8), seed=1).ttft_seconds, 0.95))
    assert (
        p95[Routing.LEAST_TOKENS]
        < p95[Routing.LEAST_REQUESTS]
        < p95[Routing.POWER_OF_TWO]
        < p95[Routing.ROUND_ROBIN]
        < p95[Routing.RANDOM]
    )


def test_round_robin_gives_every_replica_the_same_number():
    # 8 requests at once on 4 replicas of one slot: each serves two.
    run = simulate(
        scenario(np.zeros(8), 1, 1, profile=SECOND, initial_replicas=4, routing=Routing.ROUND_ROBIN),
        Static(4),
        seed=1,
    )
    assert sorted(run.ttft_seconds.tolist()) == [1.0] * 4 + [2.0] * 4


LIMIT = Admission(running_limit=2, queue_limit=1)


def test_what_exceeds_the_limit_is_shed():
    run = simulate(scenario(np.zeros(5), 1, 3, profile=SECOND, admission=LIMIT), Static(1), seed=1)
    assert run.status.tolist() == [RequestStatus.SERVED] * 3 + [RequestStatus.SHED] * 2
    assert np.isnan(run.latency_seconds[3:]).all()
    assert run.attainment_ratio(Objectives(10.0, 10.0)) == pytest.approx(3 / 5)


def test_the_limit_grows_with_the_replicas_and_the_engines_run_no_more_than_it_allows():
    profile = replace(SECOND, max_sequences=100)
    run = simulate(
        scenario(np.zeros(7), 1, 3, profile=profile, admission=LIMIT, initial_replicas=2), Static(2), seed=1
    )
    assert (run.status == RequestStatus.SERVED).sum() == 6
    # One starts alone, the second a step later, the third when the first has made its 3 tokens.
    assert sorted(run.ttft_seconds[:6].tolist()) == [1.0, 1.0, 2.0, 2.0, 4.0, 4.0]


def test_the_fallback_takes_what_is_refused_until_it_is_full_too():
    fast = replace(TENTH, step_law=StepLaw(base_seconds=0.1))
    fallback = Fallback(fast, replicas=1, admission=Admission(running_limit=1, queue_limit=0))
    run = simulate(
        scenario(np.zeros(5), 1, 1, profile=SECOND, admission=LIMIT, fallback=fallback), Static(1), seed=1
    )
    assert run.status.tolist() == [RequestStatus.SERVED] * 3 + [RequestStatus.FELL_BACK, RequestStatus.SHED]
    assert run.ttft_seconds[3] == pytest.approx(0.1)
    assert run.attainment_ratio(Objectives(10.0, 10.0)) == pytest.approx(3 / 5)
    either = (RequestStatus.SERVED, RequestStatus.FELL_BACK)
    assert run.attainment_ratio(Objectives(10.0, 10.0), either) == pytest.approx(4 / 5)
    assert run.average_replicas(until=1.0) == 1.0  # the fallback is not on this bill


def test_an_overload_with_a_limit_keeps_the_objective_that_it_breaks_without():
    arrivals = every(0.02, 120.0)  # 50/s on an engine that does 32 a second
    law = StepLaw(base_seconds=0.01, per_token_seconds=0.001)
    profile = replace(TENTH, step_law=law)
    slo = Objectives(1.0, 0.1)
    without = simulate(scenario(arrivals, 20, 10, profile=profile), Static(1), seed=1)
    limited = simulate(
        scenario(arrivals, 20, 10, profile=profile, admission=Admission(20, 10)), Static(1), seed=1
    )
    assert without.attainment_ratio(slo) < 0.1
    assert limited.attainment_ratio(slo) > 0.55
