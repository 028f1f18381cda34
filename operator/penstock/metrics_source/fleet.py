"""Turns the answers of one engine type into the loads of its services.

Every answer becomes a column (a number per service, or one absence shared by all), columns become
readings, and then services whose series are missing or stale lose what the columns said: a rate outlives
its pods by a window, which would look like falling load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.metrics_source import absences
from penstock.metrics_source.ask import Answer
from penstock.metrics_source.base import QueryError
from penstock.metrics_source.catalogue import PERCENTILES, FleetQuery
from penstock.metrics_source.columns import Column, Samples, by_part
from penstock.metrics_source.identity import PART_LABEL, IdentifyBy, SeriesSettings
from penstock.metrics_source.plan import EnginePlan
from penstock.metrics_source.promql import AGE, BEFORE, DENOMINATOR, NUMERATOR, PODS, RUNNING
from penstock.model.observation import Histogram, Load
from penstock.model.reading import Absence, Reading
from penstock.model.spec import Metric

Readings = Sequence[Reading]
NONE_WANTED: Mapping[float, Reading] = {}
# A comparison with both is false for NaN too, and takes half the time of math.isfinite.
LOWEST, HIGHEST = -math.inf, math.inf


@dataclass(frozen=True, slots=True)
class Assembly:
    """One engine type's answers at one tick."""

    plan: EnginePlan
    settings: SeriesSettings
    answers: Mapping[FleetQuery, Answer]

    def loads(self) -> list[Load]:
        """Return the load of each service of the plan, in its order."""
        columns = {query: self._column(query) for query in _SUMS}
        columns[FleetQuery.TPOT_MEAN] = self._tpot_mean()
        families = {metric: self._family(metric) for metric in Metric}
        pulse = self._pulse()
        columns[FleetQuery.PULSE] = pulse if isinstance(pulse, Reading) else pulse.running
        if not isinstance(pulse, Reading) and not pulse.window_filled:
            # rate() divides by the whole window, however little of it Prometheus has seen: half a minute
            # after an outage it says half the load.
            columns |= dict.fromkeys(_RATES, absences.window_not_filled(self.settings))
        arrivals = self._readings(FleetQuery.ARRIVAL_RATE, columns)
        means = self._latencies(FleetQuery.TPOT_MEAN, columns[FleetQuery.TPOT_MEAN], arrivals)
        everybody = [pulse] * len(self.plan.services) if isinstance(pulse, Reading) else []
        loads = [
            Load(*row)
            # In the order of Load's fields; by keyword it takes twice as long.
            for row in zip(
                arrivals,
                self._readings(FleetQuery.QUEUE_GROWTH, columns),
                self._readings(FleetQuery.WAITING, columns),
                self._readings(FleetQuery.PULSE, columns),
                self._readings(FleetQuery.INPUT_TOKEN_RATE, columns),
                self._readings(FleetQuery.OUTPUT_TOKEN_RATE, columns),
                means,
                self._percentiles(Metric.TTFT, families[Metric.TTFT], arrivals),
                self._percentiles(Metric.TPOT, families[Metric.TPOT], arrivals),
                self._percentiles(Metric.LATENCY, families[Metric.LATENCY], arrivals),
                everybody if isinstance(pulse, Reading) else pulse.pods,
                everybody if isinstance(pulse, Reading) else pulse.ages,
                self._lengths(FleetQuery.INPUT_LENGTHS),
                self._lengths(FleetQuery.OUTPUT_LENGTHS),
                [self._warnings()] * len(self.plan.services),
                strict=True,
            )
        ]
        if not isinstance(pulse, Reading):
            for row in pulse.gone:
                loads[row] = self._without(loads[row], row, pulse, columns, families)
        return loads

    def _samples(self, query: FleetQuery) -> Samples | Reading:
        """Return the samples of an answer, or why there are none for anybody."""
        if not self.plan.queries.get(query):
            return absences.not_exposed(self.plan.series, query)
        answer = self.answers[query]
        if isinstance(answer, QueryError):
            return absences.query_failed(query.value, answer)
        return answer.samples

    def _column(self, query: FleetQuery) -> Column | Reading:
        samples = self._samples(query)
        return samples if isinstance(samples, Reading) else self.plan.index.total(samples)

    def _pulse(self) -> _Pulse | Reading:
        samples = self._samples(FleetQuery.PULSE)
        if isinstance(samples, Reading):
            return samples
        index, bound = self.plan.index, self.settings.stale_after_seconds
        if self.settings.identify_by is IdentifyBy.POD:
            parts = by_part(samples)
            running, ages = index.total(parts.get(RUNNING, [])), index.least(parts.get(AGE, []))
            pods = index.count_up_to(parts.get(AGE, []), bound)
        else:
            totals = index.totals_by_part(samples)
            running, ages, pods = (totals.get(part) or index.empty() for part in (RUNNING, AGE, PODS))
        before = [value for labels, value in samples if labels.get(PART_LABEL) == BEFORE]
        gone = [row for row, age in enumerate(ages) if age is None or not age <= bound]
        return _Pulse(
            running=running,
            ages=[_UNREAD if age is None else Reading(age) for age in ages],
            pods=[Reading(each or 0.0) for each in pods],
            gone=gone,
            window_filled=any(age <= self.settings.rate_window_seconds / 2 for age in before),
            hint=self._hint(samples) if gone else "",
        )

    def _tpot_mean(self) -> Column | Reading:
        samples = self._samples(FleetQuery.TPOT_MEAN)
        if isinstance(samples, Reading):
            return samples
        if self.settings.identify_by is IdentifyBy.SERVICE:
            return self.plan.index.total(samples)
        totals = self.plan.index.totals_by_part(samples)
        over, under = (totals.get(part) or self.plan.index.empty() for part in (NUMERATOR, DENOMINATOR))
        return [_ratio(*pair) for pair in zip(over, under, strict=True)]

    def _family(self, metric: Metric) -> Mapping[float, Column] | Reading:
        percentiles = self.plan.percentiles[metric]
        if not percentiles:
            return {}
        samples = self._samples(PERCENTILES[metric])
        if isinstance(samples, Reading):
            return samples
        if self.settings.identify_by is IdentifyBy.POD:
            return self.plan.index.quantiles(samples, percentiles)
        totals = self.plan.index.totals_by_part(samples)
        return {each: totals.get(f"{each:g}") or self.plan.index.empty() for each in percentiles}

    def _readings(self, query: FleetQuery, columns: Mapping[FleetQuery, Column | Reading]) -> Readings:
        column = columns[query]
        if isinstance(column, Reading):
            return [column] * len(self.plan.services)
        missing = self._too_few(query)
        metric = self.plan.series.metric(query)
        return [
            Reading(value)
            if value is not None and LOWEST < value < HIGHEST
            else missing
            if value is None
            else absences.not_a_number(metric, value)
            for value in column
        ]

    def _latencies(self, query: FleetQuery, column: Column | Reading, counts: Readings) -> Readings:
        """Return readings of a latency; without requests (`counts` says 0) it has none: no fault."""
        if isinstance(column, Reading):
            return [column] * len(self.plan.services)
        missing, idle = self._too_few(query), absences.no_requests(self.settings)
        metric = self.plan.series.metric(query)
        found = []
        for value, count in zip(column, counts, strict=True):
            if value is not None and LOWEST < value < HIGHEST:
                found.append(Reading(value))
            elif count.value == 0.0 or (value is not None and math.isnan(value) and query in _AT_THE_END):
                found.append(idle)
            elif value is None:
                found.append(missing)
            else:
                found.append(absences.not_a_number(metric, value))
        return found

    def _percentiles(
        self, metric: Metric, family: Mapping[float, Column] | Reading, arrivals: Readings
    ) -> list[Mapping[float, Reading]]:
        """Return for each service the percentiles that its own objectives use."""
        services = self.plan.services
        wanted = self.plan.percentiles[metric]
        if not wanted:
            return [NONE_WANTED] * len(services)
        query = PERCENTILES[metric]
        readings = {
            each: self._latencies(query, family if isinstance(family, Reading) else family[each], arrivals)
            for each in wanted
        }
        return [
            {
                each.percentile: readings[each.percentile][row]
                for each in service.spec.slo.objectives
                if each.metric is metric
            }
            for row, service in enumerate(services)
        ]

    def _lengths(self, query: FleetQuery) -> Sequence[Histogram | None]:
        samples = self._samples(query)
        if isinstance(samples, Reading):
            return [None] * len(self.plan.services)
        return self.plan.index.lengths(samples)

    def _warnings(self) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for answer in self.answers.values():
            if not isinstance(answer, QueryError):
                found.update(dict.fromkeys(answer.warnings))
        return tuple(found)

    def _too_few(self, query: FleetQuery) -> Reading:
        series = self.plan.series
        return absences.too_few_samples(series.metric(query), self.settings, series.advice.get(query, ""))

    def _hint(self, samples: Samples) -> str:
        """Say what a service without series should look at, from what the others have."""
        index = self.plan.index
        found = [labels for labels, _ in samples if labels.get(PART_LABEL) == RUNNING]
        if not found:
            advice = self.plan.series.advice.get(FleetQuery.PULSE, "")
            start = f", {advice}" if advice else ""
            return f"nobody has any; check engine.type{start} and that Prometheus scrapes the pods"
        for label in (index.namespace_label, index.label):
            if not any(label in labels for labels in found):
                return f"series exist, none has the label {label!r}; set the label that your scrapes write"
        return "others have it; check that Prometheus scrapes its pods and that these labels match"

    def _without(
        self,
        load: Load,
        row: int,
        pulse: _Pulse,
        columns: Mapping[FleetQuery, Column | Reading],
        families: Mapping[Metric, Mapping[float, Column] | Reading],
    ) -> Load:
        """Return `load` with all signals missing: its series are absent or stale."""
        watched, metric = self.plan.services[row], self.plan.series.running
        seen = [each for each in columns.values() if not isinstance(each, Reading)]
        for family in families.values():
            seen += [] if isinstance(family, Reading) else family.values()
        if pulse.ages[row].present or any(column[row] is not None for column in seen):
            why = absences.stale(watched, self.settings, metric=metric)
        else:
            query = self.plan.queries[FleetQuery.PULSE]
            why = absences.no_series(watched, self.settings, metric=metric, query=query, hint=pulse.hint)
        return silenced(load, why, age=pulse.ages[row] if pulse.ages[row].present else why)


