"""The queries of the catalogue as PromQL: one per signal for the whole fleet.

By service the server reduces each signal to one number per service; by pod it reduces to one per pod
(and bucket), because only the caller knows which pods make a service. Several numbers that belong
together come as a union whose branches are told apart by the label ``part``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from penstock.metrics_source.catalogue import EngineSeries, FleetQuery
from penstock.metrics_source.identity import PART_LABEL, IdentifyBy, SeriesSettings, quoted

AGE, PODS, RUNNING, BEFORE = "age", "pods", "running", "before"
NUMERATOR, DENOMINATOR = "numerator", "denominator"
TPOT, FIRST_TOKENS = "tpot", "first_tokens"
SUM_LE = "sum"  # stands in for a bucket's bound: the sum of a length histogram


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of the fleet that is read this time: values per label, or beginnings of them; empty: all."""

    values: Mapping[str, tuple[str, ...]]
    prefixes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def matchers(self) -> list[str]:
        """Return one regular-expression matcher per label."""
        # Only what means something to RE2 is escaped: Prometheus looks a plain alternation up as a set,
        # and does not recognise one in which hyphens are escaped (labels.FastRegexMatcher).
        found = {label: [_escape(each) for each in values] for label, values in self.values.items()}
        for label, beginnings in self.prefixes.items():
            found[label] = [*found.get(label, []), *(f"{_escape(each)}.*" for each in beginnings)]
        return [f"{label}=~{quoted('|'.join(each))}" for label, each in found.items()]


WHOLE_FLEET = Shard({})


@dataclass(frozen=True, slots=True)
class QueryWriter:
    """Writes the queries of one engine type under the given settings, for the whole fleet or a part of it."""

    series: EngineSeries
    settings: SeriesSettings
    shard: Shard = WHOLE_FLEET

    def write(self, signal: FleetQuery, percentiles: Iterable[float] = ()) -> str:
        """Return the query for `signal`; empty when the engine does not expose it."""
        if not self.series.metric(signal):
            return ""
        match signal:
            case FleetQuery.PULSE:
                return self._pulse()
            case FleetQuery.WAITING:
                return self._sum(self._of(self.series.waiting))
            case FleetQuery.QUEUE_GROWTH:
                return self._sum(f"deriv({self._of(self.series.waiting)}{self._window})")
            case FleetQuery.ARRIVAL_RATE:
                return self._zero_before_first_request(self._arrivals())
            case FleetQuery.INPUT_TOKEN_RATE:
                return self._zero_before_first_request(self._rate(self.series.input_tokens))
            case FleetQuery.OUTPUT_TOKEN_RATE:
                return self._zero_before_first_request(self._rate(self.series.output_tokens))
            case FleetQuery.TPOT_MEAN:
                return self._means()
            case FleetQuery.INPUT_LENGTHS | FleetQuery.OUTPUT_LENGTHS:
                return self._lengths(self.series.histograms[signal])
            case _:
                return self._percentiles(self.series.histograms[signal], percentiles)

    def increases(self, histogram: str, seconds: float) -> str:
        """Return the query for the increase of each bucket within the last `seconds`."""
        buckets = self._of(histogram + "_bucket")
        return f"sum by ({self._by}, le) (increase({buckets}[{duration(seconds)}]))"

    @property
    def _by_pod(self) -> bool:
        return self.settings.identify_by is IdentifyBy.POD

    @property
    def _by(self) -> str:
        settings = self.settings
        return f"{settings.namespace_label}, {settings.pod_label if self._by_pod else settings.service_label}"

    @property
    def _window(self) -> str:
        return f"[{duration(self.settings.rate_window_seconds)}]"

    def _of(self, metric: str) -> str:
        inside = ",".join([*self.settings.promql_matchers, *self.shard.matchers()])
        return f"{metric}{{{inside}}}" if inside else metric

    def _sum(self, expression: str) -> str:
        return f"sum by ({self._by}) ({expression})"

    def _rate(self, counter: str) -> str:
        return self._sum(f"rate({self._of(counter)}{self._window})")

    def _pulse(self) -> str:
        gauge = self._of(self.series.running)
        age = f"time() - timestamp({gauge})"
        window = self.settings.rate_window_seconds
        began = f"timestamp({gauge} offset {duration(window)})"
        branches = {
            RUNNING: self._sum(gauge),
            AGE: f"min by ({self._by}) ({age})",
            # One number for the fleet: how old the newest sample was when the rate window began.
            BEFORE: f"min(time() - {window:g} - {began})",
        }
        if not self._by_pod:
            settings = self.settings
            per_pod = f"min by ({self._by}, {settings.pod_label}) ({age})"
            fresh = f"{per_pod} <= {settings.stale_after_seconds:g}"
            branches[PODS] = f"count by ({self._by}) ({fresh})"
        return label_union(branches)

    def _arrivals(self) -> str:
        if self.series.first_tokens:
            return self._rate(self.series.first_tokens)
        # Counted on arrival: less what stays in the queue makes those that were taken up, as above.
        growth = self._sum(f"deriv({self._of(self.series.waiting)}{self._window})")
        return f"clamp_min({self._rate(self.series.arrived)} - {growth}, 0)"

    def _zero_before_first_request(self, query: str) -> str:
        """Let an engine without counters count as zero while its gauges were zero all the window."""
        if not self.series.starts_empty:
            return query
        gauges = (self.series.running, self.series.waiting)
        highest = " + ".join(self._sum(f"max_over_time({self._of(each)}{self._window})") for each in gauges)
        return f"{query} or ({highest} == 0)"

    def _means(self) -> str:
        """Write the mean TPOT and, beside it, the seconds that the requests waited for their first token.

        One query for both: these are what the engine is calibrated by, and they belong to one instant.
        """
        seconds, tokens = self._rate(self.series.tpot_seconds), self._rate(self.series.tpot_tokens)
        branches = (
            {NUMERATOR: seconds, DENOMINATOR: tokens} if self._by_pod else {TPOT: f"{seconds} / {tokens}"}
        )
        if self.series.ttft_seconds:
            branches[FIRST_TOKENS] = self._rate(self.series.ttft_seconds)
        return label_union(branches)

    def _buckets(self, histogram: str, window: str) -> str:
        return f"sum by ({self._by}, le) (rate({self._of(histogram + '_bucket')}{window}))"

    def _percentiles(self, histogram: str, percentiles: Iterable[float]) -> str:
        buckets = self._buckets(histogram, self._window)
        if self._by_pod:
            return buckets
        return label_union(
            {f"{each:g}": f"histogram_quantile({each:g}, {buckets})" for each in sorted(percentiles)}
        )

    def _lengths(self, histogram: str) -> str:
        window = f"[{duration(self.settings.length_window_seconds)}]"
        sums = self._sum(f"rate({self._of(histogram + '_sum')}{window})")
        return f"{self._buckets(histogram, window)} or {_labelled(sums, 'le', SUM_LE)}"


def duration(seconds: float) -> str:
    """Write a PromQL duration: whole seconds where possible, else milliseconds."""
    return f"{seconds:.0f}s" if float(seconds).is_integer() else f"{round(seconds * 1000)}ms"


def label_union(branches: Mapping[str, str]) -> str:
    """Return the union of queries, each labelled with its name in ``part``."""
    return " or ".join(_labelled(query, PART_LABEL, part) for part, query in branches.items())


def _labelled(query: str, label: str, value: str) -> str:
    return f'label_replace({query}, "{label}", "{value}", "", "")'


def _escape(name: str) -> str:
    return re.sub(r"([.+*?()|\[\]{}^$\\])", r"\\\1", name)
