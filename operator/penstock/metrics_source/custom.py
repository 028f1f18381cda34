"""A service's own queries: confined to its namespace, bounded, and each expected to give one number.

Two questions are derived from them: how fast QueueDepth grows, and how old the samples behind them are
(custom_ages), because the value of a query that has lost its series does not count.
ArrivalRate is what arrives, `Load.arrival_rate` what got its first token: the growth of the queue is taken
off it, because offered load is the latter plus that growth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from penstock.metrics_source import absences
from penstock.metrics_source.ask import Answer, Asker, CollectLimits
from penstock.metrics_source.base import QueryError, ResultType
from penstock.metrics_source.catalogue import FleetQuery
from penstock.metrics_source.custom_ages import NOT_ASKED, SelectorAges, selector_ages
from penstock.metrics_source.fleet import silenced
from penstock.metrics_source.identity import SeriesSettings, Watched
from penstock.metrics_source.promql import duration
from penstock.metrics_source.promql_scope import ScopedQuery, scope
from penstock.metrics_source.promql_tokens import PromqlRefusedError
from penstock.model.observation import Load
from penstock.model.reading import Absence, Reading
from penstock.model.spec import CustomQuery, EngineType, Metric, Signal

FIELDS = {
    Signal.ARRIVAL_RATE: FleetQuery.ARRIVAL_RATE.value,
    Signal.QUEUE_DEPTH: FleetQuery.WAITING.value,
    Signal.RUNNING: FleetQuery.PULSE.value,
    Signal.INPUT_TOKEN_RATE: FleetQuery.INPUT_TOKEN_RATE.value,
    Signal.OUTPUT_TOKEN_RATE: FleetQuery.OUTPUT_TOKEN_RATE.value,
    Signal.MEAN_TPOT: FleetQuery.TPOT_MEAN.value,
}
GROWTH_STEPS = 4
_NO_PODS = Reading.missing(Absence.NOT_EXPOSED, "custom queries do not tell which pods report")


@dataclass(frozen=True, slots=True)
class CustomReader:
    """Reads the custom queries of one service at one tick."""

    watched: Watched
    settings: SeriesSettings
    limits: CollectLimits

    async def load(self, asker: Asker, base: Load | None) -> Load:
        """Return `base` (None: a Custom engine) with what the service's own queries give."""
        scoped: dict[CustomQuery, ScopedQuery] = {}
        readings: dict[Signal, Reading] = {}
        namespace = self.watched.key.namespace
        for query in self.watched.spec.engine.queries:
            try:
                scoped[query] = scope(query.promql, label=self.settings.namespace_label, value=namespace)
            except PromqlRefusedError as error:
                readings[query.signal] = absences.custom_refused(query.signal.value, str(error))
        answers = await asker.all([each.promql for each in scoped.values()], self.limits.custom())
        for query, answer in zip(scoped, answers, strict=True):
            readings[query.signal] = self._read(query, answer)
        ages = NOT_ASKED if base is not None else await self._ages(asker, scoped)
        for query, each in scoped.items():
            if readings[query.signal].present and ages.lost(each.selectors):
                readings[query.signal] = absences.custom_lost(query.signal.value, query.promql)
        depth = next((each for each in scoped if each.signal is Signal.QUEUE_DEPTH), None)
        if depth is not None and readings[Signal.QUEUE_DEPTH].present:
            growth = await self._growth(asker, scoped[depth].promql, answers[list(scoped).index(depth)])
        else:
            growth = readings.get(Signal.QUEUE_DEPTH) or absences.no_custom_query(Signal.QUEUE_DEPTH.value)
        if base is not None:
            return self._with(base, readings, growth)
        arrived = readings.get(Signal.ARRIVAL_RATE)
        if arrived is not None:
            readings[Signal.ARRIVAL_RATE], growth = _taken_up(arrived, growth)
        load = self._with(self._without_queries(), readings, growth)
        load = replace(load, sample_age_seconds=ages.worst)
        if self._is_old(ages.worst) and any(each.present for each in readings.values()):
            return silenced(load, absences.custom_stale(self.settings), age=ages.worst)
        return load

    async def _ages(self, asker: Asker, scoped: Mapping[CustomQuery, ScopedQuery]) -> SelectorAges:
        selectors = [selector for each in scoped.values() for selector in each.selectors]
        return await selector_ages(asker, selectors, self.settings, self.limits)

    def _read(self, query: CustomQuery, answer: Answer) -> Reading:
        signal, promql = query.signal.value, query.promql
        if isinstance(answer, QueryError):
            return absences.query_failed(signal, answer)
        values = [value for _, value in answer.samples]
        if not values:
            return absences.custom_empty(signal, promql, self.watched.key.namespace)
        if len(values) > 1:
            return absences.custom_several(signal, promql)
        (value,) = values
        if not math.isfinite(value):
            return absences.custom_not_a_number(signal, promql, value)
        return Reading(value) if value >= 0 else absences.custom_negative(signal, promql)

    async def _growth(self, asker: Asker, promql: str, depth: Answer) -> Reading:
        if not isinstance(depth, QueryError) and depth.type is ResultType.SCALAR:
            promql = f"vector({promql})"
        window = self.settings.rate_window_seconds
        steps = f"{duration(window)}:{duration(window / GROWTH_STEPS)}"
        answer = await asker.one(f"deriv(({promql})[{steps}])", self.limits.custom())
        if isinstance(answer, QueryError):
            return absences.query_failed("the growth of QueueDepth", answer)
        values = [value for _, value in answer.samples]
        if len(values) != 1 or not math.isfinite(values[0]):
            return absences.too_few_samples("the query for QueueDepth", self.settings, "")
        return Reading(values[0])

    def _is_old(self, age: Reading) -> bool:
        # A question about age without an answer leaves the values as they are: its failure is not theirs.
        if age.value is None:
            return age.absence is Absence.STALE
        return age.value > self.settings.stale_after_seconds

    def _without_queries(self) -> Load:
        """Return a load in which every signal says that no query gives it."""
        missing = {field: absences.no_custom_query(signal.value) for signal, field in FIELDS.items()}
        families: dict[str, dict[float, Reading]] = {metric.value: {} for metric in Metric}
        for each in self.watched.spec.slo.objectives:
            signal = f"{_FAMILY_NAMES[each.metric]}P{round(each.percentile * 100)}"
            families[each.metric.value][each.percentile] = absences.no_custom_query(signal)
        return Load(**missing, **families, reporting_pods=_NO_PODS)  # type: ignore[arg-type]

    def _with(self, load: Load, readings: Mapping[Signal, Reading], growth: Reading) -> Load:
        changed: dict[str, object] = {}
        families = {metric: dict(getattr(load, metric.value)) for metric in Metric}
        for signal, reading in readings.items():
            if signal in FIELDS:
                changed[FIELDS[signal]] = reading
                continue
            family, _, percent = signal.value.rpartition("P")
            families[_FAMILIES[family]][int(percent) / 100] = reading
        changed |= {metric.value: family for metric, family in families.items()}
        if Signal.QUEUE_DEPTH in readings or self.watched.spec.engine.type is EngineType.CUSTOM:
            changed[FleetQuery.QUEUE_GROWTH.value] = growth
        return replace(load, **changed)  # type: ignore[arg-type]


def _taken_up(arrived: Reading, growth: Reading) -> tuple[Reading, Reading]:
    """Return the rate that left the queue and the queue's growth, whose sum is what arrived.

    While the growth is not known, all that arrived: the sum takes a missing growth as nothing.
    """
    if arrived.value is None or growth.value is None:
        return arrived, growth
    grows = min(growth.value, arrived.value)
    return Reading(arrived.value - grows), Reading(grows)


_FAMILIES = {"TTFT": Metric.TTFT, "TPOT": Metric.TPOT, "Latency": Metric.LATENCY}
_FAMILY_NAMES = {metric: name for name, metric in _FAMILIES.items()}
