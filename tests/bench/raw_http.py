"""Two small HTTP/1.1 clients that cost little: one request after another, and many streams at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass, field

_TIMEOUT_SECONDS = 20.0


def request_bytes(path: str, headers: dict[str, str] | None = None, method: str = "POST") -> bytes:
    """Return a request without a body."""
    lines = [f"{method} {path} HTTP/1.1", "host: bench", "content-length: 0"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass(frozen=True, slots=True)
class Reply:
    """Head of an answer, and how long the whole took (seconds)."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float


class KeepAlive:
    """One connection, blocking; asks for one thing after the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> Reply:
        """Send and read the whole answer; opens the connection when there is none."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), _TIMEOUT_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        self._socket.sendall(request)
        data = b""
        while not _complete(data):
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionError(f"closed after {len(data)} bytes")
            data += more
        seconds = time.perf_counter() - began
        status, headers, body = _parse(data)
        if headers.get("connection") == "close":
            self.close()
        return Reply(status, headers, body, seconds)

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@dataclass
class Stream(asyncio.Protocol):
    """One request on a connection of its own; `done` is set when it was answered or cut."""

    request: bytes
    events: int = 0
    received: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    answered: asyncio.Event = field(default_factory=asyncio.Event)  # its head is there
    done: asyncio.Event = field(default_factory=asyncio.Event)
    _head: bytes = b""
    _tail: bytes = b""
    _transport: asyncio.Transport | None = None

    async def start(self, port: int) -> Stream:
        """Connect and send."""
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", port)
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Count events; remember no more than the head."""
        if not self.status:
            self._head += data
            head, found, rest = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self.status, self.headers, _ = _parse(head + found)
            self._head, data = b"", rest
            self.answered.set()
        self.events += data.count(b"data:")
        self.received += len(data)
        self._tail = (self._tail + data)[-5:]
        ends = self.headers.get("content-length")
        if self._tail == b"0\r\n\r\n" if ends is None else self.received >= int(ends):
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        """A stream that was not complete is cut."""
        if not self.done.is_set():
            self.cut = True
            self._finish()

    def close(self) -> None:
        """Leave, as a client that loses interest."""
        if self._transport is not None:
            self._transport.abort()

    def _finish(self) -> None:
        self.answered.set()
        self.done.set()
        self.close()


@contextlib.asynccontextmanager
async def many(requests: list[bytes], port: int):  # type: ignore[no-untyped-def]
    """Start one stream a request; whatever happens, all are closed at the end."""
    streams = [Stream(request) for request in requests]
    try:
        await asyncio.gather(*(stream.start(port) for stream in streams))
        yield streams
    finally:
        for stream in streams:
            stream.close()


def _complete(data: bytes) -> bool:
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return False
    _, headers, _ = _parse(head + found)
    if "content-length" in headers:
        return len(body) >= int(headers["content-length"])
    return body.endswith(b"0\r\n\r\n")


def _parse(data: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}, body
