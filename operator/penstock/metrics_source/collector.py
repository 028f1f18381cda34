"""Signals of the whole fleet at one instant: a fixed number of queries, however many services.

What cannot be read is a missing reading with its cause; nothing that Prometheus does raises here.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from penstock.metrics_source import absences
from penstock.metrics_source.ask import Asker, CollectLimits
from penstock.metrics_source.base import MetricsSource, QueryLimits
from penstock.metrics_source.catalogue import FleetQuery
from penstock.metrics_source.collection import collection_paused
from penstock.metrics_source.custom import CustomReader
from penstock.metrics_source.fleet import EngineLoads
from penstock.metrics_source.fleet_columns import FleetColumns
from penstock.metrics_source.history import RateHistory, read_rate_history
from penstock.metrics_source.identity import SeriesSettings, Watched
from penstock.metrics_source.loads import FleetLoads
from penstock.metrics_source.plan import EnginePlan, Planner

__all__ = ["CollectLimits", "Collector", "FleetLoads", "RateHistory"]


class Collector:
    """Reads every signal of every watched service. Remembers the plan, and whose lengths are read next."""

    def __init__(
        self,
        source: MetricsSource,
        settings: SeriesSettings | None = None,
        limits: CollectLimits | None = None,
    ) -> None:
        self._source = source
        self._settings = settings or SeriesSettings()
        self._limits = limits or CollectLimits()
        self._planner = Planner(self._settings)
        self._turn = 0

    async def collect(self, services: Sequence[Watched], *, at: float) -> FleetLoads:
        """Return the load of each service at `at` (Unix seconds); what is unknown is a missing reading."""
        asker = Asker(self._source, self._limits, at)
        plans = self._planner.plan(services, self._turn)
        self._turn += 1
        loads = FleetLoads()
        by_engine = await asyncio.gather(*(self._engine(each, asker) for each in plans))
        for plan, found in zip(plans, by_engine, strict=True):
            loads.add_engine(plan.rows, found)
        own = self._planner.with_own_queries
        readers = [CustomReader(each, self._settings, self._limits) for each in own]
        read = await asyncio.gather(*(each.load(asker, loads.get(each.watched.key)) for each in readers))
        for each, load in zip(own, read, strict=True):
            loads.add(each.key, load)
        skew = self._source.clock_skew_seconds()
        if skew is not None and math.fabs(skew) > self._settings.clock_skew_bound_seconds:
            loads.silence(absences.clock_skew(skew, self._settings))
        return loads

    async def rate_history(
        self, services: Sequence[Watched], *, start: float, end: float, step: float
    ) -> RateHistory:
        """Return each service's arrival rates, (Unix seconds, 1/s) oldest first; raises `QueryError`."""
        return await read_rate_history(
            self._source, services, self._settings, start=start, end=end, step=step
        )

    async def _engine(self, plan: EnginePlan, asker: Asker) -> EngineLoads:
        limits = QueryLimits(timeout_seconds=self._limits.query_timeout_seconds)
        columns = FleetColumns(plan, self._settings)

        async def take(query: FleetQuery, text: str) -> None:
            answer = await asker.one(text, limits) if text else None
            with collection_paused():
                columns.take(query, answer)

        await asyncio.gather(*(take(*each) for each in plan.queries.items()))
        return EngineLoads(columns)
