"""Error budgets: counts, every five minutes, how many requests missed their objectives.

Beside the ticks, because buckets of a fleet are long: a part of the services at a time, spread over the
interval. All are counted for the same five minutes of the clock, so that nothing is counted twice; an
interval that Prometheus did not answer for is not counted at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from penstock.controller.between_ticks import BetweenTicks
from penstock.controller.service_state import ServiceState
from penstock.metrics_source.base import MetricsSource, QueryError
from penstock.metrics_source.identity import SeriesSettings, Watched
from penstock.metrics_source.missed_requests import read_missed
from penstock.model.objective_counts import NONE_COUNTED
from penstock.model.spec import ServiceKey
from penstock.policy import availability
from penstock.policy.error_budget import availability_budget, count, latency_budget

log = structlog.get_logger(__name__)
EVERY_SECONDS = 300.0
# What happened last must have been scraped.
SCRAPES_LATER = 2
# The rest is for answers that take their time.
SPREAD_RATIO = 0.5


class Budgets:
    """Keeps the `budget` of every service's state; nothing else writes it."""

    def __init__(
        self,
        source: MetricsSource,
        settings: SeriesSettings,
        states: Mapping[ServiceKey, ServiceState],
        gap: BetweenTicks,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source, self._settings, self._states, self._clock = source, settings, states, clock
        self._gap = gap

    async def run(self) -> None:
        """Count until cancelled."""
        later = SCRAPES_LATER * self._settings.scrape_interval_seconds
        while True:
            until = (self._clock() // EVERY_SECONDS + 1) * EVERY_SECONDS
            await asyncio.sleep(until + later - self._clock())
            shards = self._shards()
            for shard in shards:
                await self._gap.come()
                try:
                    await self.once(shard, until)
                except Exception:
                    # The task must outlive a defect: budgets are for people, not for decisions.
                    log.exception("error budgets could not be counted")
                await asyncio.sleep(EVERY_SECONDS * SPREAD_RATIO / len(shards))

    async def once(self, services: Sequence[Watched], until: float) -> None:
        """Count the interval that ended then (Unix seconds) for these services."""
        try:
            found = await read_missed(self._source, services, self._settings, at=until, seconds=EVERY_SECONDS)
        except QueryError as error:
            log.warning("latencies are not counted", services=len(services), error=error.message)
            found = {}
        for each in services:
            state = self._states.get(each.key)
            if state is None:
                continue  # deleted meanwhile
            slo, latencies = each.spec.slo, found.get(each.key, {})
            counted = {latency_budget(objective).key: more for objective, more in latencies.items()}
            if readings := state.gateway.memory.readings:
                answered = availability.since(state.offered_before, readings[-1], slo)
                counted[availability_budget(slo).key], state.offered_before = answered, readings[-1]
            state.budget = count(state.budget, slo, counted, until)
            for (name, _), more in counted.items():
                state.counted[name] = state.counted.get(name, NONE_COUNTED) + more

    def _shards(self) -> list[list[Watched]]:
        watched = [state.watched for state in self._states.values() if state.watched is not None]
        size = self._settings.length_shard_services
        return [watched[first : first + size] for first in range(0, len(watched), size)]
