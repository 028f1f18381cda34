"""Successful answers of the Prometheus HTTP API, from bytes to results.

https://prometheus.io/docs/prometheus/latest/querying/api/#format-overview
Nothing is trusted: a truncated body, a login page and a result of the wrong shape raise `QueryError`.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from penstock.metrics_source.base import (
    ErrorKind,
    QueryError,
    QueryLimits,
    QueryResult,
    RangeResult,
    ResultType,
)
from penstock.metrics_source.failure import SHAPE_ERRORS, api_failure, cut_short, not_prometheus, refuse_shape
from penstock.metrics_source.vector import LongVector, Span, samples_of


def read_instant(body: bytes, query: str, limits: QueryLimits) -> QueryResult:
    """Read the answer to an instant query: a vector or a scalar; raises `QueryError`."""
    # Who limits the series wants a few samples and all of them: there is nothing to read later.
    span = None if limits.series else Span.of(body)
    envelope = body if span is None else span.envelope(body)
    data, warnings, infos = _read_data(body, query, limits, envelope=envelope)
    try:
        kind, result = data["resultType"], data["result"]
        if kind == "vector":
            samples = samples_of(result, query)
            vector = samples if span is None else LongVector(body, query, span, samples)
            return QueryResult(vector, warnings, infos)
        if kind == "scalar":
            return QueryResult([({}, float(result[1]))], warnings, infos, ResultType.SCALAR)
    except SHAPE_ERRORS:
        refuse_shape(query, data)
    message = f"the query gives a {kind}, not one number per series; use an instant vector or a scalar"
    raise QueryError(ErrorKind.BAD_QUERY, query, message)


def read_range(body: bytes, query: str, limits: QueryLimits) -> RangeResult:
    """Read the answer to a range query; raises `QueryError`."""
    data, warnings, infos = _read_data(body, query, limits, envelope=body)
    try:
        series = [
            (each["metric"], [(float(time), float(value)) for time, value in each["values"]])
            for each in data["result"]
        ]
    except SHAPE_ERRORS:
        refuse_shape(query, data)
    return RangeResult(series, warnings, infos)


def clock_skew(date_header: str | None, received_at: float) -> float | None:
    """Return server clock minus ours (seconds) from an HTTP Date, which is cut to whole seconds."""
    if not date_header:
        return None
    try:
        return parsedate_to_datetime(date_header).timestamp() + 0.5 - received_at
    except (ValueError, TypeError):
        return None


def _read_data(
    body: bytes, query: str, limits: QueryLimits, *, envelope: bytes
) -> tuple[Any, tuple[str, ...], tuple[str, ...]]:
    """Return data, warnings and infos of a successful answer; `envelope` is the part of it to parse."""
    try:
        answer = orjson.loads(envelope)
    except orjson.JSONDecodeError:
        raise not_prometheus(body, query) from None
    stated = api_failure(body, query) if isinstance(answer, dict) and "errorType" in answer else None
    if stated is not None:
        raise stated
    try:
        if answer["status"] != "success":
            refuse_shape(query, answer)
        warnings = tuple(map(str, answer.get("warnings") or ()))
        infos = tuple(map(str, answer.get("infos") or ()))
        data = answer["data"]
    except SHAPE_ERRORS:
        refuse_shape(query, answer)
    if limits.series == 0:
        for warning in warnings:
            # A cut answer looks like a smaller fleet: the services that are cut off would seem silent.
            if "truncated" in warning:
                raise cut_short(query, warning)
    return data, warnings, infos
