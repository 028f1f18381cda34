"""How long a new replica takes from the scale-up to ready, learned from what was seen.

Warm nodes and new nodes are kept apart: after ten 30 s starts on warm nodes the P90 of all eleven is
still 30 s when the eleventh needed a new node for 360 s, and the next ramp would be met six minutes
late. Whether the next start finds a warm node cannot be known, so the longer of the two counts; the
user's `initialStartup` stands in for the kind that was never seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from penstock.model.observation import Pool

KEPT_STARTS = 20
PERCENTILE = 0.9
# A start that is so many times as late as the longest known is a want of nodes, not a lead time.
LATE_RATIO = 4
# What is always recorded in full: a new node and a large model take 15 minutes where warm starts take one.
# A day's wait for a node among fewer than ten starts would else be their P90, and every plan's horizon.
RECORDED_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class PendingStart:
    """A replica that was asked for at `asked_at` (Unix seconds) and is not ready yet."""

    asked_at: float
    needed_node: bool = False


@dataclass(frozen=True, slots=True)
class LeadTimeMemory:
    """Starts under way (oldest first) and the durations of the last ones, in seconds."""

    pending: tuple[PendingStart, ...] = ()
    warm_seconds: tuple[float, ...] = ()
    new_node_seconds: tuple[float, ...] = ()
    target: int | None = None
    ready: int = 0


def observe_starts(
    memory: LeadTimeMemory, pool: Pool, now: float, *, initial_seconds: float
) -> LeadTimeMemory:
    """Follow the pool from one tick to the next and record each start that became ready.

    Of one that took more than RECORDED_SECONDS no more counts than of one under way, so that a slower kind of
    node is believed within a few starts, and a clock that jumped is not.
    """
    if memory.target is None:
        return replace(memory, target=pool.target, ready=pool.ready)
    if pool.target == memory.target and pool.ready == memory.ready and not memory.pending:
        return memory
    pending = list(memory.pending)
    warm, new_node = list(memory.warm_seconds), list(memory.new_node_seconds)
    if pool.target > memory.target:
        pending += [PendingStart(now)] * (pool.target - memory.target)
    elif pool.target < memory.target:
        # Kubernetes removes the pods that are not ready first.
        del pending[max(0, len(pending) - (memory.target - pool.target)) :]
    most = max(RECORDED_SECONDS, LATE_RATIO * _longer(memory, initial_seconds))
    if not pool.rolling_out:
        # Surge pods of a rollout become ready too; they say nothing about a scale-up.
        for _ in range(min(pool.ready - memory.ready, len(pending))):
            start = pending.pop(0)
            (new_node if start.needed_node else warm).append(min(max(0.0, now - start.asked_at), most))
    missing = max(0, pool.target - pool.ready)
    del pending[missing:]
    if pool.unschedulable and pending:
        first = max(0, len(pending) - pool.unschedulable)
        pending[first:] = [replace(start, needed_node=True) for start in pending[first:]]
    return LeadTimeMemory(
        pending=tuple(pending),
        warm_seconds=tuple(warm[-KEPT_STARTS:]),
        new_node_seconds=tuple(new_node[-KEPT_STARTS:]),
        target=pool.target,
        ready=pool.ready,
    )


def lead_seconds(memory: LeadTimeMemory, *, initial_seconds: float, now: float, tick_seconds: float) -> float:
    """Return the time to plan ahead: P90 of scale-up to ready, plus one tick to notice.

    A start that is still under way and already late is evidence too (a censored observation), so the
    plan does not wait for it to end before believing it.
    """
    longer = _longer(memory, initial_seconds)
    if not memory.pending:
        return longer + tick_seconds
    late = max(now - start.asked_at for start in memory.pending)
    return max(longer, min(late, LATE_RATIO * longer)) + tick_seconds


def measured_starts(memory: LeadTimeMemory) -> tuple[float | None, float | None]:
    """Return the P90 (seconds) of starts on warm nodes and on new ones; None until measured."""
    warm, new_node = memory.warm_seconds, memory.new_node_seconds
    return _percentile(warm, 0.0) if warm else None, _percentile(new_node, 0.0) if new_node else None


def _longer(memory: LeadTimeMemory, initial_seconds: float) -> float:
    """Return the P90 of the kind of start that takes longer; the user's value for what was never seen."""
    if not memory.warm_seconds and not memory.new_node_seconds:
        return initial_seconds  # most services at most ticks
    warm = _percentile(memory.warm_seconds, initial_seconds)
    return max(warm, _percentile(memory.new_node_seconds, initial_seconds))


def _percentile(seconds: tuple[float, ...], otherwise: float) -> float:
    """Return the nearest-rank P90, or `otherwise` where nothing was measured."""
    if not seconds:
        return otherwise
    return sorted(seconds)[math.ceil(PERCENTILE * len(seconds)) - 1]
