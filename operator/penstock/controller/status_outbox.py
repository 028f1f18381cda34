"""What is said of services, found and written behind the tick: a decision waits for its target alone.

To find the conditions of 10,000 services and what of them is news takes 0.15 s; of those of which 1 % change,
some 300 statuses are written after a tick, a request each, and all of them follow the first one. A service
waits in one place only and is shown as the newest tick has found it, so that no older outcome is kept; nobody
else writes its status. While it is being written it is not taken: the next tick sees what is left to show.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import NamedTuple

import structlog

from penstock.controller.between_ticks import BetweenTicks
from penstock.controller.cache import KnownService
from penstock.controller.findings import found_of
from penstock.controller.service_state import ServiceState
from penstock.controller.show import StatusWriter
from penstock.model.spec import ServiceKey

log = structlog.get_logger(__name__)
WRITERS_AT_ONCE = 16
# The event loop serves health, Lease and watches too: a slice of 200 looks is some 3 ms.
SLICE = 200


class PendingStatus(NamedTuple):
    """Whom to show: the newest outcome of `state`, or what is wrong with a spec that cannot be parsed."""

    known: KnownService
    state: ServiceState
    at: float  # of the tick, Unix seconds


class StatusOutbox:
    """Takes services at once, then looks for news and writes them, in the order in which they came."""

    def __init__(self, status: StatusWriter, gap: BetweenTicks, *, window_seconds: float) -> None:
        """`window_seconds` is what the rates are averaged over, by which conditions judge their readings."""
        self._status, self._gap, self._window_seconds = status, gap, window_seconds
        self._waiting: dict[ServiceKey, PendingStatus] = {}
        self._written: set[ServiceKey] = set()  # being written just now
        self._writers: set[asyncio.Task[None]] = set()
        self._looked = 0
        self._began = 0.0  # monotonic

    @property
    def waiting(self) -> int:
        """Return how many services are still to be looked at or shown."""
        return len(self._waiting)

    def put(self, services: Iterable[tuple[KnownService, ServiceState]], at: float) -> None:
        """Take services, in place of what may wait for the same ones; needs a running loop."""
        if not self._writers:
            self._began = time.monotonic()
        for known, state in services:
            if known.key not in self._written:
                self._waiting[known.key] = PendingStatus(known, state, at)
        for _ in range(min(WRITERS_AT_ONCE, len(self._waiting)) - len(self._writers)):
            writer = asyncio.get_running_loop().create_task(self._write(), name="statuses")
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)

    async def settled(self) -> None:
        """Wait until everything is written."""
        while self._writers:
            await asyncio.wait(self._writers)

    async def close(self) -> None:
        """Give up what waits: whoever decides next shows it, and may do so already."""
        self._waiting.clear()
        for writer in tuple(self._writers):
            writer.cancel()
        await self.settled()

    async def _write(self) -> None:
        """Write until nothing waits. A defect of one service stops nobody else's status."""
        while self._waiting:
            await self._gap.come()
            if not self._waiting:
                break  # another writer took the last one
            key = next(iter(self._waiting))
            pending = self._waiting.pop(key)
            self._written.add(key)
            try:
                await self._show(pending)
                pending.state.unshown = ""
            except Exception as error:  # noqa: BLE001 - of this service alone; the others are shown
                self._status.failed(key, pending.state, error)
            finally:
                self._written.discard(key)
            self._looked += 1
            if self._looked % SLICE == 0:
                await asyncio.sleep(0)
        if not self._waiting and not self._written:
            log.debug("statuses", seconds=round(time.monotonic() - self._began, 4))

    async def _show(self, pending: PendingStatus) -> None:
        known, state = pending.known, pending.state
        if known.spec is None:
            await self._status.show_invalid(known, state, pending.at)
        elif state.defect:
            await self._status.show_defect(known, state, pending.at)
        elif (outcome := state.outcome) is not None:
            state.findings = found_of(outcome, state, window_seconds=self._window_seconds)
            if self._status.differs(known, state, outcome, pending.at):
                await self._status.show(known, state, outcome, outcome.seen.at)
