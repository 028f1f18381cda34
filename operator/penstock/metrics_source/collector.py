"""Signals of the whole fleet at one instant: a fixed number of queries, however many services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.metrics_source.base import MetricsSource
from penstock.metrics_source.identity import SeriesSettings, Watched
from penstock.model.observation import Load
from penstock.model.spec import ServiceKey

RateHistory = Mapping[ServiceKey, tuple[tuple[float, float], ...]]


class Collector:
    """Reads every signal of every watched service; never raises because of what Prometheus answers."""

    def __init__(self, source: MetricsSource, settings: SeriesSettings | None = None) -> None:
        self._source = source
        self._settings = settings or SeriesSettings()
        self._turn = 0

    async def collect(self, services: Sequence[Watched], *, at: float) -> dict[ServiceKey, Load]:
        """Return the load of each service at `at` (Unix seconds); what is unknown is a missing reading."""
        raise NotImplementedError

    async def rate_history(
        self, services: Sequence[Watched], *, start: float, end: float, step: float
    ) -> RateHistory:
        """Return each service's arrival rate, (Unix seconds, 1/s) oldest first; raises `QueryError`."""
        raise NotImplementedError
