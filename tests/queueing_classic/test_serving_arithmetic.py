"""The one-line sums of serving: every check value of the design, and what must hold of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.queueing import InvalidParameter, UnstableQueue
from penstock.queueing.arithmetic import (
    ServingOption,
    batching_tax,
    best_option_within,
    capacity_plan,
    concurrency_from_memory,
    cost_per_million_tokens,
    error_budget,
    kv_bytes_per_token,
    latency_budget,
    replicas_by_target_utilization,
    rule_of_thumb_queue_limits,
)
from penstock.queueing.parallelism import (
    all_reduce_seconds,
    data_parallel_rate,
    pipeline_bubble_ratio,
    pipeline_parallel_step_seconds,
    tensor_parallel_step_seconds,
)
from penstock.queueing.phase_split import (
    DecodeWork,
    PrefillWork,
    decode_tpot_seconds,
    kv_transfer_seconds,
    prefill_ttft_seconds,
    split_pools,
)

PROMPT = PrefillWork(mean_seconds=0.025, second_moment=0.025**2 * 2, step_base_seconds=0.005)
DECODE = DecodeWork(0.0053, 0.00179, per_sequence_seconds=2.1e-5, extra_per_sequence_seconds=6.7e-5)
OPTIONS = [
    ServingOption("large", 2600, 1.00),
    ServingOption("medium", 1500, 0.97),
    ServingOption("small", 600, 0.90),
]


def test_the_latency_budget_adds_up() -> None:
    budget = latency_budget(
        queue_seconds=0.030, prefill_seconds=0.250, output_tokens=80, tpot_seconds=0.025, post_seconds=0.015
    )
    assert budget.ttft_seconds == pytest.approx(0.280)
    assert budget.total_seconds == pytest.approx(2.295)


def test_replicas_by_target_utilization() -> None:
    sizing = replicas_by_target_utilization(180, 40, 0.7)
    assert sizing.replicas == 7
    assert sizing.utilization == pytest.approx(0.643, abs=5e-4)


def test_an_exact_fit_is_not_rounded_up() -> None:
    # 21 / (0.7 x 10) is 3.0000000000000004 in floating point.
    assert replicas_by_target_utilization(21, 10, 0.7).replicas == 3
    assert replicas_by_target_utilization(0, 10, 0.7).replicas == 1


def test_the_five_step_plan() -> None:
    plan = capacity_plan(5000, 1143, target_utilization=0.72, headroom=1.3)
    assert plan.required_rate_per_second == pytest.approx(6944.44, abs=0.01)
    assert (plan.bare_replicas, plan.replicas) == (7, 10)
    assert plan.utilization_after_one_loss == pytest.approx(0.486, abs=5e-4)
    assert math.isinf(capacity_plan(1, 10, target_utilization=0.5, headroom=1).utilization_after_one_loss)


@pytest.mark.parametrize(("layers", "expected"), [(32, 131_072), (80, 327_680)])
def test_kv_bytes_of_the_llama_models(layers: int, expected: int) -> None:
    assert kv_bytes_per_token(layers=layers, kv_heads=8, head_dim=128, bytes_per_value=2) == expected


def test_concurrency_from_memory() -> None:
    size = {"memory": 80, "weights": 28, "workspace": 8, "kv_per_request": 0.55}
    assert concurrency_from_memory(**size) == 80
    assert concurrency_from_memory(**size, fragmentation_ratio=0.1) == 72


def test_the_batching_tax() -> None:
    tax = batching_tax(batch_size=32, arrival_rate=500, batch_seconds=0.040)
    assert tax.formation_seconds == pytest.approx(0.031)
    assert tax.total_seconds == pytest.approx(0.071)
    assert batching_tax(batch_size=1, arrival_rate=500, batch_seconds=0.01).formation_seconds == 0


def test_the_cost_of_a_million_tokens() -> None:
    assert cost_per_million_tokens(4.0, 1200) == pytest.approx(0.9259, abs=5e-5)
    assert cost_per_million_tokens(4.0, 1200, utilization=0.5) == pytest.approx(1.852, abs=5e-4)
    assert cost_per_million_tokens(4.0, 1200, quality=0.5) == pytest.approx(1.852, abs=5e-4)


def test_the_error_budget() -> None:
    assert error_budget(0.995, 2e6) == pytest.approx(10_000)
    assert error_budget(1, 2e6) == 0


def test_degradation_takes_the_best_quality_that_is_in_time() -> None:
    chosen = best_option_within(1600, OPTIONS)
    assert chosen is not None
    assert (chosen.quality, chosen.latency_seconds) == (0.97, 1500)
    assert best_option_within(500, OPTIONS) is None
    twin = ServingOption("medium, faster", 900, 0.97)
    assert best_option_within(1600, [*OPTIONS, twin]) is twin


def test_the_admission_rule_of_thumb() -> None:
    assert rule_of_thumb_queue_limits(service_seconds=0.010, workers=4) == (80, 120)


@given(st.integers(1, 16), st.floats(1e-4, 1), st.integers(1, 100))
def test_one_gpu_is_the_single_pool(batches: int, step: float, reduces: int) -> None:
    assert tensor_parallel_step_seconds(step, 1, all_reduces=reduces, all_reduce_seconds=1e-5) == step
    assert pipeline_parallel_step_seconds(step, 1, batches) == step
    assert pipeline_bubble_ratio(1, batches) == 0
    assert data_parallel_rate(step, 1) == step
    assert all_reduce_seconds(message_bytes=1e6, degree=1, bytes_per_second=1e9, hop_seconds=1e-6) == 0


@given(st.integers(1, 15), st.floats(1e-4, 1), st.integers(1, 32))
def test_more_gpus_never_slow_a_step_that_costs_no_communication(
    degree: int, step: float, batches: int
) -> None:
    less, more = (
        tensor_parallel_step_seconds(step, d, all_reduces=64, all_reduce_seconds=0)
        for d in (degree, degree + 1)
    )
    assert more < less
    less, more = (pipeline_parallel_step_seconds(step, stages, batches) for stages in (degree, degree + 1))
    assert more <= less * (1 + 1e-12)
    assert pipeline_parallel_step_seconds(step, degree, batches + 1) <= pipeline_parallel_step_seconds(
        step, degree, batches
    ) * (1 + 1e-12)
    assert data_parallel_rate(step, degree + 1) > data_parallel_rate(step, degree)


def test_communication_is_what_limits_tensor_parallelism() -> None:
    # 8 GPUs, 8192 x 2 bytes x 64 tokens over 450 GB/s: 4 us a reduction and 128 of them a step.
    reduction = all_reduce_seconds(message_bytes=8192 * 2 * 64, degree=8, bytes_per_second=450e9)
    assert reduction == pytest.approx(2 * 7 / 8 * 1_048_576 / 450e9)
    assert tensor_parallel_step_seconds(
        0.016, 8, all_reduces=128, all_reduce_seconds=reduction
    ) == pytest.approx(0.002 + 128 * reduction)
    slow = tensor_parallel_step_seconds(0.016, 8, all_reduces=128, all_reduce_seconds=2e-4)
    assert slow > 0.016


def test_the_pipeline_bubble_of_gpipe() -> None:
    # Four stages and eight micro-batches idle 3 of 11 slots.
    assert pipeline_bubble_ratio(4, 8) == pytest.approx(3 / 11)
    assert pipeline_parallel_step_seconds(0.040, 4, 8) == pytest.approx(0.010 * 11 / 8)


def test_an_idle_prefill_pool_takes_half_a_step_and_the_prompt() -> None:
    assert prefill_ttft_seconds(PROMPT, 0) == pytest.approx(0.005 / 2 + 0.005 + 0.025)


@given(st.floats(0, 39), st.floats(0.01, 0.9))
def test_prefill_waits_rise_with_load_and_variance(rate: float, more: float) -> None:
    assert prefill_ttft_seconds(PROMPT, rate) < prefill_ttft_seconds(PROMPT, rate + more)
    wider = PrefillWork(PROMPT.mean_seconds, PROMPT.second_moment * 2, PROMPT.step_base_seconds)
    assert prefill_ttft_seconds(PROMPT, rate) <= prefill_ttft_seconds(wider, rate)


@given(st.floats(0, 11_000), st.floats(1, 200))
def test_decode_slows_down_with_load_and_solves_the_step_law(rate: float, more: float) -> None:
    tpot = decode_tpot_seconds(DECODE, rate)
    running = rate * tpot
    law = DECODE.base_seconds + max(DECODE.weights_seconds, DECODE.per_sequence_seconds * running)
    assert tpot == pytest.approx(law + DECODE.extra_per_sequence_seconds * running)
    assert tpot < decode_tpot_seconds(DECODE, rate + more)


def test_the_kv_of_a_prompt_moves_at_the_bandwidth() -> None:
    moved = kv_transfer_seconds(prompt_tokens=1155, kv_bytes_per_token=131_072, bytes_per_second=50e9)
    assert moved == pytest.approx(1155 * 131_072 / 50e9)


def test_the_split_pools_are_the_smallest_that_hold() -> None:
    split = split_pools(
        PROMPT,
        DECODE,
        arrival_rate=100,
        decode_steps_per_request=210,
        ttft_seconds=0.150,
        tpot_seconds=0.020,
        transfer_seconds=0.003,
    )
    assert split.ttft_mean_seconds <= 0.150
    assert split.tpot_mean_seconds <= 0.020
    fewer = 100 / (split.prefill_replicas - 1)
    assert fewer * PROMPT.mean_seconds >= 1 or prefill_ttft_seconds(PROMPT, fewer) + 0.003 > 0.150
    assert decode_tpot_seconds(DECODE, 21_000 / (split.decode_replicas - 1)) > 0.020


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: replicas_by_target_utilization(180, 40, 70),
            "target_utilization must be in (0, 1], got 70",
        ),
        (
            lambda: capacity_plan(1, 1, target_utilization=0.7, headroom=0.5),
            "headroom must be a finite factor >= 1, such as 1.3, got 0.5",
        ),
        (
            lambda: concurrency_from_memory(memory=24, weights=28, workspace=8, kv_per_request=1),
            "memory = 24 is less than weights + workspace = 36",
        ),
        (
            lambda: concurrency_from_memory(
                memory=80, weights=28, workspace=8, kv_per_request=1, fragmentation_ratio=1
            ),
            "fragmentation_ratio must be in [0, 1), got 1",
        ),
        (
            lambda: cost_per_million_tokens(4, 1200, utilization=0),
            "utilization must be in (0, 1], got 0",
        ),
        (lambda: error_budget(99.5, 10), "objective_ratio must be in (0, 1], got 99.5"),
        (
            lambda: PrefillWork(1, 0.5, 0.1),
            "second_moment is below the square of the mean: no law has that",
        ),
        (
            lambda: split_pools(
                PROMPT,
                DECODE,
                arrival_rate=1,
                decode_steps_per_request=1,
                ttft_seconds=0.030,
                tpot_seconds=1,
                transfer_seconds=0,
            ),
            "ttft_seconds = 0.03 is below 0.0325, that of an idle replica",
        ),
        (
            lambda: split_pools(
                PROMPT,
                DECODE,
                arrival_rate=1,
                decode_steps_per_request=1,
                ttft_seconds=1,
                tpot_seconds=0.007,
                transfer_seconds=0,
            ),
            "tpot_seconds = 0.007 is below 0.00709, that of an idle replica",
        ),
    ],
)
def test_impossible_sums_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        call()
    assert str(refused.value) == message


def test_a_pool_that_cannot_drain_is_unstable() -> None:
    with pytest.raises(UnstableQueue):
        prefill_ttft_seconds(PROMPT, 40)
    with pytest.raises(UnstableQueue):
        decode_tpot_seconds(DECODE, 12_000)
