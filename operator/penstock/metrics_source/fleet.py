"""The loads of one engine type's services at one tick, each put together when it is asked for.

A fleet's loads made at once are 160,000 objects, spread over 25 MB column by column; when its turn comes,
each of a service's sixteen is a cache miss. Made at its turn they are still there.
A service whose series are missing or stale loses what the columns say: a rate outlives its pods by a
window, which would look like falling load. Without the pulse nobody knows which: the values stay, to scale
up by, and `reporting_pods` says that they are not to be scaled down by. So does `sample_age_seconds` where
answers may be incomplete: of what the server did not reach nobody knows the age, and no number is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from penstock.metrics_source import absences
from penstock.metrics_source.catalogue import PERCENTILES, FleetQuery
from penstock.metrics_source.columns import Column
from penstock.metrics_source.fleet_columns import Family, FleetColumns, Pulse, Signal
from penstock.metrics_source.row_readers import LatencyReader, SignalReader, whole
from penstock.model.observation import Histogram, Load
from penstock.model.reading import Absence, Reading
from penstock.model.spec import Metric

NO_TTFT_MEAN = Reading.missing(Absence.NOT_EXPOSED, "no sum of times to first token came back")
NONE_WANTED: Mapping[float, Reading] = {}
_METRICS = (Metric.TTFT, Metric.TPOT, Metric.LATENCY)
_RATES = (FleetQuery.ARRIVAL_RATE, FleetQuery.INPUT_TOKEN_RATE, FleetQuery.OUTPUT_TOKEN_RATE)
_AT_THE_END = (FleetQuery.TPOT_MEAN, FleetQuery.TPOT, FleetQuery.LATENCY)


class EngineLoads:
    """Loads by the row of a service in the plan."""

    def __init__(self, columns: FleetColumns) -> None:
        assert columns.pulse is not None  # noqa: S101 - every query was taken
        self._columns, self._pulse = columns, columns.pulse
        self._signals = dict(columns.signals)
        pulse = columns.pulse
        self._signals[FleetQuery.PULSE] = pulse if isinstance(pulse, Reading) else pulse.running
        if not isinstance(pulse, Reading) and not pulse.window_filled:
            # rate() divides by the whole window, however little of it Prometheus has seen: half a minute
            # after an outage it says half the load.
            self._signals |= dict.fromkeys(_RATES, absences.window_not_filled(columns.settings))
        self._gone = frozenset(() if isinstance(pulse, Reading) else pulse.gone)
        self._warnings = columns.warnings
        self._partial = columns.partial
        self._arrivals = self._reader(FleetQuery.ARRIVAL_RATE)
        self._growth = self._reader(FleetQuery.QUEUE_GROWTH)
        self._waiting = self._reader(FleetQuery.WAITING)
        self._running = self._reader(FleetQuery.PULSE)
        self._inputs = self._reader(FleetQuery.INPUT_TOKEN_RATE)
        self._outputs = self._reader(FleetQuery.OUTPUT_TOKEN_RATE)
        self._tpot_mean = self._latency(FleetQuery.TPOT_MEAN, self._signals[FleetQuery.TPOT_MEAN])
        self._idle = absences.no_requests(columns.settings)
        lacking = self._signals[FleetQuery.TPOT_MEAN]
        self._no_mean = lacking if isinstance(lacking, Reading) else NO_TTFT_MEAN
        self._families = {metric: self._family(metric) for metric in Metric}
        self._input_lengths = self._lengths(FleetQuery.INPUT_LENGTHS)
        self._output_lengths = self._lengths(FleetQuery.OUTPUT_LENGTHS)

    def load(self, row: int) -> Load:
        """Return the load of the service in `row`."""
        pulse = self._pulse
        arrivals = self._arrivals.at(row)
        ttft, tpot, latency = self._percentiles(row, arrivals)
        # In the order of Load's fields; by keyword it takes twice as long.
        load = Load(
            arrivals,
            self._growth.at(row),
            self._waiting.at(row),
            self._running.at(row),
            self._inputs.at(row),
            self._outputs.at(row),
            self._tpot_mean.at(row, arrivals),
            ttft,
            tpot,
            latency,
            pulse if isinstance(pulse, Reading) else whole(pulse.pods[row] or 0.0),
            pulse if isinstance(pulse, Reading) else self._partial or Reading(pulse.ages[row]),
            None if self._input_lengths is None else self._input_lengths[row],
            None if self._output_lengths is None else self._output_lengths[row],
            self._warnings,
            self._ttft_mean(row, arrivals),
        )
        return self._without(load, row) if row in self._gone else load

    def _ttft_mean(self, row: int, arrivals: Reading) -> Reading:
        """Return the mean TTFT: the seconds waited over the requests that got their first token."""
        waited = self._columns.first_token_seconds
        seconds = None if waited is None else waited[row]
        if seconds is None or arrivals.value is None:
            return self._no_mean if arrivals.absence is None else arrivals
        return Reading(seconds / arrivals.value) if arrivals.value > 0 else self._idle

    def _percentiles(self, row: int, arrivals: Reading) -> Iterable[Mapping[float, Reading]]:
        """Return the percentiles that the service's own objectives use, in the order of _METRICS."""
        found: dict[Metric, dict[float, Reading]] = {}
        for each in self._columns.plan.services[row].spec.slo.objectives:
            metric, percentile = each.metric, each.percentile
            reading = self._families[metric][percentile].at(row, arrivals)
            if metric in found:
                found[metric][percentile] = reading
            else:
                found[metric] = {percentile: reading}
        return [found.get(metric, NONE_WANTED) for metric in _METRICS]

    def _reader(self, query: FleetQuery) -> SignalReader:
        return self._reader_of(query, self._signals[query])

    def _reader_of(self, query: FleetQuery, signal: Signal) -> SignalReader:
        series, settings = self._columns.plan.series, self._columns.settings
        metric = series.metric(query)
        missing = absences.too_few_samples(metric, settings, series.advice.get(query, ""))
        return SignalReader.of(signal, missing=missing, metric=metric)

    def _latency(self, query: FleetQuery, signal: Signal) -> LatencyReader:
        idle = absences.no_requests(self._columns.settings)
        return LatencyReader(self._reader_of(query, signal), idle, query in _AT_THE_END)

    def _family(self, metric: Metric) -> Mapping[float, LatencyReader]:
        """Return readers by percentile; empty where no objective uses one."""
        wanted, query = self._columns.plan.percentiles[metric], PERCENTILES[metric]
        if not wanted:
            return {}
        family: Family = self._columns.families[metric]
        return {
            each: self._latency(query, family if isinstance(family, Reading) else family[each])
            for each in wanted
        }

    def _lengths(self, query: FleetQuery) -> Sequence[Histogram | None] | None:
        found = self._columns.lengths[query]
        return None if isinstance(found, Reading) else found

    def _without(self, load: Load, row: int) -> Load:
        """Return `load` with all signals missing: its series are absent or stale."""
        pulse, plan, settings = self._pulse, self._columns.plan, self._columns.settings
        assert isinstance(pulse, Pulse)  # noqa: S101 - else nobody is known to be gone
        watched, metric, age = plan.services[row], plan.series.running, pulse.ages[row]
        seen: list[Column] = [each for each in self._signals.values() if not isinstance(each, Reading)]
        for family in self._columns.families.values():
            seen += [] if isinstance(family, Reading) else family.values()
        if age is not None or any(column[row] is not None for column in seen):
            why = absences.stale(watched, settings, metric=metric)
        else:
            query = plan.queries[FleetQuery.PULSE]
            why = absences.no_series(watched, settings, metric=metric, query=query, hint=pulse.hint)
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
        ttft_mean=why,
        ttft=dict.fromkeys(load.ttft, why),
        tpot=dict.fromkeys(load.tpot, why),
        latency=dict.fromkeys(load.latency, why),
        sample_age_seconds=age,
        input_lengths=None,
        output_lengths=None,
    )
