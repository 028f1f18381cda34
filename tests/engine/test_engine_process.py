"""``penstock engine`` as a process: how it ends, by itself and by signals."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

pytestmark = pytest.mark.timed

COMMAND = [sys.executable, "-m", "penstock", "engine", "--profile", "llama-3.1-8b-h100", "--port", "0"]
BODY = {"prompt": "a b", "max_tokens": 1000, "stream": True}


class Engine:
    """A running process and the URL it listens on."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    async def said(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.readline()).decode().strip()

    async def status(self, seconds: float = 20) -> int:
        async with asyncio.timeout(seconds):
            return await self.process.wait()


@asynccontextmanager
async def engine(*arguments: str) -> AsyncIterator[tuple[Engine, aiohttp.ClientSession]]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, f"--parent-pid={os.getpid()}", *arguments, stderr=asyncio.subprocess.PIPE
    )
    try:
        started = Engine(process, "")
        async with asyncio.timeout(60):
            found = re.match(r"listening on (http://\S+), ", await started.said())
        assert found is not None
        started.url = found[1]
        async with aiohttp.ClientSession(started.url) as session:
            yield started, session
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def first_event(session: aiohttp.ClientSession) -> aiohttp.ClientResponse:
    response = await session.post("/v1/completions", json=BODY)
    assert response.status == 200
    await response.content.readline()
    return response


async def test_while_it_starts_it_is_not_ready_and_refuses():
    async with engine("--startup-delay=30s") as (running, session):
        for method, path in (
            ("GET", "/health"),
            ("GET", "/metrics"),
            ("GET", "/v1/models"),
            ("POST", "/v1/completions"),
        ):
            async with session.request(method, path, data=b"{}" if method == "POST" else None) as response:
                assert response.status == 503
        running.process.terminate()
        assert await running.status() == 0


async def test_a_second_sigterm_cuts_what_is_draining():
    async with engine("--speed=0.05") as (running, session):
        assert await running.said() == "ready"
        response = await first_event(session)
        running.process.terminate()
        assert await running.said() == "draining 1 requests, at most 30 s"
        running.process.terminate()
        assert await running.said() == "stopped, 1 requests cut"
        assert await running.status() == 0
        response.close()


async def test_the_drain_has_a_deadline():
    async with engine("--speed=0.05", "--drain-timeout=300ms") as (running, session):
        assert await running.said() == "ready"
        response = await first_event(session)
        start = time.monotonic()
        running.process.terminate()
        assert await running.status() == 0
        assert 0.3 <= time.monotonic() - start < 10
        response.close()


async def test_ctrl_c_ends_at_once_with_status_130():
    async with engine("--speed=0.05") as (running, session):
        assert await running.said() == "ready"
        response = await first_event(session)
        running.process.send_signal(signal.SIGINT)
        assert await running.status() == 130
        response.close()


async def test_crash_after_ends_the_process_with_status_1():
    async with engine("--crash-after=200ms") as (running, _):
        assert await running.status() == 1


async def test_a_stalled_engine_stays_healthy_and_makes_no_token():
    async with engine("--stall-after=0s") as (running, session):
        assert await running.said() == "ready"
        with pytest.raises(TimeoutError):
            await session.post("/v1/completions", json=BODY, timeout=aiohttp.ClientTimeout(total=0.7))
        async with session.get("/health") as response:
            assert response.status == 200


async def test_an_orphan_ends_by_itself():
    # the test's own parent is not the engine's: as if that had died before the engine looked
    process = await asyncio.create_subprocess_exec(
        *COMMAND, f"--parent-pid={os.getppid()}", stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(60):
        assert await process.wait() == 1
