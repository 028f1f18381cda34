"""What a run is summed up to: figures for a table, and series over time for a plot."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from penstock.queueing.domain import FloatArray
from penstock.sim.run import PoolTimeline, RequestStatus, Run
from penstock.sim.scenario import Scenario

PERCENTILES = (0.5, 0.9, 0.95, 0.99)
MOST_BINS = 144
_BIN_SECONDS = (10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)


@dataclass(frozen=True, slots=True)
class Series:
    """One policy over time, a value for each bin; NaN where nothing was answered in it."""

    edges: FloatArray  # seconds, one more than bins
    attainment_ratio: FloatArray
    ttft_seconds: dict[float, FloatArray]  # by percentile
    tpot_seconds: dict[float, FloatArray]


@dataclass(frozen=True, slots=True)
class Figures:
    """One policy on one scenario; percentiles are over answered requests, None without any.

    Nothing in it grows with the requests: those of a run are let go before the next policy's begins.
    """

    policy: str
    end_seconds: float
    timeline: PoolTimeline
    attainment_ratio: float  # of all requests, answered within both objectives
    refused_ratio: float  # 429 and 503
    replica_hours: float
    average_replicas: float
    peak_replicas: int
    ups: int
    downs: int
    cost: float | None
    ttft_seconds: dict[float, float | None]
    tpot_seconds: dict[float, float | None]
    series: Series


def figures_of(scenario: Scenario, name: str, run: Run, cost_per_hour: float | None) -> Figures:
    """Sum a run up; `name` is how the policy was asked for, `cost_per_hour` of one replica."""
    hours = run.replica_seconds() / 3600.0
    refused = np.isin(run.status, [RequestStatus.SHED, RequestStatus.UNAVAILABLE])
    return Figures(
        policy=name,
        end_seconds=run.end_seconds,
        timeline=run.timeline,
        attainment_ratio=run.attainment_ratio(scenario.slo),
        refused_ratio=float(refused.mean()),
        replica_hours=hours,
        average_replicas=run.average_replicas(),
        peak_replicas=int(run.timeline.paid.max()),
        ups=sum(each.after > each.before for each in run.scale_events),
        downs=sum(each.after < each.before for each in run.scale_events),
        cost=None if cost_per_hour is None else hours * cost_per_hour,
        ttft_seconds=_percentiles(run.ttft_seconds),
        tpot_seconds=_percentiles(run.tpot_seconds),
        series=_series(scenario, run),
    )


def bin_edges(end_seconds: float) -> FloatArray:
    """Return the edges of at most `MOST_BINS` bins of a round length from 0 to the end."""
    width = next((each for each in _BIN_SECONDS if end_seconds / each <= MOST_BINS), end_seconds / MOST_BINS)
    return np.arange(max(1, math.ceil(end_seconds / width)) + 1, dtype=np.float64) * width


def rates(scenario: Scenario, edges: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return requests and tokens (prompt and output) per second in each bin."""
    widths = np.diff(np.minimum(edges, _end(scenario, edges)))
    requests, _ = np.histogram(scenario.arrivals_seconds, bins=edges)
    tokens, _ = np.histogram(
        scenario.arrivals_seconds, bins=edges, weights=scenario.input_tokens + scenario.output_tokens
    )
    safe = np.maximum(widths, 1e-9)
    return requests / safe, tokens / safe


def _end(scenario: Scenario, edges: FloatArray) -> float:
    last = float(scenario.arrivals_seconds[-1])
    return max(scenario.end_seconds or last, float(edges[-2]) + 1e-3)


def _percentiles(seconds: FloatArray) -> dict[float, float | None]:
    known = seconds[~np.isnan(seconds)]
    if not known.size:
        return dict.fromkeys(PERCENTILES)
    found = np.quantile(known, PERCENTILES)
    return dict(zip(PERCENTILES, found.tolist(), strict=True))


def _series(scenario: Scenario, run: Run) -> Series:
    edges = bin_edges(run.end_seconds)
    bounds = np.searchsorted(scenario.arrivals_seconds, edges)
    good = run.good(scenario.slo)
    bins = edges.size - 1
    attainment = np.full(bins, math.nan)
    shown = (0.5, 0.95, 0.99)
    ttft = {each: np.full(bins, math.nan) for each in shown}
    tpot = {each: np.full(bins, math.nan) for each in shown}
    for index in range(bins):
        inside = slice(bounds[index], bounds[index + 1])
        if bounds[index] == bounds[index + 1]:
            continue
        attainment[index] = good[inside].mean()
        for target, seconds in ((ttft, run.ttft_seconds[inside]), (tpot, run.tpot_seconds[inside])):
            known = seconds[~np.isnan(seconds)]
            if known.size:
                for each, value in zip(shown, np.quantile(known, shown).tolist(), strict=True):
                    target[each][index] = value
    return Series(edges, attainment, ttft, tpot)
