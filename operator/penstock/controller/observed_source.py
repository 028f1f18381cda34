"""A metrics source that is measured: duration of queries and kinds of failures."""

from __future__ import annotations

import time

from penstock.metrics_source.base import (
    DEFAULT_LIMITS,
    MetricsSource,
    QueryError,
    QueryLimits,
    QueryResult,
    RangeResult,
)
from penstock.telemetry.metrics import OperatorMetrics


class ObservedSource:
    """Wraps a source; same port."""

    def __init__(self, source: MetricsSource, metrics: OperatorMetrics) -> None:
        self._source, self._metrics = source, metrics

    async def instant(self, query: str, at: float, limits: QueryLimits = DEFAULT_LIMITS) -> QueryResult:
        """Evaluate `query` at `at` (Unix seconds); raises `QueryError`."""
        began = time.perf_counter()
        try:
            return await self._source.instant(query, at, limits)
        except QueryError as error:
            self._metrics.query_errors.labels(error.kind.value).inc()
            raise
        finally:
            self._metrics.query_seconds.observe(time.perf_counter() - began)

    async def range(
        self, query: str, *, start: float, end: float, step: float, limits: QueryLimits = DEFAULT_LIMITS
    ) -> RangeResult:
        """Evaluate `query` over [start, end] (Unix seconds); raises `QueryError`."""
        began = time.perf_counter()
        try:
            return await self._source.range(query, start=start, end=end, step=step, limits=limits)
        except QueryError as error:
            self._metrics.query_errors.labels(error.kind.value).inc()
            raise
        finally:
            self._metrics.query_seconds.observe(time.perf_counter() - began)

    def clock_skew_seconds(self) -> float | None:
        """Return the server's clock minus ours; None before the first answer."""
        return self._source.clock_skew_seconds()

    async def close(self) -> None:
        """Release connections."""
        await self._source.close()
