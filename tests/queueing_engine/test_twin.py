"""The replay against an independent token-by-token simulation."""

from dataclasses import replace

import numpy as np
import pytest

from fakes.engine_des import simulate
from penstock.model.profiles import profile_named
from penstock.queueing.balancer import Balancer
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.errors import InvalidParameter
from penstock.queueing.twin import Resident, replay


def stream(conversations: np.ndarray, rate: float, count: int = 2500) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(5)
    chosen = conversations[random.integers(0, len(conversations), count)]
    return np.cumsum(random.exponential(1 / rate, count)), chosen[:, 1], chosen[:, 2]


@pytest.mark.parametrize(
    ("changes", "rate", "replicas"),
    [
        ({}, 1.0, 1),  # mostly idle: long stretches between events
        ({}, 14.0, 1),
        ({}, 70.0, 4),
        ({"step_token_budget": 512}, 12.0, 1),  # nearly every prompt is cut
        ({"max_sequences": 20}, 9.0, 1),  # overloaded: slots bind
        ({"max_sequences": 20}, 20.0, 4),
    ],
)
def test_without_memory_pressure_the_replay_is_the_simulation(
    conversations: np.ndarray, reference: EngineProfile, changes: dict[str, int], rate: float, replicas: int
) -> None:
    profile = replace(reference, **changes)  # type: ignore[arg-type]
    requests = stream(conversations, rate)
    balancer = Balancer.ROUND_ROBIN  # the only one that takes no random choices
    expected = simulate(profile, *requests, replicas=replicas, balancer=balancer, warm_up_ratio=0.0)
    seen = replay(profile, *requests, replicas=replicas, balancer=balancer, random=np.random.default_rng(0))
    np.testing.assert_allclose(seen.ttft, expected.ttft, rtol=0, atol=1e-8)
    np.testing.assert_allclose(seen.latency, expected.latency, rtol=0, atol=1e-8)
    np.testing.assert_allclose(seen.tpot[~np.isnan(seen.tpot)], expected.tpot, rtol=0, atol=1e-8)


def test_experts_are_timed_as_in_the_simulation(conversations: np.ndarray) -> None:
    profile = profile_named("gpt-oss-120b-h100-x2")
    requests = stream(conversations, 15.0, 800)
    expected = simulate(profile, *requests, warm_up_ratio=0.0)
    seen = replay(profile, *requests, replicas=1, balancer=Balancer.RANDOM, random=np.random.default_rng(0))
    np.testing.assert_allclose(seen.latency, expected.latency, rtol=0, atol=1e-8)


def test_with_preemptions_percentiles_agree(conversations: np.ndarray, reference: EngineProfile) -> None:
    """The replay does not round to blocks: others are preempted, but as many wait as long."""
    profile = replace(reference, kv_capacity_tokens=40_000.0)
    requests = stream(conversations, 9.0, 6000)
    expected = simulate(profile, *requests, warm_up_ratio=0.0)
    seen = replay(profile, *requests, replicas=1, balancer=Balancer.RANDOM, random=np.random.default_rng(0))
    assert expected.preemptions > 100
    for level in (0.5, 0.9, 0.95):
        assert np.quantile(seen.ttft, level) == pytest.approx(np.quantile(expected.ttft, level), rel=0.1)
        assert np.quantile(seen.latency, level) == pytest.approx(
            np.quantile(expected.latency, level), rel=0.05
        )


@pytest.mark.parametrize("balancer", [Balancer.POWER_OF_TWO, Balancer.LEAST_REQUESTS, Balancer.RANDOM])
def test_random_choices_of_the_balancer_agree_in_distribution(
    conversations: np.ndarray, reference: EngineProfile, balancer: Balancer
) -> None:
    requests = stream(conversations, 8 * 16.0, 8000)
    expected = simulate(reference, *requests, replicas=8, balancer=balancer, warm_up_ratio=0.0)
    seen = replay(reference, *requests, replicas=8, balancer=balancer, random=np.random.default_rng(1))
    for level in (0.5, 0.95):
        assert np.quantile(seen.ttft, level) == pytest.approx(np.quantile(expected.ttft, level), rel=0.06)
        assert np.nanquantile(seen.tpot, level) == pytest.approx(np.quantile(expected.tpot, level), rel=0.06)


def test_limits_turn_away_what_the_simulation_turns_away(
    conversations: np.ndarray, reference: EngineProfile
) -> None:
    requests = stream(conversations, 1.15 * 4 * 20.58, 8000)
    limits = {"running_limit": 95, "queue_limit": 3}
    expected = simulate(
        reference, *requests, replicas=4, balancer=Balancer.LEAST_REQUESTS, warm_up_ratio=0.0, **limits
    )
    seen = replay(
        reference,
        *requests,
        replicas=4,
        balancer=Balancer.LEAST_REQUESTS,
        random=np.random.default_rng(1),
        **limits,
    )
    assert float(np.isnan(seen.latency).mean()) == pytest.approx(expected.shed_fraction, abs=0.01)


def test_residents_decode_from_the_start_and_slow_the_others_down(reference: EngineProfile) -> None:
    arrivals, inputs, outputs = [1.0], [100.0], [10.0]

    def tpot(residents: list[list[Resident]]) -> float:
        result = replay(
            reference,
            arrivals,
            inputs,
            outputs,
            replicas=1,
            balancer=Balancer.RANDOM,
            random=np.random.default_rng(0),
            residents=residents,
        )
        return float(result.tpot[0])

    law = reference.step_law
    alone = np.mean([law.step_seconds(0.0, 1.0, 0.0, 100.0 + k) for k in range(9)])
    assert tpot([[]]) == pytest.approx(alone, rel=1e-9)
    # The resident holds 5,000 tokens at the first step; each later step holds two more.
    start = 5_000 + 1  # it decodes once before the prompt's step and once in it
    together = np.mean([law.step_seconds(0.0, 2.0, 0.0, start + 1 + 100 + 2 * k) for k in range(9)])
    assert tpot([[Resident(5_000, 1_000)]]) == pytest.approx(together, rel=1e-9)


@pytest.mark.parametrize(
    ("arrivals", "inputs", "outputs", "message"),
    [
        ([], [], [], "arrivals_seconds must not be empty"),
        ([1.0, 0.5], [1, 1], [1, 1], "arrivals_seconds must be sorted"),
        ([1.0], [0], [1], "must be at least one token each"),
        ([1.0], [400_000], [40_000], "of a request is 440000, more than KV memory holds"),
        ([1.0], [1, 2], [1], "with one input and output length each"),
    ],
)
def test_requests_that_cannot_be_replayed_are_refused(
    reference: EngineProfile, arrivals: list[float], inputs: list[float], outputs: list[float], message: str
) -> None:
    with pytest.raises(InvalidParameter, match=message):
        replay(
            reference,
            arrivals,
            inputs,
            outputs,
            replicas=1,
            balancer=Balancer.RANDOM,
            random=np.random.default_rng(0),
        )
