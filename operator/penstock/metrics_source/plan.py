"""Which queries one engine type's services need at one tick, and for which services lengths are read.

Percentiles are those that some objective uses. Length histograms are long (20 buckets a service) and
change slowly, so each tick reads them for a shard of the services, in turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import is_

from penstock.metrics_source.catalogue import CATALOGUE, LENGTHS, PERCENTILES, EngineSeries, FleetQuery
from penstock.metrics_source.columns import ServiceIndex
from penstock.metrics_source.identity import IdentifyBy, SeriesSettings, Watched
from penstock.metrics_source.promql import WHOLE_FLEET, QueryWriter, Shard
from penstock.model.spec import EngineType, Metric, ServiceKey


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """The services of one engine type and their queries; a query is empty where the engine has no metric."""

    services: tuple[Watched, ...]
    rows: Mapping[ServiceKey, int]  # where a service is among them
    index: ServiceIndex
    series: EngineSeries
    percentiles: Mapping[Metric, tuple[float, ...]]
    queries: Mapping[FleetQuery, str]


class Planner:
    """Plans each tick; most of a plan holds as long as the services are the very same objects."""

    def __init__(self, settings: SeriesSettings) -> None:
        self._settings = settings
        self._services: Sequence[Watched] = ()
        self._plans: tuple[EnginePlan, ...] = ()
        self.with_own_queries: Sequence[Watched] = ()

    def plan(self, services: Sequence[Watched], turn: int) -> list[EnginePlan]:
        """Return a plan for each engine type that is in the catalogue; `turn` counts the ticks."""
        if len(services) != len(self._services) or not all(map(is_, services, self._services)):
            self._services, self._plans = services, tuple(_plans(services, self._settings))
            self.with_own_queries = [
                each
                for each in services
                if each.spec.engine.queries or each.spec.engine.type is EngineType.CUSTOM
            ]
        return [_with_lengths(each, self._settings, turn) for each in self._plans]


def plan_tick(services: Sequence[Watched], settings: SeriesSettings, turn: int) -> list[EnginePlan]:
    """Return a plan for each engine type that is in the catalogue; `turn` counts the ticks."""
    return Planner(settings).plan(services, turn)


def shard_of(services: Sequence[Watched], settings: SeriesSettings, turn: int) -> Sequence[Watched]:
    """Return the services whose lengths are read at this turn."""
    shards = -(-len(services) // settings.length_shard_services)
    first = (turn % shards) * settings.length_shard_services
    return services[first : first + settings.length_shard_services]


def _plans(services: Sequence[Watched], settings: SeriesSettings) -> Iterator[EnginePlan]:
    for engine, series in CATALOGUE.items():
        chosen = tuple(each for each in services if each.spec.engine.type is engine)
        if chosen:
            yield _plan(series, chosen, settings)


def _plan(series: EngineSeries, services: tuple[Watched, ...], settings: SeriesSettings) -> EnginePlan:
    """Return the plan without the lengths."""
    used: dict[Metric, set[float]] = {metric: set() for metric in Metric}
    for each in services:
        for objective in each.spec.slo.objectives:
            used[objective.metric].add(objective.percentile)
    percentiles = {metric: tuple(sorted(each)) for metric, each in used.items()}
    writer = QueryWriter(series, settings)
    queries = {}
    for metric, query in PERCENTILES.items():
        if percentiles[metric]:
            queries[query] = writer.write(query, percentiles[metric])
    for query in FleetQuery:
        if query not in LENGTHS and query not in PERCENTILES.values():
            queries[query] = writer.write(query)
    rows = {each.key: row for row, each in enumerate(services)}
    return EnginePlan(services, rows, ServiceIndex.of(services, settings), series, percentiles, queries)


def _with_lengths(plan: EnginePlan, settings: SeriesSettings, turn: int) -> EnginePlan:
    """Return the plan with the lengths of this turn's shard, asked for first: they take longest."""
    services = shard_of(plan.services, settings, turn)
    shard = WHOLE_FLEET if len(services) == len(plan.services) else matching(services, settings)
    writer = QueryWriter(plan.series, settings, shard)
    lengths = {query: writer.write(query) for query in LENGTHS}
    return replace(plan, queries={**lengths, **plan.queries})


def matching(services: Sequence[Watched], settings: SeriesSettings) -> Shard:
    """Return matchers that cover the services; more series may match, they find no row."""
    namespaces = tuple(sorted({each.key.namespace for each in services}))
    if settings.identify_by is IdentifyBy.SERVICE:
        label, names = settings.service_label, {each.label_value for each in services}
    else:
        label, names = settings.pod_label, {pod for each in services for pod in each.pods}
    return Shard({settings.namespace_label: namespaces, label: tuple(sorted(names))})
