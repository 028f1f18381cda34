"""The table of theory.md section 3 that needs no latencies."""

import math
from dataclasses import replace

import numpy as np
import pytest

from penstock.queueing.balancer import Balancer
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.finite_queue import MMcK
from penstock.queueing.number_in_service import blocking, number_in_service
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.single_server import MM1
from penstock.queueing.traffic import TrafficShape


def test_saturation_rate_of_the_reference_replica(replica: ReplicaModel) -> None:
    assert replica.saturation_rate_per_second == pytest.approx(20.6, abs=0.05)


def test_memory_has_room_for_353_conversations(replica: ReplicaModel) -> None:
    assert math.floor(replica.kv_concurrency) in (352, 353)
    assert replica.kv_concurrency == pytest.approx(353, abs=0.5)


def test_running_limit_at_a_tpot_of_30_ms(replica: ReplicaModel) -> None:
    limit = replica.running_limit(0.030)
    assert limit == 95
    assert replica.mean_step_seconds(limit) <= 0.85 * 0.030 < replica.mean_step_seconds(limit + 1)


def test_without_a_tpot_objective_the_engine_itself_limits(replica: ReplicaModel) -> None:
    assert replica.running_limit(None) == 256


def test_running_limit_leaves_memory_for_99_percent_of_the_mixes(reference: EngineProfile) -> None:
    shape = TrafficShape.lognormal(2000, 300)
    replica = ReplicaModel(reference, shape)
    limit = replica.running_limit(None)
    assert limit < math.floor(replica.kv_concurrency)
    random = np.random.default_rng(7)
    steps = shape.output_lengths - 1
    drawn = random.choice(steps.size, size=(2000, limit), p=steps / steps.sum())
    age = random.random(drawn.shape)
    held = (shape.input_lengths[drawn] + age * shape.output_lengths[drawn]).sum(axis=1)
    assert 0.005 < np.mean(held > reference.kv_capacity_tokens) < 0.02


@pytest.mark.parametrize("scv", [1.0, 3.0])
def test_a_ttft_objective_alone_is_kept_in_an_overload(reference: EngineProfile, scv: float) -> None:
    replica = ReplicaModel(reference, TrafficShape.lognormal(2000, 300, scv))
    running = replica.running_limit(None)
    pool = replica.pool(
        4,
        1.5 * 4 * replica.completion_rate(running),
        balancer=Balancer.LEAST_REQUESTS,
        running_limit=running,
        queue_limit=replica.queue_limit(running, 1.0),
    )
    assert pool.shed_fraction == pytest.approx(1 / 3, abs=0.01)
    assert pool.ttft is not None
    assert pool.ttft.quantile(0.95) <= 1.0


def test_lengths_that_are_all_alike_vary_by_their_age_alone(reference: EngineProfile) -> None:
    # 1000 prompt tokens and 0..600 generated, evenly: 600/sqrt(12)
    assert TrafficShape.constant(1000, 600).kv_resident_sd_tokens == pytest.approx(600 / math.sqrt(12))
    assert TrafficShape.constant(1000, 1).kv_resident_sd_tokens == 0


def test_queue_limit_for_a_ttft_of_500_ms(replica: ReplicaModel) -> None:
    assert replica.queue_limit(95, 0.5) == 3


def test_queue_limit_is_at_least_one_and_one_batch_without_objective(replica: ReplicaModel) -> None:
    assert replica.queue_limit(95, 0.01) == 1
    assert replica.queue_limit(95, None) == 95


def test_shed_fraction_of_four_replicas_at_load_1_15(replica: ReplicaModel) -> None:
    rate = 1.15 * 4 * replica.saturation_rate_per_second
    shed = replica.shed_fraction(4, rate, running_limit=95, queue_limit=3, balancer=Balancer.LEAST_REQUESTS)
    assert shed == pytest.approx(0.245, abs=0.001)


def test_separate_replicas_shed_more_than_a_pool(replica: ReplicaModel) -> None:
    rate = 0.85 * 4 * replica.saturation_rate_per_second
    shed = {
        each: replica.shed_fraction(4, rate, running_limit=95, queue_limit=3, balancer=each)
        for each in Balancer
    }
    assert shed[Balancer.RANDOM] == shed[Balancer.ROUND_ROBIN]
    assert shed[Balancer.RANDOM] > 2 * shed[Balancer.LEAST_REQUESTS]


