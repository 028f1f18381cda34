"""API servers for tests: the sandbox's fake and a real kube-apiserver, each as a `Served`.

`apiserver` is one real kube-apiserver for the whole run (about 3 s to start), with our CRD installed.
`served` runs a test against both; a test of its own uses `served_fake` or `served_real`.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yaml

from penstock.kube.aio_client import AioKubeApi, connect
from penstock.sandbox.apiserver import ApiServer, ApiServerUnavailableError
from penstock.sandbox.fake_api import FakeApi

CRD_FILE = Path(__file__).parents[2] / "crds" / "serving.penstock.dev_inferenceservices.yaml"


class Served:
    """An API server under test, a namespace of the test's own in it, and two ways to talk to it."""

    def __init__(
        self, url: str, kube: AioKubeApi, *, token: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self.url = url
        self.kube = kube
        self.namespace = f"t-{secrets.token_hex(5)}"
        self.fake: FakeApi | None = None
        self._tls = tls
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.session = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=30))

    async def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        """Send a request as it stands; returns status code and parsed answer."""
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": content_type}
        async with self.session.request(
            method, self.url + path, data=data, headers=headers, ssl=self._tls or True
        ) as answer:
            return answer.status, orjson.loads(await answer.read())

    async def watch(self, path: str, *, until: int, seconds: float = 5) -> list[dict[str, Any]]:
        """Return the first `until` events of a watch, fewer when `seconds` pass before."""
        events: list[dict[str, Any]] = []
        timeout = aiohttp.ClientTimeout(total=None, sock_read=seconds)
        try:
            async with self.session.get(self.url + path, ssl=self._tls or True, timeout=timeout) as answer:
                async for line in answer.content:
                    events.append(orjson.loads(line))
                    if len(events) == until:
                        # TLS would say goodbye to a server that goes on talking, beyond the test's loop.
                        if answer.connection is not None and answer.connection.transport is not None:
                            answer.connection.transport.abort()
                        break
        except TimeoutError:
            pass
        return events

    async def close(self) -> None:
        await self.session.close()
        await self.kube.close()
        await asyncio.sleep(0.02)  # closed connections end in the loop's next rounds, not at once


@pytest.fixture(scope="session")
def crd() -> dict[str, Any]:
    """Our CustomResourceDefinition as the file has it."""
    definition: dict[str, Any] = yaml.safe_load(CRD_FILE.read_text())
    return definition


@pytest.fixture(scope="session")
def apiserver(crd: dict[str, Any]) -> Iterator[ApiServer]:
    """A real kube-apiserver with our CRD; skips where the binaries are missing."""
    server = ApiServer()
    try:
        server.start()
    except ApiServerUnavailableError as error:
        pytest.skip(str(error))
    with server:
        server.define(crd)
        yield server


@pytest.fixture
async def served_real(apiserver: ApiServer, tmp_path: Path) -> AsyncIterator[Served]:
    """The real API server, with a fresh namespace."""
    kube = await connect(kubeconfig=str(apiserver.kubeconfig(tmp_path / "real.kubeconfig")))
    served = Served(apiserver.url, kube, token=apiserver.token, tls=apiserver.tls())
    try:
        body = {"metadata": {"name": served.namespace}}
        assert (await served.request("POST", "/api/v1/namespaces", body))[0] == 201
        yield served
    finally:
        await served.close()


@pytest.fixture
async def served_fake(crd: dict[str, Any], tmp_path: Path) -> AsyncIterator[Served]:
    """The fake API, new for each test."""
    async with FakeApi([crd], bookmark_seconds=0.2) as fake:
        kube = await connect(kubeconfig=str(fake.kubeconfig(tmp_path / "fake.kubeconfig")))
        served = Served(fake.url, kube)
        served.fake = fake
        try:
            yield served
        finally:
            await served.close()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.api)])
def served(request: pytest.FixtureRequest) -> Served:
    """Each of both API servers in turn."""
    found: Served = request.getfixturevalue(f"served_{request.param}")
    return found
