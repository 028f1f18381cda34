"""The data plane: what a change takes, what the proxy costs, what is left of goodput under overload.

    python tests/bench/dataplane.py                      everything, a quarter of an hour
    python tests/bench/dataplane.py --quick              everything, shorter, 3 minutes
    python tests/bench/dataplane.py changes cost         some sections

On the real Envoy with the operator's own server and resources, before a light upstream or stand-in engines
(`Envoy, stand-in engines`), and at full size in simulation. One row a figure with its goal; exits 1 when one
is missed. Figures that the machine could not measure are void, and missed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.dataplane_classes import class_figures
from bench.dataplane_latency import added_latency, cpu_per_token
from bench.dataplane_overload import REPLICAS, amplification, overload_on_envoy
from bench.dataplane_propagation import exact_bursts, falling_limits, first_effects
from bench.dataplane_report import Figure, console, print_figures
from bench.dataplane_simulation import overload_figures
from bench.engines import stand_ins
from bench.gateway import OPEN, free_ports, light_upstream, route, running_gateway
from penstock.dataplane.envoy.binary import EnvoyUnavailableError

SERVICES = 200


async def changes(*, quick: bool) -> list[Figure]:
    """Changes of limit and weight, falling limits, bursts."""
    flips, bursts, seconds = (30, 5, 0.7) if quick else (200, 20, 1.0)
    figures: list[Figure] = []
    async with light_upstream() as own, light_upstream() as small:
        async with running_gateway() as gateway:
            port, burst_port = free_ports(2)
            console.print(f"changes, 1 service, {flips} of each kind, {bursts} bursts")
            figures += await first_effects(gateway, (own, small), port, others=[], flips=flips)
            figures += await falling_limits(gateway, own, port, seconds=seconds)
            figures += await exact_bursts(gateway, (own, small), burst_port, bursts)
        async with running_gateway() as gateway:
            console.print(f"changes, {SERVICES} services, {flips} of each kind")
            port, *ports = free_ports(SERVICES)
            others = [
                route(
                    f"other-{number}",
                    listen_port=each,
                    upstream_ports=(own.port,),
                    limit=OPEN,
                    fallback_ports=(small.port,),
                    fallback_limit=100,
                )
                for number, each in enumerate(ports)
            ]
            figures += await first_effects(gateway, (own, small), port, others=others, flips=flips)
    return figures


async def cost(*, quick: bool) -> list[Figure]:
    """Added latency and CPU a token."""
    async with light_upstream() as upstream, running_gateway() as gateway:
        console.print("cost")
        (port,) = free_ports(1)
        gateway.publish([route("a", listen_port=port, upstream_ports=(upstream.port,), limit=OPEN)])
        await gateway.has_everything()
        latency = await asyncio.to_thread(added_latency, upstream, port, 1000 if quick else 4000)
        return latency + await cpu_per_token(port, gateway.pid, 8.0 if quick else 20.0)


async def overload(*, quick: bool) -> list[Figure]:
    """Overload, retries and classes on the real proxy before stand-in engines."""
    async with light_upstream() as fallback, stand_ins(REPLICAS) as engines, running_gateway() as gateway:
        port, classes_port = free_ports(2)
        figures = await overload_on_envoy(gateway, engines, port, quick=quick)
        if not quick:  # its simulated counterpart is in both
            console.print("retries")
            figures += await amplification(gateway, engines, port)
        console.print("classes and fallback")
        return figures + await class_figures(gateway, engines, fallback, classes_port, quick=quick)


# Each in an event loop of its own, the simulation in none: Ctrl-C ends whichever runs at once.
SECTIONS: dict[str, Callable[[bool], list[Figure]]] = {
    "changes": lambda quick: asyncio.run(changes(quick=quick)),
    "cost": lambda quick: asyncio.run(cost(quick=quick)),
    "simulated": lambda quick: overload_figures(quick=quick),
    "overload": lambda quick: asyncio.run(overload(quick=quick)),
}


def measure(sections: list[str], *, quick: bool) -> list[Figure]:
    """Run sections one after the other: they must not disturb each other."""
    return [figure for name in sections for figure in SECTIONS[name](quick)]


def main() -> int:
    """Print the table; return 1 when a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="shorter runs, fewer loads")
    options = parser.parse_args()
    unknown = sorted(set(options.sections) - set(SECTIONS))
    if unknown:
        parser.error(f"no section {unknown[0]!r}: choose from {', '.join(SECTIONS)}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        figures = measure(options.sections or list(SECTIONS), quick=options.quick)
    except EnvoyUnavailableError as error:
        console.print(f"[red]{error}")
        return 2
    print_figures(figures)
    missed = [figure for figure in figures if figure.missed]
    if missed:
        console.print(f"{len(missed)} of {sum(figure.goal is not None for figure in figures)} goals missed")
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
