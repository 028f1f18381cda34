"""Scale down only when the whole window agrees (HPA's rule: the highest recommendation of the window).

A monotone queue of (time, replicas) with falling replicas: its head is the maximum, O(1) amortised.
Samples of ray-project/ray#46148: a delay that then acts on its last sample oscillates later instead.
"""

from __future__ import annotations

from penstock.model.value import value


@value(frozen=True, slots=True)
class WindowMemory:
    """Recommendations of the window, falling; `since` is when it began to be watched without a gap."""

    since: float | None = None
    falling: tuple[tuple[float, int], ...] = ()


EMPTY_WINDOW = WindowMemory()
# Fewer replicas must carry 8 % more than the bound: without it a steady Poisson load whose bound
# wanders by its own noise (4 % at 10/s over a minute) steps down and up again every few windows.
DOWN_MARGIN = 1.08


def recommend(memory: WindowMemory, replicas: int, now: float, window_seconds: float) -> WindowMemory:
    """Add a recommendation made at `now` (Unix seconds) and drop what the window no longer covers."""
    start = now - window_seconds
    kept = [(at, count) for at, count in memory.falling if at >= start and count > replicas]
    kept.append((now, replicas))
    return WindowMemory(now if memory.since is None else memory.since, tuple(kept))


def highest(memory: WindowMemory, now: float, window_seconds: float) -> int | None:
    """Return the highest recommendation, or None while the window has not been watched in full."""
    if memory.since is None or now - memory.since < window_seconds:
        return None
    return memory.falling[0][1] if memory.falling else None


def forget(memory: WindowMemory) -> WindowMemory:
    """Start the window anew: a gap in the data is not agreement."""
    return EMPTY_WINDOW
