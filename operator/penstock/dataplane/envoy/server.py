"""REST-JSON xDS by long poll: a question is held until its answer differs from what the proxy has.

3 to 4 ms from a change to its effect, and no polling while nothing changes. Only proxies that show their
group's token are answered; what they ask is bounded in size, and what is refused is answered late.
Source: Envoy, api/xds_protocol "REST-JSON polling subscriptions".
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson
import structlog
from aiohttp import web

from penstock.dataplane.envoy.lost_peers import proxies_asked
from penstock.dataplane.envoy.names import DISCOVERY, RTDS, XDS_HEALTH_PATH
from penstock.dataplane.envoy.proxies import Proxy
from penstock.dataplane.envoy.versions import Key

log = structlog.get_logger(__name__)
# Envoy 1.40 tells its 600 extensions in every question: 77 kB.
LARGEST_QUESTION_BYTES: Final = 256 * 1024
# Below the proxies' time-out of 75 s, and jittered so that they do not all come back at once.
HOLD_SECONDS: Final = (40.0, 60.0)
# A proxy that is refused asks again after 20 ms.
REFUSAL_SECONDS: Final = 1.0
# The runtime of 25 services is 15 kB, and Envoy reads it on the thread that takes routes in. It only splits
# what the route's limit lets in into running and waiting, so the route goes first where connections are not
# made more (`proxies.RUNTIME_FIRST_SECONDS`).
RUNTIME_LATER_SECONDS: Final = 0.03
NOT_MODIFIED: Final = 304
BACKLOG: Final = 4096
_SAY_AGAIN_SECONDS: Final = 60.0
_SAID_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as it says of itself: `host` is where it is seen from here."""

    group: str
    name: str
    host: str
    token: str
    stats_port: int
    listen_address: str


class Registry(Protocol):
    """Who the proxies are."""

    def proxy(self, caller: Caller, version: str) -> Proxy | None:
        """Return the proxy that asks, known from its first question on; None: its group is not known."""

    @property
    def ready(self) -> bool:
        """Whether anything was published yet."""


class XdsServer:
    """The handlers. `token_of` gives a group's token: "" lets nobody in, None everybody (on loopback)."""

    def __init__(
        self,
        registry: Registry,
        token_of: Callable[[str], str | None],
        *,
        hold_seconds: tuple[float, float] = HOLD_SECONDS,
        refusal_seconds: float = REFUSAL_SECONDS,
    ) -> None:
        self._registry, self._token_of = registry, token_of
        self._hold, self._refusal_seconds = hold_seconds, refusal_seconds
        self._refused_at: dict[str, float] = {}
        self.questions = 0

    def app(self) -> web.Application:
        """Return the application; `serve` runs it."""
        app = web.Application()
        app.router.add_post("/v3/discovery:{kind}", self._discover)
        app.router.add_get(XDS_HEALTH_PATH, self._health)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        # Proxies turn to their agent while an operator that has just started knows nothing.
        if self._registry.ready:
            return web.Response(text="ok\n")
        return web.Response(status=503, text="starting\n")

    async def _discover(self, request: web.Request) -> web.Response:
        self.questions += 1
        kind = DISCOVERY.get(request.match_info["kind"])
        if kind is None:
            return await self._late(404, "no such resource type")
        try:
            caller, names, version = _read(await _body(request), request.remote or "")
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            return await self._late(400, "not a DiscoveryRequest")
        token = self._token_of(caller.group)
        if token is not None and not (token and hmac.compare_digest(token.encode(), caller.token.encode())):
            self._say_refused(caller)
            return await self._late(403, "unknown proxy")
        if len(names) > 1:
            return await self._late(400, "one resource a question")
        proxy = self._registry.proxy(caller, version)
        if proxy is None:
            return await self._late(503, "nothing is known of this group yet")
        proxy.open_questions += 1
        try:
            return await self._answer(proxy, (kind, names[0] if names else ""), version)
        finally:
            proxy.open_questions -= 1
            proxy.heard_at = time.monotonic()

    async def _answer(self, proxy: Proxy, key: Key, version: str) -> web.Response:
        now = time.monotonic()
        proxy.asked(key, version, now)
        until = now + random.uniform(*self._hold)  # noqa: S311 - jitter
        while now < until and not proxy.is_to_ask_anew(key):
            answer = proxy.answer(key, version, now)
            if answer is not None:
                return web.Response(body=answer.body, content_type="application/json")
            await proxy.change(key, version, until, now)
            now = time.monotonic()
            if key[0] == RTDS and not proxy.runtime_goes_first(key[1], now):
                await asyncio.sleep(RUNTIME_LATER_SECONDS)
                now = time.monotonic()
        return web.Response(status=NOT_MODIFIED)

    async def _late(self, status: int, text: str) -> web.Response:
        await asyncio.sleep(self._refusal_seconds)
        return web.Response(status=status, text=f"{text}\n")

    def _say_refused(self, caller: Caller) -> None:
        now = time.monotonic()
        if now - self._refused_at.get(caller.host, -_SAY_AGAIN_SECONDS) < _SAY_AGAIN_SECONDS:
            return
        if len(self._refused_at) >= _SAID_AT_ONCE:
            self._refused_at.clear()
        self._refused_at[caller.host] = now
        log.warning(
            "a proxy without the group's token was refused",
            group=caller.group[:100],
            proxy=caller.name[:100],
            address=caller.host,
        )


async def serve(app: web.Application, host: str, port: int) -> web.AppRunner:
    """Listen, and return what `cleanup` ends. Raises OSError when the address cannot be had.

    A proxy that is gone is seen at once, one with a lost node when its connections end (`lost_peers`). The
    server's end waits for no held question. A proxy with 200 services opens 1,000 connections at once: with a
    backlog of 128 the last were accepted after 15 s.
    """
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
        proxies_asked(listening)
        await web.SockSite(runner, listening, backlog=BACKLOG).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner


async def _body(request: web.Request) -> bytes:
    """Read the body without leaving it in the request, which lives as long as the question is held."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > LARGEST_QUESTION_BYTES:
            raise web.HTTPRequestEntityTooLarge(LARGEST_QUESTION_BYTES, len(body))
    return bytes(body)


def _read(body: bytes, host: str) -> tuple[Caller, list[str], str]:
    """Return who asks, for which resources, and the version it has.

    Raises orjson.JSONDecodeError, KeyError, TypeError, ValueError or AttributeError for no DiscoveryRequest.
    """
    try:
        question = orjson.loads(_without_extensions(body))
    except orjson.JSONDecodeError:
        question = orjson.loads(body)
    names = [str(each) for each in question.get("resource_names") or ()]
    return _caller(question["node"], host), names, str(question.get("version_info") or "")


def _without_extensions(body: bytes) -> bytes:
    """Cut the list of Envoy's extensions out: 76 of 77 kB, and 99 % of the time to read a question."""
    start = body.find(b',"extensions":[')
    end = body.find(b"}]}", start)
    return body if start < 0 or end < 0 else body[:start] + body[end + 2 :]


def _caller(node: dict[str, Any], host: str) -> Caller:
    """Return who asks. Raises KeyError, TypeError, ValueError or AttributeError for what is no node."""
    metadata = node.get("metadata") or {}
    listen_address = str(metadata.get("listen_address") or "")
    if listen_address:
        ipaddress.ip_address(listen_address)
    return Caller(
        group=str(node["cluster"]),
        name=str(node["id"]),
        host=host,
        token=str(metadata.get("token") or ""),
        stats_port=int(metadata.get("stats_port") or 0),
        listen_address=listen_address,
    )
