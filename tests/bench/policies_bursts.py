"""(f) Bursts that no forecast sees: what admission and a fallback carry, on Azure code and a smooth control.

Ours without gateways, with the operator's admission, and with a fallback beside it: one or two replicas of a
smaller model with a limit of its own. Peers as they are, behind the static limit of llm-d's guide (1.1 x
batch in flight a replica), and with the same fallback too; then behind our c* + q, to tell the limit from
the scaling; plus what it takes to serve as much by a fixed number of replicas. A replica of the fallback is
on the bill as one of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.dataplane_report import SIMULATION, Figure, Goal, print_grid
from bench.policies_bursts_plot import plot_shares
from bench.policies_matched import SECTION as TRACES
from bench.policies_matched import peers, sweep
from bench.policies_run import Result, Store
from bench.policies_traces import available, scenario
from penstock.model.profiles import profile_named
from penstock.sim.policies.penstock import Settings
from penstock.sim.policies.penstock_gateway import PenstockWithGateway
from penstock.sim.policies.sizing import table_of
from penstock.sim.policy_port import ScalingPolicy
from penstock.sim.scenario import LARGEST_FLEET, Admission, Fallback, Scenario
from penstock.sim.static import Static

SECTION, TITLE = "f", "(f) bursts"
BURSTY, CONTROL = "azure23 code", "azure23 conv"
START_UP_SECONDS, PEAK = 120.0, 4
FALLBACK = "qwen3-1.7b-h100"
BEST_PEERS = ("slo-keda", "kthena")  # on Azure code, of (b)
STATIC_LIMIT = Admission(running_limit=256, queue_limit=26)  # 1.1 x batch: llm-d's guide
MAXIMA = (4, 6)  # replicas.max of ours beside the scenario's own 10: the peak's five minutes need 4
STATIC_SIZES = (4, 5, 6, 8, 10, 12, 16, 24, 32)
ADMITTED_GOAL = 0.95
BOTH, OUR_LIMIT = "ours, admission, 1 fallback", "our limit, 1 fallback"
Maker = Callable[[Scenario], ScalingPolicy]


@dataclass(frozen=True, slots=True)
class Setup:
    """A policy and what stands in front of it; `name` is what the table calls it."""

    name: str
    load: Scenario
    policy: str = "penstock"
    make: Maker | None = None


def measure(store: Store, traces: Path, *, quick: bool) -> list[Figure]:
    """Print a table for each workload; return the figures with their goals."""
    figures: list[Figure] = []
    for workload, trace in available(traces):
        if workload.name not in ((BURSTY,) if quick else (BURSTY, CONTROL)):
            continue
        load = scenario(workload, trace, peak=PEAK, start_up_seconds=START_UP_SECONDS, hours=None)
        results = {each.name: _run(store, load, each) for each in setups(load, quick=quick)}
        title = (
            f"(f) {load.name}: shares of all requests within SLO; of the admitted; hours with the fallback"
        )
        print_grid(title, COLUMNS, [(name, _row(each)) for name, each in results.items()])
        plot_shares(store.directory / f"bursts-{workload.name.replace(' ', '-')}.svg", load.name, results)
        figures += [_crowd(load, 1.0), _crowd(load, 60.0), _admitted(load, results)]
        if not quick:
            found = _savings(store, load, results)
            # Nothing is claimed of the control: there is little for a fallback to do.
            figures += found if workload.name == BURSTY else [replace(each, goal=None) for each in found]
    return figures


def setups(load: Scenario, *, quick: bool) -> list[Setup]:
    """Return what is compared on a load, ours first."""
    one, two = (with_fallback(load, count) for count in (1, 2))
    law = table_of(load).admission
    modelled = Admission(law.running, law.queued)
    found = [
        Setup("ours, no gateway", load),
        Setup("ours, admission", load, make=ours),
        Setup(BOTH, one, make=ours),
    ]
    if not quick:
        found.append(Setup("ours, admission, 2 fallback", two, make=ours))
        for most in MAXIMA:
            found += [
                Setup(f"ours, admission, {count} fallback, max {most}", _at_most(each, most), make=ours)
                for count, each in ((1, one), (2, two))
            ]
    for name in BEST_PEERS:
        found.append(Setup(name, load, name))
        if not quick:
            limited = replace(load, admission=STATIC_LIMIT)
            found.append(Setup(f"{name}, 282 a replica", limited, name))
            found.append(Setup(f"{name}, 282, 1 fallback", replace(one, admission=STATIC_LIMIT), name))
            for suffix, each in (("", one), (", max 6", _at_most(one, 6))):
                found.append(Setup(f"{name}, {OUR_LIMIT}{suffix}", replace(each, admission=modelled), name))
    roomy = replace(load, max_replicas=LARGEST_FLEET)
    sizes = STATIC_SIZES[-1:] if quick else STATIC_SIZES
    found += [Setup(f"static {count}", _sized(roomy, count), f"static {count}", _static) for count in sizes]
    return found


COLUMNS = (
    "own %", "fallback %", "both %", "429 %", "admitted %", "TTFT late %", "TPOT late %", "TTFT p95 ms",
    "hours",
)  # fmt: skip


def ours(load: Scenario) -> ScalingPolicy:
    """Return our policy with its gateways."""
    return PenstockWithGateway(load, Settings())


def with_fallback(load: Scenario, replicas: int) -> Scenario:
    """Return the load with a pool of the smaller model, limited as its own operator would."""
    profile = profile_named(FALLBACK)
    law = table_of(replace(load, profile=profile)).admission
    return replace(load, fallback=Fallback(profile, replicas, Admission(law.running, law.queued)))


def served(result: Result) -> float:
    """Return the share of all requests within both objectives, whoever answered."""
    return result.attainment + result.by_fallback


def hours(result: Result) -> float:
    """Return what is paid for, the fallback's replicas included."""
    return result.replica_hours + result.fallback_hours


