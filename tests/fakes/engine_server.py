"""A stand-in engine inside the test's own event loop, on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from penstock.engine.batch_loop import EngineLimits, StepWork
from penstock.engine.server import EngineServer, EngineSettings


def steps_of(seconds: float) -> Callable[[StepWork], float]:
    """Every step takes that long."""
    return lambda _work: seconds


@asynccontextmanager
async def running_engine(**changes: Any) -> AsyncIterator[tuple[EngineServer, TestClient]]:
    """Serve until the block ends; keywords are those of EngineSettings."""
    settings: dict[str, Any] = {
        "model_name": "m",
        "limits": EngineLimits(slots=16, kv_capacity_tokens=8192, step_budget_tokens=512),
        "max_model_tokens": 2048,
        "step_seconds": steps_of(0.002),
        "frontend_seconds": 0.0,
    }
    server = EngineServer(EngineSettings(**{**settings, **changes}))
    steps = asyncio.create_task(server.replica.run())
    server.become_ready()
    try:
        async with TestClient(TestServer(server.application(), handler_cancellation=True)) as client:
            yield server, client
    finally:
        steps.cancel()
        await asyncio.gather(steps, return_exceptions=True)
