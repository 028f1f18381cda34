"""Reads the proxies' statistics, all at once, bounded in time and size. A silent proxy is left out."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Final

import aiohttp

from penstock.dataplane.envoy.bootstrap import POLLED_STATS_PATH
from penstock.dataplane.envoy.proxies import Proxy
from penstock.dataplane.envoy.stats import Stats, parse_stats

READ_SECONDS: Final = 0.8  # a proxy that takes longer is left out of this second's look
LARGEST_STATS_BYTES: Final = 16 * 1024 * 1024  # 200 services of 50 endpoints each show some 2 MB
_CHUNK_BYTES: Final = 256 * 1024


class StatsPoller:
    """Keeps connections to the proxies' statistics listeners."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def read(self, proxies: Sequence[Proxy], path: str = POLLED_STATS_PATH) -> dict[str, Stats]:
        """Return the statistics at `path` of those that answered, by proxy id."""
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False)
        session = self._session
        answers = await asyncio.gather(
            *(_read(session, proxy, path) for proxy in proxies if proxy.stats_port)
        )
        return {name: stats for name, stats in answers if stats is not None}

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _read(session: aiohttp.ClientSession, proxy: Proxy, path: str) -> tuple[str, Stats | None]:
    host = _stats_host(proxy)
    url = f"http://{f'[{host}]' if ':' in host else host}:{proxy.stats_port}{path}"
    body = bytearray()
    try:
        timeout = aiohttp.ClientTimeout(total=READ_SECONDS)
        async with session.get(url, timeout=timeout, allow_redirects=False) as answer:
            if answer.status != 200:
                return proxy.name, None
            async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                body += chunk
                if len(body) > LARGEST_STATS_BYTES:
                    return proxy.name, None
    except (aiohttp.ClientError, TimeoutError, OSError):
        return proxy.name, None
    return proxy.name, parse_stats(body.decode(errors="replace"))


def _stats_host(proxy: Proxy) -> str:
    """Return where a proxy shows its statistics: where it asks from, seldom where it says.

    Only on one machine, where several proxies bind addresses of loopback; else a proxy could have us
    call anybody.
    """
    if proxy.listen_address:
        said, seen = ipaddress.ip_address(proxy.listen_address), ipaddress.ip_address(proxy.host)
        if said.is_loopback and seen.is_loopback:
            return proxy.listen_address
    return proxy.host
