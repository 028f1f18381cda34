"""Query results as columns: one number per service, in the order of the services.

10,000 services x 12 queries are 130,000 samples a tick, so that nothing here makes an object per sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import add

from penstock.metrics_source.base import Sample, Samples
from penstock.metrics_source.histogram import histogram_quantile, length_histogram
from penstock.metrics_source.identity import PART_LABEL, IdentifyBy, SeriesSettings, Watched
from penstock.metrics_source.promql import SUM_LE
from penstock.model.observation import Histogram

Column = list[float | None]
NOBODY: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class ServiceIndex:
    """Finds the row of a series by its namespace and its pod or service label.

    A series of several services (a Service over p1 to p3, another over p3 alone) has a row of its own
    beyond the `size` rows of the services, `owners` in order. It is reduced once and then added to each
    of them, so that a sample still costs one look-up.
    """

    rows: dict[str, dict[str, int]]
    owners: tuple[tuple[int, ...], ...]
    size: int
    namespace_label: str
    label: str

    @classmethod
    def of(cls, services: Sequence[Watched], settings: SeriesSettings) -> ServiceIndex:
        """Build the index of `services`, whose positions are the rows."""
        by_pod = settings.identify_by is IdentifyBy.POD
        rows: dict[str, dict[str, int]] = {}
        several: dict[tuple[str, str], list[int]] = {}
        for row, each in enumerate(services):
            names = rows.setdefault(each.key.namespace, {})
            for name in each.pods if by_pod else (each.label_value,):
                first = names.setdefault(name, row)
                if first != row:
                    several.setdefault((each.key.namespace, name), [first]).append(row)
        owners: dict[tuple[int, ...], int] = {}
        for (namespace, name), found in several.items():
            rows[namespace][name] = owners.setdefault(tuple(found), len(services) + len(owners))
        label = settings.pod_label if by_pod else settings.service_label
        return cls(rows, tuple(owners), len(services), settings.namespace_label, label)

    def total(self, samples: Samples) -> Column:
        """Add up the samples of each service; None where there is none."""
        column: Column = [None] * self._width
        rows, namespace_label, label = self.rows, self.namespace_label, self.label
        for labels, value in samples:
            try:
                row = rows[labels[namespace_label]][labels[label]]
            except KeyError:
                continue
            before = column[row]
            column[row] = value if before is None else before + value
        return self._given_out(column, add)

    def totals_by_part(self, samples: Samples, strays: list[Sample] | None = None) -> dict[str, Column]:
        """Add up the samples of each service for each branch of a union; `strays` gets nobody's samples."""
        columns: dict[str, Column] = {}
        rows, namespace_label, label = self.rows, self.namespace_label, self.label
        for labels, value in samples:
            try:
                row, part = rows[labels[namespace_label]][labels[label]], labels[PART_LABEL]
            except KeyError:
                if strays is not None:
                    strays.append((labels, value))
                continue
            column = columns.get(part)
            if column is None:
                column = columns[part] = [None] * self._width
            before = column[row]
            column[row] = value if before is None else before + value
        return {part: self._given_out(column, add) for part, column in columns.items()}

    def empty(self) -> Column:
        """Return a column without values."""
        return [None] * self.size

    def least(self, samples: Samples) -> Column:
        """Return the smallest sample of each service."""
        column: Column = [None] * self._width
        for row, value in self._rows_of(samples):
            before = column[row]
            column[row] = value if before is None else min(before, value)
        return self._given_out(column, min)

    def count_up_to(self, samples: Samples, bound: float) -> Column:
        """Count the samples of each service that are at most `bound`; 0 where there is none."""
        counts = [0] * self._width
        for row, value in self._rows_of(samples):
            counts[row] += value <= bound
        return self._given_out([float(each) for each in counts], add)

    def quantiles(self, samples: Samples, percentiles: Sequence[float]) -> dict[float, Column]:
        """Return each percentile of the service's summed buckets; None where it has no buckets."""
        columns: dict[float, Column] = {each: [None] * self.size for each in percentiles}
        for row, buckets in self.buckets(samples).items():
            for percentile, column in columns.items():
                column[row] = histogram_quantile(percentile, buckets)
        return columns

    def lengths(self, samples: Samples) -> list[Histogram | None]:
        """Return the length histogram of each service that is in the samples and had requests."""
        column: list[Histogram | None] = [None] * self.size
        sums: dict[int, float] = {}
        for row, buckets in self.buckets(samples, sums).items():
            column[row] = length_histogram(buckets, sums.get(row))
        return column

    def buckets(
        self, samples: Samples, sums: dict[int, float] | None = None
    ) -> dict[int, dict[float, float]]:
        """Add up cumulative buckets by row and upper bound; `sums` gets the sums of the observed values."""
        bounds: dict[str, float | None] = {SUM_LE: None}
        sums = {} if sums is None else sums
        found: dict[int, dict[float, float]] = {}
        rows, namespace_label, label = self.rows, self.namespace_label, self.label
        for labels, value in samples:
            try:
                row, text = rows[labels[namespace_label]][labels[label]], labels["le"]
            except KeyError:
                continue
            if text not in bounds:
                bounds[text] = _bound(text)
            bound = bounds[text]
            if text == SUM_LE:
                sums[row] = sums.get(row, 0.0) + value
            if bound is None or math.isnan(value):
                continue
            buckets = found.setdefault(row, {})
            buckets[bound] = buckets.get(bound, 0.0) + value
        for shared, owners in enumerate(self.owners, self.size):
            if shared in found:
                common = found.pop(shared)
                found.update({row: _summed(found.get(row, {}), common) for row in owners})
            if shared in sums:
                total = sums.pop(shared)
                sums.update({row: sums.get(row, 0.0) + total for row in owners})
        return found

    def _rows_of(self, samples: Samples) -> list[tuple[int, float]]:
        rows, namespace_label, label = self.rows, self.namespace_label, self.label
        pairs = []
        for labels, value in samples:
            row = rows.get(labels.get(namespace_label, ""), NOBODY).get(labels.get(label, ""))
            if row is not None:
                pairs.append((row, value))
        return pairs

    @property
    def _width(self) -> int:
        return self.size + len(self.owners)

    def _given_out(self, column: Column, join: Callable[[float, float], float]) -> Column:
        """Return the column of the services, to each of which its part of what is shared was added."""
        for shared, owners in zip(column[self.size :], self.owners, strict=True):
            if shared is None:
                continue
            for row in owners:
                own = column[row]
                column[row] = shared if own is None else join(own, shared)
        del column[self.size :]
        return column


def by_part(samples: Samples) -> dict[str, list[Sample]]:
    """Split the answer to a union into its branches."""
    parts: dict[str, list[Sample]] = {}
    for sample in samples:
        parts.setdefault(sample[0].get(PART_LABEL, ""), []).append(sample)
    return parts


def _summed(one: dict[float, float], other: dict[float, float]) -> dict[float, float]:
    return {bound: one.get(bound, 0.0) + other.get(bound, 0.0) for bound in one.keys() | other.keys()}


def _bound(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
