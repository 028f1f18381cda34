"""An HTTP server that answers queries as servers do in practice: late, wrongly, not at all."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    fields: Mapping[str, str]


@dataclass
class Reply:
    """What to answer. `body` may be produced piece by piece; `drop` closes the connection instead."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    length: int | None = None  # a Content-Length other than the body's
    drop: bool = False
    endless: bool = False  # repeat the body for ever
    date_offset_seconds: float = 0.0


def vector(*samples: tuple[Mapping[str, str], str], **more: object) -> bytes:
    """Return the body of an instant vector."""
    result = [{"metric": dict(labels), "value": [1.0, value]} for labels, value in samples]
    return json.dumps(
        {"status": "success", "data": {"resultType": "vector", "result": result}} | more
    ).encode()


def failure(kind: str, message: str) -> bytes:
    """Return the body of an API error."""
    return json.dumps({"status": "error", "errorType": kind, "error": message}).encode()


class MisbehavingServer:
    """Answers every request with `reply`, or with what `choose` returns for it; keeps what it saw."""

    def __init__(self, reply: Reply | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self.reply = reply or Reply(body=vector())
        self.choose: Callable[[Seen], Reply] | None = None
        self.seen: list[Seen] = []
        self.connections: set[int] = set()
        self._stopping = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                form = dict(parse_qsl(self.rfile.read(length).decode()))
                seen = Seen(self.command, self.path, dict(self.headers.items()), form)
                outer.seen.append(seen)
                outer.connections.add(self.client_address[1])
                outer._answer(self, outer.choose(seen) if outer.choose else outer.reply)

            do_GET = do_POST  # noqa: N815 - http.server's name

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # clients that leave early are the point of many tests

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Root of the API."""
        return f"{self.scheme}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        self._stopping.wait(reply.delay_seconds)
        if reply.drop:
            handler.close_connection = True
            return
        handler.send_response_only(reply.status)
        handler.send_header("Date", formatdate(time.time() + reply.date_offset_seconds, usegmt=True))
        handler.send_header("Content-Type", reply.content_type)
        if not reply.endless:
            length = len(reply.body) if reply.length is None else reply.length
            handler.send_header("Content-Length", str(length))
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(reply.body)
        while reply.endless and not self._stopping.is_set():
            handler.wfile.write(reply.body)
        if reply.endless or reply.length is not None:
            handler.close_connection = True
