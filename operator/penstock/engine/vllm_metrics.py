"""The engine's `/metrics`: vLLM's names, labels, help texts and buckets, plus our own lag.

Names and buckets are those of a real vLLM 0.32.0 under load (a test parses both expositions and
compares them). What vLLM measures from the arrival at its engine excludes the front end's HTTP and
tokenising time, and so does this: a client sees TTFT plus the front-end time.

`penstock_engine_step_lag_seconds` says how late steps ended against their schedule: where it is not
small against the steps, the machine was the bottleneck and not the modelled engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from penstock.engine.batch_loop import BLOCK_TOKENS, EngineLimits, Sequence, StepResult
from penstock.engine.lag import StepTiming

TTFT_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
TOKEN_BUCKETS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
    0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
REQUEST_BUCKETS = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0,
    120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
STEP_TOKEN_BUCKETS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
LAG_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
FINISHED_REASONS = ("stop", "length", "abort", "error", "repetition")


def length_buckets(max_model_tokens: int) -> tuple[int, ...]:
    """Return vLLM's 1-2-5 buckets of token counts, up to the context length."""
    buckets: list[int] = []
    decade = 1
    while True:
        for factor in (1, 2, 5):
            if factor * decade > max_model_tokens:
                return tuple(buckets)
            buckets.append(factor * decade)
        decade *= 10


