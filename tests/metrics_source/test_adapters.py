"""Both adapters keep the same contract, against a real Prometheus and against a server that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable

import pytest

from fakes.misbehaving_server import MisbehavingServer, Reply, failure, vector
from fakes.scraped_fleet import ScrapedFleet
from penstock.metrics_source.base import ErrorKind, MetricsSource, QueryError, QueryLimits, ResultType
from penstock.metrics_source.connection import Connection
from penstock.metrics_source.prometheus_api_client import PrometheusApiClient
from penstock.metrics_source.prometheus_http import PrometheusHttp

Adapter = Callable[[Connection], MetricsSource]
ADAPTERS = [PrometheusHttp, PrometheusApiClient]
QUICK = QueryLimits(timeout_seconds=0.4, answer_bytes=200_000)
ADVICE_ADDRESS = "give the root of a Prometheus API with its path prefix, without /api/v1"


@contextlib.asynccontextmanager
async def opened(adapter: Adapter, url: str, **more: object) -> AsyncIterator[MetricsSource]:
    source = adapter(Connection(url, **more))  # type: ignore[arg-type]
    try:
        yield source
    finally:
        await source.close()


async def error_of(adapter: Adapter, reply: Reply, limits: QueryLimits = QUICK) -> tuple[QueryError, str]:
    with MisbehavingServer(reply) as server:
        async with opened(adapter, server.url) as source:
            with pytest.raises(QueryError) as caught:
                await source.instant("up", 1.0, limits)
    return caught.value, server.url


pytestmark = pytest.mark.parametrize("adapter", ADAPTERS)


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (
            Reply(400, failure("bad_data", "parse error: unexpected )")),
            ErrorKind.BAD_QUERY,
            "Prometheus refuses the query: parse error: unexpected )",
        ),
        (
            Reply(422, failure("execution", "many-to-many matching not allowed")),
            ErrorKind.BAD_QUERY,
            "Prometheus refuses the query: many-to-many matching not allowed",
        ),
        (
            Reply(422, failure("execution", "query processing would load too many samples into memory")),
            ErrorKind.TOO_LARGE,
            "Prometheus could not answer: query processing would load too many samples into memory; "
            "raise the server's limit on samples, or read fewer series",
        ),
        (
            Reply(503, failure("timeout", "query timed out in expression evaluation")),
            ErrorKind.TIMEOUT,
            "Prometheus could not answer: query timed out in expression evaluation; "
            "give Prometheus more CPU, or identify series by service",
        ),
        (
            Reply(500, b"boom", "text/plain"),
            ErrorKind.UNAVAILABLE,
            "{url} answers HTTP 500: boom; it is tried again at the next tick",
        ),
        (
            Reply(502, b"<html>Bad gateway</html>", "text/html"),
            ErrorKind.UNAVAILABLE,
            "{url} answers HTTP 502; it is tried again at the next tick",
        ),
        (
            Reply(429, b"slow down", "text/plain"),
            ErrorKind.UNAVAILABLE,
            "{url} answers HTTP 429: slow down; it is tried again at the next tick",
        ),
        (
            Reply(401, b"no org id", "text/plain"),
            ErrorKind.UNAUTHORIZED,
            "{url} refuses the credentials (HTTP 401: no org id); "
            "check the bearer token, its permissions and the tenant header",
        ),
        (
            Reply(403, b"<html>Forbidden</html>", "text/html"),
            ErrorKind.UNAUTHORIZED,
            "{url} refuses the credentials (HTTP 403); "
            "check the bearer token, its permissions and the tenant header",
        ),
        (
            Reply(404, b"404 page not found\n", "text/plain"),
            ErrorKind.BAD_RESPONSE,
            f"{{url}} answers HTTP 404: 404 page not found; {ADVICE_ADDRESS}",
        ),
        (
            Reply(302, headers={"Location": "https://login.example/?next=/"}),
            ErrorKind.BAD_RESPONSE,
            "{url} redirects (HTTP 302); give the final address: credentials follow no redirect",
        ),
        (
            Reply(414, b"", "text/plain"),
            ErrorKind.TOO_LARGE,
            "{url} refuses a query of 2 characters (HTTP 414); raise the proxy's limit",
        ),
    ],
)
async def test_a_failure_says_what_it_is_and_what_to_do(
    adapter: Adapter, reply: Reply, kind: ErrorKind, message: str
) -> None:
    error, url = await error_of(adapter, reply)
    assert (error.kind, error.message) == (kind, message.format(url=url))
    assert error.query == "up"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"<!doctype html><title>Sign in</title>", "text/html"),
        Reply(200, vector(({"a": "b"}, "1"))[:-20]),
        Reply(200, b"[]"),
        Reply(200, b'{"status":"success"}'),
        Reply(200, b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{}}]}}'),
        Reply(200, b""),
    ],
    ids=["login page", "truncated", "other JSON", "no data", "no value", "empty"],
)
async def test_what_is_no_answer_of_the_api_is_never_an_empty_result(adapter: Adapter, reply: Reply) -> None:
    error, _ = await error_of(adapter, reply)
    assert error.kind is ErrorKind.BAD_RESPONSE
    assert "address" in error.message or ADVICE_ADDRESS in error.message


async def test_a_server_that_hangs_is_given_up_in_time(adapter: Adapter) -> None:
    began = time.monotonic()
    error, url = await error_of(adapter, Reply(body=vector(), delay_seconds=30))
    assert time.monotonic() - began < 3
    assert error.kind is ErrorKind.TIMEOUT
    assert error.message == (
        f"no answer from {url} within 0.4 s; give Prometheus more CPU, or identify series by service"
    )


async def test_an_answer_without_end_is_cut_at_its_bound(adapter: Adapter) -> None:
    limits = QueryLimits(timeout_seconds=10, answer_bytes=1024 * 1024)
    error, _ = await error_of(adapter, Reply(body=b"x" * 65536, endless=True), limits)
    assert error.kind is ErrorKind.TOO_LARGE
    assert error.message == "the answer is larger than 1 MiB; read fewer series"


async def test_an_answer_that_drips_is_given_up_in_time(adapter: Adapter) -> None:
    began = time.monotonic()
    error, _ = await error_of(adapter, Reply(body=b"{", length=100_000), QUICK)
    assert time.monotonic() - began < 3
    assert error.kind in (ErrorKind.TIMEOUT, ErrorKind.UNAVAILABLE)


async def test_a_connection_closed_without_an_answer_is_unavailable(adapter: Adapter) -> None:
    error, _ = await error_of(adapter, Reply(drop=True))
    assert error.kind is ErrorKind.UNAVAILABLE


async def test_nobody_listening_is_said_with_the_address(adapter: Adapter) -> None:
    with MisbehavingServer() as server:
        url = server.url
    async with opened(adapter, url) as source:
        with pytest.raises(QueryError) as caught:
            await source.instant("up", 1.0, QUICK)
    assert caught.value.kind is ErrorKind.UNAVAILABLE
    assert caught.value.message == (
        f"cannot reach {url}: connection refused; check the address, that Prometheus runs, "
        "and network policies between here and there"
    )


async def test_numbers_that_are_none_come_through_as_they_are(adapter: Adapter) -> None:
    body = vector(({"a": "1"}, "NaN"), ({"a": "2"}, "+Inf"), ({"a": "3"}, "-Inf"), ({"a": "4"}, "1e3"))
    with MisbehavingServer(Reply(body=body)) as server:
        async with opened(adapter, server.url) as source:
            samples = (await source.instant("up", 1.0)).samples
    assert [labels["a"] for labels, _ in samples] == ["1", "2", "3", "4"]
    assert math.isnan(samples[0][1])
    assert [value for _, value in samples[1:]] == [math.inf, -math.inf, 1000.0]


async def test_the_query_goes_as_a_form_with_its_limits_and_headers(adapter: Adapter) -> None:
    with MisbehavingServer() as server:
        async with opened(
            adapter, f"{server.url}/prefix/", bearer_token="secret", headers={"X-Scope-OrgID": "a|b"}
        ) as source:
            await source.instant('up{x="y"} + 1', 12.5, QueryLimits(timeout_seconds=2.5, series=7))
            await source.range("up", start=10.0, end=20.0, step=5.0)
    first, second = server.seen
    assert (first.method, first.path) == ("POST", "/prefix/api/v1/query")
    assert first.fields == {"query": 'up{x="y"} + 1', "time": "12.500", "timeout": "2500ms", "limit": "7"}
    assert first.headers["X-Scope-OrgID"] == "a|b"
    assert first.headers["Authorization"] == "Bearer secret"
    assert second.path == "/prefix/api/v1/query_range"
    assert {name: float(second.fields[name]) for name in ("start", "end", "step")} == {
        "start": 10.0,
        "end": 20.0,
        "step": 5.0,
    }


async def test_connections_are_kept_between_queries(adapter: Adapter) -> None:
    with MisbehavingServer() as server:
        async with opened(adapter, server.url) as source:
            for _ in range(5):
                await source.instant("up", 1.0)
    assert len(server.connections) == 1


async def test_clock_skew_is_read_from_the_answer(adapter: Adapter) -> None:
    with MisbehavingServer(Reply(body=vector(), date_offset_seconds=-120)) as server:
        async with opened(adapter, server.url) as source:
            assert source.clock_skew_seconds() is None
            await source.instant("up", 1.0)
            skew = source.clock_skew_seconds()
    assert skew == pytest.approx(-120, abs=1.5)


async def test_a_failed_answer_tells_nothing_about_the_clock(adapter: Adapter) -> None:
    with MisbehavingServer(Reply(503, b"", date_offset_seconds=-120)) as server:
        async with opened(adapter, server.url) as source:
            with pytest.raises(QueryError):
                await source.instant("up", 1.0)
            assert source.clock_skew_seconds() is None


async def test_secrets_are_in_no_text(adapter: Adapter) -> None:
    connection = Connection(
        "http://user:hunter2@127.0.0.1:1/prom", headers={"X-Scope-OrgID": "tenant-9", "X-Key": "k3y"}
    )
    source = adapter(connection)
    with pytest.raises(QueryError) as caught:
        await source.instant("up", 1.0, QUICK)
    await source.close()
    shown = f"{connection!r} {source!r} {caught.value} {caught.value!r} {caught.value.__cause__!r}"
    for secret in ("hunter2", "k3y", "tenant-9"):
        assert secret not in shown


async def test_queries_run_side_by_side(adapter: Adapter) -> None:
    with MisbehavingServer(Reply(body=vector(), delay_seconds=0.8)) as server:
        async with opened(adapter, server.url) as source:
            began = time.monotonic()
            await asyncio.gather(source.instant("a", 1.0), source.instant("b", 1.0))
            assert time.monotonic() - began < 1.5


@pytest.mark.prometheus
async def test_a_real_prometheus_answers_both_alike(adapter: Adapter, fleet: ScrapedFleet) -> None:
    url, now = fleet.prometheus.url, fleet.now
    async with opened(adapter, url) as source:
        running = await source.instant('vllm:num_requests_running{namespace="prod",pod="chat-1"}', now)
        ((labels, value),) = running.samples
        assert labels["pod"] == "chat-1"
        assert value == 3.0
        assert running.type is ResultType.VECTOR
        assert (await source.instant("time()", 1234.0)).samples == [({}, 1234.0)]
        assert (await source.instant("time()", 1234.0)).type is ResultType.SCALAR
        assert (await source.instant("nothing", now)).samples == []
        ((_, nothing),) = (await source.instant("vector(0) / 0", now)).samples
        assert math.isnan(nothing)
        ranged = await source.range('up{pod="chat-1",namespace="prod"}', start=now - 2, end=now, step=1)
        ((_, points),) = ranged.series
        assert 2 <= len(points) <= 4
        assert {value for _, value in points} == {1.0}
        skew = source.clock_skew_seconds()
        assert skew is not None
        assert abs(skew) < 2


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("query", "kind", "said"),
    [
        ("sum(", ErrorKind.BAD_QUERY, "parse error"),
        ("up[5m]", ErrorKind.BAD_QUERY, "the query gives a matrix"),
        ("rate(up)", ErrorKind.BAD_QUERY, "expected type range vector"),
    ],
)
async def test_a_real_prometheus_says_why_a_query_is_bad(
    adapter: Adapter, fleet: ScrapedFleet, query: str, kind: ErrorKind, said: str
) -> None:
    async with opened(adapter, fleet.prometheus.url) as source:
        with pytest.raises(QueryError, match=said) as caught:
            await source.instant(query, fleet.now)
    assert caught.value.kind is kind
