"""Differences of a canary's counters, pod by pod.

* A value below the last one is a restart: the new value counts (Prometheus's own rule). But of two Prometheus
  replicas one may just show an older sample than the other did; then all that the server ever counted would
  be new. So a fall is believed once the baseline is older than any sample that is shown; until then it is as
  if the pod had not been read, which delays what it counted by a minute and invents nothing.
* A pod that was absent and is back: the difference counts, once.
* A pod or signal first seen sets its baseline: what it counted before is no evidence. A restarted
  process counts from zero under the same name, so nothing is lost there.
* A changed bucket layout: a new baseline, nothing counts. NaN, or counts that fall along the edges: as if
  it had not been read.
* Warm-up: readings until `excluded_until` only move the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from penstock.model.canary_counts import (
    LATENCY_METRICS,
    ArmIncrement,
    ArmReading,
    CheckCounters,
    Histogram,
    Increments,
    Metric,
    PodCounters,
    Trials,
)

# Names of pods do not come back; a Prometheus outage of an hour is still bridged.
FORGET_AFTER_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class ArmMemory:
    """The last counters of every pod and check of an arm; `seen_at` is when each was read (Unix seconds)."""

    pods: Mapping[str, PodCounters] = field(default_factory=dict)
    checks: Mapping[tuple[str, str], CheckCounters] = field(default_factory=dict)
    seen_at: Mapping[str | tuple[str, str], float] = field(default_factory=dict)
    at: float | None = None
    excluded_until: float | None = None


@dataclass(frozen=True, slots=True)
class CountsMemory:
    """Baselines of both arms. Not kept across a restart of the operator: the first reading is a new one."""

    stable: ArmMemory = field(default_factory=ArmMemory)
    canary: ArmMemory = field(default_factory=ArmMemory)


def exclude_until(memory: CountsMemory, at: float) -> CountsMemory:
    """Return the memory with the canary's counts until `at` (Unix seconds, its warm-up) left out."""
    return replace(memory, canary=replace(memory.canary, excluded_until=at))


def advance(
    memory: CountsMemory, stable: ArmReading | None, canary: ArmReading | None
) -> tuple[Increments, CountsMemory]:
    """Return what both arms added since the readings before, and the new baselines.

    An arm that could not be read is None: its increment is None, its baseline stays, and the next reading
    brings the difference. So does a reading older than the last one, which would look like a restart.
    """
    stable_added, stable_memory = _advance_arm(memory.stable, stable)
    canary_added, canary_memory = _advance_arm(memory.canary, canary)
    before = memory.canary.at
    counted = canary_added is not None and canary_added.pods > 0
    seconds = canary_memory.at - before if counted and before is not None and canary_memory.at else 0.0
    instants = [reading.at for reading in (canary, stable) if reading is not None]
    at = max(instants, default=max(memory.canary.at or 0.0, memory.stable.at or 0.0))
    return Increments(at, seconds, stable_added, canary_added), CountsMemory(stable_memory, canary_memory)


def _advance_arm(memory: ArmMemory, reading: ArmReading | None) -> tuple[ArmIncrement | None, ArmMemory]:
    if reading is None or (memory.at is not None and reading.at < memory.at):
        return None, memory
    excluded = memory.excluded_until is not None and reading.at <= memory.excluded_until
    if not excluded:
        reading = _without_doubtful(memory, reading)
    added = ArmIncrement(thresholds=reading.thresholds) if excluded else _increment(memory, reading)
    pods = {pod.pod: _baseline(memory.pods.get(pod.pod), pod) for pod in reading.pods}
    checks = {
        (each.check, each.series): each
        for each in reading.checks
        if _sound_count(each.failures) and _sound_count(each.total)
    }
    seen_at: dict[str | tuple[str, str], float] = {}
    seen_at.update(memory.seen_at)
    seen_at.update(dict.fromkeys(pods, reading.at))
    seen_at.update(dict.fromkeys(checks, reading.at))
    oldest = reading.at - FORGET_AFTER_SECONDS
    return added, ArmMemory(
        pods={pod: each for pod, each in {**memory.pods, **pods}.items() if seen_at[pod] >= oldest},
        checks={pair: each for pair, each in {**memory.checks, **checks}.items() if seen_at[pair] >= oldest},
        seen_at={name: at for name, at in seen_at.items() if at >= oldest},
        at=reading.at,
        excluded_until=memory.excluded_until if excluded else None,
    )


def _without_doubtful(memory: ArmMemory, reading: ArmReading) -> ArmReading:
    """Leave out what fell since a baseline so young that the sample may be older than it."""
    certain_from = reading.at - reading.fresh_seconds
    young = {name for name, at in memory.seen_at.items() if at > certain_from}
    pods = (pod for pod in reading.pods if pod.pod not in young or not _fell(memory.pods[pod.pod], pod))
    checks = (
        each
        for each in reading.checks
        if (pair := (each.check, each.series)) not in young
        or not _any_fell(_pair_of(memory.checks[pair]), _pair_of(each))
    )
    return replace(reading, pods=tuple(pods), checks=tuple(checks))