def _run(store: Store, load: Scenario, setup: Setup) -> Result:
    # Named by the setup, as replicas.max and what stands in front are not the policy's own settings.
    named = replace(setup.load, name=f"{load.name}: {setup.name}")
    return store.run(SECTION, named, setup.policy, make=setup.make)


def _at_most(load: Scenario, replicas: int) -> Scenario:
    return replace(load, max_replicas=replicas, initial_replicas=min(load.initial_replicas, replicas))


def _sized(load: Scenario, replicas: int) -> Scenario:
    return replace(load, initial_replicas=replicas)


def _static(load: Scenario) -> ScalingPolicy:
    return Static(load.initial_replicas)


def _row(result: Result) -> list[str]:
    return [
        f"{100 * result.attainment:.1f}",
        f"{100 * result.by_fallback:.1f}",
        f"{100 * served(result):.1f}",
        f"{100 * result.shed:.1f}",
        f"{100 * result.admitted_met:.1f}",
        *(f"{100 * late:.1f}" for late in result.admitted_late),
        f"{1000 * result.ttft_p95_seconds:.0f}",
        f"{hours(result):.2f}",
    ]


def _limited(results: dict[str, Result]) -> dict[str, Result]:
    return {name: each for name, each in results.items() if name.startswith("ours, admission")}


def _crowd(load: Scenario, seconds: float) -> Figure:
    """Return how bursty a load is: its busiest `seconds` over the mean."""
    edges = np.arange(0.0, load.arrivals_seconds[-1] + seconds, seconds)
    counts = np.histogram(load.arrivals_seconds, edges)[0]
    what = f"{load.name}: requests in the busiest {seconds:g} s over the mean"
    return Figure(TITLE, what, float(counts.max() / counts.mean()), "x", SIMULATION)


def _admitted(load: Scenario, results: dict[str, Result]) -> Figure:
    name, worst = min(_limited(results).items(), key=lambda item: item[1].admitted_met)
    what = f"{load.name}: admitted requests within both objectives, the worst of ours: {name}"
    goal = (Goal.AT_LEAST, 100 * ADMITTED_GOAL)
    return Figure(TITLE, what, 100 * worst.admitted_met, "%", SIMULATION, goal)


def _savings(store: Store, load: Scenario, results: dict[str, Result]) -> list[Figure]:
    """Return ours against every peer at every value of its knob, and against fixed sizes."""
    others = [each for name in peers() for each in sweep(store, TRACES, load, name)]
    # Behind our limit they are told what our model knows: no peer's own.
    others += [
        each for name, each in results.items() if name.startswith(BEST_PEERS) and OUR_LIMIT not in name
    ]
    fixed = [each for name, each in results.items() if name.startswith("static ")]
    figures = []
    for name, each in _limited(results).items():
        figures.append(_against(load, name, each, others))
        figures.append(replace(_against(load, name, each, fixed), goal=None))  # sized in hindsight: no peer
    return figures


def _against(load: Scenario, name: str, result: Result, others: Sequence[Result]) -> Figure:
    """Return how much cheaper one of ours is than the cheapest of `others` that serves as much."""
    share = served(result)
    best = min((each for each in others if served(each) >= share), key=hours, default=None)
    what = f"{load.name}: {name}, {100 * share:.1f} % within SLO for {hours(result):.2f} replica-hours"
    if best is None:
        most = max(others, key=served)
        return Figure(
            TITLE, f"{what}; points above the most that others serve, {_said(most)}",
            100 * (share - served(most)), "points", SIMULATION, (Goal.AT_LEAST, 0.0),
        )  # fmt: skip
    return Figure(
        TITLE, f"{what}; cheaper than the cheapest that serves as much, {_said(best)}",
        100 * (1 - hours(result) / hours(best)), "%", SIMULATION, (Goal.AT_LEAST, 0.0),
    )  # fmt: skip


def _said(result: Result) -> str:
    knob = ", ".join(f"{name} {value:g}" for name, value in result.tuning.items())
    title = f"{result.title} ({knob})" if knob else result.title
    return f"{title} {100 * served(result):.1f} % for {hours(result):.2f}"
