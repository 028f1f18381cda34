"""The adapter against real HTTP: a server in the test's own loop that answers as it is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from penstock.kube.aio_client import AioKubeApi, connect
from penstock.kube.answers import CallLimits

Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]
QUICK = CallLimits(connect_seconds=1.0, total_seconds=2.0, first_pause_seconds=0.002)


class ApiServer:
    """Answers with `respond`, or else with `queue`, first to last; keeps what it was asked."""

    def __init__(self) -> None:
        self.queue: list[web.Response] = []
        self.respond: Respond | None = None
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.counted: list[tuple[str, str, str]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path_qs))
        self.headers.append(dict(request.headers))
        text = await request.text()
        self.bodies.append(json.loads(text) if text else None)
        if self.respond is not None:
            return await self.respond(request)
        return self.queue.pop(0)

    def count(self, verb: str, resource: str, code: str, seconds: float) -> None:
        assert seconds >= 0
        self.counted.append((verb, resource, code))


def status(code: int, message: str, **headers: str) -> web.Response:
    """Answer as the API server does when it refuses."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    return web.json_response(body, status=code, headers={k.replace("_", "-"): v for k, v in headers.items()})


def kubeconfig(path: Path, server: str, **user: object) -> str:
    """Write a kubeconfig with one cluster; return its path."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(json.dumps(config))
    return str(path)


@pytest.fixture
def refusal() -> Callable[..., web.Response]:
    return status


@pytest.fixture
def write_kubeconfig(tmp_path: Path) -> Callable[..., str]:
    return lambda server, **user: kubeconfig(tmp_path / "kubeconfig", server, **user)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    api_server = ApiServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api_server.handle)
    async with TestServer(app) as running:
        api_server.url = str(running.make_url("")).rstrip("/")
        yield api_server


@pytest.fixture
async def api(server: ApiServer, write_kubeconfig: Callable[..., str]) -> AsyncIterator[AioKubeApi]:
    made = await connect(kubeconfig=write_kubeconfig(server.url), on_request=server.count, limits=QUICK)
    yield made
    await made.close()
