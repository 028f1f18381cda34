"""Percentiles of the model against a token-by-token simulation, over shapes, pools and balancers.

`tests/bench/accuracy.py` prints the whole table; here are the corners of it, with room for the noise
of 12,000 simulated requests.
"""

from dataclasses import replace

import numpy as np
import pytest

from fakes.engine_des import Measured, simulate
from penstock.queueing.balancer import Arrivals, Balancer
from penstock.queueing.distribution import Distribution
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.traffic import TrafficShape

REQUESTS = 12_288


def simulated(
    model: ReplicaModel, *, rate: float, replicas: int, balancer: Balancer, arrivals: Arrivals
) -> Measured:
    random = np.random.default_rng(11)
    # Whole rounds of the shape's sample: fresh log-normal draws of 12,000 lengths move p95 by 5 %.
    inputs, outputs = model.shape.sample(REQUESTS, random)
    gaps = random.exponential(1, REQUESTS) if arrivals is Arrivals.POISSON else np.ones(REQUESTS)
    return simulate(
        model.profile,
        np.cumsum(gaps / gaps.mean()) / rate,
        np.rint(inputs),
        np.rint(outputs),
        replicas=replicas,
        balancer=balancer,
        warm_up_ratio=0.25,
    )


@pytest.mark.parametrize(
    ("means", "scv", "kv", "replicas", "balancer", "arrivals", "load"),
    [
        ((1155, 211), 1.0, 432_992, 1, Balancer.RANDOM, Arrivals.POISSON, 0.6),
        ((1155, 211), 1.0, 432_992, 4, Balancer.LEAST_REQUESTS, Arrivals.POISSON, 0.8),
        ((1155, 211), 1.0, 432_992, 16, Balancer.POWER_OF_TWO, Arrivals.POISSON, 0.6),
        ((1155, 211), 1.0, 432_992, 4, Balancer.ROUND_ROBIN, Arrivals.CONSTANT, 0.8),
        ((128, 400), 1.0, 432_992, 1, Balancer.RANDOM, Arrivals.POISSON, 0.5),
        ((3000, 40), 0.5, 432_992, 4, Balancer.LEAST_REQUESTS, Arrivals.POISSON, 0.6),
        ((512, 256), 0.0, 432_992, 1, Balancer.RANDOM, Arrivals.CONSTANT, 0.7),
        ((1155, 211), 0.5, 80_000, 4, Balancer.LEAST_REQUESTS, Arrivals.POISSON, 0.7),
    ],
)
def test_percentiles_meet_the_simulation(
    reference: EngineProfile,
    means: tuple[int, int],
    scv: float,
    kv: float,
    replicas: int,
    balancer: Balancer,
    arrivals: Arrivals,
    load: float,
) -> None:
    profile = replace(reference, kv_capacity_tokens=float(kv))
    model = ReplicaModel(profile, TrafficShape.lognormal(*means, scv))
    rate = load * replicas * model.saturation_rate_per_second
    seen = simulated(model, rate=rate, replicas=replicas, balancer=balancer, arrivals=arrivals)
    expected = model.pool(replicas, rate, balancer=balancer, arrivals=arrivals)
    _agree(expected.ttft, seen.ttft, {"mean": 0.08, "p50": 0.08, "p90": 0.10, "p95": 0.12})
    _agree(expected.tpot, seen.tpot, {"mean": 0.05, "p50": 0.06, "p90": 0.07, "p95": 0.08})
    _agree(expected.latency, seen.latency, {"mean": 0.08, "p50": 0.08, "p90": 0.10, "p95": 0.12})


def _agree(expected: Distribution | None, seen: np.ndarray, tolerances: dict[str, float]) -> None:
    assert expected is not None
    levels = {"p50": 0.5, "p90": 0.9, "p95": 0.95}
    for name, tolerance in tolerances.items():
        truth = seen.mean() if name == "mean" else np.quantile(seen, levels[name])
        assert getattr(expected, name) == pytest.approx(truth, rel=tolerance), name
