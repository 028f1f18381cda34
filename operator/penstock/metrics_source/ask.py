"""Asks many queries at one instant: some at a time, all within the tick's deadline.

Whose query times out asks the rest of its own one at a time, and no longer than half of the tick: what one
namespace writes delays neither the answers of the others nor the decisions on the whole fleet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from copy import copy
from dataclasses import dataclass
from typing import TypeVar

from penstock.metrics_source.base import (
    DEFAULT_LIMITS,
    ErrorKind,
    MetricsSource,
    QueryError,
    QueryLimits,
    QueryResult,
    RangeResult,
)
from penstock.metrics_source.fair_gate import OPERATOR, FairGate

Answer = QueryResult | QueryError
Result = TypeVar("Result", QueryResult, RangeResult)


@dataclass(frozen=True, slots=True)
class CollectLimits:
    """How long a tick may ask, and how much at once.

    Custom queries are the users': they get less time, and as few series as tell one from several.
    """

    query_timeout_seconds: float = 5.0
    deadline_seconds: float = 10.0
    concurrency: int = 6  # of the 20 that Prometheus evaluates at once by default
    custom_timeout_seconds: float = 2.0
    custom_answer_bytes: int = 256 * 1024

    def custom(self, *, series: int = 2) -> QueryLimits:
        """Return the bounds of a user's query; two series tell one from several."""
        return QueryLimits(self.custom_timeout_seconds, self.custom_answer_bytes, series)


class Asker:
    """One tick's questions: they share a deadline and a bound on concurrency. First those of the operator."""

    def __init__(self, source: MetricsSource, limits: CollectLimits, at: float) -> None:
        self._source = source
        self._at = at
        self._asks = OPERATOR
        self._gate = FairGate(limits.concurrency)
        self._deadline = asyncio.get_running_loop().time() + limits.deadline_seconds
        self._deadline_seconds = limits.deadline_seconds

    def on_behalf_of(self, namespace: str) -> Asker:
        """Return an asker of the same tick for what users wrote in `namespace`, which gets its share."""
        found = copy(self)
        found._asks = namespace
        return found

    async def all(self, queries: Iterable[str], limits: QueryLimits = DEFAULT_LIMITS) -> list[Answer]:
        """Return the answers in the order of the queries; a failure is a value, not an exception."""
        return await asyncio.gather(*(self.one(query, limits) for query in queries))

    async def one(self, query: str, limits: QueryLimits) -> Answer:
        """Return one answer."""

        def ask(bounded: QueryLimits) -> Awaitable[QueryResult]:
            return self._source.instant(query, self._at, bounded)

        return await self._bounded(query, limits, ask)

    async def range(
        self, query: str, limits: QueryLimits, *, start: float, end: float, step: float
    ) -> RangeResult | QueryError:
        """Return the answer to a range query."""

        def ask(bounded: QueryLimits) -> Awaitable[RangeResult]:
            return self._source.range(query, start=start, end=end, step=step, limits=bounded)

        return await self._bounded(query, limits, ask)

    async def _bounded(
        self, query: str, limits: QueryLimits, ask: Callable[[QueryLimits], Awaitable[Result]]
    ) -> Result | QueryError:
        async with self._gate.place(self._asks):
            left = self._deadline - asyncio.get_running_loop().time()
            if left <= 0:
                message = (
                    f"Prometheus was too slow: {self._deadline_seconds:g} s were not enough for all queries"
                )
                return QueryError(ErrorKind.TIMEOUT, query, message)
            if self._gate.is_slow(self._asks) and left <= self._deadline_seconds / 2:
                message = (
                    f"other queries of namespace {self._asks} time out, which left no time for this one: "
                    "make those cheaper, or give Prometheus more CPU"
                )
                return QueryError(ErrorKind.TIMEOUT, query, message)
            bounded = QueryLimits(min(left, limits.timeout_seconds), limits.answer_bytes, limits.series)
            try:
                return await ask(bounded)
            except QueryError as error:
                if error.kind is ErrorKind.TIMEOUT:
                    self._gate.slow_down(self._asks)
                return error
