"""The figures of a load: percentiles, SLO attainment, errors by kind, and whether they may be believed.

Percentiles are over completed requests; attainment is over all requests that were due, so an error
misses every objective. A figure that nothing was measured for is None, never zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.engine.latency_sample import LatencySample
from penstock.engine.load_generator import LoadLimits, LoadResult
from penstock.engine.stream_client import OK, RequestRecord

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
    cut_short = min(limits.duration_seconds, result.elapsed_seconds)
    period = max(cut_short - limits.warmup_seconds, 0.0)
    errors = Counter(record.outcome for record in records if record.outcome != OK)
    if result.interrupted:  # those under way when Ctrl-C came did not fail
        errors.pop(UNFINISHED, None)
    return {
        "period_seconds": period,
        "interrupted": result.interrupted,
        "requests": {"due": len(records), "completed": len(done), "failed": errors.total()},
        "errors": dict(errors),
        "offered_per_second": _rate(len(records), period),
        "completed_per_second": _rate(len(done), period),
        "input_tokens_per_second": _rate(sum(r.planned.input_tokens for r in done), period),
        "output_tokens_per_second": _rate(sum(r.output_tokens for r in done), period),
        "ttft_seconds": _percentiles(record.ttft_seconds for record in done),
        "inter_token_seconds": _of_sample(result.inter_token),
        "tpot_seconds": _percentiles(record.tpot_seconds for record in done),
        "latency_seconds": _percentiles(record.latency_seconds for record in done),
        "slo": _attainment(records, objectives, interrupted=result.interrupted),
        "requests_by_url": dict(Counter(record.url for record in records if record.url)),
        "send_lag_seconds": _of_sample(result.send_lag),
        "engine_lag_ratio": result.engine_lag.ratio,
    }


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
    ttft = [_within(r, r.ttft_seconds, objectives.ttft_seconds) for r in judged]
    tpot = [_within(r, r.tpot_seconds, objectives.tpot_seconds) for r in judged]
    both = [a and b for a, b in zip(ttft, tpot, strict=True)]
    none_given = objectives.ttft_seconds is None and objectives.tpot_seconds is None
    return {
        "ttft_objective_seconds": objectives.ttft_seconds,
        "tpot_objective_seconds": objectives.tpot_seconds,
        "ttft_attained_ratio": None if objectives.ttft_seconds is None else _share(ttft),
        "tpot_attained_ratio": None if objectives.tpot_seconds is None else _share(tpot),
        "attained_ratio": None if none_given else _share(both),
    }


def _within(record: RequestRecord, seconds: float | None, objective: float | None) -> bool:
    if record.outcome != OK:
        return False
    # A one-token answer has no TPOT to miss.
    return objective is None or seconds is None or seconds <= objective


def _share(flags: list[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None
