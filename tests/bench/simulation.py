"""How true and how fast the fleet simulation is: real measurements, another simulation, a day's trace.

    python tests/bench/simulation.py [--trace FILE] [--quick]

The day has 700,000 requests of conversation lengths whose rate waves by a factor of four, under a policy of
one line that looks at Prometheus every 15 s, under the operator's own deciders (the same pace) and under
Knative's KPA (every 2 s); with --trace it is that file's. Compiling (a few seconds, once) is not counted, the
capacity tables that a policy solves are, and are told apart. --quick takes a tenth of the day and judges no
time. Returns 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.dataplane_report import SIMULATION, Figure, Goal, console, print_figures
from bench.simulation_accuracy import against_measurements, against_published, conversations, scenario_of
from penstock.policy.capacity_problem import CapacityProblem
from penstock.policy.capacity_table import CapacityTable
from penstock.sim.policies import sizing
from penstock.sim.policies.registry import policy
from penstock.sim.policy_port import Signals
from penstock.sim.run import Run
from penstock.sim.scenario import Scenario
from penstock.sim.simulate import simulate
from penstock.sim.static import Static
from penstock.traces.reading import read_trace

DAY_SECONDS, DAY_REQUESTS = 86_400.0, 700_000
LONGEST_DAY_SECONDS = 60.0
REQUESTS_PER_REPLICA = 2.0  # a second: 4 replicas on average, 7 at the peak
QUICK_RATIO = 0.1
TIMED = ("penstock", "kpa")


@dataclass(frozen=True, slots=True)
class ByRate:
    """As many replicas as the offered rate asks for."""

    interval_seconds: float = 15.0
    name: str = "by rate"

    def decide(self, seen: Signals) -> int:
        """Return rate over the rate of one; hold while nothing is known."""
        rate = seen.offered_rate
        return seen.target if rate is None else math.ceil(rate / REQUESTS_PER_REPLICA)


@dataclass(slots=True)
class Solving:
    """Capacity tables that were solved, and how long that took."""

    solve: Callable[[CapacityProblem], CapacityTable]
    count: int = 0
    seconds: float = 0.0

    def __call__(self, problem: CapacityProblem) -> CapacityTable:
        """Solve a problem, and count it."""
        began = time.perf_counter()
        try:
            return self.solve(problem)
        finally:
            self.count += 1
            self.seconds += time.perf_counter() - began


def day(ratio: float = 1.0) -> Scenario:
    """Return a day whose rate waves between 0.4 and 1.6 of its mean; `ratio` of it: as fast, and as much."""
    random, count = np.random.default_rng(7), round(ratio * DAY_REQUESTS)
    phase = random.random(2 * count)
    chance = (1 + 0.6 * np.sin(2 * np.pi * phase)) / 1.6
    kept = np.sort(phase[random.random(phase.size) < chance][:count])
    hour = conversations()
    drawn = random.integers(0, hour.inputs.size, kept.size)
    times = ratio * DAY_SECONDS * kept
    return scenario_of("day", times, hour.inputs[drawn], hour.outputs[drawn], replicas=16)


def of_trace(path: Path) -> Scenario:
    """Return a trace's requests for the reference replica."""
    trace = read_trace(path)
    return scenario_of(path.name, trace.arrivals, trace.inputs, trace.outputs, replicas=16)


def speed(scenario: Scenario) -> list[Figure]:
    """Return how long one policy takes on the day, and whether it is the same twice."""
    first = scenario_of("warm-up", np.zeros(2), np.ones(2), np.ones(2), replicas=1)
    simulate(first, Static(1), seed=1)  # compiled, or loaded from the cache
    runs, seconds = [], []
    for _ in range(2):
        began = time.perf_counter()
        runs.append(simulate(scenario, ByRate(), seed=1))
        seconds.append(time.perf_counter() - began)
    same = all(
        np.array_equal(getattr(runs[0], name), getattr(runs[1], name), equal_nan=True)
        for name in ("ttft_seconds", "tpot_seconds", "latency_seconds", "status")
    )
    goal = (Goal.BELOW, LONGEST_DAY_SECONDS)
    return [
        Figure("speed", _described(runs[0], "a policy of one line"), max(seconds), "s", SIMULATION, goal),
        Figure("speed", "two runs of one seed differ", float(not same), "", SIMULATION, (Goal.EXACTLY, 0)),
        *(figure for name in TIMED for figure in under_policy(scenario, name)),
    ]


def under_policy(scenario: Scenario, name: str) -> list[Figure]:
    """Return how long the day takes under a policy of the registry, its capacity tables included."""
    with solving() as tables:
        began = time.perf_counter()
        run = simulate(scenario, made := policy(name, scenario), seed=1)
        seconds = time.perf_counter() - began
    what = _described(run, f"{made.name}, looks every {made.interval_seconds:g} s")
    found = [Figure("speed", what, seconds, "s", SIMULATION, (Goal.BELOW, LONGEST_DAY_SECONDS))]
    if tables.count:
        solved = f"of these, {tables.count} capacity tables of {made.name}"
        found.append(Figure("speed", solved, tables.seconds, "s", SIMULATION))
    return found


@contextmanager
def solving() -> Iterator[Solving]:
    """Count the capacity tables that are solved meanwhile; those of before are forgotten."""
    before, counted = sizing.solve, Solving(sizing.solve)
    sizing.solved.cache_clear()
    sizing.solve = counted
    try:
        yield counted
    finally:
        sizing.solve = before


def _described(run: Run, under: str) -> str:
    return f"{run.status.size:,} requests, {run.average_replicas():.1f} replicas on average: {under}"


def main() -> int:
    """Print the tables; return 1 when a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trace", type=Path, help="take this day instead of the drawn one")
    parser.add_argument("--quick", action="store_true", help="a tenth of the day, no time judged")
    options = parser.parse_args()
    load = of_trace(options.trace) if options.trace else day(QUICK_RATIO if options.quick else 1.0)
    timed = speed(load)
    if options.quick:
        timed = [replace(each, goal=None) if each.unit == "s" else each for each in timed]
    figures = [*against_measurements(), *against_published(), *timed]
    print_figures(figures, "Fleet simulation")
    missed = sum(figure.missed for figure in figures)
    if missed:
        console.print(f"{missed} of {sum(figure.goal is not None for figure in figures)} goals missed")
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
