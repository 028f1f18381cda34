"""Which series of which engine answer which signal.

Read from real servers where there is one (vLLM 0.32.0, llama.cpp b11434: tests/data/engines), else from
the engines' sources, named beside each entry. Percentiles of TPOT are over requests, so inter-token
histograms do not stand in for them. Model names are not matched: pods serve one model, and adapters
or aliases of it are its load too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from penstock.model.spec import EngineType, Metric


class FleetQuery(StrEnum):
    """What one query answers; the values are fields of `Load`, PULSE is three of them."""

    PULSE = "running"  # running, reporting_pods and sample_age_seconds of the same gauge
    WAITING = "waiting"
    QUEUE_GROWTH = "queue_growth"
    ARRIVAL_RATE = "arrival_rate"
    INPUT_TOKEN_RATE = "input_token_rate"  # noqa: S105 - a count of tokens, not a credential
    OUTPUT_TOKEN_RATE = "output_token_rate"  # noqa: S105
    TPOT_MEAN = "tpot_mean"
    TTFT = "ttft"
    TPOT = "tpot"
    LATENCY = "latency"
    INPUT_LENGTHS = "input_lengths"
    OUTPUT_LENGTHS = "output_lengths"


PERCENTILES = {Metric.TTFT: FleetQuery.TTFT, Metric.TPOT: FleetQuery.TPOT, Metric.LATENCY: FleetQuery.LATENCY}
LENGTHS = (FleetQuery.INPUT_LENGTHS, FleetQuery.OUTPUT_LENGTHS)


@dataclass(frozen=True, slots=True)
class EngineSeries:
    """Metric names of one engine type; empty: it has none, and `advice` says what to do instead.

    `first_tokens` counts requests that got their first token. Engines that count requests as they
    arrive have `arrived` instead. `starts_empty`: counters appear with the first request, so that an
    engine that never served one has gauges only.
    """

    running: str
    waiting: str
    first_tokens: str = ""
    arrived: str = ""
    input_tokens: str = ""
    output_tokens: str = ""
    ttft_seconds: str = ""  # that requests waited for it; over `first_tokens` the mean TTFT
    tpot_seconds: str = ""  # numerator and
    tpot_tokens: str = ""  # denominator of the mean
    histograms: Mapping[FleetQuery, str] = field(default_factory=dict)
    starts_empty: bool = False
    advice: Mapping[FleetQuery, str] = field(default_factory=dict)

    def metric(self, signal: FleetQuery) -> str:
        """Return the name that stands for the signal in messages; empty when the engine has none."""
        names = {
            FleetQuery.PULSE: self.running,
            FleetQuery.WAITING: self.waiting,
            FleetQuery.QUEUE_GROWTH: self.waiting,
            FleetQuery.ARRIVAL_RATE: self.first_tokens or self.arrived,
            FleetQuery.INPUT_TOKEN_RATE: self.input_tokens,
            FleetQuery.OUTPUT_TOKEN_RATE: self.output_tokens,
            FleetQuery.TPOT_MEAN: self.tpot_seconds,
        }
        return names[signal] if signal in names else self.histograms.get(signal, "")


# vLLM registers all label sets at start (vllm/v1/metrics/loggers.py, make_per_engine): an idle server
# reports true zeros. Per-request TPOT came with vllm-project/vllm#24015 (0.11); what was called
# time_per_output_token_seconds before is inter-token latency under another name, so no fallback.
_VLLM = EngineSeries(
    running="vllm:num_requests_running",
    waiting="vllm:num_requests_waiting",
    first_tokens="vllm:time_to_first_token_seconds_count",
    ttft_seconds="vllm:time_to_first_token_seconds_sum",
    input_tokens="vllm:prompt_tokens_total",
    output_tokens="vllm:generation_tokens_total",
    tpot_seconds="vllm:request_time_per_output_token_seconds_sum",
    tpot_tokens="vllm:request_time_per_output_token_seconds_count",
    histograms={
        FleetQuery.TTFT: "vllm:time_to_first_token_seconds",
        FleetQuery.TPOT: "vllm:request_time_per_output_token_seconds",
        FleetQuery.LATENCY: "vllm:e2e_request_latency_seconds",
        FleetQuery.INPUT_LENGTHS: "vllm:request_prompt_tokens",
        FleetQuery.OUTPUT_LENGTHS: "vllm:request_generation_tokens",
    },
    advice={
        FleetQuery.TPOT: "it needs vLLM 0.11 or newer",
        FleetQuery.TPOT_MEAN: "it needs vLLM 0.11 or newer",
    },
)

# python/sglang/srt/observability/metrics_collector.py: labels are created by the first observation;
# token totals and lengths are counted when a request ends. The mean TPOT is token-weighted.
_SGLANG = EngineSeries(
    running="sglang:num_running_reqs",
    waiting="sglang:num_queue_reqs",
    first_tokens="sglang:time_to_first_token_seconds_count",
    ttft_seconds="sglang:time_to_first_token_seconds_sum",
    input_tokens="sglang:prompt_tokens_total",
    output_tokens="sglang:generation_tokens_total",
    tpot_seconds="sglang:inter_token_latency_seconds_sum",
    tpot_tokens="sglang:inter_token_latency_seconds_count",
    histograms={
        FleetQuery.TTFT: "sglang:time_to_first_token_seconds",
        FleetQuery.TPOT: "sglang:request_time_per_output_token_seconds",
        FleetQuery.LATENCY: "sglang:e2e_request_latency_seconds",
        FleetQuery.INPUT_LENGTHS: "sglang:prompt_tokens_histogram",
        FleetQuery.OUTPUT_LENGTHS: "sglang:generation_tokens_histogram",
    },
    starts_empty=True,
    advice={
        FleetQuery.PULSE: "start SGLang with --enable-metrics",
        FleetQuery.TPOT: "SGLang has it only with sgl-project/sglang#40228; until then tpot cannot be judged",
    },
)

# router/src/server.rs (request metrics, buckets), backends/v3/src/backend.rs and queue.rs (gauges).
# Requests are counted when they arrive, tokens when they end; time per token includes the prefill.
_TGI = EngineSeries(
    running="tgi_batch_current_size",
    waiting="tgi_queue_size",
    arrived="tgi_request_count",
    input_tokens="tgi_request_input_length_sum",
    output_tokens="tgi_request_generated_tokens_sum",
    tpot_seconds="tgi_request_mean_time_per_token_duration_sum",
    tpot_tokens="tgi_request_mean_time_per_token_duration_count",
    histograms={
        FleetQuery.TPOT: "tgi_request_mean_time_per_token_duration",
        FleetQuery.LATENCY: "tgi_request_duration",
        FleetQuery.INPUT_LENGTHS: "tgi_request_input_length",
        FleetQuery.OUTPUT_LENGTHS: "tgi_request_generated_tokens",
    },
    starts_empty=True,
    advice={FleetQuery.TTFT: "TGI has no time to first token; set an objective for latency or tpot instead"},
)

# tools/server/server-context.cpp prints totals and gauges only, from the start (with --metrics).
_GATEWAY = "llama.cpp has no such metric; read it from the gateway: engine.type Custom with its queries"
_LLAMA_CPP = EngineSeries(
    running="llamacpp:requests_processing",
    waiting="llamacpp:requests_deferred",
    input_tokens="llamacpp:prompt_tokens_total",
    output_tokens="llamacpp:tokens_predicted_total",
    tpot_seconds="llamacpp:tokens_predicted_seconds_total",
    tpot_tokens="llamacpp:tokens_predicted_total",
    advice={
        FleetQuery.PULSE: "start llama-server with --metrics",
        FleetQuery.ARRIVAL_RATE: "llama.cpp does not count requests; count them at the gateway: "
        "engine.type Custom with a query for ArrivalRate",
        FleetQuery.TTFT: _GATEWAY,
        FleetQuery.TPOT: _GATEWAY,
        FleetQuery.LATENCY: _GATEWAY,
        FleetQuery.INPUT_LENGTHS: _GATEWAY,
        FleetQuery.OUTPUT_LENGTHS: _GATEWAY,
    },
)

CATALOGUE: Mapping[EngineType, EngineSeries] = {
    EngineType.VLLM: _VLLM,
    EngineType.SGLANG: _SGLANG,
    EngineType.TGI: _TGI,
    EngineType.LLAMA_CPP: _LLAMA_CPP,
}
