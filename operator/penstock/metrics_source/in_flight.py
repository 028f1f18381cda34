"""Requests in flight per pod of one service: what a scale-down chooses its victims by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from penstock.metrics_source.base import MetricsSource, QueryError
from penstock.metrics_source.catalogue import CATALOGUE
from penstock.metrics_source.identity import SeriesSettings
from penstock.model.spec import ServiceSpec


class InFlight:
    """Asks Prometheus at the moment a scale-down needs it; not part of the tick's queries."""

    def __init__(self, source: MetricsSource, settings: SeriesSettings) -> None:
        self._source, self._settings = source, settings

    async def by_pod(self, spec: ServiceSpec, pods: Sequence[str], at: float) -> Mapping[str, float]:
        """Return running plus waiting requests of each pod that reports; {} where nothing is known."""
        series = CATALOGUE.get(spec.engine.type)
        if series is None or not pods:
            return {}
        pod, namespace = self._settings.pod_label, self._settings.namespace_label
        names = "|".join(pods)  # DNS-1123: no characters that mean anything in a regular expression but dots
        own = (f'{namespace}="{spec.key.namespace}"', f'{pod}=~"{names}"')
        where = f"{{{','.join((*self._settings.promql_matchers, *own))}}}"
        query = f"sum by ({pod}) ({series.running}{where}) + sum by ({pod}) ({series.waiting}{where})"
        try:
            answer = await self._source.instant(query, at)
            return {labels.get(pod, ""): value for labels, value in answer.samples if math.isfinite(value)}
        except QueryError:
            return {}
