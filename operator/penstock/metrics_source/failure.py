"""What can go wrong between a query and its answer, as `QueryError` with words that say what to do."""

from __future__ import annotations

from typing import NoReturn

import orjson

from penstock.metrics_source.base import MEBIBYTE, ErrorKind, QueryError, QueryLimits

SHAPE_ERRORS = (KeyError, TypeError, ValueError, IndexError, AttributeError)
# errorType of the API -> kind; "execution" is looked at more closely.
_KINDS = {
    "bad_data": ErrorKind.BAD_QUERY,
    "execution": ErrorKind.BAD_QUERY,
    "timeout": ErrorKind.TIMEOUT,
    "canceled": ErrorKind.TIMEOUT,
    "unavailable": ErrorKind.UNAVAILABLE,
    "internal": ErrorKind.UNAVAILABLE,
    "too_many_requests": ErrorKind.UNAVAILABLE,
    "not_found": ErrorKind.BAD_RESPONSE,
}
# Prometheus, Thanos and Mimir in their own words; there is no errorType for it.
_TOO_LARGE = ("too many samples", "maximum resolution", "max samples", "exceeds the limit", "limit exceeded")
_ADVICE = {
    ErrorKind.TIMEOUT: "give Prometheus more CPU, or identify series by service",
    ErrorKind.UNAVAILABLE: "it is tried again at the next tick",
    ErrorKind.TOO_LARGE: "raise the server's limit on samples, or read fewer series",
    ErrorKind.BAD_RESPONSE: "give the root of a Prometheus API with its path prefix, without /api/v1",
}
_CREDENTIALS = "check the bearer token, its permissions and the tenant header"


def http_failure(status: int, content_type: str, body: bytes, query: str, address: str) -> QueryError:
    """Return the error that an HTTP status other than 200 stands for."""
    said = _said(body, content_type)
    if status in (401, 403):
        message = f"{address} refuses the credentials (HTTP {status}{said}); {_CREDENTIALS}"
        return QueryError(ErrorKind.UNAUTHORIZED, query, message)
    if 300 <= status < 400:
        message = (
            f"{address} redirects (HTTP {status}); give the final address: credentials follow no redirect"
        )
        return QueryError(ErrorKind.BAD_RESPONSE, query, message)
    stated = api_failure(body, query)
    if stated is not None:
        return stated
    if status in (413, 414, 431):
        message = (
            f"{address} refuses a query of {len(query)} characters (HTTP {status}); raise the proxy's limit"
        )
        return QueryError(ErrorKind.TOO_LARGE, query, message)
    kind = ErrorKind.UNAVAILABLE if status >= 500 or status in (408, 429) else ErrorKind.BAD_RESPONSE
    return QueryError(kind, query, f"{address} answers HTTP {status}{said}; {_ADVICE[kind]}")


def api_failure(body: bytes, query: str) -> QueryError | None:
    """Return the error that the API itself states; None when this is not its answer."""
    try:
        stated = orjson.loads(body)
        kind, reason = _KINDS[stated["errorType"]], one_line(str(stated["error"]))
    except SHAPE_ERRORS:
        return None
    if kind is ErrorKind.BAD_QUERY:
        if any(sign in reason for sign in _TOO_LARGE):
            kind = ErrorKind.TOO_LARGE
        else:
            return QueryError(kind, query, f"Prometheus refuses the query: {reason}")
    return QueryError(kind, query, f"Prometheus could not answer: {reason}; {_ADVICE[kind]}")


def not_prometheus(body: bytes, query: str) -> QueryError:
    """Return the error for a 200 whose body is not an answer of the API."""
    page = body.lstrip()[:1] == b"<"
    what = "a web page, perhaps a login" if page else f"{len(body)} bytes that are not whole JSON"
    message = f"the answer is {what}; {_ADVICE[ErrorKind.BAD_RESPONSE]}"
    return QueryError(ErrorKind.BAD_RESPONSE, query, message)


def refuse_shape(query: str, found: object) -> NoReturn:
    """Raise the error for JSON of another shape than the API's."""
    if isinstance(found, dict) and b'"histogram' in orjson.dumps(found):
        message = (
            "the query gives native histograms; take a value from them, for example with histogram_quantile"
        )
        raise QueryError(ErrorKind.BAD_QUERY, query, message) from None
    message = f"the answer is JSON, but not that of a Prometheus API; {_ADVICE[ErrorKind.BAD_RESPONSE]}"
    raise QueryError(ErrorKind.BAD_RESPONSE, query, message) from None


def too_large(query: str, limits: QueryLimits) -> QueryError:
    """Return the error for a body that goes on beyond its bound."""
    message = f"the answer is larger than {limits.answer_bytes / MEBIBYTE:g} MiB; read fewer series"
    return QueryError(ErrorKind.TOO_LARGE, query, message)


def cut_short(query: str, warning: str) -> QueryError:
    """Return the error for an answer that the server truncated, though nobody asked it to."""
    message = f"the server cut the answer ({one_line(warning)}); raise its limit on series"
    return QueryError(ErrorKind.TOO_LARGE, query, message)


def timed_out(query: str, seconds: float, address: str) -> QueryError:
    """Return the error for no answer in time."""
    message = f"no answer from {address} within {seconds:g} s; {_ADVICE[ErrorKind.TIMEOUT]}"
    return QueryError(ErrorKind.TIMEOUT, query, message)


def unreachable(query: str, address: str, reason: str) -> QueryError:
    """Return the error for a connection that could not be made or broke."""
    message = (
        f"cannot reach {address}: {one_line(reason)}; check the address, that Prometheus runs, "
        "and network policies between here and there"
    )
    return QueryError(ErrorKind.UNAVAILABLE, query, message)


def one_line(text: str, length: int = 300) -> str:
    """Return foreign text as one printable line of at most `length` characters."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= length else line[: length - 3] + "..."


def _said(body: bytes, content_type: str) -> str:
    """Return ``: text`` for a short plain answer, nothing for a page."""
    if "html" in content_type or body.lstrip()[:1] in (b"<", b"{"):
        return ""
    text = one_line(body[:400].decode("utf-8", "replace"))
    return f": {text}" if text else ""
