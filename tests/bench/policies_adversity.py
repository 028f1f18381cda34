"""(e) What goes wrong: scrapes, Prometheus, starts, a replica, the profile; ours and the best-known peers.

On the published llm-d profile. Goal: no run of ours loses more attainment against static peak sizing than the
median peer does. Prometheus is gone for five minutes from a minute before the steepest step of the load on.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.dataplane_report import SIMULATION, Figure, Goal, print_grid
from bench.policies_llmd import STAGES, back_at_floor, published_profile
from bench.policies_run import SEED, Result, Store
from penstock.queueing.engine_profile import EngineProfile
from penstock.sim.policies.penstock import Penstock, Settings
from penstock.sim.policy_port import ScalingPolicy
from penstock.sim.scenario import Scenario, Scraping, SlowReplicas, StartUp

SECTION = "e"
PEERS = ("hpa-max", "keda", "slo-keda", "wva-v1", "wva-v2", "kpa", "apa", "static-peak")
# The third step, 4 to 6 and 6 to 8 requests a second: the pool is neither at its floor nor at its limit.
STEP_SECONDS = sum(seconds for _, seconds in STAGES[:3])
FAILING_SEEDS = (2, 3, 4)  # with 1 none of the five to ten starts fails
OUTAGE = (STEP_SECONDS - 60.0, STEP_SECONDS + 240.0)


@dataclass(frozen=True, slots=True)
class Adversity:
    """The load it happens to, what ours is told of the engine (None: the truth), and the luck."""

    load: Scenario
    profile: EngineProfile | None = None
    seed: int = SEED


def adversities() -> tuple[Adversity, ...]:
    """Return all of them, the undisturbed run first."""
    load = published_profile()
    fast, slow = load.profile.at_speed(0.5), load.profile.at_speed(2.0)
    failing = StartUp(100.0, failed_ratio=0.2)

    def named(name: str, **changes: object) -> Scenario:
        return replace(load, name=name, **changes)  # type: ignore[arg-type]

    return (
        Adversity(named("undisturbed")),
        Adversity(named("20 % of scrapes missed", scraping=Scraping(missed_ratio=0.2))),
        Adversity(named("Prometheus gone 5 min", scraping=Scraping(outages=(OUTAGE,)))),
        *(
            Adversity(named(f"20 % failed starts, draw {seed}", start_up=failing), seed=seed)
            for seed in FAILING_SEEDS
        ),
        Adversity(named("a replica 2x slow", slow=SlowReplicas(2.0, frozenset({1})))),
        Adversity(named("profile says 2x too fast"), profile=fast),
        Adversity(named("profile says 2x too slow"), profile=slow),
    )


def measure(store: Store, *, quick: bool) -> list[Figure]:
    """Print attainment and replicas of each policy under each adversity; return the figures with goals."""
    peers = PEERS[:3] if quick else PEERS
    figures: list[Figure] = []
    rows = []
    for each in adversities():

        def run(name: str, adversity: Adversity = each) -> Result:
            make = _ours(adversity) if name == "penstock" else None
            return store.run(
                SECTION, adversity.load, name, make=make, until=back_at_floor, seed=adversity.seed
            )

        results = {name: run(name) for name in ("penstock", *peers)}
        static = run("static-peak")
        rows.append((each.load.name, [_cell(result) for result in results.values()]))
        behind = {name: 100 * (static.attainment - r.attainment) for name, r in results.items()}
        others = [by for name, by in behind.items() if name not in ("penstock", "static-peak")]
        median = statistics.median(others)
        what = f"{each.load.name}: points behind static peak (the best peer {min(others):.1f})"
        figures.append(
            Figure("(e) adversity", what, behind["penstock"], "points", SIMULATION, (Goal.AT_MOST, median))
        )
    print_grid("(e) SLO met %, average replicas", ("penstock", *peers), rows)
    return figures


def _ours(adversity: Adversity) -> Callable[[Scenario], ScalingPolicy]:
    return lambda load: Penstock(load, Settings(profile=adversity.profile))


def _cell(result: Result) -> str:
    return f"{100 * result.attainment:.1f} {result.average:.2f}"
