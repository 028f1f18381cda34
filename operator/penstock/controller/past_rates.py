"""The past arrival rates of new services: read, and learned from, before anything is decided on them.

A start at 10,000 services has 50 s of that to do. At once it was a minute without an answer to a probe,
a watch or the Lease, and both answers, parsed, were 300 MB. So some services at a time are read, others
get their turn after each, and a tick goes on with those that are ready when its interval has passed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog

from penstock.controller.restore import DAY_SECONDS, HISTORY_SECONDS, with_history
from penstock.controller.service_state import ServiceState
from penstock.metrics_source.base import QueryError
from penstock.metrics_source.collector import Collector, RateHistory
from penstock.metrics_source.identity import Watched
from penstock.policy.beliefs import LoopTimes
from penstock.policy.season import BIN_SECONDS

log = structlog.get_logger(__name__)
SERVICES_AT_ONCE = 250  # 18 MB of parsed answers, and 1.3 s to learn from them

Waiting = Sequence[tuple[Watched | None, ServiceState]]


class PastRates:
    """Lets new services learn from their past; whoever had the turn does not wait any more."""

    def __init__(self, collector: Collector, times: LoopTimes) -> None:
        self._collector, self._times = collector, times

    async def learn(self, waiting: Waiting, now: float) -> None:
        """Read the past of as many services as an interval has time for, at least of some.

        What has no series, or none that can be read, begins without.
        """
        began = time.monotonic()
        found = [(each, state) for each, state in waiting if each is not None]
        for each, state in waiting:
            state.awaits_past = each is not None
        for first in range(0, len(found), SERVICES_AT_ONCE):
            if first and time.monotonic() - began > self._times.tick_seconds:
                return
            some = found[first : first + SERVICES_AT_ONCE]
            try:
                recent, days = await self._read([each for each, _ in some], now)
            except QueryError as error:
                log.warning("rate history is not available, starting without", error=str(error))
                for _, state in found:
                    state.awaits_past = False
                return
            for each, state in some:
                past, day = recent.get(each.key, ()), days.get(each.key, ())
                state.memory = with_history(state.memory, each.spec, past, self._times, day)
                state.awaits_past = False
                await asyncio.sleep(0)  # each is 5 ms

    async def _read(self, services: Sequence[Watched], now: float) -> tuple[RateHistory, RateHistory]:
        """Return the rates of the last hour and a half by cells, and those of the day before by quarters."""
        cell, quarter = self._times.cell_seconds, BIN_SECONDS
        recent = await self._collector.rate_history(
            services, start=now - HISTORY_SECONDS, end=now - cell, step=cell
        )
        # What the forecast takes as its history is left out of the day: it is observed again.
        days = await self._collector.rate_history(
            services, start=now - DAY_SECONDS, end=now - HISTORY_SECONDS - quarter, step=quarter
        )
        return recent, days
