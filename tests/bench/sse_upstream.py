"""A light upstream that streams server-sent events: so that it is the proxy that is measured.

    python tests/bench/sse_upstream.py           prints its port, serves until its standard input closes

`POST /tokens/<n>/gap/<milliseconds>` streams n events of a completion's size, the first at once; any
other path 32 in 3 s. `GET /state` tells requests in progress, the most since the last look, and requests
so far. A raw protocol: the upstream must not be what is measured.
"""

from __future__ import annotations

import asyncio
import json
import sys

_EVENT = (
    b'data: {"id":"cmpl-0123456789abcdef","object":"text_completion","created":1750000000,'
    b'"model":"stand-in","choices":[{"index":0,"text":" water","logprobs":null,"finish_reason":null}]}\n\n'
)
TOKEN = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


class State:
    """Counts of all connections."""

    def __init__(self) -> None:
        self.running = self.most = self.requests = 0

    def look(self) -> dict[str, int]:
        """Return the counts and start a new maximum."""
        seen = {"running": self.running, "most": self.most, "requests": self.requests}
        self.most = self.running
        return seen


class Streams(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop generating: the client is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._end()

    def data_received(self, data: bytes) -> None:
        """Parse what is there; bodies are skipped by their length."""
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        self._answer(head.split(b" ", 2)[1].decode())

    def _answer(self, path: str) -> None:
        if path == "/state":
            body = json.dumps(self._state.look()).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            return
        tokens, milliseconds = "32", "100"  # of an engine's own paths
        if path.startswith("/tokens/"):
            _, _, tokens, _, milliseconds = path.split("/")
        self._state.requests += 1
        self._state.running += 1
        self._state.most = max(self._state.most, self._state.running)
        self._busy, self._left, self._gap = True, int(tokens), float(milliseconds) / 1e3
        self._due = self._loop.time()
        if self._gap == 0:
            self._transport.write(HEAD + TOKEN * self._left + LAST)
            self._end()
            return
        self._transport.write(HEAD + TOKEN)
        self._left -= 1
        self._next()

    def _next(self) -> None:
        if not self._left:
            self._transport.write(LAST)
            self._end()
            return
        self._due += self._gap
        self._timer = self._loop.call_at(self._due, self._token)

    def _token(self) -> None:
        self._transport.write(TOKEN)
        self._left -= 1
        self._next()

    def _end(self) -> None:
        if self._busy:
            self._busy = False
            self._state.running -= 1


async def serve() -> None:
    """Serve until standard input closes: with it the parent, however it ended."""
    loop = asyncio.get_running_loop()
    state = State()
    server = await loop.create_server(lambda: Streams(state), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


if __name__ == "__main__":
    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        sys.exit(130)
