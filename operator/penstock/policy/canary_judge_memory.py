"""What the judge of a canary remembers, and how it is written into status.

Numbers are rounded to six digits and edges that carry neither evidence nor requests are left out: about
3 kB with errors, TTFT and TPOT. Minus infinity (no evidence begun) is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from penstock.model.canary_counts import Metric
from penstock.policy import canary_errors, canary_latency
from penstock.policy.canary_errors import ErrorStart, ErrorState
from penstock.policy.canary_latency import LatencyState
from penstock.queueing.domain import FloatArray

FORMAT = 1
# Of requests slower than an edge: outside, an edge is left out of status unless evidence is on it.
STORED_SHARES = (0.001, 0.95)


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Requests slower than each edge (edges,) and all (scalars), of both arms."""

    stable_slow: FloatArray
    canary_slow: FloatArray
    stable_total: FloatArray  # (edges,): edges may begin to count at different times
    canary_total: FloatArray

    @classmethod
    def empty(cls, edges: int) -> Tally:
        """Return a tally of nothing."""
        return cls(*(np.zeros(edges) for _ in range(4)))

    def columns(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return the arrays in the order of the constructor."""
        return self.stable_slow, self.canary_slow, self.stable_total, self.canary_total

    def at(self, edges: Any) -> Tally:
        """Return the tally at an index or mask of edges."""
        return Tally(*(column[edges] for column in self.columns()))


@dataclass(frozen=True, slots=True, eq=False)
class LatencyMemory:
    """Evidence on one latency: finite edges in seconds, the state, and counts for the reader.

    `whole` counts since the test began; `since` per edge since the evidence in force there began.
    """

    edges: tuple[float, ...]
    state: LatencyState
    whole: Tally
    since: Tally

    @classmethod
    def empty(cls, edges: Sequence[float], begun: float = 0.0, pending: float = 0.0) -> LatencyMemory:
        """Return a memory without counts; `begun` of the evidence's weight is spent."""
        count = len(edges)
        state = canary_latency.empty_state(count)
        due = np.asarray(begun + pending)
        state = replace(state, begun=np.asarray(begun), pending=np.asarray(pending), pending_alike=due)
        return cls(tuple(edges), state, Tally.empty(count), Tally.empty(count))


@dataclass(frozen=True, slots=True)
class ThresholdMemory:
    """A user's threshold query: values seen, of those the last ones out of bounds, and the last value."""

    readings: int = 0
    in_a_row: int = 0
    value: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class JudgeMemory:
    """Everything the judge remembers; `to_status` and `from_status` carry it across a restart.

    `started_at` is when the first canary request was counted (Unix seconds); `minute` the last minute of
    the test at which evidence began. `errors` holds the user's counter pairs too.
    """

    started_at: float | None = None
    minute: int = -1
    requests: float = 0.0  # of the canary
    seconds: float = 0.0  # in which they were counted
    recent_requests: float = 0.0  # the same, decaying: for the rate
    recent_seconds: float = 0.0
    errors: Mapping[str, ErrorState] = field(default_factory=dict)
    latencies: Mapping[Metric, LatencyMemory] = field(default_factory=dict)
    checks: Mapping[str, ThresholdMemory] = field(default_factory=dict)

    @property
    def rate(self) -> float | None:
        """Return the canary's requests per second lately; None while nothing was counted."""
        return self.recent_requests / self.recent_seconds if self.recent_seconds > 0 else None

    def to_status(self) -> dict[str, Any]:
        """Return plain JSON values, a few kilobytes."""
        return {
            "format": FORMAT,
            "startedAt": self.started_at,
            "minute": self.minute,
            "counted": _plain([self.requests, self.seconds, self.recent_requests, self.recent_seconds]),
            "errors": {name: _errors_to_status(state) for name, state in self.errors.items()},
            "latencies": {
                metric.value: _latency_to_status(memory) for metric, memory in self.latencies.items()
            },
            "checks": {
                name: [check.readings, check.in_a_row, check.value] for name, check in self.checks.items()
            },
        }

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> JudgeMemory:
        """Return the memory that `to_status` wrote. Raise ValueError where it cannot be one."""
        try:
            if status["format"] != FORMAT:
                raise ValueError(f"format {status['format']} of a judge's memory is not known")
            started = status["startedAt"]
            requests, seconds, recent_requests, recent_seconds = map(float, status["counted"])
            return cls(
                started_at=None if started is None else float(started),
                minute=int(status["minute"]),
                requests=requests,
                seconds=seconds,
                recent_requests=recent_requests,
                recent_seconds=recent_seconds,
                errors={name: _errors_from_status(each) for name, each in status["errors"].items()},
                latencies={
                    Metric(name): _latency_from_status(each) for name, each in status["latencies"].items()
                },
                checks={
                    name: ThresholdMemory(int(readings), int(in_a_row), value)
                    for name, (readings, in_a_row, value) in status["checks"].items()
                },
            )
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"not a judge's memory: {error!r}") from error


