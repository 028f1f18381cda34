"""Our exposition against that of a real vLLM server: names, types, labels, buckets."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from penstock.engine.batch_loop import BatchLoop, EngineLimits
from penstock.engine.lag import StepTiming
from penstock.engine.vllm_metrics import VllmMetrics, length_buckets

REAL = Path(__file__).parents[1] / "data/engines/vllm-0.32.0-metrics-under-load.txt"
LIMITS = EngineLimits(slots=16, kv_capacity_tokens=8192, step_budget_tokens=512)


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def exposition(steps: int = 40) -> str:
    batch = BatchLoop(LIMITS)
    metrics = VllmMetrics(
        model_name="m",
        limits=LIMITS,
        max_model_tokens=2048,  # as the real server was started
        waiting=lambda: batch.waiting_count(1e9),
        running=lambda: batch.running_count,
        kv_usage_ratio=lambda: batch.kv_usage_ratio,
    )
    for _ in range(20):
        batch.submit(input_tokens=30, output_tokens=6, arrived_at=0.0)
    for step in range(steps):
        if batch.begin_step(step * 0.01):
            metrics.step(batch.finish_step(step * 0.01 + 0.01), StepTiming(0.01, 0.0005))
    metrics.http(handler="/v1/completions", method="POST", status=200)
    metrics.aborted()
    metrics.rejected()
    return metrics.render().decode()


OURS = families(exposition())
THEIRS = families(REAL.read_text())
SHARED = sorted(name for name in OURS if not name.startswith("penstock_"))


@pytest.mark.parametrize("name", SHARED)
def test_each_series_is_one_that_vllm_has_with_its_type_and_help(name: str):
    assert name in THEIRS
    assert (OURS[name].type, OURS[name].documentation) == (THEIRS[name].type, THEIRS[name].documentation)


@pytest.mark.parametrize("name", [name for name in SHARED if name.startswith("vllm:")])
def test_each_series_has_vllms_labels(name: str):
    def labels(family: Metric) -> set[tuple[str, frozenset[str]]]:
        return {(sample.name, frozenset(sample.labels)) for sample in family.samples}

    if name == "vllm:cache_config_info":  # theirs has 34 labels; ours those that readers use
        assert set(OURS[name].samples[0].labels) <= set(THEIRS[name].samples[0].labels)
    else:
        assert labels(OURS[name]) == labels(THEIRS[name])


@pytest.mark.parametrize("name", [name for name in SHARED if OURS[name].type == "histogram"])
def test_each_histogram_has_vllms_buckets(name: str):
    def bounds(family: Metric) -> list[str]:
        return [sample.labels["le"] for sample in family.samples if sample.name.endswith("_bucket")]

    assert bounds(OURS[name]) == bounds(THEIRS[name])


def test_all_that_penstock_reads_of_a_vllm_is_there():
    assert {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:num_preemptions",
        "vllm:prompt_tokens",
        "vllm:generation_tokens",
        "vllm:request_success",
        "vllm:admission_rejections",
        "vllm:iteration_tokens_total",
        "vllm:request_prompt_tokens",
        "vllm:request_generation_tokens",
        "vllm:time_to_first_token_seconds",
        "vllm:inter_token_latency_seconds",
        "vllm:request_time_per_output_token_seconds",
        "vllm:e2e_request_latency_seconds",
        "vllm:request_queue_time_seconds",
        "vllm:request_inference_time_seconds",
        "vllm:request_prefill_time_seconds",
        "vllm:request_decode_time_seconds",
        "vllm:cache_config_info",
    } <= set(OURS)


def value(name: str, suffix: str = "", **labels: str) -> float:
    found = [
        sample.value
        for sample in OURS[name].samples
        if sample.name == name + suffix and labels.items() <= sample.labels.items()
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("name", "suffix", "labels", "expected"),
    [
        ("vllm:prompt_tokens", "_total", {}, 20 * 30),
        ("vllm:generation_tokens", "_total", {}, 20 * 6),
        ("vllm:request_success", "_total", {"finished_reason": "length"}, 20),
        ("vllm:request_success", "_total", {"finished_reason": "abort"}, 1),
        ("vllm:admission_rejections", "_total", {"reason": "max_num_queued_reqs"}, 1),
        ("vllm:time_to_first_token_seconds", "_count", {}, 20),
        ("vllm:inter_token_latency_seconds", "_count", {}, 20 * 5),
        ("vllm:inter_token_latency_seconds", "_sum", {}, 20 * 5 * 0.01),
        ("vllm:request_time_per_output_token_seconds", "_sum", {}, 20 * 0.01),
        ("vllm:iteration_tokens_total", "_sum", {}, 20 * 30 + 20 * 6),
        # 16 slots: prompts of 16 x 30 tokens fit the first step of 512, the other 4 wait six steps
        ("vllm:iteration_tokens_total", "_count", {}, 12),
        ("vllm:request_queue_time_seconds", "_sum", {}, 4 * 0.06),
        ("vllm:num_requests_running", "", {}, 0),
        ("vllm:num_requests_waiting", "", {}, 0),
        ("vllm:cache_config_info", "", {"block_size": "16", "num_gpu_blocks": "512"}, 1),
        ("penstock_engine_step_lag_seconds", "_sum", {}, 12 * 0.0005),
        ("penstock_engine_step_scheduled_seconds", "_total", {}, 12 * 0.01),
    ],
)
def test_counts_follow_from_the_requests(name: str, suffix: str, labels: dict[str, str], expected: float):
    assert value(name, suffix, **labels) == pytest.approx(expected)


def test_buckets_of_lengths_end_at_the_context_length():
    assert length_buckets(2048)[-1] == 2000
    assert length_buckets(131_072)[-2:] == (50_000, 100_000)
