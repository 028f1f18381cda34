"""(f) Bursts that no forecast sees: what admission and a fallback carry, on Azure code and a smooth control.

Ours without gateways, with the operator's admission, and with a fallback beside it: one or two replicas of a
smaller model with a limit of its own. Peers as they are, behind the static limit of llm-d's guide (1.1 x
batch in flight a replica), and with the same fallback too; plus what it takes to serve as much by a fixed
number of replicas. A replica of the fallback is on the bill as one of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

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
NAMES = ("azure23 code", "azure23 conv")  # bursts, and the control
START_UP_SECONDS, PEAK = 120.0, 4
FALLBACK = "qwen3-1.7b-h100"
BEST_PEERS = ("slo-keda", "kthena")  # on Azure code, of (b)
STATIC_LIMIT = Admission(running_limit=256, queue_limit=26)  # 1.1 x batch: llm-d's guide
MAXIMA = (4, 6)  # replicas.max of ours beside the scenario's own 10: the peak's five minutes need 4
STATIC_SIZES = (10, 12, 16, 20, 24, 32)
ADMITTED_GOAL = 0.95
BOTH = "ours, admission, 1 fallback"
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
        if workload.name not in NAMES or (quick and workload.name != NAMES[0]):
            continue
        load = scenario(workload, trace, peak=PEAK, start_up_seconds=START_UP_SECONDS, hours=None)
        results = {each.name: _run(store, load, each) for each in setups(load, quick=quick)}
        print_grid(f"(f) {load.name}", COLUMNS, [(name, _row(each)) for name, each in results.items()])
        plot_shares(store.directory / f"bursts-{workload.name.replace(' ', '-')}.svg", load.name, results)
        figures += _figures(store, load, results, quick=quick)
    return figures


def setups(load: Scenario, *, quick: bool) -> list[Setup]:
    """Return what is compared on a load, ours first."""
    one, two = (with_fallback(load, count) for count in (1, 2))
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
    roomy = replace(load, max_replicas=LARGEST_FLEET)
    sizes = STATIC_SIZES[-1:] if quick else STATIC_SIZES
    found += [Setup(f"static {count}", _sized(roomy, count), f"static {count}", _static) for count in sizes]
    return found


COLUMNS = (
    "own in SLO %", "fallback in SLO %", "together %", "429 %", "admitted in SLO %", "TTFT p95 ms",
    "replica-hours", "of fallback",
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
        f"{1000 * result.ttft_p95_seconds:.0f}",
        f"{hours(result):.2f}",
        f"{result.fallback_hours:.2f}",
    ]


def _figures(store: Store, load: Scenario, results: dict[str, Result], *, quick: bool) -> list[Figure]:
    limited = {name: each for name, each in results.items() if name.startswith("ours, admission")}
    worst = min(limited, key=lambda name: limited[name].admitted_met)
    figures = [
        Figure(
            TITLE, f"{load.name}: admitted requests within both objectives, the worst: {worst}",
            100 * limited[worst].admitted_met, "%", SIMULATION, (Goal.AT_LEAST, 100 * ADMITTED_GOAL),
        )
    ]  # fmt: skip
    if quick:
        return figures
    by_peers = {name: sweep(store, TRACES, load, name) for name in peers()}
    by_peers["static"] = [each for name, each in results.items() if name.startswith("static ")]
    figures += [_against(load, name, each, by_peers) for name, each in limited.items()]
    return figures


def _against(load: Scenario, name: str, result: Result, by_peers: dict[str, list[Result]]) -> Figure:
    """Return how much cheaper one of ours is than the cheapest run of a peer that serves as much."""
    share = served(result)
    enough = [each for runs in by_peers.values() for each in runs if served(each) >= share]
    best = min(enough, key=hours, default=None)
    what = f"{load.name}: {name}, {100 * share:.1f} % within SLO for {hours(result):.2f} replica-hours"
    if best is None:
        most = max((each for runs in by_peers.values() for each in runs), key=served)
        return Figure(
            TITLE, f"{what}; nobody else serves as much: points above the most, {_said(most)}",
            100 * (share - served(most)), "points", SIMULATION, (Goal.AT_LEAST, 0.0),
        )  # fmt: skip
    return Figure(
        TITLE, f"{what}; cheaper than the cheapest run that serves as much, {_said(best)}",
        100 * (1 - hours(result) / hours(best)), "%", SIMULATION, (Goal.AT_LEAST, 0.0),
    )  # fmt: skip


def _said(result: Result) -> str:
    knob = ", ".join(f"{name} {value:g}" for name, value in result.tuning.items())
    title = f"{result.title} ({knob})" if knob else result.title
    return f"{title} {100 * served(result):.1f} % for {hours(result):.2f}"