class VllmMetrics:
    """Series of one engine; `render` gives the exposition in Prometheus text format."""

    def __init__(
        self,
        *,
        model_name: str,
        limits: EngineLimits,
        max_model_tokens: int,
        waiting: Callable[[], float],
        running: Callable[[], float],
        kv_usage_ratio: Callable[[], float],
    ) -> None:
        self._registry = CollectorRegistry()
        self._labels = {"model_name": model_name, "engine": "0"}
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._gauges(limits, waiting=waiting, running=running, kv_usage_ratio=kv_usage_ratio)
        self._preemptions = self._counter(
            "num_preemptions", "Cumulative number of preemption from the engine."
        )
        self._prompt_tokens = self._counter("prompt_tokens", "Number of prefill tokens processed.")
        self._generation_tokens = self._counter("generation_tokens", "Number of generation tokens processed.")
        self._success = self._counters(
            "request_success",
            "Count of successfully processed requests.",
            "finished_reason",
            FINISHED_REASONS,
        )
        rejections = Counter(
            "vllm:admission_rejections",
            "Number of admission attempts rejected by a queue limit, by reason.",
            ["model_name", "reason"],
            registry=self._registry,
        )
        self._rejected = rejections.labels(model_name=model_name, reason="max_num_queued_reqs")
        rejections.labels(model_name=model_name, reason="max_num_queued_tokens")
        lengths = length_buckets(max_model_tokens)
        self._request_prompt = self._histogram(
            "request_prompt_tokens", "Number of prefill tokens processed.", lengths
        )
        self._request_generation = self._histogram(
            "request_generation_tokens", "Number of generation tokens processed.", lengths
        )
        self._iteration_tokens = self._histogram(
            "iteration_tokens_total", "Histogram of number of tokens per engine_step.", STEP_TOKEN_BUCKETS
        )
        self._request_max_tokens = self._histogram(
            "request_params_max_tokens", "Histogram of the max_tokens request parameter.", lengths
        )
        self._ttft = self._histogram(
            "time_to_first_token_seconds", "Histogram of time to first token in seconds.", TTFT_BUCKETS
        )
        self._inter_token = self._histogram(
            "inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", TOKEN_BUCKETS
        )
        self._tpot = self._histogram(
            "request_time_per_output_token_seconds",
            "Histogram of time_per_output_token_seconds per request.",
            TOKEN_BUCKETS,
        )
        self._latency = self._histogram(
            "e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", REQUEST_BUCKETS
        )
        self._queue = self._phase("queue", "WAITING")
        self._inference = self._phase("inference", "RUNNING")
        self._prefill = self._phase("prefill", "PREFILL")
        self._decode = self._phase("decode", "DECODE")
        self._request_preemptions = self._histogram(
            "request_num_preemptions",
            "Histogram of the number of times a request was preempted.",
            (1, 2, 3, 4, 5, 10, 20),
        )
        self._lag = Histogram(
            "penstock_engine_step_lag_seconds",
            "How late steps ended against their schedule: large where the machine is the bottleneck.",
            list(self._labels),
            buckets=LAG_BUCKETS,
            registry=self._registry,
        ).labels(**self._labels)
        self._scheduled = Counter(
            "penstock_engine_step_scheduled_seconds",
            "Duration of the steps by the profile's step law.",
            list(self._labels),
            registry=self._registry,
        ).labels(**self._labels)
        self._http = Counter(
            "http_requests",
            "Total number of requests by method, status and handler.",
            ["handler", "method", "status"],
            registry=self._registry,
        )

    def step(self, result: StepResult, timing: StepTiming) -> None:
        """Account for one step: its tokens, the gaps between them, the requests it completed."""
        self._lag.observe(timing.lag_seconds)
        self._scheduled.inc(timing.scheduled_seconds)
        self._preemptions.inc(result.preemptions)
        prompt_tokens = 0
        for sequence in result.emitted:
            token_at = _known(sequence.last_token_at)
            if sequence.previous_token_at is None:
                prompt_tokens += sequence.input_tokens
                self._ttft.observe(token_at - sequence.arrived_at)
            else:
                self._inter_token.observe(token_at - sequence.previous_token_at)
        generated = len(result.emitted)
        if generated:
            self._prompt_tokens.inc(prompt_tokens)
            self._generation_tokens.inc(generated)
            self._iteration_tokens.observe(prompt_tokens + generated)
        for sequence in result.finished:
            self._finish(sequence)

    def aborted(self) -> None:
        """Count a request whose client went away."""
        self._success["abort"].inc()

    def failed(self) -> None:
        """Count a request that the engine could not serve."""
        self._success["error"].inc()

    def rejected(self) -> None:
        """Count a request refused because the engine is full."""
        self._rejected.inc()

    def http(self, *, handler: str, method: str, status: int) -> None:
        """Count one HTTP response."""
        self._http.labels(handler=handler, method=method, status=f"{status // 100}xx").inc()

    def render(self) -> bytes:
        """Return the exposition, text format 0.0.4."""
        return generate_latest(self._registry)

    def _finish(self, sequence: Sequence) -> None:
        admitted_at = _known(sequence.admitted_at)
        first_at = _known(sequence.first_token_at)
        last_at = _known(sequence.last_token_at)
        gaps = sequence.generated_tokens - 1
        self._success["length"].inc()
        self._request_prompt.observe(sequence.input_tokens)
        self._request_generation.observe(sequence.generated_tokens)
        self._request_max_tokens.observe(sequence.output_tokens)
        self._tpot.observe((last_at - first_at) / gaps if gaps else 0.0)  # vLLM observes 0 for one token
        self._latency.observe(last_at - sequence.arrived_at)
        self._queue.observe(admitted_at - sequence.arrived_at)
        self._inference.observe(last_at - admitted_at)
        self._prefill.observe(first_at - admitted_at)
        self._decode.observe(last_at - first_at)
        self._request_preemptions.observe(sequence.preemptions)

    def _gauges(
        self,
        limits: EngineLimits,
        *,
        waiting: Callable[[], float],
        running: Callable[[], float],
        kv_usage_ratio: Callable[[], float],
    ) -> None:
        self._gauge("num_requests_running", "Number of requests in model execution batches.", running)
        self._gauge("num_requests_waiting", "Number of requests waiting to be processed.", waiting)
        self._gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", kv_usage_ratio)
        config = {
            **self._labels,
            "block_size": str(BLOCK_TOKENS),
            "num_gpu_blocks": str(limits.kv_capacity_tokens // BLOCK_TOKENS),
            "kv_cache_size_tokens": str(limits.kv_capacity_tokens),
            "enable_prefix_caching": "False",
        }
        del config["model_name"]  # the real series has none
        Gauge(
            "vllm:cache_config_info",
            "Information of the LLMEngine CacheConfig",
            list(config),
            registry=self._registry,
        ).labels(**config).set(1)

    def _gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        gauge = Gauge(f"vllm:{name}", text, list(self._labels), registry=self._registry)
        gauge.labels(**self._labels).set_function(read)

    def _counter(self, name: str, text: str) -> Counter:
        counter = Counter(f"vllm:{name}", text, list(self._labels), registry=self._registry)
        return counter.labels(**self._labels)

    def _counters(self, name: str, text: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
        counter = Counter(f"vllm:{name}", text, [*self._labels, label], registry=self._registry)
        return {value: counter.labels(**self._labels, **{label: value}) for value in values}

    def _histogram(self, name: str, text: str, buckets: Iterable[float]) -> Histogram:
        histogram = Histogram(
            f"vllm:{name}", text, list(self._labels), buckets=tuple(buckets), registry=self._registry
        )
        return histogram.labels(**self._labels)

    def _phase(self, phase: str, state: str) -> Histogram:
        return self._histogram(
            f"request_{phase}_time_seconds",
            f"Histogram of time spent in {state} phase for request.",
            REQUEST_BUCKETS,
        )


def _known(value: float | None) -> float:
    if value is None:
        raise ValueError("a sequence that emitted a token has no time for it")
    return value
