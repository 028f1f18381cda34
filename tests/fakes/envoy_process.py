"""A real Envoy as a child process: bootstrap in, ready proxy out, ended by its own pid.

    with reserved_ports(3) as (admin, stats, listen):
        async with running_envoy(bootstrap(...), admin_port=admin) as envoy:
            ...

The child dies with its parent, however that ends. Its log is kept for messages of failed tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.dataplane.envoy.binary import find_envoy
from penstock.sandbox.prometheus import TETHER

READY_WITHIN_SECONDS = 20.0
STOP_WITHIN_SECONDS = 5.0
#: One worker, because pools and queues are per worker.
ARGUMENTS = (
    "--concurrency",
    "1",
    "--disable-hot-restart",
    "--log-level",
    "warning",
    "--log-format",
    "%L %n %v",
)


@contextlib.contextmanager
def reserved_ports(count: int, *, address: str = "127.0.0.1") -> Iterator[list[int]]:
    """Yield free ports that no other test gets meanwhile: bound, not listened on, until the block ends.

    Envoy's listeners set SO_REUSEPORT and may bind beside; its admin port and other servers may as well,
    because those ports are given back by `release_port` or are bound with SO_REUSEADDR.
    """
    sockets = []
    try:
        for _ in range(count):
            held = socket.socket()
            sockets.append(held)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind((address, 0))
        yield [held.getsockname()[1] for held in sockets]
    finally:
        for held in sockets:
            held.close()


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that was free a moment ago."""
    with reserved_ports(1, address=address) as (port,):
        return port


@dataclass(slots=True)
class EnvoyProcess:
    """One Envoy. `start` and `stop` may be repeated: same bootstrap, same ports."""

    bootstrap: Mapping[str, Any]
    admin_port: int
    arguments: Sequence[str] = ()  # added to ARGUMENTS; of options given twice Envoy refuses the second
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _tether: int = field(default=-1, init=False)
    _directory: tempfile.TemporaryDirectory[str] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        """Process id. Raises when it does not run."""
        assert self._process is not None, "Envoy is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it logged so far, all starts together."""
        path = self._home() / "envoy.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start without waiting."""
        assert not self.running, "Envoy runs already"
        home = self._home()
        configuration = home / "bootstrap.json"
        configuration.write_text(json.dumps(self.bootstrap))
        reading, self._tether = os.pipe()
        command = [str(find_envoy()), "-c", str(configuration), *ARGUMENTS, *self.arguments]
        with (home / "envoy.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", TETHER, "sh", *command], stdin=reading, stdout=log, stderr=subprocess.STDOUT
            )
        os.close(reading)

    def stop(self) -> None:
        """End it and wait for its end."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        with contextlib.suppress(OSError):
            os.write(self._tether, b"goodbye\n")
        os.close(self._tether)
        self._tether = -1

    def kill(self) -> None:
        """End it without notice, as a lost node would."""
        if self.running:
            os.kill(self.pid, 9)
        self.stop()

    def close(self) -> None:
        """End it and remove its files."""
        self.stop()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def admin(self, path: str, *, post: bool = False, timeout_seconds: float = 5.0) -> str:
        """Return what the admin interface answers; blocking."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.admin_port}{path}", method="POST" if post else "GET"
        )
        with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:
            body: bytes = answer.read()
        return body.decode()

    def stats(self, pattern: str = "") -> dict[str, int]:
        """Return counters and gauges whose name matches; blocking."""
        lines = self.admin(f"/stats?filter={pattern}" if pattern else "/stats").splitlines()
        pairs = (line.rsplit(": ", 1) for line in lines if ": " in line)
        return {name: int(value) for name, value in pairs if value.lstrip("-").isdigit()}

    def wait_ready(self, within_seconds: float = READY_WITHIN_SECONDS) -> None:
        """Wait until it has its first configuration and listens; blocking."""
        deadline = time.monotonic() + within_seconds
        while not self._is_ready():
            self._fail_after(deadline)
            time.sleep(0.02)

    async def ready(self, within_seconds: float = READY_WITHIN_SECONDS) -> None:
        """Wait until it has its first configuration and listens."""
        deadline = time.monotonic() + within_seconds
        while not await asyncio.to_thread(self._is_ready):
            self._fail_after(deadline)
            await asyncio.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            return self.admin("/ready", timeout_seconds=1.0).startswith("LIVE")
        except OSError:  # not listening yet; 503 before the first configuration
            return False

    def _fail_after(self, deadline: float) -> None:
        if not self.running:
            raise AssertionError(f"Envoy ended: {self.log[-3000:]}")
        if time.monotonic() > deadline:
            raise AssertionError(f"Envoy is not ready: {self.log[-3000:]}")

    def _home(self) -> Path:
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="penstock-envoy-")
        return Path(self._directory.name)


@contextlib.asynccontextmanager
async def running_envoy(
    bootstrap: Mapping[str, Any], *, admin_port: int, arguments: Sequence[str] = ()
) -> AsyncIterator[EnvoyProcess]:
    """Start one, wait until it is ready, end it after the block; for tests whose own loop serves xDS."""
    envoy = EnvoyProcess(bootstrap, admin_port, arguments)
    try:
        envoy.start()
        await envoy.ready()
        yield envoy
    finally:
        await asyncio.to_thread(envoy.close)


@contextlib.contextmanager
def started_envoy(
    bootstrap: Mapping[str, Any], *, admin_port: int, arguments: Sequence[str] = ()
) -> Iterator[EnvoyProcess]:
    """Start one, wait until it is ready, end it after the block; for tests without a loop."""
    envoy = EnvoyProcess(bootstrap, admin_port, arguments)
    try:
        envoy.start()
        envoy.wait_ready()
        yield envoy
    finally:
        envoy.close()
