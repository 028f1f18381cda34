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
    ends = np.searchsorted(arrivals, arrivals + WINDOW_SECONDS, side="left")
    counts = ends - np.arange(arrivals.size)
    first = int(np.argmax(counts))
    inside = slice(first, int(ends[first]))
    requests = Trace(arrivals[inside], trace.inputs[inside], trace.outputs[inside])
    return BusyWindow(requests, float(arrivals[first]), WINDOW_SECONDS)
