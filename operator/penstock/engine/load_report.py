"""The figures of a load: percentiles, SLO attainment, errors by kind, and whether they may be believed.

Percentiles are over completed requests; attainment is over all requests that were due, so an error
misses every objective. Rates are of what arrived within the period, whenever it was due: what an
overloaded server answers in the drain is no throughput. A figure that nothing was measured for is
None, never zero.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.engine.latency_sample import LatencySample
from penstock.engine.load_generator import LoadLimits, LoadResult
from penstock.engine.stream_client import NO_DESCRIPTORS, OK, RequestRecord

PERCENTILES = (50, 90, 95, 99)
UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class LoadObjectives:
    """What each request is held against; None: not judged."""

    ttft_seconds: float | None = None
    tpot_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """How late the generator and the stand-in engines may be before nothing is reported."""

    max_send_lag_seconds: float
    max_engine_lag_ratio: float

    def objection(self, result: LoadResult) -> str:
        """Return why the measurement describes this machine and not the engine; empty if it does not."""
        if unsent := sum(record.outcome == NO_DESCRIPTORS for record in result.records):
            return (
                f"{unsent} requests found no free file descriptor: this machine could not send the load; "
                f"raise `ulimit -n` or use a lower --max-in-flight"
            )
        late = result.send_lag.quantile(0.99)
        if late is not None and late > self.max_send_lag_seconds:
            return (
                f"1 % of the requests left more than {late * 1e3:.0f} ms late "
                f"(bound {self.max_send_lag_seconds * 1e3:.0f} ms): this machine could not send the load"
            )
        ratio = result.engine_lag.ratio
        if ratio is not None and ratio > self.max_engine_lag_ratio:
            return (
                f"steps of the stand-in engines ended late by {ratio:.1%} of their duration "
                f"(bound {self.max_engine_lag_ratio:.0%}, worst {result.engine_lag.worst_seconds * 1e3:.0f} "
                f"ms): the machine was the bottleneck; use fewer tokens a second or a lower --speed"
            )
        return ""


def summarize(result: LoadResult, limits: LoadLimits, objectives: LoadObjectives) -> dict[str, Any]:
    """Return the report under the keys of ``penstock load -o json``."""
    records = result.records
    done = [record for record in records if record.outcome == OK]
    stopped = result.stopped_seconds
    end = min(limits.duration_seconds, result.elapsed_seconds if stopped is None else stopped)
    period = max(end - limits.warmup_seconds, 0.0)
    span = _Span(limits.warmup_seconds, end)
    answered = [*(record for record in result.warmup_records if record.outcome == OK), *done]
    errors = Counter(record.outcome for record in records if record.outcome != OK)
    if result.interrupted:  # those under way when Ctrl-C came did not fail
        errors.pop(UNFINISHED, None)
    return {
        "period_seconds": period,
        "interrupted": result.interrupted or stopped is not None,
        "requests": {"due": len(records), "completed": len(done), "failed": errors.total()},
        "errors": dict(errors),
        "offered_per_second": _rate(len(records), period),
        "completed_per_second": _rate(sum(span.has(r.last_token_at) for r in answered), period),
        "input_tokens_per_second": _rate(
            sum(r.planned.input_tokens for r in answered if span.has(r.first_token_at)), period
        ),
        "output_tokens_per_second": _rate(sum(span.output_tokens(r) for r in answered), period),
        "ttft_seconds": _percentiles(record.ttft_seconds for record in done),
        "inter_token_seconds": _of_sample(result.inter_token),
        "tpot_seconds": _percentiles(record.tpot_seconds for record in done),
        "latency_seconds": _percentiles(record.latency_seconds for record in done),
        "slo": _attainment(records, objectives, interrupted=result.interrupted),
        "requests_by_url": dict(Counter(record.url for record in records if record.url)),
        "send_lag_seconds": _of_sample(result.send_lag),
        "engine_lag_ratio": result.engine_lag.ratio,
    }


@dataclass(frozen=True, slots=True)
class _Span:
    """The period that is reported, in seconds of the load."""

    begin: float
    end: float

    def has(self, at: float | None) -> bool:
        return at is not None and self.begin <= at <= self.end

    def output_tokens(self, record: RequestRecord) -> float:
        """Tokens that came within; those after the first are taken as evenly spaced up to the last."""
        first, last = record.first_token_at, record.last_token_at
        if first is None or last is None:
            return 0.0
        if first == last:  # one token, or all of them in one event
            return float(record.output_tokens) if self.has(first) else 0.0
        within = max(min(last, self.end) - max(first, self.begin), 0.0) / (last - first)
        return self.has(first) + (record.output_tokens - 1) * within


def _rate(count: float, seconds: float) -> float | None:
    return count / seconds if seconds > 0 else None


def _percentiles(values: Iterable[float | None]) -> dict[str, float | None]:
    known = np.array([value for value in values if value is not None])
    if not known.size:
        return dict.fromkeys(("mean", *(f"p{p}" for p in PERCENTILES), "max"))
    quantiles = np.percentile(known, PERCENTILES)
    named = {f"p{p}": float(q) for p, q in zip(PERCENTILES, quantiles, strict=True)}
    return {"mean": float(known.mean()), **named, "max": float(known.max())}


def _of_sample(sample: LatencySample) -> dict[str, float | None]:
    named = {f"p{p}": sample.quantile(p / 100) for p in PERCENTILES}
    return {"mean": sample.mean, **named, "max": sample.max}


def _attainment(
    records: list[RequestRecord], objectives: LoadObjectives, *, interrupted: bool
) -> dict[str, float | None]:
    judged = [r for r in records if not (interrupted and r.outcome == UNFINISHED)]
    # Without a first token there was none in time; an answer of one token has no TPOT to miss.
    ttft = [_within(r, r.ttft_seconds, objectives.ttft_seconds, unknown=math.inf) for r in judged]
    tpot = [_within(r, r.tpot_seconds, objectives.tpot_seconds, unknown=0.0) for r in judged]
    both = [a and b for a, b in zip(ttft, tpot, strict=True)]
    none_given = objectives.ttft_seconds is None and objectives.tpot_seconds is None
    return {
        "ttft_objective_seconds": objectives.ttft_seconds,
        "tpot_objective_seconds": objectives.tpot_seconds,
        "ttft_attained_ratio": None if objectives.ttft_seconds is None else _share(ttft),
        "tpot_attained_ratio": None if objectives.tpot_seconds is None else _share(tpot),
        "attained_ratio": None if none_given else _share(both),
    }


def _within(record: RequestRecord, seconds: float | None, objective: float | None, *, unknown: float) -> bool:
    if record.outcome != OK:
        return False
    return objective is None or (unknown if seconds is None else seconds) <= objective


def _share(flags: list[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None
