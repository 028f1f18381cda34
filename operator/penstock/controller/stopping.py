"""How the parts of a process end: signals, waiting that can be told to stop, tasks that are cancelled."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` at SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def take_signals_back(watching: asyncio.Event, stop: asyncio.Event) -> None:
    """Handle signals again once kopf has put its own handlers in place of ours.

    With kopf's, an ordinary SIGTERM looked like watches that end by themselves: exit code 1.
    """
    await watching.wait()
    stop_on_signals(stop)


async def came_before(awaitable: Coroutine[Any, Any, object], stop: asyncio.Event) -> bool:
    """Wait for `awaitable` unless told to stop first; whether it came."""
    task, stopping = asyncio.create_task(awaitable), asyncio.create_task(stop.wait())
    await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
    await cancelled(stopping)
    if not task.done():
        await cancelled(task)
        return False
    task.result()
    return True


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end; its failure was told where it happened."""
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task
