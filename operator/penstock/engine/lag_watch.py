"""Reads the step lag that stand-in engines state in `/health`, over the time of a load.

Real engines state none, and then there is nothing to add up. Replicas may come, go and restart:
each one's totals are followed from when it is first seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp
import orjson

from penstock.engine.lag import StepLag


class EngineLagWatch:
    """Adds up the lag of all engines from the first `poll` on."""

    INTERVAL_SECONDS = 5.0

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._latest: dict[str, StepLag] = {}
        self.total = StepLag()

    async def poll(self, urls: Sequence[str]) -> None:
        """Ask every engine once; one that does not answer is asked again next time."""
        answers = await asyncio.gather(*(self._ask(url) for url in urls))
        for url, lag in zip(urls, answers, strict=True):
            if lag is None:
                continue
            earlier = self._latest.get(url)
            if earlier is not None:
                restarted = lag.steps < earlier.steps
                self.total += lag if restarted else lag.since(earlier)
            self._latest[url] = lag

    async def _ask(self, url: str) -> StepLag | None:
        try:
            async with self._session.get(f"{url}/health", timeout=aiohttp.ClientTimeout(total=2)) as response:
                fields = orjson.loads(await response.content.read(64 * 1024))["step_lag"]
                return StepLag(
                    steps=int(fields["steps"]),
                    scheduled_seconds=float(fields["scheduled_seconds"]),
                    lag_seconds=float(fields["lag_seconds"]),
                    worst_seconds=float(fields["worst_seconds"]),
                )
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError):
            return None  # not a stand-in, or not there: it states no lag
