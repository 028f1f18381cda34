"""What two arms counted enters the judge's memory: blocks, minutes and bucket layouts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from penstock.model.canary_counts import LATENCY_METRICS, ArmIncrement, Histogram, Increments, Metric, Trials
from penstock.model.canary_verdict import JudgeLimits, ThresholdCheck
from penstock.policy.canary_bets import start_weight, weight_between
from penstock.policy.canary_errors import (
    ErrorState,
    advance_errors,
    advance_stop_loss,
    begin_errors,
    empty_errors,
)
from penstock.policy.canary_judge_memory import JudgeMemory, LatencyMemory, Tally, ThresholdMemory
from penstock.policy.canary_latency import (
    LEAST_LEVEL_REQUESTS,
    Bets,
    SlowCounts,
    advance_latency,
    place_bets,
)
from penstock.queueing.domain import FloatArray

NOTHING = ArmIncrement()
RATE_HALF_LIFE_SECONDS = 600.0
# What is informative before the first block: the usual split of the first steps.
USUAL_STABLE_PER_CANARY = 9.0


@dataclass(frozen=True, slots=True)
class Tick:
    """A block's length, the minute of the test it is in, and the weight of the evidence that begins with it.

    `missed` is the weight of the minutes before: a metric that appears late begins with all of it.
    """

    seconds: float
    minute: int
    weight: float
    missed: float


def observe(memory: JudgeMemory, increments: Increments, limits: JudgeLimits) -> JudgeMemory:
    """Return the memory after `increments`.

    An arm that was not read leaves the other one's counts without a counterpart: errors and latencies of
    the block are no evidence, only the stable arm's level is learned from it. The test begins with the
    first canary request.
    """
    stable, canary = increments.stable or NOTHING, increments.canary or NOTHING
    requests = canary.requests or (canary.errors.total if canary.errors else 0.0)
    requests = requests or max((each.total for each in canary.latencies.values()), default=0.0)
    began = memory.started_at
    if began is None and requests > 0:
        began = increments.at - increments.seconds
    minute = memory.minute
    if began is not None:
        minute = max(minute, math.floor((increments.at - increments.seconds - began) / 60.0))
    tick = Tick(
        increments.seconds,
        minute,
        weight=weight_between(memory.minute, minute),
        missed=weight_between(-1, memory.minute),
    )
    latencies = {
        metric: _advance(
            memory.latencies.get(metric), (stable, canary), metric=metric, limits=limits, tick=tick
        )
        for metric in LATENCY_METRICS
        if metric in limits.metrics
    }
    kept = 0.5 ** (increments.seconds / RATE_HALF_LIFE_SECONDS)
    return JudgeMemory(
        started_at=began,
        minute=minute,
        requests=memory.requests + requests,
        seconds=memory.seconds + increments.seconds,
        recent_requests=kept * memory.recent_requests + requests,
        recent_seconds=kept * memory.recent_seconds + increments.seconds,
        errors={
            name: _advance_pair(memory.errors.get(name), pair, name=name, limits=limits, tick=tick)
            for name, pair in _pairs(stable, canary, limits).items()
        },
        latencies={metric: each for metric, each in latencies.items() if each is not None},
        checks={check.name: _checked(memory, canary, check) for check in limits.threshold_checks},
    )


def _pairs(
    stable: ArmIncrement, canary: ArmIncrement, limits: JudgeLimits
) -> dict[str, tuple[Trials | None, Trials | None]]:
    """Return what every counter pair added in both arms: errors and the user's."""
    found = {name: (stable.checks.get(name), canary.checks.get(name)) for name in limits.counter_checks}
    if Metric.ERRORS in limits.metrics:
        found[Metric.ERRORS.value] = (stable.errors, canary.errors)
    return found


def _advance_pair(
    state: ErrorState | None,
    arms: tuple[Trials | None, Trials | None],
    *,
    name: str,
    limits: JudgeLimits,
    tick: Tick,
) -> ErrorState:
    weight = tick.weight if state is not None else tick.weight + tick.missed
    state = state or empty_errors()
    if weight > 0:
        state = begin_errors(state, tick.minute, weight)
    stable, canary = arms
    if canary is not None and name == Metric.ERRORS:
        total, failures = np.asarray(canary.total), np.asarray(canary.failures)
        state = advance_stop_loss(state, total, failures, limits.error_stop_loss)
    if stable is None or canary is None:  # not at the same time: no comparison
        return state
    added = np.array([stable.total, stable.failures, canary.total, canary.failures])
    return advance_errors(state, added, limits.error_increase)


def _checked(memory: JudgeMemory, canary: ArmIncrement, check: ThresholdCheck) -> ThresholdMemory:
    """Return a threshold check after a tick: a value that is missing neither fails nor clears it."""
    before = memory.checks.get(check.name, ThresholdMemory())
    value = canary.thresholds.get(check.name)
    if value is None or math.isnan(value):
        return before
    bad = (check.at_least is not None and value < check.at_least) or (
        check.at_most is not None and value > check.at_most
    )
    return ThresholdMemory(before.readings + 1, before.in_a_row + 1 if bad else 0, value)


