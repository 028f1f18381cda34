"""Overload of a full-size fleet in simulation: ours and the peers, step and ramp, two TPOT objectives.

The best possible is looked for, not assumed: for each load the best of a sweep of fixed limits chosen in
hindsight, and of all policies in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from rich.progress import Progress

from bench.dataplane_report import SIMULATION, Figure, Goal, console, print_grid
from bench.gates import NONE, OURS, PoolLimit, Setting, policies
from bench.limiters import RetryingClient
from bench.overload import Fleet, Load
from bench.simulated_pool import Offered, Outcome, Policy, simulate

SECTION = "overload, full size"
TOKENS = (1155, 211)  # a conversation's, Azure 2023
REPLICAS = 4
TTFT_SECONDS = 0.5
TPOTS_SECONDS = (0.05, 0.03)
STEPS, QUICK_STEPS = (0.5, 0.9, 1.2, 1.5, 2.0, 3.0), (0.9, 1.5, 3.0)
SETTLING_SECONDS, SECONDS = 30.0, 120.0
HINDSIGHT = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2)  # times c*
COLLAPSED = 1.2  # from this load on nothing is left of a fleet without admission


def loads(peaks: Sequence[float]) -> list[Load]:
    """Return a step to each peak and the ramp."""
    steps = [Load(f"{peak:g}x", peak, SETTLING_SECONDS, SECONDS) for peak in peaks]
    return [*steps, Load("ramp", 3.0, SETTLING_SECONDS, SECONDS, ramps=True)]


def overload_figures(*, quick: bool) -> list[Figure]:
    """Print a table for each TPOT objective and return the worst shares over all of them."""
    ours: list[float] = []
    none: list[float] = []
    amplification: list[float] = []
    for tpot_seconds in TPOTS_SECONDS[:1] if quick else TPOTS_SECONDS:
        fleet = Fleet.of(
            tokens=TOKENS, replicas=REPLICAS, ttft_seconds=TTFT_SECONDS, tpot_seconds=tpot_seconds
        )
        shares = _matrix(fleet, loads(QUICK_STEPS if quick else STEPS))
        above = [name for name in shares if name == "ramp" or float(name[:-1]) > 1]
        collapsed = [name for name in above if name == "ramp" or float(name[:-1]) >= COLLAPSED]
        ours += [shares[name][OURS] for name in above]
        none += [shares[name][NONE] for name in collapsed]
        amplification.append(_amplification(fleet))
    return [
        _figure(
            "ours: goodput / best possible, worst load above capacity",
            min(ours),
            Goal.AT_LEAST,
            0.9,
        ),
        _figure("no limit: the same, best load from 1.2x on", max(none), Goal.AT_MOST, 0.1),
        Figure(
            SECTION,
            "requests at the engines at 2x, OpenAI clients / no retries",
            max(amplification),
            "x",
            SIMULATION,
            (Goal.BELOW, 1.1),
        ),
    ]


def _figure(name: str, value: float, side: Goal, goal: float) -> Figure:
    return Figure(SECTION, name, value, "", SIMULATION, (side, goal))


def _matrix(fleet: Fleet, each_load: list[Load]) -> dict[str, dict[str, float]]:
    """Return by load and policy the share of the best possible; print it."""
    setting = Setting(
        limits=fleet.limits,
        replicas=fleet.replicas,
        ttft_seconds=fleet.ttft_seconds,
        max_sequences=fleet.profile.max_sequences,
        prefill_tokens_per_second=fleet.prefill_tokens_per_second,
    )
    makers = policies(setting)
    shares: dict[str, dict[str, float]] = {}
    best_rates: list[float] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(
            f"simulating, TPOT {fleet.tpot_seconds * 1e3:.0f} ms",
            total=len(each_load) * (len(makers) + len(HINDSIGHT)),
        )
        for load in each_load:
            offered = load.offered(fleet, seed=11)

            def goodput(make: Callable[[], Policy], offered: Offered = offered, load: Load = load) -> float:
                progress.advance(task)
                return _goodput(fleet, offered, load, make())

            rates = {name: goodput(make) for name, make in makers.items()}
            best = max(hindsight_rate(fleet, offered, load), *rates.values())
            progress.advance(task, len(HINDSIGHT))
            best_rates.append(best)
            shares[load.name] = {name: rate / best for name, rate in rates.items()}
    limits = fleet.limits
    title = (
        f"simulation: {fleet.replicas} replicas of {fleet.profile.name}, {TOKENS[0]}/{TOKENS[1]} tokens, "
        f"TTFT {fleet.ttft_seconds * 1e3:.0f} ms, TPOT {fleet.tpot_seconds * 1e3:.0f} ms: "
        f"c* {limits.running}, q {limits.queue}, capacity {fleet.capacity_per_second:.1f}/s\n"
        "goodput (requests within both objectives) as share of the best possible, in %"
    )
    rows = [(name, [f"{100 * shares[load.name][name]:.0f}" for load in each_load]) for name in makers]
    rows.append(("best possible, requests/s", [f"{rate:.1f}" for rate in best_rates]))
    print_grid(title, [load.name for load in each_load], rows)
    return shares


def hindsight_rate(fleet: Fleet, offered: Offered, load: Load) -> float:
    """Return the goodput (1/s) of the best of the fixed limits, the load being known beforehand."""
    fixed = [round(ratio * fleet.limits.running * fleet.replicas) for ratio in HINDSIGHT]
    return max(_goodput(fleet, offered, load, PoolLimit(in_flight_limit=places)) for places in fixed)


def _goodput(fleet: Fleet, offered: Offered, load: Load, policy: Policy) -> float:
    """Return requests per second that arrived in the counted time and were good."""
    outcome = _simulated(fleet, offered, policy)
    counted = offered.arrivals >= load.counted_from_seconds
    good = outcome.good(fleet.ttft_seconds, fleet.tpot_seconds)[counted]
    return float(good.sum()) / (load.end_seconds - load.counted_from_seconds)


def _amplification(fleet: Fleet) -> float:
    """Return how many times as many requests reach the engines when refused clients come back."""
    offered = Load("2x", 2.0, SETTLING_SECONDS, SECONDS).offered(fleet, seed=13)
    reached = []
    for client in (None, RetryingClient()):
        # The worst case of Retry-After: the whole second that HTTP can say at least.
        policy = PoolLimit.of(fleet.limits, fleet.replicas)
        reached.append(_simulated(fleet, offered, policy, client, 1.0).reached_engines)
    return reached[1] / reached[0]


def _simulated(
    fleet: Fleet,
    offered: Offered,
    policy: Policy,
    client: RetryingClient | None = None,
    retry_after_seconds: float | None = None,
) -> Outcome:
    return simulate(
        fleet.profile,
        offered,
        policy,
        replicas=fleet.replicas,
        client=client,
        retry_after_seconds=retry_after_seconds,
        random=np.random.default_rng(17),
    )
