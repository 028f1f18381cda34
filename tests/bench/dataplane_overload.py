"""Overload in wall-clock time: the real proxy before stand-in engines, ours and two peers.

The best possible of each load is that of the simulation, which plays the same requests on the same engine
profile with the best fixed limit in hindsight. A run whose engines or generator were late is void.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import aiohttp
import numpy as np
from rich.progress import Progress

from bench.dataplane_report import ENVOY_AND_ENGINES, Figure, Goal, console, print_grid
from bench.dataplane_simulation import COLLAPSED, hindsight_rate
from bench.engines import Engines, LagGuard, stand_in_fleet, until_idle
from bench.gates import NONE, OURS, Open, Sidecars
from bench.gateway import Gateway, route
from bench.limiters import Gradient2, RetryingClient, Signal
from bench.open_loop import Answer, Generator
from bench.overload import Fleet, Load
from bench.simulated_pool import Policy
from penstock.model.traffic import FleetLimit

SECTION = "overload, stand-ins"
SETTLING_SECONDS, SECONDS = 6.0, 25.0
REPLICAS = 2
_RUNS = {
    OURS: ("0.9x", "1.5x", "2x", "3x", "ramp"),
    NONE: ("0.9x", "1.5x", "3x"),
    "Gradient2 on TTFT": ("2x",),
}
_QUICK = {OURS: ("2x",), NONE: ("2x",)}
_LATE_SECONDS = 0.1  # p99 of the generator, a tenth of the TTFT objective


def load_named(name: str) -> Load:
    """Return `2x` or `ramp` with this benchmark's durations."""
    if name == "ramp":
        return Load(name, 3.0, SETTLING_SECONDS, SECONDS, ramps=True)
    return Load(name, float(name[:-1]), SETTLING_SECONDS, SECONDS)


async def overload_on_envoy(gateway: Gateway, engines: Engines, port: int, *, quick: bool) -> list[Figure]:
    """Print the shares of the best possible and return the worst of ours and the best without a limit."""
    fleet = stand_in_fleet(REPLICAS)
    runs = [(name, load) for name, loads in (_QUICK if quick else _RUNS).items() for load in loads]
    cells: dict[tuple[str, str], str] = {}
    shares: dict[str, list[float]] = {OURS: [], NONE: []}
    voids: dict[str, list[str]] = {OURS: [], NONE: []}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("overload", total=len(runs))
        for name, load_name in runs:
            progress.update(task, description=f"{name}, {load_name}, Envoy and stand-ins")
            load = load_named(load_name)
            share, why_void = await _share(gateway, engines, port, fleet, name, load)
            progress.advance(task)
            cells[name, load_name] = "void" if why_void else f"{100 * share:.0f}"
            counts = load.ramps or load.peak >= (COLLAPSED if name == NONE else 1.0)
            if counts and name in shares:
                shares[name].append(share)
                voids[name] += [f"{load_name}: {why_void}"] if why_void else []
    columns = list(dict.fromkeys(load for _, load in runs))
    rows = [
        (name, [cells.get((name, column), "") for column in columns])
        for name in dict.fromkeys(name for name, _ in runs)
    ]
    limits = fleet.limits
    title = (
        f"Envoy and {REPLICAS} stand-in engines: TTFT {fleet.ttft_seconds:g} s, TPOT "
        f"{fleet.tpot_seconds * 1e3:.0f} ms: c* {limits.running}, q {limits.queue}, "
        f"capacity {fleet.capacity_per_second:.1f}/s\ngoodput as share of the best possible, in %"
    )
    print_grid(title, columns, rows)
    return [
        _figure(
            "ours: goodput / best possible, worst load above capacity",
            min(shares[OURS]),
            (Goal.AT_LEAST, 0.9),
            voids[OURS],
        ),
        _figure(
            "no limit: the same, best load above capacity",
            max(shares[NONE]),
            (Goal.AT_MOST, 0.1),
            voids[NONE],
        ),
    ]


def _figure(name: str, value: float, goal: tuple[Goal, float], voids: Sequence[str]) -> Figure:
    return Figure(SECTION, name, value, "", ENVOY_AND_ENGINES, goal, "; ".join(voids))


async def _share(
    gateway: Gateway, engines: Engines, port: int, fleet: Fleet, name: str, load: Load
) -> tuple[float, str]:
    """Run one load; return goodput over the best possible, and why it is void."""
    limit = fleet_limit(fleet) if name == OURS else None
    gateway.publish([route("llm", listen_port=port, upstream_ports=engines.ports, limit=limit)])
    policy: Policy = Open()
    targets: Sequence[str] = (f"http://127.0.0.1:{port}",)
    if name not in (OURS, NONE):
        limits = [Gradient2() for _ in engines.ports]
        policy, targets = Sidecars(limits=list(limits), signal=Signal.FIRST_TOKEN), engines.urls
    await gateway.has_everything()
    offered = load.offered(fleet, seed=11)
    generator = Generator(targets, policy)
    answers, void = await watched(generator.run(offered), engines)
    counted = [answer for answer in answers if answer.due >= load.counted_from_seconds]
    good = sum(answer.good(fleet.ttft_seconds, fleet.tpot_seconds) for answer in counted)
    rate = good / (load.end_seconds - load.counted_from_seconds)
    return rate / hindsight_rate(fleet, offered, load), void


async def watched(run: Awaitable[list[Answer]], engines: Engines) -> tuple[list[Answer], str]:
    """Await a run of the generator; return its answers and why they say nothing of the engines."""
    async with aiohttp.ClientSession() as session:
        async with LagGuard(session, engines) as guard:
            answers = await run
        await until_idle(session, engines)
    late = float(np.quantile([answer.late for answer in answers], 0.99))
    if late > _LATE_SECONDS:
        return answers, f"p99 of requests sent {late * 1e3:.0f} ms late: the machine was the bottleneck"
    return answers, guard.void


def fleet_limit(fleet: Fleet) -> FleetLimit:
    """Return what the operator would set for the whole fleet."""
    return FleetLimit(fleet.limits.running * fleet.replicas, fleet.limits.queue * fleet.replicas)


async def amplification(gateway: Gateway, engines: Engines, port: int) -> list[Figure]:
    """Return how many times as many requests the engines get when refused clients come back."""
    fleet = stand_in_fleet(REPLICAS)
    gateway.publish([route("llm", listen_port=port, upstream_ports=engines.ports, limit=fleet_limit(fleet))])
    await gateway.has_everything()
    load = Load("2x", 2.0, 3.0, 15.0)
    offered = load.offered(fleet, seed=19)
    reached, sent, voids = [], [], []
    for client in (None, RetryingClient()):
        generator = Generator((f"http://127.0.0.1:{port}",), client=client)
        answers, void = await watched(generator.run(offered), engines)
        voids += [void] if void else []
        reached.append(sum(answer.asked <= load.end_seconds for answer in answers))
        sent.append(sum(answer.attempts for answer in answers))
    name = f"requests at the engines at 2x, OpenAI clients / no retries ({sent[1] / sent[0]:.1f}x sent)"
    value = reached[1] / reached[0]
    return [Figure(SECTION, name, value, "x", ENVOY_AND_ENGINES, (Goal.BELOW, 1.1), "; ".join(voids))]
