"""A service's own queries: confined to its namespace, bounded, and each expected to give one number.

Two questions are derived from them. How fast QueueDepth grows, because offered load is what arrives plus
what queues up. And how old the samples behind them are: ``foo or vector(0)`` gives 0 for ever after foo
has gone, so when no selector has a fresh sample the values do not count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.metrics_source import absences
from penstock.metrics_source.ask import Answer, Asker, CollectLimits
from penstock.metrics_source.base import QueryError, QueryLimits, ResultType
from penstock.metrics_source.catalogue import FleetQuery
from penstock.metrics_source.fleet import silenced
from penstock.metrics_source.identity import PART_LABEL, SeriesSettings, Watched
from penstock.metrics_source.promql import duration, label_union
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
_NO_SELECTORS = Reading.missing(Absence.NOT_EXPOSED, "the custom queries read no series")


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
        answers = await self._ask(asker, [each.promql for each in scoped.values()])
        for query, answer in zip(scoped, answers, strict=True):
            readings[query.signal] = self._read(query, answer)
        depth = next((each for each in scoped if each.signal is Signal.QUEUE_DEPTH), None)
        if depth is not None and readings[Signal.QUEUE_DEPTH].present:
            growth = await self._growth(asker, scoped[depth].promql, answers[list(scoped).index(depth)])
        else:
            growth = readings.get(Signal.QUEUE_DEPTH) or absences.no_custom_query(Signal.QUEUE_DEPTH.value)
        if base is not None:
            return self._with(base, readings, growth)
        age = await self._age(asker, [selector for each in scoped.values() for selector in each.selectors])
        load = replace(self._with(self._without_queries(), readings, growth), sample_age_seconds=age)
        if self._is_old(age) and any(each.present for each in readings.values()):
            return silenced(load, absences.custom_stale(self.settings), age=age)
        return load

    async def _ask(self, asker: Asker, queries: Sequence[str]) -> list[Answer]:
        limits = QueryLimits(
            timeout_seconds=self.limits.custom_timeout_seconds,
            answer_bytes=self.limits.custom_answer_bytes,
            series=2,  # tells one from several
        )
        return await asker.all(queries, limits)

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
        (answer,) = await self._ask(asker, [f"deriv(({promql})[{steps}])"])
        if isinstance(answer, QueryError):
            return absences.query_failed("the growth of QueueDepth", answer)
        values = [value for _, value in answer.samples]
        if len(values) != 1 or not math.isfinite(values[0]):
            return absences.too_few_samples("the query for QueueDepth", self.settings, "")
        return Reading(values[0])

    async def _age(self, asker: Asker, selectors: Sequence[str]) -> Reading:
        """Return how old the newest sample of the worst selector is (seconds)."""
        if not selectors:
            return _NO_SELECTORS
        distinct = enumerate(dict.fromkeys(selectors))
        ages = label_union({str(number): f"time() - timestamp({each})" for number, each in distinct})
        (answer,) = await self._ask(asker, [f"max(min by ({PART_LABEL}) ({ages}))"])
        if isinstance(answer, QueryError):
            return absences.query_failed("the age of the custom series", answer)
        for _, value in answer.samples:
            return Reading(value)
        return absences.custom_stale(self.settings)

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


_FAMILIES = {"TTFT": Metric.TTFT, "TPOT": Metric.TPOT, "Latency": Metric.LATENCY}
_FAMILY_NAMES = {metric: name for name, metric in _FAMILIES.items()}
