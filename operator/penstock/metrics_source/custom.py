"""A service's own queries: confined to its namespace, bounded, and each expected to give one number.

Two questions are derived from them: how fast QueueDepth grows, and how old the samples behind them are
(custom_ages), because the value of a query that has lost its series does not count.
Where an answer may be incomplete, or nobody can say whether its series still report, a zero is missing, and
an ArrivalRate is what comes at least: with the growth missing more replicas may follow from it, not fewer.
ArrivalRate is what arrives, `Load.arrival_rate` what got its first token: the growth of the queue is taken
off it, because offered load is the latter plus that growth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from penstock.metrics_source import absences
from penstock.metrics_source.ask import Answer, Asker, CollectLimits
from penstock.metrics_source.base import QueryError, ResultType, shorten
from penstock.metrics_source.catalogue import FleetQuery
from penstock.metrics_source.confined import confined
from penstock.metrics_source.custom_ages import NOT_ASKED, SelectorAges, selector_ages
from penstock.metrics_source.fleet import silenced
from penstock.metrics_source.identity import SeriesSettings, Watched
from penstock.metrics_source.partial_answers import incomplete, passed_on
from penstock.metrics_source.promql import duration
from penstock.metrics_source.promql_scope import ScopedQuery
from penstock.metrics_source.promql_tokens import PromqlRefusedError
from penstock.model.observation import Load
from penstock.model.reading import Absence, Reading
from penstock.model.spec import CustomQuery, Metric, Signal

log = structlog.get_logger(__name__)
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
        """Return `base` (None: a Custom engine) with what the service's own queries give; raises nothing."""
        try:
            return await self._load(asker.on_behalf_of(self.watched.key.namespace), base)
        except Exception as error:
            # Whatever it is, it is this service's: the fleet's loads are collected together.
            log.exception("a service's own queries could not be read", service=str(self.watched.key))
            defect = f"a defect of Penstock met its own queries: {type(error).__name__}: {error}"
            why = Reading.missing(Absence.QUERY_FAILED, f"{defect}; the log has more, report it")
            return silenced(self._without_queries() if base is None else base, why, age=why)

    async def _load(self, asker: Asker, base: Load | None) -> Load:
        scoped: dict[CustomQuery, ScopedQuery] = {}
        readings: dict[Signal, Reading] = {}
        namespace = self.watched.key.namespace
        for query in self.watched.spec.engine.queries:
            try:
                scoped[query] = confined(query.promql, namespace, self.settings)
            except PromqlRefusedError as error:
                readings[query.signal] = absences.custom_refused(query.signal.value, str(error))
        asked = await asker.all([each.promql for each in scoped.values()], self.limits.custom())
        answers = dict(zip(scoped, asked, strict=True))
        ages = NOT_ASKED if base is not None else await self._ages(asker, scoped, answers)
        doubts = dict[Signal, Reading]()
        for query, answer in answers.items():
            readings[query.signal], doubt = self._judged(query, answer, ages, scoped[query])
            if doubt is not None:
                doubts[query.signal] = doubt
        growth = doubts.get(Signal.ARRIVAL_RATE)
        if growth is None:
            growth = await self._growth(asker, scoped, answers, readings.get(Signal.QUEUE_DEPTH))
        warnings = passed_on(each for answer in answers.values() for each in _warnings(answer))
        if base is not None:
            load = self._with(base, readings, growth)
            return replace(load, warnings=tuple(dict.fromkeys((*base.warnings, *warnings))))
        growth = growth or absences.no_custom_query(Signal.QUEUE_DEPTH.value)
        arrived = readings.get(Signal.ARRIVAL_RATE)
        if arrived is not None:
            readings[Signal.ARRIVAL_RATE], growth = _taken_up(arrived, growth)
        load = self._with(self._without_queries(), readings, growth)
        load = replace(load, sample_age_seconds=ages.worst, warnings=warnings)
        if self._is_old(ages.worst) and any(each.present for each in readings.values()):
            return silenced(load, absences.custom_stale(self.settings), age=ages.worst)
        return load

    async def _ages(
        self, asker: Asker, scoped: Mapping[CustomQuery, ScopedQuery], answers: Mapping[CustomQuery, Answer]
    ) -> SelectorAges:
        """Ask for the ages of what the answered queries read; others may have failed for their selectors."""
        answered = [query for query, answer in answers.items() if not isinstance(answer, QueryError)]
        selectors = [selector for query in answered for selector in scoped[query].selectors]
        return await selector_ages(asker, selectors, self.settings, self.limits)

    def _judged(
        self, query: CustomQuery, answer: Answer, ages: SelectorAges, scoped: ScopedQuery
    ) -> tuple[Reading, Reading | None]:
        """Return what a query gives, and why that may be too little; None where nothing says so."""
        reading, signal = self._read(query, answer), query.signal
        if isinstance(answer, QueryError):
            return reading, None
        if reading.present and ages.lost(scoped.selectors):
            return absences.custom_lost(signal.value, query.promql), None
        if (partial := incomplete(signal.value, answer.warnings)) is not None:
            # What a part of the pods are sent is sent; their part of a mean or a percentile tells nothing.
            return (reading if signal is Signal.ARRIVAL_RATE and reading.value else partial), partial
        if reading.present and ages.in_doubt(scoped.selectors):
            why = _age_unknown(query, ages)
            return (reading if reading.value else why), why
        return reading, None

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

    async def _growth(
        self,
        asker: Asker,
        scoped: Mapping[CustomQuery, ScopedQuery],
        answers: Mapping[CustomQuery, Answer],
        depth: Reading | None,
    ) -> Reading | None:
        """Return how fast QueueDepth, whose reading is `depth`, grows; None without a query for it."""
        if depth is None or not depth.present:
            return depth
        query = next(each for each in answers if each.signal is Signal.QUEUE_DEPTH)
        promql, answer = scoped[query].promql, answers[query]
        if not isinstance(answer, QueryError) and answer.type is ResultType.SCALAR:
            promql = f"vector({promql})"
        window = self.settings.rate_window_seconds
        steps = f"{duration(window)}:{duration(window / GROWTH_STEPS)}"
        answer = await asker.one(f"deriv(({promql})[{steps}])", self.limits.custom())
        if isinstance(answer, QueryError):
            return absences.query_failed("the growth of QueueDepth", answer)
        if (partial := incomplete("the growth of QueueDepth", answer.warnings)) is not None:
            return partial
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

    def _with(self, load: Load, readings: Mapping[Signal, Reading], growth: Reading | None) -> Load:
        changed: dict[str, object] = {}
        families = {metric: dict(getattr(load, metric.value)) for metric in Metric}
        for signal, reading in readings.items():
            if signal in FIELDS:
                changed[FIELDS[signal]] = reading
                continue
            family, _, percent = signal.value.rpartition("P")
            families[_FAMILIES[family]][int(percent) / 100] = reading
        changed |= {metric.value: family for metric, family in families.items()}
        if growth is not None:
            changed[FleetQuery.QUEUE_GROWTH.value] = growth
        return replace(load, **changed)  # type: ignore[arg-type]


def _age_unknown(query: CustomQuery, ages: SelectorAges) -> Reading:
    """Why the value of a query is not relied on that may have lost its series."""
    return Reading.missing(
        Absence.QUERY_FAILED,
        f"it could not be asked whether what the query for {query.signal.value} reads still reports: "
        f"{ages.failure}; until it can, a 0 is not counted and nothing is scaled down: fewer selectors are "
        f"asked about sooner (query: {shorten(query.promql)})",
    )


def _warnings(answer: Answer) -> Sequence[str]:
    return () if isinstance(answer, QueryError) else answer.warnings


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
