"""From the samples of all arms to the counters of each pod. NaN is dropped: it is no count."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.metrics_source.arm_series import EndedSeries
from penstock.metrics_source.base import Samples
from penstock.metrics_source.identity import SeriesSettings
from penstock.model.canary_counts import Histogram, Metric, PodCounters

PodKey = tuple[str, str]  # namespace, name
Values = dict[PodKey, dict[str, float]]  # by pod, then by the third label


@dataclass(slots=True)
class CountersOfPods:
    """Counters by pod, filled answer by answer."""

    settings: SeriesSettings
    ended: dict[PodKey, tuple[float, float | None]] = field(default_factory=dict)  # requests, errors
    histograms: dict[Metric, dict[PodKey, Histogram]] = field(default_factory=lambda: defaultdict(dict))

    def take_ended(self, samples: Samples, series: EndedSeries) -> None:
        """Take the answer about ended requests; raises `QueryError` in the midst of a broken one."""
        for pod, reasons in self._values(samples, series.reason_label).items():
            counts = _ended(reasons, series)
            if counts is not None:
                self.ended[pod] = counts

    def take_buckets(self, samples: Samples, metric: Metric) -> None:
        """Take the buckets of a latency histogram; raises `QueryError` in the midst of a broken answer."""
        for pod, buckets in self._values(samples, "le").items():
            histogram = _histogram(buckets)
            if histogram is not None:
                self.histograms[metric][pod] = histogram

    def of(self, pod: PodKey) -> PodCounters | None:
        """Return what is known of a pod; None: nothing."""
        requests, errors = self.ended.get(pod, (None, None))
        ttft, tpot, latency = (
            self.histograms[metric].get(pod) for metric in (Metric.TTFT, Metric.TPOT, Metric.LATENCY)
        )
        if requests is None and ttft is None and tpot is None and latency is None:
            return None
        return PodCounters(pod[1], requests, errors, ttft, tpot, latency)

    def _values(self, samples: Samples, label: str) -> Values:
        found: Values = defaultdict(dict)
        namespace_label, pod_label = self.settings.namespace_label, self.settings.pod_label
        for labels, value in samples:
            try:
                pod = labels[namespace_label], labels[pod_label]
            except KeyError:
                continue
            found[pod][labels.get(label, "")] = value
        return found


def _ended(reasons: Mapping[str, float], series: EndedSeries) -> tuple[float, float | None] | None:
    """Return requests and errors of a pod; errors None where it does not count them."""
    errors, others, counted = 0.0, 0.0, False
    for reason, value in reasons.items():
        failed = series.errors.fullmatch(reason) is not None
        if not failed and series.others.fullmatch(reason) is None:
            continue
        if not math.isfinite(value):
            return None  # without this part the sum would look like a restart
        if failed:
            errors, counted = errors + value, True
        else:
            others += value
    if not counted and not series.created_by_first:
        return others, None
    return others + errors, errors


def _histogram(buckets: Mapping[str, float]) -> Histogram | None:
    """Return the histogram; None where an edge is no number, a count is none, or the last is not +Inf."""
    try:
        by_edge = sorted((float(edge), value) for edge, value in buckets.items())
    except ValueError:
        return None
    if by_edge[-1][0] != math.inf or not all(math.isfinite(value) for _, value in by_edge):
        return None
    return Histogram(tuple(edge for edge, _ in by_edge), tuple(value for _, value in by_edge))