@dataclass(frozen=True, slots=True)
class _Pulse:
    """What the running gauge tells: its sum, the age of its newest sample, how many pods report."""

    running: Column
    ages: Readings
    pods: Readings
    gone: Sequence[int]
    window_filled: bool
    hint: str


def silenced(load: Load, why: Reading, *, age: Reading) -> Load:
    """Return `load` with every signal missing for the same reason; the count of pods stays a fact."""
    return replace(
        load,
        arrival_rate=why,
        queue_growth=why,
        waiting=why,
        running=why,
        input_token_rate=why,
        output_token_rate=why,
        tpot_mean=why,
        ttft=dict.fromkeys(load.ttft, why),
        tpot=dict.fromkeys(load.tpot, why),
        latency=dict.fromkeys(load.latency, why),
        sample_age_seconds=age,
        input_lengths=None,
        output_lengths=None,
    )


_SUMS = (
    FleetQuery.WAITING,
    FleetQuery.QUEUE_GROWTH,
    FleetQuery.ARRIVAL_RATE,
    FleetQuery.INPUT_TOKEN_RATE,
    FleetQuery.OUTPUT_TOKEN_RATE,
)
_RATES = (FleetQuery.ARRIVAL_RATE, FleetQuery.INPUT_TOKEN_RATE, FleetQuery.OUTPUT_TOKEN_RATE)
# Observed when a request ends: with long streams nothing may end within a window though requests arrive.
_AT_THE_END = (FleetQuery.TPOT_MEAN, FleetQuery.TPOT, FleetQuery.LATENCY)
_UNREAD = Reading.missing(Absence.NO_SERIES)  # replaced by the reason that holds for the service


def _ratio(over: float | None, under: float | None) -> float | None:
    if over is None or under is None:
        return None
    return over / under if under else math.nan
