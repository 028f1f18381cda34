"""The life of `penstock engine` as a process: listen, start up, serve, drain, end.

SIGTERM drains: `/health` turns 503, new requests are refused, streams finish, at most
`drain_seconds`. A second SIGTERM, or Ctrl-C, ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from penstock.engine.server import KEEPALIVE_SECONDS, EngineServer, EngineSettings

INTERRUPTED = 130
ORPHAN_CHECK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """Where to listen and how long starting and stopping take."""

    host: str = "127.0.0.1"
    port: int = 8000
    startup_seconds: float = 0.0
    drain_seconds: float = 30.0
    parent_pid: int | None = None  # end when the parent is another one: it died, and this is an orphan


async def run_engine(
    engine: EngineSettings, process: ProcessSettings, announce: Callable[[str], None]
) -> int:
    """Serve until a signal; return the exit status (0 after SIGTERM, 130 after Ctrl-C).

    Raises OSError when the port cannot be bound. `announce` gets one line at each change of state.
    """
    server = EngineServer(engine)
    # The client's going away must free its sequence at once, as vLLM's abort does.
    runner = web.AppRunner(
        server.application(),
        handler_cancellation=True,
        access_log=None,
        keepalive_timeout=KEEPALIVE_SECONDS,
        shutdown_timeout=0.2,
    )
    await runner.setup()
    signals = _Signals()
    tasks: list[asyncio.Task[None]] = []
    if process.parent_pid is not None:
        tasks.append(asyncio.create_task(_end_as_orphan(process.parent_pid), name="orphan check"))
    try:
        site = web.TCPSite(runner, process.host, process.port, backlog=1024)
        await site.start()
        host, port = runner.addresses[0][:2]
        announce(f"listening on http://{host}:{port}, ready in {process.startup_seconds:g} s")
        await signals.wait(process.startup_seconds)
        if not signals.stop.is_set():
            tasks += _start(server, engine)
            announce("ready")
            await _until_stopped(signals, tasks)
        if signals.interrupted:
            return INTERRUPTED
        await _drain(server, signals, process.drain_seconds, announce)
        return INTERRUPTED if signals.interrupted else 0
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await runner.cleanup()


def _start(server: EngineServer, engine: EngineSettings) -> list[asyncio.Task[None]]:
    steps = asyncio.create_task(server.replica.run(), name="steps")
    tasks = [steps]
    faults = engine.faults
    if faults.crash_after_seconds is not None:
        tasks.append(asyncio.create_task(_crash(faults.crash_after_seconds), name="crash"))
    if faults.stall_after_seconds is not None:
        tasks.append(asyncio.create_task(_stall(steps, faults.stall_after_seconds), name="stall"))
    server.become_ready()
    return tasks


async def _end_as_orphan(parent_pid: int) -> None:
    while os.getppid() == parent_pid:  # noqa: ASYNC110 - nothing tells a process of its parent's death
        await asyncio.sleep(ORPHAN_CHECK_SECONDS)
    os._exit(1)  # whoever wanted the streams is gone too


async def _crash(after_seconds: float) -> None:
    await asyncio.sleep(after_seconds)
    os._exit(1)  # a crash drains nothing


async def _stall(steps: asyncio.Task[None], after_seconds: float) -> None:
    await asyncio.sleep(after_seconds)
    steps.cancel()


async def _until_stopped(signals: _Signals, tasks: list[asyncio.Task[None]]) -> None:
    stopped = asyncio.create_task(signals.stop.wait())
    try:
        waiting: set[asyncio.Task[None] | asyncio.Task[bool]] = {stopped, *tasks}
        while not signals.stop.is_set():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled():  # a stalled step loop is cancelled on purpose
                    task.result()  # a bug in the step loop must end the process, not hang its clients
    finally:
        stopped.cancel()


async def _drain(
    server: EngineServer, signals: _Signals, seconds: float, announce: Callable[[str], None]
) -> None:
    announce(f"draining {server.open_requests} requests, at most {seconds:g} s")
    drained = asyncio.create_task(server.drain())
    hurried = asyncio.create_task(signals.hurry.wait())
    await asyncio.wait({drained, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    drained.cancel()
    hurried.cancel()
    announce(f"stopped, {server.open_requests} requests cut")


class _Signals:
    """SIGTERM asks to stop; a second one, or SIGINT, asks to hurry."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.interrupted = False
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)

    def _terminate(self) -> None:
        if self.stop.is_set():
            self.hurry.set()
        self.stop.set()

    def _interrupt(self) -> None:
        self.interrupted = True
        self.hurry.set()
        self.stop.set()

    async def wait(self, seconds: float) -> None:
        """Wait that long, or less when a signal comes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stop.wait()
