"""A real engine's exposition served again, with counters that advance as they did under load.

A recorded counter of 176 with `seconds=10` advances by 17.6 a second, evenly: rates, percentiles and
means that Prometheus computes from it are known in advance.
"""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

ENGINES = Path(__file__).parents[1] / "data" / "engines"
VLLM = ENGINES / "vllm-0.32.0-metrics-under-load.txt"
LLAMA_CPP = ENGINES / "llamacpp-b11434-metrics-under-load.txt"
_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?P<labels>\{.*\})? (?P<value>\S+)$")
_COUNTS = re.compile(r"(_total|_bucket|_count|_sum)$|^tgi_request_count$")


def recorded(text: str, name: str) -> float:
    """Return the value of `name` added up over its labels."""
    found = [
        float(match["value"])
        for line in text.splitlines()
        if (match := _SAMPLE.match(line)) and match["name"] == name
    ]
    if not found:
        raise KeyError(name)
    return sum(found)


def buckets(text: str, histogram: str) -> dict[float, float]:
    """Return cumulative counts by upper bound."""
    found: dict[float, float] = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match and match["name"] == f"{histogram}_bucket":
            bound = re.search(r'le="([^"]+)"', match["labels"])
            assert bound is not None
            found[float(bound[1])] = found.get(float(bound[1]), 0.0) + float(match["value"])
    return found


class ReplayedEngine:
    """Serves an exposition on an ephemeral loopback port. `pace` 1 advances counters, 0 holds them at 0."""

    def __init__(
        self, text: str, *, seconds: float = 10.0, pace: float = 1.0, waiting_growth: float = 0.0
    ) -> None:
        self.text = text
        self.seconds = seconds
        self.pace = pace
        self.waiting_growth = waiting_growth  # requests per second that the queue gauges grow by
        self.began = time.time()
        self.body: bytes | None = None  # a fixed answer instead
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = engine.body if engine.body is not None else engine.exposition().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # a Prometheus that is stopped leaves early, and says so in another test's output

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        """``127.0.0.1:port``, as a scrape target."""
        return f"127.0.0.1:{self._server.server_port}"

    def exposition(self) -> str:
        """Return the exposition as of now."""
        elapsed = time.time() - self.began
        share = self.pace * elapsed / self.seconds
        lines = []
        for line in self.text.splitlines():
            match = _SAMPLE.match(line)
            if match is None:
                lines.append(line)
                continue
            value = float(match["value"])
            if _COUNTS.search(match["name"]):
                value *= share
            elif self.pace == 0:
                value = 0.0
            if match["name"].endswith(
                ("num_requests_waiting", "requests_deferred", "queue_reqs", "queue_size")
            ):
                value += self.waiting_growth * elapsed
            lines.append(f"{match['name']}{match['labels'] or ''} {value!r}")
        return "\n".join(lines) + "\n"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop answering."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
