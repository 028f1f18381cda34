"""The rows of a canary's evidence table, and how many more requests a verdict takes.

The estimate is Wald's: what evidence is missing, over what a canary request adds on average (its
Kullback-Leibler growth). Where the canary looks worse than allowed, until a rollback at the ratio seen;
else until promotion of a canary that is as good as the stable arm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from penstock.model.canary_counts import LATENCY_METRICS, Metric
from penstock.model.canary_verdict import Evidence, JudgeLimits
from penstock.policy import canary_errors
from penstock.policy.canary_bets import (
    Shares,
    inside,
    log_growth,
    nearest_with_difference,
)
from penstock.policy.canary_errors import PRIOR_ERRORS, ErrorState
from penstock.policy.canary_judge_memory import JudgeMemory, LatencyMemory
from penstock.policy.canary_latency import (
    LEAST_LEVEL_REQUESTS,
    log_latency_against,
    log_latency_for,
    log_latency_for_alike,
    nearest_allowed,
)
from penstock.policy.canary_observe import USUAL_STABLE_PER_CANARY, bets_of
from penstock.policy.canary_thresholds import NOTHING_AGAINST, Thresholds

STOP_LOSS = "error stop-loss"
NO_CANARY, NO_STABLE = "no canary request was counted", "no stable request was counted"
BUCKETS_TOO_COARSE = "most requests are slower than the highest bucket edge"
# Normal quantile of a two-sided 95 % interval.
Z_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Row:
    """A row of evidence with what it takes: `needed` more canary requests, None where that is not known."""

    evidence: Evidence
    needed: float | None = None

    @property
    def against(self) -> float:
        """Return ln of the evidence against the canary."""
        return self.evidence.log10_against * math.log(10)


def rows_of(memory: JudgeMemory, limits: JudgeLimits, decides: Thresholds) -> tuple[Row, ...]:
    """Return one row for every metric and check of `limits`, and the stop-loss beside the errors."""
    rows: list[Row] = []
    if Metric.ERRORS in limits.metrics:
        state = memory.errors.get(Metric.ERRORS, canary_errors.empty_errors())
        rows.append(_pair_row(Metric.ERRORS, state, limits, decides))
        rows.append(_stop_loss_row(state, decides))
    rows += [
        _latency_row(metric, memory.latencies.get(metric), limits, decides)
        for metric in LATENCY_METRICS
        if metric in limits.metrics
    ]
    for name in limits.counter_checks:
        state = memory.errors.get(name, canary_errors.empty_errors())
        rows.append(_pair_row(name, state, limits, decides))
    for check in limits.threshold_checks:
        seen = memory.checks.get(check.name)
        missing = "" if seen and seen.readings else "no value came back"
        # Values of a query are no requests: `canary_total` stays 0.
        row = Evidence(
            check.name,
            canary_failures=seen.in_a_row if seen else 0.0,
            missing=missing,
        )
        rows.append(Row(row))
    return tuple(rows)


def _pair_row(name: str, state: ErrorState, limits: JudgeLimits, decides: Thresholds) -> Row:
    margin = limits.max_regression_ratio
    against = float(canary_errors.log_errors_against(state, margin))
    in_favour = float(canary_errors.log_errors_for(state))
    counts = state.counts
    if against > NOTHING_AGAINST:  # since the minute at which the strongest evidence begins
        leading = max(
            state.starts,
            key=lambda start: math.log(start.weight) + float(canary_errors.log_since(state, start, margin)),
        )
        counts = state.counts - leading.counts
    row = _counted(
        name,
        tuple(float(value) for value in counts),
        against=against,
        in_favour=in_favour,
        decides=decides,
    )
    if row.missing and state.stop_counts[0] > 0:
        row = replace(row, missing=NO_STABLE)
    return Row(row, _pair_needed(row, state, limits, decides))


def _pair_needed(row: Evidence, state: ErrorState, limits: JudgeLimits, decides: Thresholds) -> float | None:
    stable_total, stable_failures, canary_total, _ = (float(value) for value in state.counts)
    per_canary = np.asarray(stable_total / canary_total if canary_total else USUAL_STABLE_PER_CANARY)
    one = np.ones(())
    if _looks_worse(row, limits):
        shares = (
            inside(np.asarray(row.stable_failures / row.stable_total)),
            inside(np.asarray(row.canary_failures / row.canary_total)),
        )
        pooled = (per_canary * shares[0] + shares[1]) / (per_canary + 1)
        growth = float(log_growth(shares, shares, (pooled, pooled), per_canary))
        missing = row.against_threshold - row.log10_against
    else:
        level = (stable_failures + PRIOR_ERRORS) / (stable_total + canary_errors.LEVEL_SUCCESSES)
        good: Shares = (np.asarray(level), np.asarray(level))
        null = nearest_with_difference(good, (per_canary, one), limits.error_increase)
        growth = float(log_growth(good, good, null, per_canary))
        missing = row.for_threshold - row.log10_for
    return _requests(missing, growth)


def _stop_loss_row(state: ErrorState, decides: Thresholds) -> Row:
    total, failures = float(state.stop_counts[0]), float(state.stop_counts[1])
    against = float(canary_errors.log_stop_loss(state))
    row = Evidence(
        STOP_LOSS,
        canary_total=total,
        canary_failures=failures,
        log10_against=against / math.log(10),
        against_threshold=decides.stop_loss / math.log(10),
    )
    return Row(row)


def _latency_row(
    metric: Metric, memory: LatencyMemory | None, limits: JudgeLimits, decides: Thresholds
) -> Row:
    if memory is None or len(memory.edges) < 2:
        thresholds = decides.latency / math.log(10), decides.promotion / math.log(10)
        row = Evidence(
            metric, against_threshold=thresholds[0], for_threshold=thresholds[1], missing=NO_CANARY
        )
        return Row(row)
    against, in_favour = float(log_latency_against(memory.state)), float(log_latency_for_alike(memory.state))
    for_step = float(log_latency_for(memory.state)) / math.log(10)
    bets = bets_of(memory, metric, limits)
    tally = memory.whole
    if against > NOTHING_AGAINST:
        edge = int(np.argmax(np.logaddexp.reduce(memory.state.log_against, axis=-1)))
        tally = memory.since if memory.since.canary_total[edge] > 0 else memory.whole
    elif np.isfinite(memory.state.log_for).any():
        edge = int(np.argmax(np.logaddexp.reduce(memory.state.log_for, axis=-1)))
    elif bets.best.any():
        edge = int(np.argmax(bets.best))
    else:
        seen = (float(memory.whole.stable_total.max()), 0.0, float(memory.whole.canary_total.max()), 0.0)
        row = _counted(metric, seen, against=against, in_favour=in_favour, decides=decides)
        row = replace(row, log10_for_step=for_step)
        if not memory.state.level_total:
            row = replace(row, missing=NO_STABLE)
        elif not row.missing and memory.state.level_total >= LEAST_LEVEL_REQUESTS:
            row = replace(row, missing=BUCKETS_TOO_COARSE)
        return Row(row)
    counts = (
        float(tally.stable_total[edge]),
        float(tally.stable_slow[edge]),
        float(tally.canary_total[edge]),
        float(tally.canary_slow[edge]),
    )
    row = _counted(
        metric,
        counts,
        against=against,
        in_favour=in_favour,
        decides=decides,
        edge=memory.edges[edge],
    )
    row = replace(row, log10_for_step=for_step)
    return Row(row, _latency_needed(row, memory, edge, metric, limits))


def _latency_needed(
    row: Evidence, memory: LatencyMemory, edge: int, metric: Metric, limits: JudgeLimits
) -> float | None:
    bets, one = bets_of(memory, metric, limits), slice(edge, edge + 1)
    stable, bound = bets.stable[one], bets.bound[one]
    per_canary = row.stable_total / row.canary_total if row.canary_total else USUAL_STABLE_PER_CANARY
    canary, worse = bets.as_good[one, 0], False
    if row.ratio is not None and row.log10_against * math.log(10) > NOTHING_AGAINST:
        seen = inside(stable * row.ratio)
        worse = bool(seen[0] > bound[0])
        canary = seen if worse else canary
    pair: Shares = (stable, canary)
    null = nearest_allowed(pair, (np.full(1, per_canary), np.ones(1)), bound, bets.absolute[one])
    growth = float(log_growth(pair, pair, null, per_canary)[0])
    missing = row.against_threshold - row.log10_against if worse else row.for_threshold - row.log10_for
    return _requests(missing, growth)


def _looks_worse(row: Evidence, limits: JudgeLimits) -> bool:
    return (
        row.log10_against * math.log(10) > NOTHING_AGAINST
        and row.ratio is not None
        and row.ratio > limits.max_regression_ratio
    )


def _requests(missing_log10: float, growth: float) -> float | None:
    """Return requests until the missing evidence has come; None where it does not grow."""
    if missing_log10 <= 0:
        return 0.0
    return missing_log10 * math.log(10) / growth if growth > 1e-7 else None


def _counted(
    name: str,
    counts: tuple[float, ...],
    *,
    against: float,
    in_favour: float,
    decides: Thresholds,
    edge: float | None = None,
) -> Evidence:
    stable_total, stable_failures, canary_total, canary_failures = counts
    ratio = low = high = None
    if stable_total > 0 and canary_total > 0 and stable_failures + canary_failures > 0:
        # Half an event more in each keeps a share of 0 finite (Haldane, Walter).
        stable = (stable_failures + 0.5) / (stable_total + 0.5)
        canary = (canary_failures + 0.5) / (canary_total + 0.5)
        spread = Z_95 * math.sqrt(
            max(0.0, (1 - canary) / (canary_failures + 0.5) + (1 - stable) / (stable_failures + 0.5))
        )
        ratio = canary / stable
        low, high = ratio * math.exp(-spread), ratio * math.exp(spread)
    missing = "" if canary_total and stable_total else NO_CANARY
    return Evidence(
        name,
        stable_total=stable_total,
        stable_failures=stable_failures,
        canary_total=canary_total,
        canary_failures=canary_failures,
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        log10_against=against / math.log(10),
        log10_for=in_favour / math.log(10),
        log10_for_step=in_favour / math.log(10),
        against_threshold=decides.against(name) / math.log(10),
        for_threshold=decides.promotion / math.log(10),
        edge_seconds=edge,
        missing=missing,
    )