def _fell(before: PodCounters, now: PodCounters) -> bool:
    """Whether any counter of a pod is below the last one: its signals are asked for one by one."""
    layouts = [(histogram_of(before, metric), histogram_of(now, metric)) for metric in LATENCY_METRICS]
    return _any_fell((before.requests, before.errors), (now.requests, now.errors)) or any(
        _any_fell(last.cumulative, new.cumulative)
        for last, new in layouts
        if last is not None and new is not None and last.upper_edges == new.upper_edges
    )


def _any_fell(before: Sequence[float | None], now: Sequence[float | None]) -> bool:
    return any(
        last is not None and value is not None and value < last
        for last, value in zip(before, now, strict=True)
    )


def _increment(memory: ArmMemory, reading: ArmReading) -> ArmIncrement:
    known = [(memory.pods[pod.pod], pod) for pod in reading.pods if pod.pod in memory.pods]
    requests = [
        added for before, now in known if (added := _added((before.requests,), (now.requests,))) is not None
    ]
    errors = [
        Trials(min(added[1], added[0]), added[0])
        for before, now in known
        if (added := _added((before.requests, before.errors), (now.requests, now.errors))) is not None
    ]
    latencies: dict[Metric, Histogram] = {}
    for metric in LATENCY_METRICS:
        parts = [
            part
            for before, now in known
            if (part := _histogram_added(histogram_of(before, metric), histogram_of(now, metric))) is not None
        ]
        if parts and (total := _sum_of_histograms(parts)) is not None:
            latencies[metric] = total
    return ArmIncrement(
        requests=sum(each[0] for each in requests) if requests else None,
        errors=_sum_of_trials(errors),
        latencies=latencies,
        checks=_checks_added(memory.checks, reading.checks),
        thresholds=reading.thresholds,
        pods=len(known),
    )


def histogram_of(pod: PodCounters, metric: Metric) -> Histogram | None:
    """Return the pod's histogram of a latency metric, None where it was not read or makes no sense."""
    histogram: Histogram | None = getattr(pod, metric.value)
    if histogram is None or not _sound(histogram):
        return None
    return histogram


def _sound(histogram: Histogram) -> bool:
    edges, counts = histogram.upper_edges, histogram.cumulative
    return (
        len(edges) == len(counts) >= 2
        and edges[-1] == math.inf
        and all(lower < upper for lower, upper in pairwise(edges))
        and all(map(math.isfinite, counts))
        and counts[0] >= 0
        and all(lower <= upper for lower, upper in pairwise(counts))
    )


def _sound_count(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value >= 0


def _baseline(before: PodCounters | None, now: PodCounters) -> PodCounters:
    """Return the newest sound value of every signal: one that is missing now keeps its baseline.

    Requests and errors are a pair: where only requests came, errors start anew with the next reading, or
    the errors of two intervals would meet the requests of one.
    """
    old = before or PodCounters(now.pod)
    requests, errors = old.requests, old.errors
    if _sound_count(now.requests):
        requests, errors = now.requests, now.errors if _sound_count(now.errors) else None
    return PodCounters(
        now.pod,
        requests=requests,
        errors=errors,
        ttft=histogram_of(now, Metric.TTFT) or old.ttft,
        tpot=histogram_of(now, Metric.TPOT) or old.tpot,
        latency=histogram_of(now, Metric.LATENCY) or old.latency,
    )


def _added(before: Sequence[float | None], now: Sequence[float | None]) -> tuple[float, ...] | None:
    """Return what counters of one process added; where any fell, it restarted and all count from zero."""
    old = [value for value in before if value is not None]
    new = [value for value in now if value is not None and math.isfinite(value) and value >= 0]
    if len(old) < len(before) or len(new) < len(now):
        return None
    if _any_fell(old, new):
        return tuple(new)
    return tuple(value - last for value, last in zip(new, old, strict=True))


def _histogram_added(before: Histogram | None, now: Histogram | None) -> Histogram | None:
    if before is None or now is None or before.upper_edges != now.upper_edges:
        return None
    added = _added(before.cumulative, now.cumulative)
    if added is None or any(upper < lower for lower, upper in pairwise(added)):
        return None  # scraped while it was being written: buckets of two instants
    return Histogram(now.upper_edges, added)


def _sum_of_histograms(parts: Sequence[Histogram]) -> Histogram | None:
    """Return the sum over the edges that all parts have."""
    edges = sorted(set.intersection(*(set(part.upper_edges) for part in parts)))
    if len(edges) < 2:
        return None
    columns = [dict(zip(part.upper_edges, part.cumulative, strict=True)) for part in parts]
    return Histogram(tuple(edges), tuple(sum(column[edge] for column in columns) for edge in edges))


def _sum_of_trials(parts: Sequence[Trials]) -> Trials | None:
    if not parts:
        return None
    return Trials(sum(part.failures for part in parts), sum(part.total for part in parts))


def _pair_of(check: CheckCounters) -> tuple[float | None, float | None]:
    return check.total, check.failures


def _checks_added(
    before: Mapping[tuple[str, str], CheckCounters], now: Iterable[CheckCounters]
) -> dict[str, Trials]:
    parts: dict[str, list[Trials]] = {}
    for each in now:
        last = before.get((each.check, each.series))
        if last is None:
            continue
        added = _added(_pair_of(last), _pair_of(each))
        if added is not None:
            parts.setdefault(each.check, []).append(Trials(min(added[1], added[0]), added[0]))
    return {check: total for check, each in parts.items() if (total := _sum_of_trials(each)) is not None}
