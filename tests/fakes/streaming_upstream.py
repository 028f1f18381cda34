"""A server that streams like an engine and does what a test tells it: hold, refuse, cut, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from penstock.model.traffic import Endpoint


@dataclass
class Seen:
    """A request as it arrived."""

    headers: dict[str, str]
    path: str
    body: bytes


Behaviour = Callable[["StreamingUpstream", web.Request], Awaitable[web.StreamResponse]]


async def held(upstream: StreamingUpstream, request: web.Request) -> web.StreamResponse:
    """Send the first chunk at once and the last when the test releases."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream", "x-from": upstream.name})
    await response.prepare(request)
    await response.write(b"data: first\n\n")
    await upstream.released.wait()
    await response.write(b"data: [DONE]\n\n")
    return response


async def at_once(upstream: StreamingUpstream, request: web.Request) -> web.StreamResponse:
    """Answer immediately."""
    return web.Response(text="answered", headers={"x-from": upstream.name})


def refused(status: int) -> Behaviour:
    """Answer an error of the engine's own."""

    async def behaviour(upstream: StreamingUpstream, request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="engine says no", headers={"x-from": upstream.name})

    return behaviour


async def cut(upstream: StreamingUpstream, request: web.Request) -> web.StreamResponse:
    """Close the connection before the first byte of an answer."""
    assert request.transport is not None
    request.transport.abort()
    await asyncio.sleep(0)
    return web.Response()


async def cut_later(upstream: StreamingUpstream, request: web.Request) -> web.StreamResponse:
    """Close the connection after the first chunk of an answer."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: first\n\n")
    await asyncio.sleep(0.02)
    assert request.transport is not None
    request.transport.abort()
    await asyncio.sleep(0)
    return response


async def last_of_its_connection(upstream: StreamingUpstream, request: web.Request) -> web.StreamResponse:
    """Answer without a length, and end the answer by closing."""
    response = web.StreamResponse(headers={"connection": "close"})
    response.force_close()
    await response.prepare(request)
    await response.write(b"answered")
    return response


@dataclass
class StreamingUpstream:
    """One pod on a port of its own; counts what it runs and remembers what it got."""

    name: str
    behaviour: Behaviour = held
    address: str = "127.0.0.1"
    running: int = 0
    most_running: int = 0
    cancelled: int = 0
    seen: list[Seen] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on an ephemeral port, or on the one it had before."""
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_route("*", "/{rest:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.address, self.port, backlog=2048)  # uvicorn's
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._runner is not None:
            self.released.set()
            await asyncio.sleep(0)
            # What a client never read would keep the transport open beyond the test's loop.
            for connection in self._runner.server.connections if self._runner.server else ():
                if connection.transport is not None:
                    connection.transport.abort()
            await self._runner.cleanup()
            self._runner = None

    def endpoint(self, *, ready: bool = True, draining: bool = False) -> Endpoint:
        """Return this pod as an EndpointSlice tells of it."""
        return Endpoint(self.name, self.address, self.port, ready=ready, draining=draining)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            body = await request.read()
            headers = {key.lower(): value for key, value in request.headers.items()}
            self.seen.append(Seen(headers, request.path_qs, body))
            return await self.behaviour(self, request)
        except (asyncio.CancelledError, ConnectionResetError):
            self.cancelled += 1  # the client has left
            return web.Response()
        finally:
            self.running -= 1
