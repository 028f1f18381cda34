"""What a scaling policy is, and all it may see: the answers Prometheus and Kubernetes would give.

A value that is missing (no sample yet, stale, Prometheus gone) is None or an empty tuple, never zero.
Counters are those of vLLM, counted at the engines; `offered` is counted at the gateway. `rates` and
`over` are range queries at `at`: they see samples that were scraped until then and nothing later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from penstock.policy.gateway_load import GatewayRates
from penstock.queueing.domain import FloatArray


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram's increase: per bucket (not cumulative), with the upper bounds; the last is inf.

    Unit of `increases`: observations per second in `WindowRates`, observations in `Counters`.
    `total` is the increase of its `_sum`.
    """

    upper_bounds: tuple[float, ...]
    increases: FloatArray
    total: float

    @property
    def count(self) -> float:
        """The increase of its `_count`."""
        return float(self.increases.sum())

    @property
    def mean(self) -> float | None:
        """Sum over count; None without observations."""
        return self.total / self.count if self.count > 0 else None

    def quantile(self, probability: float) -> float | None:
        """Return PromQL's histogram_quantile: linear inside a bucket, the last finite bound above it."""
        count = self.count
        if count <= 0:
            return None
        rank, below = probability * count, 0.0
        inside: float
        for index, inside in enumerate(self.increases.tolist()):
            if inside > 0 and below + inside >= rank:
                if index == len(self.upper_bounds) - 1:
                    return self.upper_bounds[-2]
                low = self.upper_bounds[index - 1] if index else 0.0
                return low + (self.upper_bounds[index] - low) * max(0.0, rank - below) / inside
            below += inside
        return self.upper_bounds[-2]


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """Series of the engines, summed over the pool. See `Buckets` for the unit."""

    requests: float  # that got their first token
    finished: float
    prompt_tokens: float
    generation_tokens: float
    preemptions: float
    steps: float  # engine iterations (count of vllm:iteration_tokens_total)
    ttft_seconds: Buckets  # at the engine: without the front end
    tpot_seconds: Buckets  # per request, when it ends
    inter_token_seconds: Buckets
    queue_seconds: Buckets
    latency_seconds: Buckets  # whole request, at the engine
    input_lengths: Buckets  # tokens, when it ends
    output_lengths: Buckets


@dataclass(frozen=True, slots=True)
class WindowRates:
    """`sum(rate(...[window]))`: per second, over the replicas that have two samples in the window."""

    window_seconds: float
    replicas: int  # with two samples
    engine: EngineCounts
    waiting_growth_per_second: float  # sum(deriv(waiting[window]))


@dataclass(frozen=True, slots=True)
class ReplicaGauges:
    """Newest visible sample of one replica. `replica` is its number, never used twice."""

    replica: int
    age_seconds: float
    running: int
    waiting: int
    kv_usage_ratio: float
    draining: bool = False  # asked to leave: it takes no requests any more


@dataclass(frozen=True, slots=True)
class ReplicaWindow:
    """`avg_over_time` and `max_over_time` of one replica's gauges."""

    replica: int
    samples: int
    running_mean: float
    waiting_mean: float
    kv_usage_mean: float
    running_max: int
    waiting_max: int
    kv_usage_max: float


class RangeQueries(Protocol):
    """Range queries at a fixed instant; None or empty where Prometheus has nothing to answer."""

    def rates(self, at: float, window_seconds: float) -> WindowRates | None:
        """Return rates over the window that ends at `at`."""

    def offered_rate(self, at: float, window_seconds: float) -> float | None:
        """Return requests per second that came to the gateway."""

    def over(self, at: float, window_seconds: float) -> tuple[ReplicaWindow, ...]:
        """Return every replica's gauges over the window that ends at `at`."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What Kubernetes (first six fields) and Prometheus show at `at` (s from the scenario's start)."""

    at: float
    ready: int
    starting: int
    target: int  # spec.replicas in force
    min_replicas: int
    max_replicas: int
    running: int | None  # pool sums over `replicas`
    waiting: int | None
    replicas: tuple[ReplicaGauges, ...]  # those whose newest sample is not stale
    arrival_rate: float | None  # requests/s that got their first token, over `rate_window_seconds`
    input_token_rate: float | None
    output_token_rate: float | None
    offered_rate: float | None  # requests/s at the gateway: admitted, shed and spilled
    counters: EngineCounts | None  # since the start, replicas that left included
    rate_window_seconds: float
    range_queries: RangeQueries
    gateway: GatewayRates | None = None  # as its counters say; None for a policy that does not steer it

    def rates(self, window_seconds: float) -> WindowRates | None:
        """Return the engines' rates over the last `window_seconds`; None without two samples."""
        return self.range_queries.rates(self.at, window_seconds)

    def offered_rate_over(self, window_seconds: float) -> float | None:
        """Return requests per second that came to the gateway over the last `window_seconds`."""
        return self.range_queries.offered_rate(self.at, window_seconds)

    def over(self, window_seconds: float) -> tuple[ReplicaWindow, ...]:
        """Return mean and maximum of every replica's gauges over the last `window_seconds`."""
        return self.range_queries.over(self.at, window_seconds)


class ScalingPolicy(Protocol):
    """Decides a replica count every `interval_seconds`. One instance serves one run."""

    @property
    def name(self) -> str:
        """How tables call it."""

    @property
    def interval_seconds(self) -> float:
        """Time between two decisions."""

    def decide(self, seen: Signals) -> int:
        """Return the replicas wanted from now on; clamped to min and max by the simulation."""
