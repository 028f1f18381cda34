"""What recording costs a fleet of 10,000 services: handing a tick over, writing it, and its size.

    python tests/bench/recording.py [--services N]

The tick waits for the first only; the writing is done by a thread. The first tick of a segment holds
all that is remembered of each service, after an hour of load in a played world.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rich.console import Console
from rich.table import Table

from fakes.world import World, chat
from penstock.controller.record_files import RecordFiles
from penstock.controller.recording import Recorder, Seen
from penstock.model.spec import ServiceKey
from penstock.policy.beliefs import LoopTimes
from penstock.telemetry.logging import configure_logging
from penstock.telemetry.metrics import OperatorMetrics

LIMIT_BYTES = 1 << 30


class Kept:
    """Takes ticks as a recorder does and writes nothing."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    def take(self, tick: Sequence[Seen]) -> None:
        """Keep a tick."""
        self.seen.extend(tick)


async def an_hour() -> list[Seen]:
    """Return the last ticks of one service that has been under load for an hour."""
    world, kept = World(rate=lambda t: 20.0 + t / 60, spec=chat(), target=2), Kept()
    world.loop._parts = replace(world.loop._parts, recorder=kept)  # type: ignore[arg-type]
    await world.run(3600)
    world.tables.close()
    return kept.seen[-3:]


def of_fleet(seen: Seen, services: int) -> list[Seen]:
    """Return the tick of as many services alike."""
    spec = seen.outcome.spec
    named = (replace(spec, key=ServiceKey("prod", f"chat-{index}")) for index in range(services))
    return [seen._replace(outcome=replace(seen.outcome, spec=each)) for each in named]


def main() -> int:
    """Print the table; return 1 when a record was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--services", type=int, default=10_000)
    services = parser.parse_args().services
    configure_logging("console", "error")
    metrics, table = OperatorMetrics(), Table(title=f"Recording {services:,} services")
    for head in ("tick", "handed over, us", "written, s", "CPU, s", "MB", "bytes a service"):
        table.add_column(head, justify="right")
    with tempfile.TemporaryDirectory() as directory:
        recorder = Recorder(RecordFiles(Path(directory), LIMIT_BYTES), LoopTimes(), metrics)
        size = 0
        for number, seen in enumerate(asyncio.run(an_hour()), start=1):
            tick = of_fleet(seen, services)
            began, cpu = time.perf_counter(), time.process_time()
            recorder.take(tick)
            handed = time.perf_counter() - began
            recorder.wait_until_written()
            written, cpu = time.perf_counter() - began, time.process_time() - cpu
            before, size = size, sum(path.stat().st_size for path in Path(directory).iterdir())
            table.add_row(
                f"{number}",
                f"{1e6 * handed:.0f}",
                f"{written:.2f}",
                f"{cpu:.2f}",
                f"{(size - before) / 1e6:.1f}",
                f"{(size - before) / services:,.0f}",
            )
        recorder.close()
    Console().print(table)
    return 0 if metrics.registry.get_sample_value("penstock_records_total") == 3 * services else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
