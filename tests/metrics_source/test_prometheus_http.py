"""What only the default adapter does, and warnings, credentials and TLS of both."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.misbehaving_server import MisbehavingServer, Reply, vector
from penstock.metrics_source.base import ErrorKind, QueryError, QueryLimits, RangeResult
from penstock.metrics_source.connection import Connection
from penstock.metrics_source.prometheus_api_client import PrometheusApiClient
from penstock.metrics_source.prometheus_http import PrometheusHttp

BOTH = pytest.mark.parametrize("adapter", [PrometheusHttp, PrometheusApiClient])


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1; its key lies beside it."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed: no certificate can be made")
    made = tmp_path / "cert.pem"
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    name = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(tmp_path / "key.pem"), "-out", str(made)]
    subprocess.run(["openssl", "req", "-x509", *key.split(), *name], check=True, capture_output=True)
    return made


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[MisbehavingServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with MisbehavingServer(tls=context) as server:
        yield server


@BOTH
async def test_warnings_and_infos_are_part_of_the_answer(
    adapter: type[PrometheusHttp | PrometheusApiClient],
) -> None:
    body = vector(({}, "1"), warnings=["store 10.0.0.7 is down: partial response"], infos=["not a counter"])
    with MisbehavingServer(Reply(body=body)) as server:
        source = adapter(Connection(server.url))
        result = await source.instant("up", 1.0)
        await source.close()
    assert result.samples == [({}, 1.0)]
    assert result.warnings == ("store 10.0.0.7 is down: partial response",)
    assert result.infos == ("not a counter",)


@BOTH
async def test_warnings_and_infos_are_part_of_a_range(
    adapter: type[PrometheusHttp | PrometheusApiClient],
) -> None:
    data = {"resultType": "matrix", "result": [{"metric": {"a": "b"}, "values": [[1, "2"], [6, "3"]]}]}
    body = vector(data=data, warnings=["store 7 is down"], infos=["not a counter"])
    with MisbehavingServer(Reply(body=body)) as server:
        source = adapter(Connection(server.url))
        result = await source.range("up", start=1.0, end=6.0, step=5.0)
        await source.close()
    assert result == RangeResult(
        [({"a": "b"}, [(1.0, 2.0), (6.0, 3.0)])], ("store 7 is down",), ("not a counter",)
    )


@BOTH
async def test_of_two_queries_at_a_time_each_keeps_its_own_warnings(
    adapter: type[PrometheusHttp | PrometheusApiClient],
) -> None:
    whole, partial = vector(({}, "1")), vector(({}, "2"), warnings=["store 7 is down"])
    with MisbehavingServer() as server:
        server.choose = lambda seen: Reply(
            body=partial if seen.fields["query"] == "partial" else whole, delay_seconds=0.2
        )
        source = adapter(Connection(server.url))
        results = await asyncio.gather(source.instant("partial", 1.0), source.instant("whole", 1.0))
        await source.close()
    assert [(each.samples, each.warnings) for each in results] == [
        ([({}, 2.0)], ("store 7 is down",)),
        ([({}, 1.0)], ()),
    ]


@BOTH
async def test_an_answer_cut_by_the_server_is_a_failure_unless_it_was_asked_for(
    adapter: type[PrometheusHttp | PrometheusApiClient],
) -> None:
    body = vector(({}, "1"), warnings=["results truncated due to limit"])
    with MisbehavingServer(Reply(body=body)) as server:
        source = adapter(Connection(server.url))
        with pytest.raises(QueryError) as caught:
            await source.instant("up", 1.0)
        assert caught.value.kind is ErrorKind.TOO_LARGE
        assert caught.value.message == (
            "the server cut the answer (results truncated due to limit); raise its limit on series"
        )
        assert len((await source.instant("up", 1.0, QueryLimits(series=1))).samples) == 1
        await source.close()


async def test_a_kept_connection_that_the_server_closed_is_asked_once_more() -> None:
    with MisbehavingServer() as server:
        source = PrometheusHttp(Connection(server.url))
        await source.instant("first", 1.0)
        replies = iter([Reply(drop=True), Reply(body=vector(({}, "7")))])
        server.choose = lambda _: next(replies)
        assert (await source.instant("second", 1.0)).samples == [({}, 7.0)]
        await source.close()


@BOTH
async def test_a_rotated_token_file_is_read_again(
    adapter: type[PrometheusHttp | PrometheusApiClient], tmp_path: Path
) -> None:
    # As the kubelet does it: a symlink to a directory is swapped.
    for number in (1, 2):
        (tmp_path / f"data{number}").mkdir()
        (tmp_path / f"data{number}" / "token").write_text(f"token-{number}\n")
    (tmp_path / "data").symlink_to("data1")
    with MisbehavingServer() as server:
        source = adapter(Connection(server.url, bearer_token_file=str(tmp_path / "data" / "token")))
        await source.instant("up", 1.0)
        (tmp_path / "swap").symlink_to("data2")
        os.replace(tmp_path / "swap", tmp_path / "data")
        await source.instant("up", 1.0)
        await source.close()
    assert [each.headers["Authorization"] for each in server.seen] == ["Bearer token-1", "Bearer token-2"]


@BOTH
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            "cannot read the bearer token file {path}: No such file or directory; mount it or name another",
        ),
        ("", "the bearer token file {path} holds no token on a single line"),
        ("two\nlines", "the bearer token file {path} holds no token on a single line"),
    ],
)
async def test_a_token_file_that_cannot_be_used_is_named(
    adapter: type[PrometheusHttp | PrometheusApiClient], tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    source = adapter(Connection("http://127.0.0.1:1", bearer_token_file=str(path)))
    with pytest.raises(QueryError) as caught:
        await source.instant("up", 1.0)
    await source.close()
    assert caught.value.kind is ErrorKind.UNAUTHORIZED
    assert caught.value.message == message.format(path=path)


@BOTH
async def test_a_private_authority_is_trusted_only_when_it_is_named(
    adapter: type[PrometheusHttp | PrometheusApiClient], tls_server: MisbehavingServer, certificate: Path
) -> None:
    trusting = adapter(Connection(tls_server.url, ca_file=str(certificate)))
    assert (await trusting.instant("up", 1.0)).samples == []
    await trusting.close()
    careless = adapter(Connection(tls_server.url, insecure_skip_verify=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # urllib3 warns of what is wanted here
        assert (await careless.instant("up", 1.0)).samples == []
    await careless.close()
    strict = adapter(Connection(tls_server.url))
    with pytest.raises(QueryError, match="TLS fails") as caught:
        await strict.instant("up", 1.0)
    await strict.close()
    assert caught.value.kind is ErrorKind.UNAVAILABLE


async def test_replaced_tls_files_are_loaded_again(tls_server: MisbehavingServer, certificate: Path) -> None:
    trusted = certificate.with_name("ca.pem")
    shutil.copy(certificate, trusted)
    source = PrometheusHttp(Connection(tls_server.url, ca_file=str(trusted)))
    await source.instant("up", 1.0)
    trusted.write_text("not a certificate")
    with pytest.raises(QueryError, match="its TLS files cannot be used"):
        await source.instant("up", 1.0)
    shutil.copy(certificate, trusted)
    await source.instant("up", 1.0)
    await source.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"url": "prometheus:9090"}, "the Prometheus address must be a URL"),
        ({"url": "http://"}, "the Prometheus address must be a URL"),
        ({"url": "http://p/?x=1"}, "takes no query or fragment"),
        ({"url": "http://a:b@p", "bearer_token": "t"}, "give one of a bearer token"),
        ({"url": "http://p", "client_certificate_file": "c"}, "a client certificate needs its key"),
        ({"url": "http://p", "headers": {"X": "a\nb"}}, "is not a header that can be sent"),
        ({"url": "http://p", "headers": {"X Y": "a"}}, "is not a header that can be sent"),
    ],
)
def test_an_address_that_cannot_work_is_refused_at_once(given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Connection(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url", ["http://p:9090", "http://p:9090/", "http://p:9090/api/v1", "http://p:9090/api/v1/"]
)
def test_the_api_path_may_be_given_or_not(url: str) -> None:
    assert Connection(url).endpoint("query") == "http://p:9090/api/v1/query"
