"""Serving arithmetic that fits on one line each: budgets, baselines, memory, money.

These are the rules of thumb of capacity planning. Penstock sizes by the replica model instead;
`penstock plan` prints them beside its answer, because they are what people compare it with.
Check values and sources: docs/formulas.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.queueing.domain import non_negative, positive, ratio, whole_number
from penstock.queueing.errors import InvalidParameter

# 44 GB / 0.55 GB and 21/(0.7 x 10) are whole numbers that floating point just misses.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class LatencyBudget:
    """Where the time of one streamed request goes, in seconds."""

    ttft_seconds: float
    total_seconds: float


@dataclass(frozen=True, slots=True)
class TargetUtilizationSizing:
    """Replicas by target utilization, and the utilization that the whole number gives."""

    replicas: int
    utilization: float


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """The five-step plan: required rate, replicas bare and with headroom, utilization after one loss."""

    required_rate_per_second: float
    bare_replicas: int
    replicas: int
    utilization: float
    utilization_after_one_loss: float  # inf for a single replica


@dataclass(frozen=True, slots=True)
class BatchingTax:
    """What the mean request pays for being served in a batch, in seconds."""

    formation_seconds: float
    total_seconds: float


@dataclass(frozen=True, slots=True)
class ServingOption:
    """One way to answer: a model or a setting, its latency and its quality (any scale, more is better)."""

    name: str
    latency_seconds: float
    quality: float


def latency_budget(
    *,
    queue_seconds: float,
    prefill_seconds: float,
    output_tokens: float,
    tpot_seconds: float,
    post_seconds: float,
) -> LatencyBudget:
    """Return TTFT = queue + prefill and total = TTFT + tokens x TPOT + post.

    The textbook charges TPOT to the first token too; the engine law does not: pass tokens - 1 for it.
    """
    ttft = float(
        non_negative("queue_seconds", queue_seconds) + non_negative("prefill_seconds", prefill_seconds)
    )
    decode = non_negative("output_tokens", output_tokens) * non_negative("tpot_seconds", tpot_seconds)
    return LatencyBudget(ttft, float(ttft + decode + non_negative("post_seconds", post_seconds)))


def replicas_by_target_utilization(
    arrival_rate: float, service_rate: float, target_utilization: float
) -> TargetUtilizationSizing:
    """Return ceil(lambda / (rho* mu)) replicas, at least 1. Rates per second; the baseline, not our rule."""
    rate = float(non_negative("arrival_rate", arrival_rate))
    each = float(positive("service_rate", service_rate))
    replicas = max(1, _ceil(rate / (ratio("target_utilization", target_utilization) * each)))
    return TargetUtilizationSizing(replicas, rate / (replicas * each))


def capacity_plan(
    arrival_rate: float, service_rate: float, *, target_utilization: float, headroom: float
) -> CapacityPlan:
    """Return the five-step plan: rate / rho*, / rate of one replica, x `headroom` (>= 1), check N + 1.

    Both counts are rounded up, the headroom is on the whole count, as in the textbook: 7 x 1.3 = 9.1, so 10.
    """
    if not headroom >= 1 or math.isinf(headroom):
        raise InvalidParameter("headroom", f"must be a finite factor >= 1, such as 1.3, got {headroom:g}")
    rate = float(non_negative("arrival_rate", arrival_rate))
    each = float(positive("service_rate", service_rate))
    required = rate / ratio("target_utilization", target_utilization)
    bare = max(1, _ceil(required / each))
    replicas = _ceil(bare * headroom)
    after_loss = rate / ((replicas - 1) * each) if replicas > 1 else math.inf
    return CapacityPlan(required, bare, replicas, rate / (replicas * each), after_loss)


def kv_bytes_per_token(*, layers: int, kv_heads: int, head_dim: int, bytes_per_value: float) -> float:
    """Return the bytes of keys and values that one token of context holds: 2 layers heads dim bytes."""
    shape = (
        whole_number("layers", layers)
        * whole_number("kv_heads", kv_heads)
        * whole_number("head_dim", head_dim)
    )
    return float(2 * shape * positive("bytes_per_value", bytes_per_value))


def concurrency_from_memory(
    *,
    memory: float,
    weights: float,
    workspace: float,
    kv_per_request: float,
    fragmentation_ratio: float = 0.0,
) -> int:
    """Return floor((memory - weights - workspace)(1 - fragmentation) / KV): how many requests fit.

    All four sizes in one unit (bytes or GB); `fragmentation_ratio` in [0, 1). Raises InvalidParameter
    where not even the weights fit.
    """
    if not 0 <= fragmentation_ratio < 1:
        raise InvalidParameter("fragmentation_ratio", f"must be in [0, 1), got {fragmentation_ratio:g}")
    taken = non_negative("weights", weights) + non_negative("workspace", workspace)
    room = float(positive("memory", memory) - taken)
    if room < 0:
        raise InvalidParameter("memory", f"= {memory:g} is less than weights + workspace = {float(taken):g}")
    return math.floor(
        room * (1 - fragmentation_ratio) / positive("kv_per_request", kv_per_request) + _ROUNDING
    )


def batching_tax(*, batch_size: int, arrival_rate: float, batch_seconds: float) -> BatchingTax:
    """Return (B - 1)/(2 lambda), the mean wait for a batch of B to fill, and that plus its time T(B)."""
    others = whole_number("batch_size", batch_size) - 1
    formation = float(others / (2 * positive("arrival_rate", arrival_rate)))
    return BatchingTax(formation, float(formation + non_negative("batch_seconds", batch_seconds)))


def cost_per_million_tokens(
    cost_per_hour: float, tokens_per_second: float, *, utilization: float = 1.0, quality: float = 1.0
) -> float:
    """Return 1e6 C / (3600 tokens/s), divided by utilization and by quality (both in (0, 1]).

    `cost_per_hour` buys a capacity of `tokens_per_second`, of which `utilization` is used; `quality` is the
    share of tokens fit for use. Pass the tokens really sold and leave utilization at 1 where they are known.
    """
    used = ratio("utilization", utilization) * ratio("quality", quality)
    hourly = non_negative("cost_per_hour", cost_per_hour)
    return float(1e6 * hourly / (3600 * positive("tokens_per_second", tokens_per_second) * used))


def error_budget(objective_ratio: float, requests: float) -> float:
    """Return how many of `requests` may miss an objective that `objective_ratio` (in (0, 1]) must meet."""
    return (1 - ratio("objective_ratio", objective_ratio)) * float(non_negative("requests", requests))


def best_option_within(slo_seconds: float, options: Sequence[ServingOption]) -> ServingOption | None:
    """Return the option of highest quality whose latency is within the SLO; None if there is none.

    Among equals the faster one.
    """
    limit = positive("slo_seconds", slo_seconds)
    within = [option for option in options if option.latency_seconds <= limit]
    return max(within, key=lambda option: (option.quality, -option.latency_seconds), default=None)


def rule_of_thumb_queue_limits(*, service_seconds: float, workers: int) -> tuple[float, float]:
    """Return the admission rule of thumb: 2 to 3 x service time in ms x workers, requests. A baseline.

    It is a rule without units: the model's queue limit falls with the service time, this one grows.
    """
    base = 1000 * positive("service_seconds", service_seconds) * whole_number("workers", workers)
    return float(2 * base), float(3 * base)


def _ceil(quotient: float) -> int:
    return math.ceil(quotient * (1 - _ROUNDING))
