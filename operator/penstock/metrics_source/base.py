"""The port to a Prometheus-compatible server: what the rest of Penstock asks of it.

A query is answered or it fails; it is never silently empty. Failures are `QueryError` with a kind
(so that a caller can tell "slow" from "refused") and a message that says what to do. Warnings that
the server sends along (Thanos and Mimir: partial response) are part of the answer.
Shapes follow the HTTP API: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

Labels = dict[str, str]
Sample = tuple[Labels, float]
MEBIBYTE = 1024 * 1024


class ErrorKind(StrEnum):
    """Why a query has no answer."""

    TIMEOUT = "timeout"  # no answer within the time allowed
    UNAVAILABLE = "unavailable"  # not reachable, overloaded or broken: try again next tick
    BAD_QUERY = "bad_query"  # the server refuses to parse it or cannot evaluate it
    UNAUTHORIZED = "unauthorized"  # credentials are missing, wrong or not sufficient
    TOO_LARGE = "too_large"  # the answer exceeds a bound, here or at the server
    BAD_RESPONSE = "bad_response"  # an answer, but not that of a Prometheus API


class QueryError(Exception):
    """A query without an answer: `kind`, the `query`, and a `message` that says what to do."""

    def __init__(self, kind: ErrorKind, query: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.query = query
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} (query: {shorten(self.query)})"


class ResultType(StrEnum):
    """What an instant query evaluated to."""

    VECTOR = "vector"
    SCALAR = "scalar"


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """Bounds of one query. `series` is a request to the server: servers before 2.54 ignore it."""

    timeout_seconds: float = 10.0
    answer_bytes: int = 64 * MEBIBYTE
    series: int = 0  # 0: as many as there are


class Samples(Protocol):
    """Samples to go through, also more than once: a list, or a long answer that is parsed on the way."""

    def __iter__(self) -> Iterator[Sample]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Answer of an instant query: (labels, value) per series; a scalar is one sample without labels.

    Values may be NaN or infinite. Reading on in a long answer may still raise `QueryError`. `warnings`
    mean that the answer may be incomplete, `infos` that the query may not mean what its author thinks.
    """

    samples: Samples
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()
    type: ResultType = ResultType.VECTOR


@dataclass(frozen=True, slots=True)
class RangeResult:
    """Answer of a range query: (labels, [(Unix seconds, value), ...]) per series."""

    series: list[tuple[Labels, list[tuple[float, float]]]]
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()


DEFAULT_LIMITS = QueryLimits()


class MetricsSource(Protocol):
    """A Prometheus-compatible server. All methods but the clock raise `QueryError`."""

    async def instant(self, query: str, at: float, limits: QueryLimits = DEFAULT_LIMITS) -> QueryResult:
        """Evaluate `query` at `at` (Unix seconds)."""

    async def range(
        self, query: str, *, start: float, end: float, step: float, limits: QueryLimits = DEFAULT_LIMITS
    ) -> RangeResult:
        """Evaluate `query` every `step` seconds over [start, end] (Unix seconds)."""

    def clock_skew_seconds(self) -> float | None:
        """Return the server's clock minus ours as of the newest answer (+-1 s); None before the first."""

    async def close(self) -> None:
        """Release connections."""


def shorten(query: str, length: int = 160) -> str:
    """Return `query` on one line, cut in the middle to `length` characters."""
    line = " ".join(query.split())
    if len(line) <= length:
        return line
    head = (length - 3) * 2 // 3
    return f"{line[:head]}...{line[head + 3 - length :]}"
