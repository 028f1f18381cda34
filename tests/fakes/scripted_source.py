"""A `MetricsSource` that answers from a script: what a query contains decides its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from penstock.metrics_source.base import (
    DEFAULT_LIMITS,
    Labels,
    QueryError,
    QueryLimits,
    QueryResult,
    RangeResult,
    ResultType,
)

Samples = Sequence[tuple[Labels, float]]
Script = Callable[[str], QueryResult | QueryError | Samples]


@dataclass
class ScriptedSource:
    """Answers instant and range queries; keeps the queries and their limits."""

    script: Script
    skew: float | None = 0.0
    asked: list[str] = field(default_factory=list)
    limits: list[QueryLimits] = field(default_factory=list)
    series: RangeResult = field(default_factory=lambda: RangeResult([]))

    async def instant(self, query: str, at: float, limits: QueryLimits = DEFAULT_LIMITS) -> QueryResult:
        """Answer from the script."""
        self.asked.append(query)
        self.limits.append(limits)
        answer = self.script(query)
        if isinstance(answer, QueryError):
            raise answer
        return answer if isinstance(answer, QueryResult) else QueryResult(list(answer))

    async def range(
        self, query: str, *, start: float, end: float, step: float, limits: QueryLimits = DEFAULT_LIMITS
    ) -> RangeResult:
        """Return `series`."""
        self.asked.append(query)
        return self.series

    def clock_skew_seconds(self) -> float | None:
        """Return `skew`."""
        return self.skew

    async def close(self) -> None:
        """Hold nothing."""


def scalar(value: float) -> QueryResult:
    """Return a scalar answer."""
    return QueryResult([({}, value)], type=ResultType.SCALAR)
