"""One run of the load generator at a terminal: which model to ask for, a progress line, Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterable
from dataclasses import replace

import aiohttp
import click
import orjson

from penstock.engine.arrivals import PlannedRequest
from penstock.engine.load_generator import LoadGenerator, LoadLimits, LoadResult
from penstock.engine.stream_client import OK, RequestShape
from penstock.engine.targets import Targets

TERMINAL_INTERVAL_SECONDS = 1.0
LOG_INTERVAL_SECONDS = 10.0  # where stderr is a file


def run_load(
    targets: Targets, shape: RequestShape, limits: LoadLimits, plan: Iterable[PlannedRequest], *, seed: int
) -> LoadResult:
    """Run a load to its end, or until SIGINT, or SIGTERM and the last answers; the result says which."""
    return asyncio.run(_run(targets, shape, limits, plan, seed))


async def _run(
    targets: Targets, shape: RequestShape, limits: LoadLimits, plan: Iterable[PlannedRequest], seed: int
) -> LoadResult:
    targets.refresh()
    if not shape.model_name and targets.urls:
        shape = replace(shape, model_name=await _served_model(targets.urls[0]))
    generator = LoadGenerator(targets, shape, limits, seed=seed)
    running = asyncio.create_task(generator.run(plan))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, running.cancel)
    loop.add_signal_handler(signal.SIGTERM, generator.stop)
    progress = asyncio.create_task(_progress(generator, limits))
    try:
        await running
    except asyncio.CancelledError:
        if not generator.result.interrupted:  # before the first request
            generator.result.interrupted = True
    finally:
        progress.cancel()
        if sys.stderr.isatty():
            click.echo("\r\x1b[K", nl=False, err=True)
    return generator.result


async def _served_model(url: str) -> str:
    """Ask a server for its model; empty where it does not say: the field is then left out."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.get(f"{url}/v1/models") as response,
        ):
            fields = orjson.loads(await response.content.read(64 * 1024))
            return str(fields["data"][0]["id"])
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError, IndexError):
        return ""


async def _progress(generator: LoadGenerator, limits: LoadLimits) -> None:
    terminal = sys.stderr.isatty()
    interval = TERMINAL_INTERVAL_SECONDS if terminal else LOG_INTERVAL_SECONDS
    start = asyncio.get_running_loop().time()
    while True:
        await asyncio.sleep(interval)
        result = generator.result
        answered = sum(record.outcome == OK for record in result.records[-500:])
        failed = sum(record.outcome not in (OK, "unfinished") for record in result.records[-500:])
        elapsed = asyncio.get_running_loop().time() - start
        position = f"{elapsed:.0f}/{limits.duration_seconds:.0f} s"
        if elapsed > limits.duration_seconds or result.stopped_seconds is not None:
            position = "waiting for the last answers"
        line = (
            f"{position}: {result.sent} sent, {result.in_flight} in flight, "
            f"of the last {answered + failed} answers {failed} failed"
        )
        click.echo(f"\r\x1b[K{line}" if terminal else line, nl=not terminal, err=True)
