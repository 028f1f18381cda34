"""The overload simulation of the data-plane benchmark: it agrees with another one and keeps its limits."""

from __future__ import annotations

import numpy as np
import pytest

from bench.gates import Open, PoolLimit
from bench.limiters import RetryingClient
from bench.overload import Fleet, Load
from bench.simulated_pool import Offered, simulate
from fakes import engine_des
from penstock.policy.feasibility import Limits
from penstock.queueing.balancer import Balancer

FLEET = Fleet.of(slowed=5.0, tokens=(300, 32), replicas=2, ttft_seconds=1.0, tpot_seconds=0.15)


def offered(peak: float, seconds: float = 30.0) -> Offered:
    return Load("step", peak, 5.0, seconds).offered(FLEET, seed=3)


def test_an_open_pool_has_the_latencies_of_a_token_by_token_simulation() -> None:
    load = offered(0.7, 120.0)
    ours = simulate(FLEET.profile, load, Open(), replicas=2, random=np.random.default_rng(1))
    truth = engine_des.simulate(
        FLEET.profile,
        load.arrivals,
        load.prompts,
        load.outputs,
        replicas=2,
        balancer=Balancer.LEAST_REQUESTS,
        warm_up_ratio=0.0,
    )
    for mine, theirs in ((ours.ttft, truth.ttft), (ours.tpot[~np.isnan(ours.tpot)], truth.tpot)):
        for p in (0.5, 0.95):
            assert np.quantile(mine, p) == pytest.approx(np.quantile(theirs, p), rel=0.03)


def test_a_pool_limit_is_never_exceeded_and_reached_in_overload() -> None:
    policy = PoolLimit.of(Limits(running=20, queue=3), 2)
    outcome = simulate(FLEET.profile, offered(3.0), policy, replicas=2, random=np.random.default_rng(1))
    assert outcome.most_in_flight == 2 * 23


def test_who_waits_at_the_gate_waits_in_its_time_to_first_token() -> None:
    load = Offered(np.array([0.0, 0.001]), np.array([10, 10]), np.array([50, 50]))
    policy = PoolLimit(running_limit=1, in_flight_limit=2)
    outcome = simulate(FLEET.profile, load, policy, replicas=1, random=np.random.default_rng(1))
    whole = outcome.ttft[0] + 49 * outcome.tpot[0]
    assert outcome.ttft[1] == pytest.approx(whole - 0.001 + outcome.ttft[0], rel=0.02)


def test_clients_that_come_back_are_counted_as_attempts_and_the_engines_do_not_see_them() -> None:
    load, limits = offered(3.0), Limits(running=20, queue=3)
    runs = [
        simulate(
            FLEET.profile,
            load,
            PoolLimit.of(limits, 2),
            replicas=2,
            client=client,
            retry_after_seconds=1.0,
            random=np.random.default_rng(1),
        )
        for client in (None, RetryingClient())
    ]
    assert runs[0].attempts == load.arrivals.size
    assert runs[1].attempts > 1.5 * load.arrivals.size
    assert runs[1].reached_engines < 1.1 * runs[0].reached_engines


def test_a_ramp_passes_capacity_after_a_fifth_of_its_time() -> None:
    ramp = Load("ramp", 3.0, 10.0, 100.0, ramps=True)
    assert ramp.counted_from_seconds == pytest.approx(30.0)
    times = ramp.times(100.0, np.random.default_rng(1))
    last = np.count_nonzero(times > 100.0) / 10.0
    assert last == pytest.approx(2.875 * 100, rel=0.1)  # mean of the last tenth
