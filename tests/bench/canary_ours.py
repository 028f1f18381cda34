"""Our judge on thousands of canaries at once: the functions that `canary_judge.judge` calls, on arrays.

What the operator adds is reading one canary's counters; tests/policy/test_canary_benchmark.py feeds the same
streams to `judge` and compares the verdicts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.canary_streams import EDGES, SCRAPE_SECONDS, SCRAPES, Stream
from penstock.model.canary_counts import Metric
from penstock.model.canary_verdict import JudgeLimits
from penstock.policy import canary_errors, canary_latency
from penstock.policy.canary_bets import start_weight
from penstock.policy.canary_observe import USUAL_STABLE_PER_CANARY
from penstock.policy.canary_thresholds import may_promote, may_roll_back, thresholds
from penstock.queueing.domain import FloatArray

LIMITS = JudgeLimits(metrics=(Metric.ERRORS, Metric.TTFT))


@dataclass(frozen=True, slots=True)
class Traces:
    """ln evidence per scrape and run, and what it allows at each."""

    latency_against: FloatArray
    latency_for: FloatArray
    errors_against: FloatArray
    errors_for: FloatArray
    roll_back: FloatArray
    promote: FloatArray


def evidence(stream: Stream, limits: JudgeLimits = LIMITS) -> Traces:
    """Return the evidence on every canary of a stream after every scrape."""
    runs = stream.canary.requests.shape[1]
    decides = thresholds(limits)
    errors = canary_errors.empty_errors((runs,))
    latency = canary_latency.empty_state(EDGES.size, (runs,))
    nothing, stable = np.zeros(runs), stream.stable
    seen_stable, seen_canary = np.zeros(runs), np.zeros(runs)
    rows: list[tuple[FloatArray, ...]] = []
    for at in range(-1, SCRAPES):
        requests = stream.canary.requests[at] if at >= 0 else nothing
        slow = stream.canary.slow[at] if at >= 0 else np.zeros((runs, EDGES.size))
        new_weight = start_weight(at // 4) if at >= 0 and at % 4 == 0 else 0.0
        per_canary = np.where(
            seen_canary > 0, seen_stable / np.maximum(seen_canary, 1), USUAL_STABLE_PER_CANARY
        )
        bets = canary_latency.place_bets(
            latency,
            EDGES,
            margin=limits.max_regression_ratio,
            expected_ratio=1.0,
            stable_per_canary=per_canary,
        )
        counts = canary_latency.SlowCounts(stable.slow[at + 1], stable.requests[at + 1], slow, requests)
        seconds = SCRAPE_SECONDS if at >= 0 else 0.0
        latency = canary_latency.advance_latency(latency, bets, counts, new_weight, seconds)
        if at < 0:
            continue
        both = (counts.stable_total > 0) & (requests > 0)
        seen_stable, seen_canary = seen_stable + both * counts.stable_total, seen_canary + both * requests
        if new_weight:
            errors = canary_errors.begin_errors(errors, at // 4, new_weight)
        failed = stream.canary.errors[at]
        added = np.stack([stable.requests[at + 1], stable.errors[at + 1], requests, failed], axis=-1)
        errors = canary_errors.advance_stop_loss(errors, requests, failed, limits.error_stop_loss)
        errors = canary_errors.advance_errors(errors, added, limits.error_increase)
        against = (
            (canary_errors.log_stop_loss(errors), decides.stop_loss),
            (canary_errors.log_errors_against(errors, limits.max_regression_ratio), decides.errors),
            (canary_latency.log_latency_against(latency), decides.latency),
        )
        good = (canary_errors.log_errors_for(errors), canary_latency.log_latency_for(latency))
        stop = may_roll_back(against)
        rows.append(
            (
                against[2][0],
                good[1],
                against[1][0],
                good[0],
                stop,
                may_promote(good, against, decides.promotion),
            )
        )
    return Traces(*(np.array(column) for column in zip(*rows, strict=True)))
