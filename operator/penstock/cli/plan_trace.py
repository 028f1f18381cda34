"""The busiest minute of a request trace for ``--trace``.

The busiest window is the half-open [t, t + 60 s) with most requests among those that start with an
arrival: no other window can hold more. The last of equals would do as well; the first is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penstock.cli.plan_fault import PlanFault
from penstock.queueing.domain import FloatArray
from penstock.traces.fault import TraceFault
from penstock.traces.reading import Trace, read_trace

WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class BusyWindow:
    """The busiest stretch of a trace: its requests, where it starts, how long it is."""

    trace: Trace
    start_seconds: float
    length_seconds: float

    @property
    def rate_per_second(self) -> float:
        """Requests per second of the window."""
        return self.trace.arrivals.size / self.length_seconds

    @property
    def dispersion(self) -> float:
        """Variance over mean of its 1-s counts: 1 for Poisson, more for bursts."""
        edges = self.start_seconds + np.arange(math.ceil(self.length_seconds) + 1)
        counts, _ = np.histogram(self.trace.arrivals, bins=edges)
        return float(counts.var(ddof=1) / counts.mean()) if counts.size > 1 and counts.mean() > 0 else 1.0


def trace_of(path: Path) -> Trace:
    """Return the requests of a file. Raises PlanFault with the line and what to write there."""
    try:
        return read_trace(path)
    except TraceFault as fault:
        raise PlanFault(fault.cause, fault.fix) from fault


def busiest_window(trace: Trace, path: Path) -> BusyWindow:
    """Return the busiest 60 s; of a shorter trace all of it. Raises PlanFault if that gives no rate."""
    arrivals = trace.arrivals
    span = float(arrivals[-1] - arrivals[0])
    if span == 0:
        raise PlanFault(
            f"{path}: all {arrivals.size} requests arrive at {arrivals[0]:g} s, which is no rate",
            "give a trace of some minutes, or --rate with --input-tokens and --output-tokens",
        )
    if span < WINDOW_SECONDS:
        # n arrivals over the span of n - 1 gaps: the rate is that of the gaps.
        return BusyWindow(trace, float(arrivals[0]), span * arrivals.size / (arrivals.size - 1))
    first, end = _busiest(arrivals)
    return BusyWindow(trace.part(slice(first, end)), float(arrivals[first]), WINDOW_SECONDS)


def _busiest(arrivals: FloatArray) -> tuple[int, int]:
    """Return the first request of the busiest window and the one after its last."""
    ends = np.searchsorted(arrivals, arrivals + WINDOW_SECONDS, side="left")
    first = int(np.argmax(ends - np.arange(arrivals.size)))
    return first, int(ends[first])


def replayed_part(trace: Trace, before: int, replayed: int) -> Trace:
    """Return the `replayed` requests that a plan looks at, `before` of them ahead of the busiest window."""
    first = _busiest(trace.arrivals)[0] - before
    return trace.part(slice(first, first + replayed))


def require_room(trace: Trace, room_tokens: int, profile_name: str) -> None:
    """Raise PlanFault with the first line whose request alone is more than an engine's KV memory holds."""
    tokens = trace.inputs + trace.outputs
    long = np.flatnonzero(tokens > room_tokens)
    if long.size:
        first = int(long[0])
        others = f" (and {long.size - 1:,} more)" if long.size > 1 else ""
        raise PlanFault(
            f"{trace.place(first)}{others}: a request of {tokens[first]:,} tokens, the KV memory of "
            f"{profile_name} holds {room_tokens:,}",
            "leave such requests out, or choose a profile with more memory",
        )
