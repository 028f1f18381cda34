"""Prometheus over HTTP with aiohttp: the default adapter.

Queries go as form POST (a shard of 500 services makes a query of 20 KB: too long for a URL), with the
server told when to give up, the answer bounded in time and size, and connections kept between ticks.
Redirects are not followed: the credentials would go along.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Mapping

import aiohttp

from penstock.metrics_source import failure
from penstock.metrics_source.answer import clock_skew, read_instant, read_range
from penstock.metrics_source.base import DEFAULT_LIMITS, QueryLimits, QueryResult, RangeResult
from penstock.metrics_source.connection import Connection, Credentials, file_stamp

CONNECTIONS = 8
# The server gives up at `timeout`; its own words for that are better than ours, so wait a little more.
GRACE_SECONDS = 0.5
# A little above the tick of 15 s, so that one connection serves tick after tick.
KEEP_ALIVE_SECONDS = 45.0


class PrometheusHttp:
    """`MetricsSource` over aiohttp. Use it from one event loop; `close` it there."""

    def __init__(self, connection: Connection, *, clock: Callable[[], float] = time.time) -> None:
        self._connection = connection
        self._credentials = Credentials(connection)
        self._clock = clock
        self._skew: float | None = None
        self._session: aiohttp.ClientSession | None = None
        self._tls_stamp: tuple[tuple[int, ...], ...] = ()
        self._in_flight = 0

    def __repr__(self) -> str:
        return f"PrometheusHttp({self._connection.url})"

    async def instant(self, query: str, at: float, limits: QueryLimits = DEFAULT_LIMITS) -> QueryResult:
        """Evaluate `query` at `at` (Unix seconds); raises `QueryError`."""
        form = {"query": query, "time": f"{at:.3f}"}
        return read_instant(await self._post("query", form, limits), query, limits)

    async def range(
        self, query: str, *, start: float, end: float, step: float, limits: QueryLimits = DEFAULT_LIMITS
    ) -> RangeResult:
        """Evaluate `query` every `step` seconds over [start, end]; raises `QueryError`."""
        form = {"query": query, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        return read_range(await self._post("query_range", form, limits), query, limits)

    def clock_skew_seconds(self) -> float | None:
        """Return the server's clock minus ours as of the newest answer; None before the first."""
        return self._skew

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, path: str, form: Mapping[str, str], limits: QueryLimits) -> bytes:
        query, address = form["query"], self._connection.url
        fields = dict(form) | {"timeout": f"{max(1, round(limits.timeout_seconds * 1000))}ms"}
        if limits.series:
            fields["limit"] = str(limits.series)
        headers = self._credentials.headers(query)
        self._in_flight += 1
        try:
            async with asyncio.timeout(limits.timeout_seconds + GRACE_SECONDS):
                session = await self._open_session(query)
                try:
                    return await self._exchange(session, path, fields, headers, limits)
                except (aiohttp.ServerDisconnectedError, ConnectionResetError):
                    # An idle connection that the server closed meanwhile; a query may be asked twice.
                    return await self._exchange(session, path, fields, headers, limits)
        except TimeoutError:
            raise failure.timed_out(query, limits.timeout_seconds, address) from None
        except aiohttp.ClientSSLError as error:
            reason = f"TLS fails ({_reason(error)}); set the CA file or the client certificate"
            raise failure.unreachable(query, address, reason) from None
        except aiohttp.ClientPayloadError:
            raise failure.unreachable(query, address, "the connection broke within the answer") from None
        except (aiohttp.ClientError, OSError) as error:
            raise failure.unreachable(query, address, _reason(error)) from None
        finally:
            self._in_flight -= 1

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        path: str,
        fields: Mapping[str, str],
        headers: Mapping[str, str],
        limits: QueryLimits,
    ) -> bytes:
        query = fields["query"]
        async with session.post(
            self._connection.endpoint(path), data=fields, headers=headers, allow_redirects=False
        ) as response:
            skew = clock_skew(response.headers.get("Date"), self._clock())
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > limits.answer_bytes:
                    response.close()
                    raise failure.too_large(query, limits)
            if response.status != 200:
                raise failure.http_failure(
                    response.status, response.content_type, bytes(body), query, self._connection.url
                )
            if skew is not None:
                self._skew = skew
            return bytes(body)

    async def _open_session(self, query: str) -> aiohttp.ClientSession:
        """Return the session; a new one when a TLS file was replaced and no other query is under way."""
        try:
            stamp = tuple(map(file_stamp, self._connection.tls_files()))
            if self._session is not None and (stamp == self._tls_stamp or self._in_flight > 1):
                return self._session
            context = self._connection.tls_context()
        except OSError as error:
            reason = f"its TLS files cannot be used ({error.strerror or error})"
            raise failure.unreachable(query, self._connection.url, reason) from None
        await self.close()
        self._tls_stamp = stamp
        connector = aiohttp.TCPConnector(
            limit=CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=True if context is None else context
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connection.connect_timeout_seconds),
            # 16 MB a tick cross a cluster network faster than Go compresses and Python inflates them.
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "penstock"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self._session


def _reason(error: BaseException) -> str:
    number = getattr(error, "errno", None) or getattr(getattr(error, "os_error", None), "errno", None)
    if number == errno.ECONNREFUSED:
        return "connection refused"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name does not resolve"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no connection within the connect time-out"
    return str(error) or error.__class__.__name__
