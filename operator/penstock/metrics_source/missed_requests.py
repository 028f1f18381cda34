"""How many requests of a time missed their objective, from the engines' latency histograms.

Asked apart from the ticks: buckets are long, and a budget of weeks is in no hurry. Within the bucket that
holds the objective observations are taken to lie evenly, as histogram_quantile does; beyond the highest
finite bound all count as missed.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from penstock.metrics_source.base import MetricsSource, QueryLimits
from penstock.metrics_source.catalogue import CATALOGUE, PERCENTILES
from penstock.metrics_source.columns import ServiceIndex
from penstock.metrics_source.identity import SeriesSettings, Watched
from penstock.metrics_source.plan import matching
from penstock.metrics_source.promql import QueryWriter
from penstock.model.objective_counts import Counted
from penstock.model.spec import Metric, Objective, ServiceKey

TIMEOUT_SECONDS = 10.0
Missed = dict[ServiceKey, dict[Objective, Counted]]


async def read_missed(
    source: MetricsSource,
    services: Sequence[Watched],
    settings: SeriesSettings,
    *,
    at: float,
    seconds: float,
) -> Missed:
    """Count the requests of the `seconds` before `at` (Unix seconds), and those beyond their objectives.

    One query for each metric and engine type; who has no buckets is left out. Raises `QueryError`.
    """
    found: Missed = {}
    for engine, series in CATALOGUE.items():
        chosen = [each for each in services if each.spec.engine.type is engine]
        for metric, query in PERCENTILES.items():
            concerned = [each for each in chosen if _objectives(each, metric)]
            histogram = series.histograms.get(query, "")
            if not concerned or not histogram:
                continue
            text = QueryWriter(series, settings, matching(concerned, settings)).increases(histogram, seconds)
            answer = await source.instant(text, at, QueryLimits(timeout_seconds=TIMEOUT_SECONDS))
            buckets = ServiceIndex.of(concerned, settings).buckets(answer.samples)
            for row, each in enumerate(concerned):
                for objective in _objectives(each, metric):
                    counted = missed(buckets.get(row, {}), objective.seconds)
                    if counted is not None:
                        found.setdefault(each.key, {})[objective] = counted
    return found


def missed(cumulative: Mapping[float, float], seconds: float) -> Counted | None:
    """Return the requests of `cumulative` counts by bound, and those above `seconds`; None: no buckets."""
    bounds = sorted(cumulative)
    if len(bounds) < 2 or bounds[-1] != math.inf:
        return None
    total = cumulative[math.inf]
    if not math.isfinite(total) or total < 0:
        return None
    at = bisect_left(bounds, seconds)
    if at == len(bounds) - 1:
        within = cumulative[bounds[-2]]
    else:
        start, below = (bounds[at - 1], cumulative[bounds[at - 1]]) if at else (0.0, 0.0)
        share = (seconds - start) / (bounds[at] - start)
        within = below + (cumulative[bounds[at]] - below) * share
    # Buckets of one scrape may be of different scrapes after a sum.
    return Counted(total, min(total, max(0.0, total - within)))


def _objectives(watched: Watched, metric: Metric) -> list[Objective]:
    return [each for each in watched.spec.slo.objectives if each.metric is metric]
