import math

import numpy as np
import pytest

from penstock.queueing.balancer import Balancer
from penstock.queueing.distribution import LEVELS, Distribution
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.errors import InvalidParameter
from penstock.queueing.trace_model import TraceModel
from penstock.queueing.twin import replay


def test_a_real_hour_on_one_replica(conversations: np.ndarray, reference: EngineProfile) -> None:
    """Simulated with the same law: 124 ms and 193 ms (table 3.4 of the reference)."""
    seen = replay(
        reference,
        *conversations.T,
        replicas=1,
        balancer=Balancer.RANDOM,
        random=np.random.default_rng(0),
    )
    assert np.quantile(seen.ttft, 0.95) == pytest.approx(0.124, rel=0.02)
    assert np.quantile(seen.ttft, 0.99) == pytest.approx(0.193, rel=0.03)
    assert 0.9 < seen.busy_ratio <= 1.0


def test_the_busiest_window_is_counted_and_what_is_around_it_is_replayed(
    reference: EngineProfile,
) -> None:
    quiet, busy = np.arange(0.0, 600.0, 2.0), np.arange(300.0, 360.0, 0.25)
    times = np.sort(np.concatenate([quiet, busy]))
    lengths = np.full(times.size, 100.0)
    model = TraceModel.busiest(reference, times, lengths, lengths)
    assert model.rate_per_second == pytest.approx((240 + 30) / 60)
    counted = model.arrivals[model.counted]
    assert counted.size == 270
    assert counted[-1] - counted[0] < 60
    before, after = model.counted.start, model.arrivals.size - model.counted.stop
    assert before == 60  # 120 s of one request every two seconds
    assert after == 30


def test_a_shorter_trace_counts_as_a_whole(reference: EngineProfile) -> None:
    times = np.arange(0.0, 10.0, 0.5)
    model = TraceModel.busiest(reference, times, np.full(20, 300.0), np.full(20, 20.0))
    assert model.rate_per_second == pytest.approx(2.0)
    assert model.counted == slice(0, 20)


def test_another_rate_stretches_time(conversations: np.ndarray, reference: EngineProfile) -> None:
    model = TraceModel.busiest(reference, *conversations.T)
    half, same, twice = (
        model.pool(1, factor * model.rate_per_second, balancer=Balancer.RANDOM) for factor in (0.5, 1.0, 2.0)
    )
    assert half.utilization == pytest.approx(same.utilization / 2)
    assert half.latency.mean < same.latency.mean < twice.latency.mean


def test_limits_turn_away_requests_of_a_burst(reference: EngineProfile) -> None:
    times = np.concatenate([[0.0], np.linspace(30.0, 30.1, 50), [59.0]])
    model = TraceModel.busiest(reference, times, np.full(52, 1000.0), np.full(52, 50.0))
    seen = model.pool(1, model.rate_per_second, balancer=Balancer.RANDOM, running_limit=10, queue_limit=2)
    assert seen.shed_fraction == pytest.approx(38 / 52)
    assert model.pool(1, model.rate_per_second, balancer=Balancer.RANDOM).shed_fraction == 0


@pytest.mark.parametrize(
    ("arrivals", "message"),
    [([], "must hold two instants or more"), ([1.0, 1.0], "two instants"), ([2.0, 1.0, 3.0], "sorted")],
)
def test_a_trace_without_a_rate_is_refused(
    reference: EngineProfile, arrivals: list[float], message: str
) -> None:
    lengths = [10.0] * len(arrivals)
    with pytest.raises(InvalidParameter, match=message):
        TraceModel.busiest(reference, arrivals, lengths, lengths)


def test_quantiles_of_a_sample_are_those_of_numpy() -> None:
    sample = np.random.default_rng(1).lognormal(0, 1, 5000)
    seen = Distribution.of_samples(sample)
    assert seen.mean == pytest.approx(sample.mean())
    for level in (0.0, 0.5, 0.9, 0.95, 0.99, 0.999):
        assert seen.quantile(level) == pytest.approx(float(np.quantile(sample, level)), rel=1e-9)
    assert (seen.p50, seen.p90, seen.p95, seen.p99) == tuple(map(seen.quantile, (0.5, 0.9, 0.95, 0.99)))


def test_an_unstable_queue_has_no_finite_quantile() -> None:
    assert all(math.isinf(Distribution.unbounded().quantile(level)) for level in LEVELS)


@pytest.mark.parametrize("probability", [-0.1, 0.9999, 1.0])
def test_a_quantile_beyond_the_grid_is_refused(probability: float) -> None:
    with pytest.raises(InvalidParameter, match="probability must be in"):
        Distribution.of_samples(np.ones(10)).quantile(probability)
