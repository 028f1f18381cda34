"""(b) in larger pools, two hours around a peak of 16 or 48, and over whole days: ours, the best three peers.

The best three are those whose frontier at a peak of 4 (`policies_matched`) reaches ours for the least; where
fewer do, those that attain most follow. They run with documented defaults and as tuned on other data.
A run at 48 or of a day is millions of requests, minutes of one core: both only where `--peaks`, `--days` ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.dataplane_report import SIMULATION, Figure, Goal, print_grid
from bench.policies_frontier import cost_at
from bench.policies_matched import (
    COLUMNS,
    HOURS,
    OURS,
    SWEPT_START_UP,
    cheapest,
    peers,
    row,
    sweep,
    tuned,
)
from bench.policies_run import SETTLING_SECONDS, Result, Store
from bench.policies_traces import available, scenario
from penstock.sim.scenario import Scenario

SECTION, RIVALS = "b", 3
SMALL = 4  # the peak at which all policies run


def measure(store: Store, traces: Path, peaks: Sequence[int], *, days: bool) -> list[Figure]:
    """Print a table for each trace and peak; return what ours saves against the cheapest that matches."""
    settings, figures = tuned(store), []
    for workload, trace in available(traces):
        spans: list[tuple[int, float | None]] = [(peak, HOURS) for peak in peaks]
        if days and trace.arrivals[-1] > 3600 * HOURS:
            spans.append((SMALL, None))
        if not spans:
            continue
        small = scenario(workload, trace, peak=SMALL, start_up_seconds=SWEPT_START_UP, hours=HOURS)
        rivals = best_peers(store, small)
        for peak, hours in spans:
            load = scenario(workload, trace, peak=peak, start_up_seconds=SWEPT_START_UP, hours=hours)
            ours = store.run(SECTION, load, OURS)
            theirs = [
                store.run(SECTION, load, name, tuning=t) for name in rivals for t in ({}, settings[name])
            ]
            bound = store.run(SECTION, load, "clairvoyant")
            table = {each.key: each for each in (ours, *theirs, bound)}.values()
            ranked = sorted(table, key=lambda each: -each.attainment)
            lines = [row(each, bound) for each in ranked]
            for (_, cells), each in zip(lines, ranked, strict=True):
                cells.append(f"{100 * each.settled:.2f}")
            print_grid(f"(b) {load.name}", (*COLUMNS, f"SLO met % after {SETTLING_SECONDS:g} s"), lines)
            figures += _saving(load, ours, cheapest(theirs, ours.attainment))
    return figures


def best_peers(store: Store, load: Scenario) -> list[str]:
    """Return the three that come closest to ours on `load` at its attainment."""
    ours = store.run(SECTION, load, OURS)

    def rank(name: str) -> tuple[bool, float]:
        results = sweep(store, SECTION, load, name)
        cost = cost_at(results, ours.attainment)
        return cost is None, -max(each.attainment for each in results) if cost is None else cost

    return sorted(peers(), key=rank)[:RIVALS]


def _saving(load: Scenario, ours: Result, best: Result | None) -> list[Figure]:
    if best is None:
        return []  # none attains as much: the table says so
    percent = 100 * (1 - ours.replica_hours / best.replica_hours)
    what = f"{load.name}: cheaper than {best.title} at our {100 * ours.attainment:.1f} %"
    return [Figure("(b) larger pools", what, percent, "%", SIMULATION, (Goal.AT_LEAST, 0.0))]
