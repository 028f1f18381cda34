"""How true and how fast the fleet simulation is: real measurements, another simulation, a day's trace.

    python tests/bench/simulation.py [--trace FILE]

The day has 700,000 requests of conversation lengths whose rate waves by a factor of four, under a policy
that looks at Prometheus every 15 s; with --trace it is that file's. Compiling (a few seconds, once) is not
counted. Returns 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.dataplane_report import SIMULATION, Figure, Goal, console, print_figures
from bench.simulation_accuracy import against_measurements, against_published, conversations, scenario_of
from penstock.sim.policy_port import Signals
from penstock.sim.scenario import Scenario
from penstock.sim.simulate import simulate
from penstock.sim.static import Static
from penstock.traces.reading import read_trace

DAY_SECONDS, DAY_REQUESTS = 86_400.0, 700_000
LONGEST_DAY_SECONDS = 60.0
REQUESTS_PER_REPLICA = 2.0  # a second: 4 replicas on average, 7 at the peak


@dataclass(frozen=True, slots=True)
class ByRate:
    """As many replicas as the offered rate asks for."""

    interval_seconds: float = 15.0
    name: str = "by rate"

    def decide(self, seen: Signals) -> int:
        """Return rate over the rate of one; hold while nothing is known."""
        rate = seen.offered_rate
        return seen.target if rate is None else math.ceil(rate / REQUESTS_PER_REPLICA)


def day() -> Scenario:
    """Return a day whose rate waves between 0.4 and 1.6 of its mean."""
    random = np.random.default_rng(7)
    phase = random.random(2 * DAY_REQUESTS)
    chance = (1 + 0.6 * np.sin(2 * np.pi * phase)) / 1.6
    kept = np.sort(phase[random.random(phase.size) < chance][:DAY_REQUESTS])
    hour = conversations()
    drawn = random.integers(0, hour.inputs.size, kept.size)
    return scenario_of("day", DAY_SECONDS * kept, hour.inputs[drawn], hour.outputs[drawn], replicas=16)


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
    count = scenario.arrivals_seconds.size
    what = f"{count:,} requests, {runs[0].average_replicas():.1f} replicas on average"
    return [
        Figure("speed", what, max(seconds), "s", SIMULATION, (Goal.BELOW, LONGEST_DAY_SECONDS)),
        Figure("speed", "two runs of one seed differ", float(not same), "", SIMULATION, (Goal.EXACTLY, 0)),
    ]


def main() -> int:
    """Print the tables; return 1 when a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trace", type=Path, help="take this day instead of the drawn one")
    trace = parser.parse_args().trace
    figures = [
        *against_measurements(),
        *against_published(),
        *speed(day() if trace is None else of_trace(trace)),
    ]
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
