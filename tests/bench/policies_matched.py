"""(b) continued: who is cheapest at our attainment, on every trace and start-up.

Peers run with documented defaults, with the setting that was cheapest at 95 % on *other* data (`TUNING`, a
synthetic hour that is not reported: "tuned"), and, at the start-up of 120 s, with every value of their knob:
the frontier, in hindsight the best that any tuning could have found on the very trace. Ours runs as it is,
and tuned on that hour like them: its knob is `scaleDownWindow`.
The bound is the clairvoyant at our attainment: more of the true rate until it attains as much.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.dataplane_report import SIMULATION, Figure, Goal, console, print_grid
from bench.policies_frontier import cost_at, plot_frontiers
from bench.policies_run import COST_PER_REPLICA_HOUR, OURS, Result, Store
from bench.policies_traces import START_UPS, Workload, available, scenario
from penstock.sim.policies.registry import KNOBS, names
from penstock.sim.scenario import Scenario
from penstock.traces.reading import Trace

SECTION, TUNING_SECTION = "b", "tuning"
SWEPT_START_UP = 120.0
HOURS = 2.0  # of a day, around its peak
BOUNDS = ("static-peak", "static-mean", "clairvoyant")
AIM = 0.95
TUNED, TUNED_ALIKE = "tuned on other data", "ours tuned there too"
TUNED_GOAL, DEFAULT_GOAL = 15.0, 25.0  # percent cheaper in the median
SMOOTH_BOUND, BURSTY_BOUND = 1.10, 1.20
TUNING = Workload("synthetic hour (tuning only)", "", smooth=True)


def tuning_trace() -> Trace:
    """Return an hour of conversation-like requests whose rate waves by 3 and wanders by a fifth."""
    random = np.random.default_rng(23)
    seconds = np.arange(3600)
    wander = np.cumsum(random.normal(0, 1, seconds.size // 60 + 1)).repeat(60)[: seconds.size]
    wander = 0.2 * (wander - wander.mean()) / wander.std()
    rate = 8.0 * (1 + 0.5 * np.sin(2 * np.pi * seconds / 2400)) * np.exp(wander)
    counts = random.poisson(rate)
    times = np.sort(seconds.repeat(counts) + random.random(counts.sum()))
    inputs, outputs = (
        np.clip(np.rint(random.lognormal(np.log(mean) - 0.35, 0.83, times.size)), 1, 16_000).astype(np.int64)
        for mean in (1000, 200)
    )
    return Trace(times, inputs, outputs)


def peers() -> list[str]:
    """Return the policies that can be run by somebody else."""
    return [each for each in names() if each != OURS and each not in BOUNDS]


def sweep(store: Store, section: str, load: Scenario, name: str) -> list[Result]:
    """Return a policy's defaults and every value of its knob."""
    results = [store.run(section, load, name)]
    if name in KNOBS:
        knob, values = KNOBS[name]
        results += [store.run(section, load, name, tuning={knob: value}) for value in values]
    return results


def tuned(store: Store) -> dict[str, dict[str, float]]:
    """Return each policy's setting that was cheapest at AIM on the tuning data, or the closest to it."""
    load = scenario(TUNING, tuning_trace(), peak=4, start_up_seconds=SWEPT_START_UP, hours=None)
    chosen = {}
    for name in (OURS, *peers()):
        results = sweep(store, TUNING_SECTION, load, name)
        enough = [each for each in results if each.attainment >= AIM]
        best = (
            min(enough, key=lambda each: each.replica_hours)
            if enough
            else max(results, key=lambda each: each.attainment)
        )
        chosen[name] = best.tuning
    return chosen


def measure(
    store: Store, traces: Path, *, quick: bool, start_ups: Sequence[float] = START_UPS
) -> list[Figure]:
    """Print a table for each workload; return the figures with their goals."""
    settings = {} if quick else tuned(store)
    figures, savings = [], _Savings()
    for workload, trace in available(traces):
        for start_up in (SWEPT_START_UP,) if quick else start_ups:
            load = scenario(workload, trace, peak=4, start_up_seconds=start_up, hours=HOURS)
            swept = start_up == SWEPT_START_UP and not quick
            figures += _workload(store, load, workload, settings, swept, savings)
    figures += savings.figures()
    return figures


