"""Stand-in engines as processes, slowed so that this machine can play a fleet, and their step lag."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp

from bench.overload import Fleet
from penstock.engine.lag import MAX_LAG_RATIO
from penstock.engine.lag_watch import EngineLagWatch

MODEL = "stand-in"
_START_SECONDS = 30.0

# 650 tokens/s a replica at capacity: two of them, proxy and clients take less than one core.
SLOWED, TOKENS = 5.0, (300, 32)
TTFT_SECONDS, TPOT_SECONDS = 1.0, 0.15


def stand_in_fleet(replicas: int) -> Fleet:
    """Return the fleet that the stand-ins play."""
    return Fleet.of(
        slowed=SLOWED, tokens=TOKENS, replicas=replicas, ttft_seconds=TTFT_SECONDS, tpot_seconds=TPOT_SECONDS
    )


@dataclass(frozen=True, slots=True)
class Engines:
    """Running stand-ins."""

    ports: tuple[int, ...]

    @property
    def urls(self) -> tuple[str, ...]:
        """Return where they answer."""
        return tuple(f"http://127.0.0.1:{port}" for port in self.ports)


@contextlib.asynccontextmanager
async def stand_ins(count: int, *, most_in_flight: int = 20_000) -> AsyncIterator[Engines]:
    """Run `count` engines while in the block; `most_in_flight` is vLLM's `--max-num-queued-reqs`."""
    command = [
        *(sys.executable, "-m", "penstock", "engine", "--profile", "llama-3.1-8b-h100"),
        *("--speed", str(1 / SLOWED), "--port", "0", "--model-name", MODEL),
        *("--max-num-queued-reqs", str(most_in_flight), "--parent-pid", str(os.getpid())),
    ]
    processes: list[asyncio.subprocess.Process] = []
    readers: list[asyncio.Task[None]] = []
    try:
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
            processes.append(process)  # one by one: what has started is ended whatever the next one does
        async with asyncio.timeout(_START_SECONDS):
            ports = [await _port(process) for process in processes]
        readers = [asyncio.create_task(_drop_output(process)) for process in processes]
        yield Engines(tuple(ports))
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*(process.wait() for process in processes))
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def _port(process: asyncio.subprocess.Process) -> int:
    assert process.stderr is not None
    port = None
    said = ""
    while line := (await process.stderr.readline()).decode():
        said += line
        if found := re.search(r"listening on http://[^:]+:(\d+)", line):
            port = int(found[1])
        if line.strip() == "ready" and port is not None:
            return port
    raise RuntimeError(f"the engine ended: {said}")


async def _drop_output(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    while await process.stderr.readline():
        pass


class LagGuard:
    """Says afterwards whether the engines kept their timing; void figures tell by how much not."""

    def __init__(self, session: aiohttp.ClientSession, engines: Engines) -> None:
        self._watch = EngineLagWatch(session)
        self._engines = engines

    async def __aenter__(self) -> LagGuard:
        await self._watch.poll(self._engines.urls)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._watch.poll(self._engines.urls)

    @property
    def void(self) -> str:
        """Return why latencies are not the engines', "" when they are."""
        ratio = self._watch.total.ratio
        if ratio is None:
            return "the engines ran no step"
        if self._watch.total.machine_was_the_bottleneck:
            return (
                f"steps ended {ratio:.0%} late, more than {MAX_LAG_RATIO:.0%}: the machine was the bottleneck"
            )
        return ""


async def until_idle(session: aiohttp.ClientSession, engines: Engines) -> None:
    """Wait until what was given up is out of the engines."""
    async with asyncio.timeout(60):
        for url in engines.urls:
            while True:
                async with session.get(f"{url}/health") as response:
                    if (await response.json())["in_flight"] == 0:
                        break
                await asyncio.sleep(0.2)
