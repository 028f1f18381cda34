"""The serving arithmetic that `penstock plan` prints beside its answer, each line name and sum.

The limits are the model's (c*, q); the sums are the rules of thumb that people compare with.
"""

from __future__ import annotations

import math

from penstock.cli.plan_answer import Plan
from penstock.policy import wording
from penstock.queueing.arithmetic import (
    batching_tax,
    capacity_plan,
    error_budget,
    latency_budget,
    replicas_by_target_utilization,
    rule_of_thumb_queue_limits,
)

# What most guides write; Penstock sizes by the objectives instead.
_TARGET_UTILIZATION = 0.7
_HEADROOM = 1.3
_SECONDS_A_DAY = 86_400
_GIGABYTE = 1e9


def limit_lines(plan: Plan) -> list[tuple[str, str]]:
    """Return the limits of one replica, and the engine's flags that enforce them where nothing else does."""
    sizing, question = plan.sizing, plan.question
    lines = [
        ("saturates at", f"{wording.rate(sizing.saturation_rate_per_replica)} req/s"),
        ("within objectives", f"{wording.rate(sizing.max_rate_per_replica)} req/s"),
    ]
    if (
        question.profile is not None
        and question.traffic.shape is not None
        and sizing.kv_concurrency is not None
    ):
        held, room = question.traffic.shape.kv_resident_tokens, question.profile.kv_capacity_tokens
        fit = math.floor(sizing.kv_concurrency)
        lines.append(
            (
                "KV memory",
                f"{room:,.0f} tokens / {held:,.0f} a sequence = {fit} sequences",
            )
        )
    if question.profile is not None and question.profile.kv_bytes_per_token is not None:
        room, each_token = question.profile.kv_capacity_tokens, question.profile.kv_bytes_per_token
        size = f"{room * each_token / _GIGABYTE:.1f} GB on each GPU"
        lines.append(("KV of a token", f"{each_token:,.0f} bytes x {room:,.0f} tokens = {size}"))
    each, count = sizing.running_limit + sizing.queue_limit, sizing.replicas
    if question.static_in_flight is None:
        lines.append(("running limit c*", str(sizing.running_limit)))
        lines.append(("queue limit q", str(sizing.queue_limit)))
        product = "(c* + q)"
    else:
        product = f"{each} (admission.static)"
    lines.append(("admission limit", f"{count} x {product} = {count * each:,} in flight"))
    if plan.engine_flags:
        lines.append(("engine flags", " ".join(plan.engine_flags)))
    return lines


def arithmetic_lines(plan: Plan) -> list[tuple[str, str]]:
    """Return the sums: budget, baselines, error budget, cost."""
    return [
        *_latency_budget(plan),
        *_batching(plan),
        *_baselines(plan),
        _error_budget(plan),
        *_cost(plan),
    ]


def _latency_budget(plan: Plan) -> list[tuple[str, str]]:
    prediction, tokens = plan.sizing.prediction, plan.question.output_tokens_mean
    if prediction.ttft is None or prediction.tpot is None or tokens is None or not plan.stable:
        return []
    budget = latency_budget(
        queue_seconds=0.0,
        prefill_seconds=prediction.ttft.mean,
        output_tokens=tokens - 1,
        tpot_seconds=prediction.tpot.mean,
        post_seconds=0.0,
    )
    first, each = wording.seconds(prediction.ttft.mean), wording.seconds(prediction.tpot.mean)
    total = wording.seconds(budget.total_seconds)
    return [("latency budget", f"TTFT {first} + {tokens - 1:,.0f} tokens x {each} = {total} (means)")]


def _batching(plan: Plan) -> list[tuple[str, str]]:
    # Not for token engines: 3.5 s x 131 sequences, which share each step, would be a queue of a million.
    timing = plan.question.spec.engine.service_time
    if timing is None:
        return []
    low, high = rule_of_thumb_queue_limits(service_seconds=timing.mean_seconds, workers=timing.concurrency)
    lines = [
        (
            "queue, rule of thumb",
            f"{low:.3g} to {high:.3g} a replica (2 to 3 x service ms x workers)",
        )
    ]
    if timing.max_batch > 1:
        tax = batching_tax(
            batch_size=timing.max_batch,
            arrival_rate=plan.rate_per_second / (plan.sizing.replicas * timing.concurrency),
            batch_seconds=timing.mean_seconds * timing.batch_scaling_ratio,
        )
        lines.append(
            (
                "batching tax",
                f"full batches of {timing.max_batch}: {wording.seconds(tax.formation_seconds)} to fill, "
                f"{wording.seconds(tax.total_seconds)} with service",
            )
        )
    return lines


def _baselines(plan: Plan) -> list[tuple[str, str]]:
    rate, each = plan.rate_per_second, plan.sizing.saturation_rate_per_replica
    baseline = replicas_by_target_utilization(rate, each, _TARGET_UTILIZATION)
    textbook = capacity_plan(rate, each, target_utilization=_TARGET_UTILIZATION, headroom=_HEADROOM)
    return [
        (
            f"by {_TARGET_UTILIZATION:.0%} utilization",
            f"{wording.replicas(baseline.replicas)} at {baseline.utilization:.0%}, whatever the objectives",
        ),
        (
            f"five steps, x {_HEADROOM}",
            f"{wording.replicas(textbook.replicas)}; "
            + (
                f"{textbook.utilization_after_one_loss:.0%} after one is lost"
                if math.isfinite(textbook.utilization_after_one_loss)
                else "nothing is left after one is lost"
            ),
        ),
    ]


def _error_budget(plan: Plan) -> tuple[str, str]:
    slo = plan.question.spec.slo
    requests = plan.rate_per_second * _SECONDS_A_DAY * slo.window_days
    allowed = error_budget(slo.availability_ratio, requests)
    return (
        "error budget",
        f"{allowed:,.0f} of {requests:,.0f} requests in {slo.window_days} days at this rate",
    )


def _cost(plan: Plan) -> list[tuple[str, str]]:
    cost, hourly = plan.question.spec.cost, plan.cost_per_hour
    if cost is None or hourly is None:
        return []
    count = plan.sizing.replicas_with_spare
    lines = [("cost", f"{count} x {cost.per_replica_hour:,.2f} = {hourly:,.2f} {cost.currency} an hour")]
    per_million, tokens = plan.cost_per_million_tokens, plan.output_tokens_per_second
    if per_million is not None and tokens is not None:
        lines.append(
            (
                "per million tokens",
                f"{per_million:.3g} {cost.currency} of output ({wording.rate(tokens)}/s), spare included",
            )
        )
    return lines