def _errors_to_status(state: ErrorState) -> dict[str, Any]:
    return {
        "counts": _plain(state.counts),
        "starts": [[start.minute, start.weight, *_plain(start.counts)] for start in state.starts],
        "for": _plain(state.log_for),
        "stop": _plain(state.log_stop),
        "stopCounts": _plain(state.stop_counts),
        "begun": state.begun,
    }


def _errors_from_status(status: Mapping[str, Any]) -> ErrorState:
    return ErrorState(
        _array(status["counts"], (4,)),
        tuple(ErrorStart(int(each[0]), float(each[1]), _array(each[2:], (4,))) for each in status["starts"]),
        _array(status["for"], ()),
        _array(status["stop"], (canary_errors.STOP_LOSS_BETS.size,)),
        _array(status["stopCounts"], (2,)),
        float(status["begun"]),
    )


def _latency_to_status(memory: LatencyMemory) -> dict[str, Any]:
    state = memory.state
    share = state.level_slow / max(float(state.level_total), 1.0)
    kept = (share >= STORED_SHARES[0]) & (share <= STORED_SHARES[1])
    kept |= np.isfinite(state.log_against).any(axis=-1) | np.isfinite(state.log_for).any(axis=-1)
    if kept.sum() == 1:
        # A slope takes two: the next edge stays as well, or the one before the last.
        alone = int(np.argmax(kept))
        kept[alone + 1 if alone + 1 < kept.size else alone - 1] = True
    return {
        "edges": [edge for edge, keep in zip(memory.edges, kept, strict=True) if keep],
        "level": [*_plain(state.level_slow[kept]), _plain(state.level_total)],
        "against": _plain(state.log_against[kept]),
        "for": _plain(state.log_for[kept]),
        "weight": _plain([state.begun, state.pending]),
        "forAlike": _plain(state.log_for_alike[kept]),
        "weightAlike": _plain([state.begun_alike, state.pending_alike]),
        "whole": [_plain(column) for column in memory.whole.at(kept).columns()],
        "since": [_plain(column) for column in memory.since.at(kept).columns()],
    }


def _latency_from_status(status: Mapping[str, Any]) -> LatencyMemory:
    edges = tuple(float(edge) for edge in status["edges"])
    count = len(edges)
    begun, pending = _array(status["weight"], (2,))
    # A status of before there were two kinds: what was in favour then counts for steps only.
    begun_alike, pending_alike = _array(status.get("weightAlike", [0.0, begun + pending]), (2,))
    nothing = [[None] * canary_latency.AS_GOOD.size] * count
    state = LatencyState(
        _array(status["level"][:-1], (count,)),
        _array(status["level"][-1], ()),
        _array(status["against"], (count, canary_latency.SLOWER.size)),
        _array(status["for"], (count, canary_latency.AS_GOOD.size)),
        np.asarray(begun),
        np.asarray(pending),
        _array(status.get("forAlike", nothing), (count, canary_latency.AS_GOOD.size)),
        np.asarray(begun_alike),
        np.asarray(pending_alike),
    )
    whole, since = (
        Tally(*(_array(column, (count,)) for column in status[key])) for key in ("whole", "since")
    )
    return LatencyMemory(edges, state, whole, since)


def _plain(values: Any) -> Any:
    """Return numbers and nested lists of six digits; minus infinity as null."""
    if isinstance(values, list | tuple):
        return [_plain(value) for value in values]
    if isinstance(values, np.ndarray) and values.ndim:
        return [_plain(value) for value in values]
    number = float(values)
    return float(f"{number:.6g}") if math.isfinite(number) else None


def _array(values: Any, shape: tuple[int, ...]) -> FloatArray:
    result = np.array(_numbers(values), dtype=np.float64)
    if result.size == 0:
        result = result.reshape(shape)
    if result.shape != shape:
        raise ValueError(f"an array of shape {result.shape} where {shape} belongs")
    return result


def _numbers(values: Any) -> Any:
    if isinstance(values, list):
        return [_numbers(value) for value in values]
    return -math.inf if values is None else float(values)
