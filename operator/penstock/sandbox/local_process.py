"""One container as a local process: `penstock engine`, and nothing else.

Deployments come from an API, so what they may start here is fixed: the container's program must be
``penstock engine``; its arguments are passed without a shell. The process listens on a free port of
its own choice, sits in its own session (Ctrl-C at the terminal reaches only the controller), and ends
by itself when its parent does, however that ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import aiohttp

LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")
LISTEN_WITHIN_SECONDS = 60.0  # interpreter and imports on a busy machine
PROGRAM = ("penstock", "engine")
RESERVED = ("--port", "--host", "--parent-pid")


class ContainerError(Exception):
    """A container that cannot be started; `reason` as kubelet writes it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Container(Protocol):
    """A running container, as the kubelet part of the sandbox needs it."""

    url: str

    async def ready(self) -> bool:
        """Return whether the readiness probe succeeds now."""

    async def wait(self) -> int:
        """Return the exit status once it ended."""

    async def stop(self, grace_seconds: float) -> None:
        """End it: asked first, killed after the grace period."""


class ContainerRuntime(Protocol):
    """Starts containers."""

    async def start(self, name: str, command: Sequence[str], startup_seconds: float) -> Container:
        """Start a container that becomes ready after `startup_seconds`; raises `ContainerError`."""


def engine_arguments(command: Sequence[str]) -> list[str]:
    """Return the arguments after ``penstock engine``; raises `ContainerError` for any other program."""
    program = (Path(command[0]).name, *command[1:2]) if command else ()
    if program != PROGRAM:
        raise ContainerError(
            "CreateContainerError",
            f"the sandbox runs only 'penstock engine', not {' '.join(command[:2]) or 'nothing'!r}: set "
            f"command: [penstock, engine] and args in the pod template",
        )
    arguments = list(command[2:])
    for argument in arguments:
        if argument.split("=")[0] in RESERVED:
            raise ContainerError(
                "CreateContainerError", f"{argument} is the sandbox's to choose: leave it out"
            )
    return arguments


@dataclass(frozen=True, slots=True)
class LocalRuntime:
    """Starts containers as processes of this machine; their output goes to files in `log_directory`."""

    log_directory: Path

    async def start(self, name: str, command: Sequence[str], startup_seconds: float) -> Container:
        """Start ``penstock engine`` and return once it listens."""
        arguments = engine_arguments(command)
        if not any(argument.split("=")[0] == "--startup-delay" for argument in arguments):
            arguments.append(f"--startup-delay={startup_seconds:g}")
        self.log_directory.mkdir(parents=True, exist_ok=True)
        log = self.log_directory / f"{name}.log"
        with log.open("ab") as output:
            begin = output.tell()
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "penstock", "engine", *arguments,
                "--host=127.0.0.1", "--port=0", f"--parent-pid={os.getpid()}",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        container = LocalContainer(process, log, begin)
        try:
            await container.listen()
        except BaseException:
            await container.stop(0)
            raise
        return container


class LocalContainer:
    """A process of `penstock engine`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, log_begin: int) -> None:
        self.url = ""
        self._process = process
        self._log = log
        self._log_begin = log_begin
        self._session: aiohttp.ClientSession | None = None

    @property
    def pid(self) -> int:
        """Process id, which is also its group's."""
        return self._process.pid

    async def listen(self) -> None:
        """Wait for the line that says where it listens; raises `ContainerError` with its last words."""
        try:
            async with asyncio.timeout(LISTEN_WITHIN_SECONDS):
                while not (found := LISTENING.search(said := self._said())):
                    if self._process.returncode is not None:
                        raise ContainerError("RunContainerError", said.strip()[-300:] or "it ended at once")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            message = f"it does not listen after {LISTEN_WITHIN_SECONDS:.0f} s"
            raise ContainerError("RunContainerError", message) from None
        self.url = found[1]

    async def ready(self) -> bool:
        """Return whether ``/health`` answers 200."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2))
        try:
            async with self._session.get(f"{self.url}/health") as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def wait(self) -> int:
        """Return the exit status."""
        return await self._process.wait()

    async def stop(self, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL to the whole group after the grace period."""
        with contextlib.suppress(ProcessLookupError):
            if grace_seconds > 0:
                self._process.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(grace_seconds):
                        await self._process.wait()
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        if self._session is not None:
            await self._session.close()

    def _said(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._log_begin)
            return log.read(64 * 1024).decode(errors="replace")
