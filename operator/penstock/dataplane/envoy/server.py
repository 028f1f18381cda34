"""REST-JSON xDS by long poll: a question is held until its answer differs from what the proxy has.

3 to 4 ms from a change to its effect, and no polling while nothing changes. Only proxies that show their
group's token are answered; what they ask is bounded in size.
Source: Envoy, api/xds_protocol "REST-JSON polling subscriptions".
"""

from __future__ import annotations

import asyncio
import hmac
import random
import time
from collections.abc import Callable
from typing import Protocol

import orjson
import structlog
from aiohttp import web

from penstock.dataplane.envoy.names import CDS, DISCOVERY, XDS_HEALTH_PATH
from penstock.dataplane.envoy.proxies import Proxy
from penstock.dataplane.envoy.versions import Key

log = structlog.get_logger(__name__)
LARGEST_QUESTION_BYTES = 256 * 1024
# Below the proxies' time-out of 30 s, and jittered so that they do not all come back at once.
HOLD_SECONDS = (15.0, 25.0)
NOT_MODIFIED = 304
_SAY_AGAIN_SECONDS = 60.0


class Registry(Protocol):
    """Who the proxies are; `proxy` may be None while a group is not known yet."""

    def proxy(self, group: str, name: str, host: str, stats_port: int) -> Proxy | None:
        """Return the proxy that asks, made known by its first question."""

    @property
    def ready(self) -> bool:
        """Whether anything was published yet."""


class XdsServer:
    """The handlers; `token_of` a group raises nothing, "" lets nobody in."""

    def __init__(
        self,
        registry: Registry,
        token_of: Callable[[str], str],
        *,
        hold_seconds: tuple[float, float] = HOLD_SECONDS,
    ) -> None:
        self._registry, self._token_of, self._hold = registry, token_of, hold_seconds
        self._refused_at: dict[str, float] = {}
        self.questions = 0

    def app(self) -> web.Application:
        """Return the application; run it with ``handler_cancellation=True``, so that gone proxies show."""
        app = web.Application(client_max_size=LARGEST_QUESTION_BYTES)
        app.router.add_post("/v3/discovery:{kind}", self._discover)
        app.router.add_get(XDS_HEALTH_PATH, self._health)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        # Proxies turn to their agent while an operator that has just started knows nothing.
        return (
            web.Response(text="ok\n") if self._registry.ready else web.Response(status=503, text="starting\n")
        )

    async def _discover(self, request: web.Request) -> web.Response:
        self.questions += 1
        kind = DISCOVERY.get(request.match_info["kind"])
        if kind is None:
            return web.Response(status=404, text="no such resource type\n")
        try:
            question = orjson.loads(await request.read())
            node = question["node"]
            metadata = node.get("metadata") or {}
            group, name = str(node["cluster"]), str(node["id"])
            names = [str(each) for each in question.get("resource_names") or ()]
            asked = str(question.get("version_info") or "")
            stats_port = int(metadata.get("stats_port") or 0)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            return web.Response(status=400, text="not a DiscoveryRequest\n")
        token = self._token_of(group)
        if not token or not hmac.compare_digest(token.encode(), str(metadata.get("token", "")).encode()):
            self._say_refused(group, name, request.remote or "")
            return web.Response(status=403, text="unknown proxy\n")
        if len(names) > 1:
            return web.Response(status=400, text="one resource a question\n")
        proxy = self._registry.proxy(group, name, request.remote or "", stats_port)
        if proxy is None:
            await asyncio.sleep(1.0)
            return web.Response(status=503, text="nothing is known of this group yet\n")
        key = (kind, names[0] if names else "")
        proxy.open_questions += 1
        try:
            return await self._answer(proxy, key, asked)
        finally:
            proxy.open_questions -= 1
            proxy.heard_at = time.monotonic()

    async def _answer(self, proxy: Proxy, key: Key, asked: str) -> web.Response:
        subscription = proxy.subscriptions[key]
        subscription.asked(asked, time.monotonic())
        if key == (CDS, ""):
            proxy.wake_after_clusters()
        until = time.monotonic() + random.uniform(*self._hold)  # noqa: S311 - jitter
        while True:
            now = time.monotonic()
            answer = proxy.catalogue.answer(key)
            if answer is not None and subscription.may_send(answer, now) and proxy.in_order(key[0]):
                subscription.send(answer)
                return web.Response(body=answer.body, content_type="application/json")
            if now >= until:
                return web.Response(status=NOT_MODIFIED)
            pause = until - now
            if answer is not None and answer.version != subscription.has and subscription.send_again_at > now:
                pause = min(pause, subscription.send_again_at - now)
            await self._woken(proxy, key, pause)

    @staticmethod
    async def _woken(proxy: Proxy, key: Key, seconds: float) -> None:
        """Wait until the answer may have changed, or for `seconds`."""
        future = asyncio.get_running_loop().create_future()
        proxy.waiting[key].add(future)
        try:
            await asyncio.wait([future], timeout=seconds)
        finally:
            if key in proxy.waiting:
                proxy.waiting[key].discard(future)

    def _say_refused(self, group: str, name: str, remote: str) -> None:
        now = time.monotonic()
        if now - self._refused_at.get(remote, -_SAY_AGAIN_SECONDS) < _SAY_AGAIN_SECONDS:
            return
        if len(self._refused_at) > 1000:
            self._refused_at.clear()
        self._refused_at[remote] = now
        log.warning("a proxy without the group's token was refused", group=group, proxy=name, address=remote)