def _advance(
    memory: LatencyMemory | None,
    arms: tuple[ArmIncrement, ArmIncrement],
    *,
    metric: Metric,
    limits: JudgeLimits,
    tick: Tick,
) -> LatencyMemory | None:
    stable, canary = (arm.latencies.get(metric) for arm in arms)
    edges = _common_edges(stable, canary)
    if not edges:
        return _due(memory, tick.weight) if memory else None
    weight = tick.weight if memory is not None else tick.weight + tick.missed
    if memory is None or not set(memory.edges) <= set(edges) or len(memory.edges) < 2:
        memory = _carried(memory, edges)
    bets = bets_of(memory, metric, limits)
    thinned = memory.edges != edges and memory.state.level_total >= LEAST_LEVEL_REQUESTS
    if thinned and not bets.best.any():
        # Load or a restored, thinned layout left the edges in use: begin with all of them.
        memory = _carried(memory, edges)
        bets = bets_of(memory, metric, limits)
    counts = SlowCounts(
        _slow(stable, memory.edges),
        np.asarray(stable.total if stable else 0.0),
        _slow(canary, memory.edges),
        np.asarray(canary.total if canary else 0.0),
        np.asarray(metric not in limits.unlike),
    )
    state = advance_latency(memory.state, bets, counts, weight, tick.seconds)
    if not counts.stable_total or not counts.canary_total:
        return replace(memory, state=state)
    block = Tally(
        counts.stable_slow,
        counts.canary_slow,
        counts.stable_total * np.ones(len(memory.edges)),
        counts.canary_total * np.ones(len(memory.edges)),
    )
    latest = math.log(start_weight(max(tick.minute, 1)))
    fresh = np.logaddexp.reduce(state.log_against, axis=-1) <= latest
    since = Tally(*(np.where(fresh, 0.0, column) for column in _sums(memory.since, block)))
    return LatencyMemory(memory.edges, state, Tally(*_sums(memory.whole, block)), since)


def bets_of(memory: LatencyMemory, metric: Metric, limits: JudgeLimits) -> Bets:
    """Return the bets of the next block."""
    whole = memory.whole
    per_canary = float(whole.stable_total.max(initial=0.0)) / max(
        float(whole.canary_total.max(initial=0.0)), 1.0
    )
    return place_bets(
        memory.state,
        np.array(memory.edges),
        margin=limits.max_regression_ratio,
        expected_ratio=limits.expected_ratio.get(metric, 1.0),
        stable_per_canary=np.asarray(per_canary or USUAL_STABLE_PER_CANARY),
    )


def _sums(tally: Tally, block: Tally) -> list[FloatArray]:
    return [one + other for one, other in zip(tally.columns(), block.columns(), strict=True)]


def _common_edges(stable: Histogram | None, canary: Histogram | None) -> tuple[float, ...]:
    """Return the finite edges that both arms have (one alone: its own)."""
    layouts = [set(each.upper_edges) for each in (stable, canary) if each is not None]
    common = set.intersection(*layouts) if layouts else set()
    finite = sorted(edge for edge in common if math.isfinite(edge) and edge > 0)
    return tuple(finite) if len(finite) >= 2 else ()


def _slow(histogram: Histogram | None, edges: tuple[float, ...]) -> FloatArray:
    if histogram is None:
        return np.zeros(len(edges))
    below = dict(zip(histogram.upper_edges, histogram.cumulative, strict=True))
    return np.array([histogram.total - below[edge] for edge in edges])


def _due(memory: LatencyMemory, weight: float) -> LatencyMemory:
    """Return the memory where nothing was counted: evidence that was to begin waits."""
    state = memory.state
    state = replace(state, pending=state.pending + weight, pending_alike=state.pending_alike + weight)
    return replace(memory, state=state)


def _carried(memory: LatencyMemory | None, edges: tuple[float, ...]) -> LatencyMemory:
    """Return the memory on another bucket layout: evidence at edges that stay is kept, the level is not."""
    if memory is None:
        return LatencyMemory.empty(edges)
    before = memory.state
    fresh = LatencyMemory.empty(edges, float(before.begun), float(before.pending))
    where = {edge: index for index, edge in enumerate(memory.edges)}
    against, in_favour = fresh.state.log_against.copy(), fresh.state.log_for.copy()
    alike = fresh.state.log_for_alike.copy()
    whole = [column.copy() for column in fresh.whole.columns()]
    since = [column.copy() for column in fresh.since.columns()]
    for index, edge in enumerate(edges):
        if (old := where.get(edge)) is None:
            continue
        against[index], in_favour[index] = before.log_against[old], before.log_for[old]
        alike[index] = before.log_for_alike[old]
        for columns, tally in ((whole, memory.whole), (since, memory.since)):
            for column, counted in zip(columns, tally.columns(), strict=True):
                column[index] = counted[old]
    state = replace(
        fresh.state,
        log_against=against,
        log_for=in_favour,
        log_for_alike=alike,
        begun_alike=before.begun_alike,
        pending_alike=before.pending_alike,
    )
    return LatencyMemory(edges, state, Tally(*whole), Tally(*since))
