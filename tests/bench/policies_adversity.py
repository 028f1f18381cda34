"""(e) What goes wrong: scrapes, Prometheus, starts, a replica, the profile; ours and the best-known peers.

On the published llm-d profile. Goal: no run of ours loses more attainment against static peak sizing than the
median peer does. Prometheus is gone for five minutes from a minute before a step upwards on: before each of
them in a run of its own, of which every policy's worst is told.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from bench.dataplane_report import SIMULATION, Figure, Goal, print_grid
from bench.policies_llmd import STAGES, back_at_floor, published_profile
from bench.policies_run import BOUND, SEED, Result, Store, times
from penstock.queueing.engine_profile import EngineProfile
from penstock.sim.policies.penstock import Penstock, Settings
from penstock.sim.policy_port import ScalingPolicy
from penstock.sim.scenario import Scenario, Scraping, SlowReplicas, StartUp

SECTION = "e"
PEERS = ("hpa-max", "keda", "slo-keda", "wva-v1", "wva-v2", "kpa", "apa", "static-peak")
FAILING_SEEDS = (2, 3, 4)  # with 1 none of the five to ten starts fails
BEFORE_STEP_SECONDS, OUTAGE_SECONDS = 60.0, 300.0


@dataclass(frozen=True, slots=True)
class Adversity:
    """The loads it happens to (each policy's worst counts), ours' engine (None: the truth), the luck."""

    name: str
    loads: tuple[Scenario, ...]
    profile: EngineProfile | None = None
    seed: int = SEED


def adversities() -> tuple[Adversity, ...]:
    """Return all of them, the undisturbed run first."""
    load = published_profile()
    fast, slow = load.profile.at_speed(0.5), load.profile.at_speed(2.0)
    failing = StartUp(100.0, failed_ratio=0.2)

    def one(
        name: str, changed: Scenario = load, profile: EngineProfile | None = None, seed: int = SEED
    ) -> Adversity:
        return Adversity(name, (replace(changed, name=name),), profile, seed)

    silent = tuple(
        replace(load, name=f"Prometheus gone 5 min at {at:.0f} s", scraping=Scraping(outages=((at, end),)))
        for at, end in outages()
    )
    return (
        one("undisturbed"),
        one("20 % of scrapes missed", replace(load, scraping=Scraping(missed_ratio=0.2))),
        Adversity(f"Prometheus gone 5 min, worst of {len(silent)}", silent),
        *(
            one(f"20 % failed starts, draw {seed}", replace(load, start_up=failing), seed=seed)
            for seed in FAILING_SEEDS
        ),
        one("a replica 2x slow", replace(load, slow=SlowReplicas(2.0, frozenset({1})))),
        one("profile says 2x too fast", profile=fast),
        one("profile says 2x too slow", profile=slow),
    )


def outages() -> tuple[tuple[float, float], ...]:
    """Return when Prometheus is gone, one run each: around every step upwards of the load."""
    steps = accumulate(seconds for _, seconds in STAGES)
    return tuple(
        (step - BEFORE_STEP_SECONDS, step - BEFORE_STEP_SECONDS + OUTAGE_SECONDS)
        for step, ((before, _), (after, _)) in zip(steps, pairwise(STAGES), strict=False)
        if after > before
    )


def worst(results: Sequence[Result]) -> Result:
    """Return the result of the least attainment; of equals the dearest."""
    return min(results, key=lambda each: (each.attainment, -each.average))


def measure(store: Store, *, quick: bool) -> list[Figure]:
    """Print what each policy attains and costs under each adversity; return the figures with goals."""
    peers = PEERS[:3] if quick else PEERS
    figures: list[Figure] = []
    rows, costs = [], []
    for each in adversities():

        def run(name: str, adversity: Adversity = each) -> Result:
            make = _ours(adversity) if name == "penstock" else None
            return worst(
                [
                    store.run(SECTION, load, name, make=make, until=back_at_floor, seed=adversity.seed)
                    for load in adversity.loads
                ]
            )

        run(BOUND)
        results = {name: run(name) for name in ("penstock", *peers)}
        static = run("static-peak")
        rows.append((each.name, [_cell(result) for result in results.values()]))
        costs.append((each.name, [_cost_cell(store, result) for result in results.values()]))
        behind = {name: 100 * (static.attainment - r.attainment) for name, r in results.items()}
        others = [by for name, by in behind.items() if name not in ("penstock", "static-peak")]
        median = statistics.median(others)
        what = f"{each.name}: points behind static peak (the best peer {min(others):.1f})"
        figures.append(
            Figure("(e) adversity", what, behind["penstock"], "points", SIMULATION, (Goal.AT_MOST, median))
        )
    print_grid("(e) SLO met %, average replicas", ("penstock", *peers), rows)
    print_grid("(e) cost USD until back at the floor, x bound", ("penstock", *peers), costs)
    return figures


def _ours(adversity: Adversity) -> Callable[[Scenario], ScalingPolicy]:
    return lambda load: Penstock(load, Settings(profile=adversity.profile))


def _cell(result: Result) -> str:
    return f"{100 * result.attainment:.1f} {result.average:.2f}"


def _cost_cell(store: Store, result: Result) -> str:
    return f"{result.cost:.1f} {times(store.over_bound(result))}"