@pytest.mark.parametrize(
    ("changes", "shape", "limit"),
    [
        ({}, (1155, 211), 256),  # slots
        ({"kv_capacity_tokens": 60_000.0}, (1155, 211), 60_000 / 1372),  # memory
        ({}, (4000, 50), 8192 / (1 + 4000 / 49)),  # prompts leave no room for more decodes in a step
    ],
)
def test_the_tightest_of_slots_memory_and_step_budget_limits(
    reference: EngineProfile, changes: dict[str, float], shape: tuple[int, int], limit: float
) -> None:
    model = ReplicaModel(replace(reference, **changes), TrafficShape.lognormal(*shape))  # type: ignore[arg-type]
    assert model.concurrency_limit == pytest.approx(limit, rel=0.005)


def test_outputs_of_one_token_saturate_where_prompts_fill_every_step(reference: EngineProfile) -> None:
    model = ReplicaModel(reference, TrafficShape.constant(1024, 1))
    prompts = 8192 / 1024
    step = float(reference.step_law.step_seconds(8192.0, 0.0, prompts * 1024**2 / 2, 0.0))
    assert model.saturation_rate_per_second == pytest.approx(prompts / step, rel=0.01)


def test_twice_as_slow_an_engine_saturates_at_half_the_rate(replica: ReplicaModel) -> None:
    slow = ReplicaModel(replica.profile.at_speed(2.0), replica.shape)
    assert slow.saturation_rate_per_second == pytest.approx(replica.saturation_rate_per_second / 2)


def test_a_constant_service_rate_makes_the_chain_an_mm1_queue() -> None:
    completion = np.array([0.0, 10.0])
    chain = number_in_service(8.0, completion, replicas=1.0, limit=1.0)
    occupied = 1 - chain.probabilities[0]
    mean = float(np.arange(chain.probabilities.size) @ chain.probabilities)
    assert occupied == pytest.approx(0.8, rel=1e-6)
    assert mean == pytest.approx(8.0 * MM1(8, 10).mean_response, rel=1e-5)


def test_a_finite_chain_blocks_like_mmck() -> None:
    completion = np.arange(5.0)  # four servers of rate 1
    chain = number_in_service(4.5, completion, replicas=1.0, limit=4.0, places=12)
    assert chain.blocking == pytest.approx(MMcK(4.5, 1, 4, capacity=12).blocking_probability, rel=1e-9)


@pytest.mark.parametrize("load", [0.01, 0.6, 1.0, 1.7, 40.0])
@pytest.mark.parametrize(("replicas", "waiting"), [(1, 0), (1, 7), (3, 2), (40, 500)])
def test_what_finds_no_place_needs_no_states_of_those_that_wait(
    load: float, replicas: int, waiting: int
) -> None:
    completion = np.array([0.0, 3.0, 5.0, 6.5])
    rate, places = load * 6.5 * replicas, replicas * (3 + waiting)
    chain = number_in_service(rate, completion, replicas=float(replicas), limit=3.0, places=places)
    found = blocking(
        rate, lambda n: np.interp(n, np.arange(4), completion), replicas=replicas, limit=3, places=places
    )
    assert found == pytest.approx(chain.blocking, rel=1e-9, abs=1e-200)


def test_a_queue_without_end_sheds_what_exceeds_saturation() -> None:
    def shed(rate: float) -> float:
        return blocking(rate, np.asarray, replicas=1000, limit=16, places=5.8e10)

    assert shed(0.99 * 16_000) == 0
    assert shed(1.25 * 16_000) == pytest.approx(0.2)


@pytest.mark.parametrize("replicas", [2, 7, 40])
def test_a_pool_with_a_perfect_balancer_is_one_queue_with_all_servers(replicas: int) -> None:
    completion = np.arange(5.0)
    rate = 0.9 * 4 * replicas
    chain = number_in_service(rate, completion, replicas=float(replicas), limit=4.0, places=6 * replicas)
    alike = MMcK(rate, 1, 4 * replicas, capacity=6 * replicas)
    assert chain.blocking == pytest.approx(alike.blocking_probability, rel=1e-8)


def test_more_replicas_at_the_same_utilization_spread_less() -> None:
    completion = np.arange(101.0)
    spreads = []
    for replicas in (1.0, 1.5, 4.0, 16.0):
        chain = number_in_service(80 * replicas, completion, replicas=replicas, limit=100.0)
        density = np.arange(chain.probabilities.size) / replicas
        mean = float(density @ chain.probabilities)
        spreads.append(math.sqrt(float((density - mean) ** 2 @ chain.probabilities)))
        assert mean == pytest.approx(80, rel=0.02)
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[0] / spreads[-1] == pytest.approx(4, rel=0.2)
