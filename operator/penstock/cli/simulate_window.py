"""``--from``, ``--for``, ``--speed-up``: the part of a trace that is simulated, and how long that may take.

A simulation decides and scrapes in fixed steps whether anybody comes or not, so what it costs is the time
that passes in it. One arrival far behind the others makes an hour into centuries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from penstock.cli.plan_fault import PlanFault
from penstock.traces.fault import SilentSpan, TraceFault
from penstock.traces.reading import Span, Trace, read_trace

DAY_SECONDS = 86_400.0
LONGEST_SECONDS = 100 * DAY_SECONDS  # 576,000 decisions; the longest trace at hand has nine days


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the trace that is replayed (seconds of the trace), and how much faster."""

    start_seconds: float = 0.0
    length_seconds: float | None = None
    speed_up: float = 1.0


def read_window(path: Path, window: Window) -> Trace:
    """Return the requests of the window, from its start on, at its speed; no others are held.

    Raises PlanFault for a line that is wrong, and for a window without requests, of no length, or too long to
    be simulated.
    """
    start = window.start_seconds
    end = math.inf if window.length_seconds is None else start + window.length_seconds
    try:
        inside = read_trace(path, span=Span(start, end))
    except SilentSpan as fault:
        raise PlanFault(fault.cause, "choose --from and --for inside it") from fault
    except TraceFault as fault:
        raise PlanFault(fault.cause, fault.fix) from fault
    arrivals = inside.arrivals
    begins = start if start > 0 or window.length_seconds is not None else float(arrivals[0])
    _require_length(inside, path, window, begins)
    return replace(inside, arrivals=(arrivals - begins) / window.speed_up)


def _require_length(trace: Trace, path: Path, window: Window, begins: float) -> None:
    """Raise PlanFault for a window of no length, or too long to be simulated."""
    arrivals = trace.arrivals
    traced = float(arrivals[-1]) - begins
    if window.length_seconds is None and traced / window.speed_up == 0:
        count = arrivals.size
        all_of = "its only request arrives" if count == 1 else f"all {count:,} requests arrive"
        raise PlanFault(
            f"{path}: {all_of} at {arrivals[0]:g} s, which is no time to simulate",
            "give a trace of some minutes, or its length with --for",
        )
    asked = 0.0 if window.length_seconds is None else window.length_seconds
    if max(traced, asked) / window.speed_up <= LONGEST_SECONDS:
        return
    most = f"{LONGEST_SECONDS / DAY_SECONDS:.0f} days are simulated"
    if traced > LONGEST_SECONDS:
        gaps = np.diff(arrivals, prepend=begins)
        widest = int(np.argmax(gaps))
        before = "the request before" if widest else "--from"
        raise PlanFault(
            f"{trace.place(widest)}: arrives {_days(gaps[widest])} after {before}; "
            f"that is {_days(traced)} in all: at most {most}",
            "correct arrival_s, or cut the trace with --from and --for",
        )
    if asked > LONGEST_SECONDS:
        raise PlanFault(f"--for is {_days(asked)}: at most {most}", "write a shorter --for")
    raise PlanFault(
        f"--speed-up {window.speed_up:g} makes {_days(max(traced, asked) / window.speed_up)} of "
        f"{max(traced, asked):,.0f} s: at most {most}",
        "write a larger --speed-up, or cut the trace with --from and --for",
    )


def _days(seconds: float) -> str:
    days = seconds / DAY_SECONDS
    return f"{days:,.0f} days" if days >= 10 else f"{days:.2g} days"
