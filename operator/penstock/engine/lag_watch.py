"""Reads the step lag that stand-in engines state in `/health`, over the time of a load.

Real engines state none, and then there is nothing to add up. Replicas may come, go and restart, and
one URL may lead to another of them each time: totals are followed by the id of the engine's process.
An engine older than the watch counts from when it is first seen, a younger one from its start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import orjson

from penstock.engine.lag import StepLag


@dataclass(frozen=True, slots=True)
class _Answer:
    """What an engine states of itself; `started_at` in seconds of the event loop's clock."""

    engine: str
    started_at: float
    lag: StepLag


class EngineLagWatch:
    """Adds up the lag of all engines from the first `poll` on."""

    INTERVAL_SECONDS = 5.0

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._began_at: float | None = None
        self._latest: dict[str, StepLag] = {}
        self.total = StepLag()

    async def poll(self, urls: Sequence[str]) -> None:
        """Ask every engine once; one that does not answer is asked again next time."""
        began_at = self._began_at = self._began_at or asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(self._ask(url) for url in urls))
        for answer in answers:
            if answer is None:
                continue
            base = StepLag() if answer.started_at >= began_at else answer.lag
            earlier = self._latest.get(answer.engine, base)
            self.total += answer.lag.since(earlier)
            self._latest[answer.engine] = answer.lag

    async def _ask(self, url: str) -> _Answer | None:
        asked_at = asyncio.get_running_loop().time()
        try:
            async with self._session.get(f"{url}/health", timeout=aiohttp.ClientTimeout(total=2)) as response:
                fields = orjson.loads(await response.content.read(64 * 1024))["step_lag"]
                lag = StepLag(
                    steps=int(fields["steps"]),
                    scheduled_seconds=float(fields["scheduled_seconds"]),
                    lag_seconds=float(fields["lag_seconds"]),
                    worst_seconds=float(fields["worst_seconds"]),
                )
                return _Answer(str(fields["engine"]), asked_at - float(fields["age_seconds"]), lag)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError):
            return None  # not a stand-in, or not there: it states no lag
