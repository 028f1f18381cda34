"""Statuses written behind the tick: a decision waits for its target to be set, not for being shown.

At 10,000 services of which 1 % change, some 300 statuses follow a tick, a request each, and all of them
follow the first one. A service waits in one place only and is shown as the newest tick has found it, so that
no older outcome is kept; nobody else writes its status. While it is being written it is not taken: the next
tick sees what is left to show.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import structlog

from penstock.controller.between_ticks import BetweenTicks
from penstock.controller.cache import KnownService
from penstock.controller.service_state import ServiceState
from penstock.controller.show import StatusWriter
from penstock.model.spec import ServiceKey

log = structlog.get_logger(__name__)
WRITERS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class PendingStatus:
    """Whom to show: the newest outcome of `state`, or what is wrong with a spec that cannot be parsed."""

    known: KnownService
    state: ServiceState
    at: float  # of the tick, Unix seconds


class StatusOutbox:
    """Takes statuses at once and writes them soon, in the order in which they came."""

    def __init__(self, status: StatusWriter, gap: BetweenTicks) -> None:
        self._status, self._gap = status, gap
        self._waiting: dict[ServiceKey, PendingStatus] = {}
        self._written: set[ServiceKey] = set()  # being written just now
        self._writers: set[asyncio.Task[None]] = set()
        self._began = 0.0  # monotonic
        self._defect: Exception | None = None

    @property
    def waiting(self) -> int:
        """Return how many services are still to be shown."""
        return len(self._waiting)

    def put(self, pending: PendingStatus) -> None:
        """Take a status in place of the one that may wait for the same service; needs a running loop."""
        key = pending.known.key
        if key in self._written:
            return
        if not self._writers:
            self._began = time.monotonic()
        self._waiting[key] = pending
        if len(self._writers) < WRITERS_AT_ONCE:
            writer = asyncio.get_running_loop().create_task(self._write(), name="statuses")
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)

    def raise_defect(self) -> None:
        """Raise, once, what should not have happened while statuses were written."""
        defect, self._defect = self._defect, None
        if defect is not None:
            raise defect

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
            except Exception as error:  # noqa: BLE001 - raised by `raise_defect`, in a tick
                self._defect = error
            finally:
                self._written.discard(key)
        if not self._waiting and not self._written:
            log.debug("statuses", seconds=round(time.monotonic() - self._began, 4))

    async def _show(self, pending: PendingStatus) -> None:
        known, state = pending.known, pending.state
        if known.spec is None:
            await self._status.show_invalid(known, state, pending.at)
        elif state.outcome is not None:
            await self._status.show(known, state, state.outcome, state.outcome.seen.at)
