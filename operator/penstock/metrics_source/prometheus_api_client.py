"""Prometheus through the prometheus-api-client package: the second adapter.

For notebooks, tools and users who bring their own `requests` set-up (proxies, SigV4). The package has
no time-out of its own, puts POST queries into the URL, follows redirects, reads any amount and drops
warnings and infos (a partial answer of Thanos or Mimir would look complete); the session below mends that.
What stays lost, against `PrometheusHttp`: range queries start and end at whole seconds. Two threads.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import requests
from prometheus_api_client import PrometheusConnect
from urllib3 import Retry

from penstock.metrics_source import failure
from penstock.metrics_source.answer import clock_skew, read_instant, read_range
from penstock.metrics_source.base import (
    DEFAULT_LIMITS,
    ErrorKind,
    QueryError,
    QueryLimits,
    QueryResult,
    RangeResult,
)
from penstock.metrics_source.connection import Connection, Credentials

THREADS = 2
CHUNK_BYTES = 256 * 1024
Result = TypeVar("Result", QueryResult, RangeResult)


@dataclass(slots=True)
class Call:
    """One query on its way through the package: its limits in, the body of its answer out."""

    limits: QueryLimits
    body: bytes = b""


class BoundedSession(requests.Session):
    """A session that sends parameters as a form, follows nothing and bounds each answer."""

    def __init__(self, connection: Connection, clock: Callable[[], float]) -> None:
        super().__init__()
        self.trust_env = False
        self.verify = False if connection.insecure_skip_verify else connection.ca_file or True
        if connection.client_certificate_file:
            self.cert = (connection.client_certificate_file, connection.client_key_file)
        self._connection = connection
        self._credentials = Credentials(connection)
        self._clock = clock
        self.skew: float | None = None

    def request(self, method: str, url: str | bytes, *args: Any, **options: Any) -> requests.Response:
        """Send one query and read its answer within its limits, also into its `Call`; raises `QueryError`."""
        fields = dict(options.pop("params"))
        call: Call = fields.pop("call")
        limits = call.limits
        query, address = fields["query"], self._connection.url
        deadline = time.monotonic() + limits.timeout_seconds
        options |= {
            "data": fields,
            "headers": self._credentials.headers(query) | {"Accept-Encoding": "identity"},
            "allow_redirects": False,
            "stream": True,
            "timeout": (self._connection.connect_timeout_seconds, limits.timeout_seconds),
        }
        try:
            response = super().request(method, url, *args, **options)
            skew = clock_skew(response.headers.get("Date"), self._clock())
            body = bytearray()
            for chunk in response.iter_content(CHUNK_BYTES):
                body += chunk
                if len(body) > limits.answer_bytes:
                    response.close()
                    raise failure.too_large(query, limits)
                if time.monotonic() > deadline:
                    response.close()
                    raise failure.timed_out(query, limits.timeout_seconds, address)
        except requests.Timeout:
            raise failure.timed_out(query, limits.timeout_seconds, address) from None
        except (requests.RequestException, OSError) as error:
            raise failure.unreachable(query, address, _reason(error)) from None
        if response.status_code != 200:
            content_type = response.headers.get("Content-Type", "")
            raise failure.http_failure(response.status_code, content_type, bytes(body), query, address)
        if skew is not None:
            self.skew = skew
        response._content = call.body = bytes(body)  # as requests itself does after reading a stream
        return response


class PrometheusApiClient:
    """`MetricsSource` over prometheus-api-client, in two threads."""

    def __init__(self, connection: Connection, *, clock: Callable[[], float] = time.time) -> None:
        self._connection = connection
        self._session = BoundedSession(connection, clock)
        self._client = PrometheusConnect(
            url=connection.url, session=self._session, retry=Retry(total=0), method="POST"
        )
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="prometheus")

    def __repr__(self) -> str:
        return f"PrometheusApiClient({self._connection.url})"

    async def instant(self, query: str, at: float, limits: QueryLimits = DEFAULT_LIMITS) -> QueryResult:
        """Evaluate `query` at `at` (Unix seconds); raises `QueryError`."""
        call = Call(limits)

        def ask() -> QueryResult:
            self._client.custom_query(query, params=_params(call) | {"time": f"{at:.3f}"})
            # Not what it returns: that is the result alone, without its type and without warnings.
            return read_instant(call.body, query, limits)

        return await self._run(ask, query, limits)

    async def range(
        self, query: str, *, start: float, end: float, step: float, limits: QueryLimits = DEFAULT_LIMITS
    ) -> RangeResult:
        """Evaluate `query` every `step` seconds over [start, end] rounded to seconds; raises `QueryError`."""
        call = Call(limits)
        times = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)

        def ask() -> RangeResult:
            self._client.custom_query_range(query, *times, step=f"{step:g}", params=_params(call))
            return read_range(call.body, query, limits)

        return await self._run(ask, query, limits)

    def clock_skew_seconds(self) -> float | None:
        """Return the server's clock minus ours as of the newest answer; None before the first."""
        return self._session.skew

    async def close(self) -> None:
        """Close the connections; a query under way ends by its own time-out."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    async def _run(self, ask: Callable[[], Result], query: str, limits: QueryLimits) -> Result:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limits.timeout_seconds):
                return await loop.run_in_executor(self._executor, functools.partial(_answered, ask, query))
        except TimeoutError:
            raise failure.timed_out(query, limits.timeout_seconds, self._connection.url) from None


def _answered(ask: Callable[[], Result], query: str) -> Result:
    """Ask; what the package cannot read of a 200 becomes a domain error."""
    try:
        return ask()
    except (ValueError, KeyError, TypeError):
        message = "the answer is not that of a Prometheus API; check the address, and what stands in between"
        raise QueryError(ErrorKind.BAD_RESPONSE, query, message) from None


def _params(call: Call) -> dict[str, Any]:
    params: dict[str, Any] = {
        "timeout": f"{max(1, round(call.limits.timeout_seconds * 1000))}ms",
        "call": call,
    }
    if call.limits.series:
        params["limit"] = str(call.limits.series)
    return params


def _reason(error: BaseException) -> str:
    text = str(error)
    for sign, reason in (
        ("Connection refused", "connection refused"),
        ("CERTIFICATE_VERIFY_FAILED", "TLS fails (the certificate cannot be verified); set the CA"),
        ("NameResolutionError", "its name does not resolve"),
        ("Remote end closed", "the connection was closed without an answer"),
        ("IncompleteRead", "the connection broke within the answer"),
    ):
        if sign in text:
            return reason
    return error.__class__.__name__
