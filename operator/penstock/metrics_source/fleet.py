"""Turns the columns of one engine type into the loads of its services.

Columns become readings, and then services whose series are missing or stale lose what the columns said: a
rate outlives its pods by a window, which would look like falling load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.metrics_source import absences
from penstock.metrics_source.catalogue import PERCENTILES, FleetQuery
from penstock.metrics_source.columns import Column
from penstock.metrics_source.fleet_columns import Family, FleetColumns, Pulse, Signal
from penstock.metrics_source.identity import SeriesSettings
from penstock.metrics_source.plan import EnginePlan
from penstock.model.observation import Histogram, Load
from penstock.model.reading import Absence, Reading
from penstock.model.spec import Metric

Readings = Sequence[Reading]
NONE_WANTED: Mapping[float, Reading] = {}
# A comparison with both is false for NaN too, and takes half the time of math.isfinite.
LOWEST, HIGHEST = -math.inf, math.inf


@dataclass(frozen=True, slots=True)
class Assembly:
    """One engine type's columns at one tick, all of them taken."""

    columns: FleetColumns

    @property
    def plan(self) -> EnginePlan:
        """Return what was asked, for whom."""
        return self.columns.plan

    @property
    def settings(self) -> SeriesSettings:
        """Return how series are told apart, and their times."""
        return self.columns.settings

    def loads(self) -> list[Load]:
        """Return the load of each service of the plan, in its order."""
        signals, families, pulse = dict(self.columns.signals), self.columns.families, self.columns.pulse
        assert pulse is not None  # noqa: S101 - every query was taken
        signals[FleetQuery.PULSE] = pulse if isinstance(pulse, Reading) else pulse.running
        if not isinstance(pulse, Reading) and not pulse.window_filled:
            # rate() divides by the whole window, however little of it Prometheus has seen: half a minute
            # after an outage it says half the load.
            signals |= dict.fromkeys(_RATES, absences.window_not_filled(self.settings))
        arrivals = self._readings(FleetQuery.ARRIVAL_RATE, signals)
        means = self._latencies(FleetQuery.TPOT_MEAN, signals[FleetQuery.TPOT_MEAN], arrivals)
        everybody = [pulse] * len(self.plan.services) if isinstance(pulse, Reading) else []
        loads = [
            Load(*row)
            # In the order of Load's fields; by keyword it takes twice as long.
            for row in zip(
                arrivals,
                self._readings(FleetQuery.QUEUE_GROWTH, signals),
                self._readings(FleetQuery.WAITING, signals),
                self._readings(FleetQuery.PULSE, signals),
                self._readings(FleetQuery.INPUT_TOKEN_RATE, signals),
                self._readings(FleetQuery.OUTPUT_TOKEN_RATE, signals),
                means,
                self._percentiles(Metric.TTFT, arrivals),
                self._percentiles(Metric.TPOT, arrivals),
                self._percentiles(Metric.LATENCY, arrivals),
                everybody if isinstance(pulse, Reading) else [_read(each or 0.0) for each in pulse.pods],
                everybody if isinstance(pulse, Reading) else [_age(each) for each in pulse.ages],
                self._lengths(FleetQuery.INPUT_LENGTHS),
                self._lengths(FleetQuery.OUTPUT_LENGTHS),
                [self.columns.warnings] * len(self.plan.services),
                strict=True,
            )
        ]
        if not isinstance(pulse, Reading):
            for row in pulse.gone:
                loads[row] = self._without(loads[row], row, pulse, [*signals.values()], families)
        return loads

    def _readings(self, query: FleetQuery, signals: Mapping[FleetQuery, Signal]) -> Readings:
        column = signals[query]
        if isinstance(column, Reading):
            return [column] * len(self.plan.services)
        missing = self._too_few(query)
        metric = self.plan.series.metric(query)
        return [
            _read(value)
            if value is not None and LOWEST < value < HIGHEST
            else missing
            if value is None
            else absences.not_a_number(metric, value)
            for value in column
        ]

    def _latencies(self, query: FleetQuery, column: Signal, counts: Readings) -> Readings:
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

    def _percentiles(self, metric: Metric, arrivals: Readings) -> list[Mapping[float, Reading]]:
        """Return for each service the percentiles that its own objectives use."""
        services = self.plan.services
        wanted = self.plan.percentiles[metric]
        if not wanted:
            return [NONE_WANTED] * len(services)
        query, family = PERCENTILES[metric], self.columns.families[metric]
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
        found = self.columns.lengths[query]
        return [None] * len(self.plan.services) if isinstance(found, Reading) else found

    def _too_few(self, query: FleetQuery) -> Reading:
        series = self.plan.series
        return absences.too_few_samples(series.metric(query), self.settings, series.advice.get(query, ""))

    def _without(
        self,
        load: Load,
        row: int,
        pulse: Pulse,
        signals: Sequence[Signal],
        families: Mapping[Metric, Family],
    ) -> Load:
        """Return `load` with all signals missing: its series are absent or stale."""
        watched, metric = self.plan.services[row], self.plan.series.running
        seen: list[Column] = [each for each in signals if not isinstance(each, Reading)]
        for family in families.values():
            seen += [] if isinstance(family, Reading) else family.values()
        age = pulse.ages[row]
        if age is not None or any(column[row] is not None for column in seen):
            why = absences.stale(watched, self.settings, metric=metric)
        else:
            query = self.plan.queries[FleetQuery.PULSE]
            why = absences.no_series(watched, self.settings, metric=metric, query=query, hint=pulse.hint)
        return silenced(load, why, age=why if age is None else Reading(age))


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


_RATES = (FleetQuery.ARRIVAL_RATE, FleetQuery.INPUT_TOKEN_RATE, FleetQuery.OUTPUT_TOKEN_RATE)
# Observed when a request ends: with long streams nothing may end within a window though requests arrive.
_AT_THE_END = (FleetQuery.TPOT_MEAN, FleetQuery.TPOT, FleetQuery.LATENCY)
_UNREAD = Reading.missing(Absence.NO_SERIES)  # replaced by the reason that holds for the service
# Counts of requests and pods are small whole numbers, mostly the same ones for the whole fleet.
_WHOLE = {float(number): Reading(float(number)) for number in range(1024)}


def _read(value: float) -> Reading:
    """Return a reading of a finite value; whole numbers share theirs, which spares a third of them."""
    return _WHOLE.get(value) or Reading(value)


def _age(value: float | None) -> Reading:
    return _UNREAD if value is None else Reading(value)