def _workload(
    store: Store,
    load: Scenario,
    workload: Workload,
    settings: dict[str, dict[str, float]],
    swept: bool,
    savings: _Savings,
) -> list[Figure]:
    ours = store.run(SECTION, load, OURS)
    ours_tuned = store.run(SECTION, load, OURS, tuning=settings.get(OURS, {}))
    bounds = {name: store.run(SECTION, load, name) for name in BOUNDS}
    by_default = {name: store.run(SECTION, load, name) for name in peers()}
    by_tuning = {
        name: store.run(SECTION, load, name, tuning=setting)
        for name, setting in settings.items()
        if name != OURS
    }
    bound = bounds["clairvoyant"]
    others = [ours_tuned, *by_tuning.values()]
    table = [ours, *bounds.values(), *by_default.values(), *(each for each in others if each.tuning)]
    print_grid(f"(b) {load.name}", COLUMNS, [row(each, bound) for each in _ranked(table)])
    best_default = cheapest(list(by_default.values()), ours.attainment)
    best_tuned = cheapest([*by_default.values(), *by_tuning.values()], ours.attainment)
    savings.add("documented defaults", ours, best_default)
    savings.add(TUNED, ours, best_tuned)
    best_likewise = cheapest([*by_default.values(), *by_tuning.values()], ours_tuned.attainment)
    savings.add(TUNED_ALIKE, ours_tuned, best_likewise)
    if swept:
        frontiers = {name: sweep(store, SECTION, load, name) for name in peers()}
        matched = {name: cost_at(results, ours.attainment) for name, results in frontiers.items()}
        known = {name: cost for name, cost in matched.items() if cost is not None}
        savings.add_hindsight(load.name, ours, min(known.values(), default=None))
        cells = sorted(known.items(), key=lambda item: item[1])[:6]
        console.print(
            f"at our {100 * ours.attainment:.2f} % ours needs {ours.replica_hours:.2f} replica-hours, "
            f"{cost_at(sweep(store, SECTION, load, OURS), ours.attainment):.2f} with its knob in hindsight; "
            "knobs in hindsight: "
            + (", ".join(f"{name} {cost:.2f}" for name, cost in cells) or "nobody gets there")
        )
        drawn = frontiers | {name: sweep(store, SECTION, load, name) for name in ("clairvoyant", OURS)}
        plot_frontiers(store.directory / f"frontier-{workload.name.replace(' ', '-')}.svg", load.name, drawn)
    goal = SMOOTH_BOUND if workload.smooth else BURSTY_BOUND
    needed = cost_at(sweep(store, SECTION, load, "clairvoyant"), ours.attainment)
    ratio = math.nan if needed is None else ours.replica_hours / needed
    return [
        Figure("(b) traces", f"{load.name}: ours over the bound, at our {100 * ours.attainment:.1f} %",
               ratio, "x", SIMULATION, (Goal.AT_MOST, goal)),
    ]  # fmt: skip


COLUMNS = ("SLO met %", "replica-hours", f"cost at {COST_PER_REPLICA_HOUR:g}/h", "x bound", "events")


def row(result: Result, bound: Result) -> tuple[str, list[str]]:
    """Return a line of a workload's table."""
    settings = ", ".join(f"{name} {value:g}" for name, value in result.tuning.items())
    return result.title + (f" (tuned: {settings})" if settings else ""), [
        f"{100 * result.attainment:.2f}",
        f"{result.replica_hours:.2f}",
        f"{result.cost:.0f}",
        f"{result.over(bound):.2f}",
        f"{result.scale_events}",
    ]


def cheapest(results: Sequence[Result], attainment: float) -> Result | None:
    """Return the cheapest that attains at least as much; None where nobody does."""
    enough = [each for each in results if each.attainment >= attainment]
    return min(enough, key=lambda each: each.replica_hours, default=None)


def _ranked(results: Sequence[Result]) -> list[Result]:
    return sorted(results, key=lambda each: -each.attainment)


class _Savings:
    """How much cheaper ours is than the best peer, by how that peer was set, in percent."""

    def __init__(self) -> None:
        self._percent: dict[str, list[float]] = {}
        self._unmatched: dict[str, int] = {}

    def add(self, how: str, ours: Result, best: Result | None) -> None:
        self._add(how, ours, None if best is None else best.replica_hours)

    def add_hindsight(self, workload: str, ours: Result, cost: float | None) -> None:
        self._add("knob set in hindsight", ours, cost)

    def _add(self, how: str, ours: Result, cost: float | None) -> None:
        if cost is None:
            self._unmatched[how] = self._unmatched.get(how, 0) + 1
        else:
            self._percent.setdefault(how, []).append(100 * (1 - ours.replica_hours / cost))

    def figures(self) -> list[Figure]:
        """Return the medians and the worst, with their goals."""
        goals = {"documented defaults": DEFAULT_GOAL, TUNED: TUNED_GOAL, TUNED_ALIKE: TUNED_GOAL}
        figures = []
        for how, percent in self._percent.items():
            nobody = self._unmatched.get(how, 0)
            loads = "1 workload" if len(percent) == 1 else f"{len(percent)} workloads"
            what = f"cheaper than the best peer at our attainment, {how}, {loads}"
            what += f" (and {nobody} where no peer attains as much)" if nobody else ""
            median_goal = (Goal.AT_LEAST, goals[how]) if how in goals else None
            figures.append(
                Figure(
                    "(b) traces", f"median: {what}", statistics.median(percent), "%", SIMULATION, median_goal
                )
            )
            figures.append(
                Figure("(b) traces", f"worst: {what}", min(percent), "%", SIMULATION, (Goal.AT_LEAST, 0.0))
            )
        return figures
