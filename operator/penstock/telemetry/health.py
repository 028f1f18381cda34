"""``/healthz``, ``/readyz`` and ``/metrics`` on one listener that serves nothing else.

Health is what the loop says of itself, not that the process answers: kopf's own liveness endpoint
stays green while its watches are dead (nolar/kopf#1276).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from penstock.telemetry.fleet_metrics import ServiceSample, fleet_exposition


@dataclass(frozen=True, slots=True)
class Probe:
    """The answer of a check: `problem` is empty when all is well."""

    problem: str = ""


class Liveness:
    """Whether the process does its work: a standby has none, a leader's ticks succeed now and then."""

    def __init__(self, patience_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._patience_seconds, self._monotonic = patience_seconds, monotonic
        self._led_since = 0.0
        self._succeeded_at: Callable[[], float | None] | None = None

    def leads(self, succeeded_at: Callable[[], float | None]) -> None:
        """Count from now, whatever time a standby has waited; `succeeded_at` tells of the last good tick."""
        self._led_since, self._succeeded_at = self._monotonic(), succeeded_at

    def probe(self) -> Probe:
        """Return that no tick has succeeded for longer than the patience."""
        if self._succeeded_at is None:
            return Probe()
        silent = self._monotonic() - (self._succeeded_at() or self._led_since)
        late = silent > self._patience_seconds
        return Probe(f"no tick has succeeded for {silent:.0f} s") if late else Probe()


def health_app(
    *,
    alive: Callable[[], Probe],
    ready: Callable[[], Probe],
    registry: CollectorRegistry,
    fleet: Callable[[], Iterable[ServiceSample]],
) -> web.Application:
    """Build the application; a failed check answers 503 and says what is wrong in one line."""

    def answer(check: Callable[[], Probe]) -> web.Response:
        probe = check()
        return web.Response(status=503 if probe.problem else 200, text=(probe.problem or "ok") + "\n")

    async def healthz(_: web.Request) -> web.Response:
        return answer(alive)

    async def readyz(_: web.Request) -> web.Response:
        return answer(ready)

    async def metrics(_: web.Request) -> web.Response:
        body = generate_latest(registry) + await fleet_exposition(fleet())
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    app = web.Application(client_max_size=1024)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app
