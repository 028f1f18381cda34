"""Services behind a real Envoy, as tables of tests want them: plans in one line, requests as tasks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp

from fakes.envoy_files import EnvoyOnFiles
from fakes.streaming_upstream import StreamingUpstream
from penstock.dataplane.envoy.names import REASON, SERVED_BY
from penstock.dataplane.envoy.snapshot import ProxyShare
from penstock.model.spec import ServiceKey
from penstock.model.traffic import (
    Backend,
    CanaryRoute,
    ClassShare,
    FallbackPlan,
    FleetLimit,
    RoutePlan,
    RouteState,
)
from penstock.sandbox.child_process import free_port

CHAT = ServiceKey("prod", "chat")
SMALL = ServiceKey("prod", "chat-small")
UNLIMITED = ProxyShare(None, 0, None)
# To connect over loopback takes a millisecond, on a busy machine some more.
CONNECTED_SECONDS = 0.25
TWO_CLASSES = (ClassShare("interactive", 100, 1.0), ClassShare("batch", 0, 0.5))


def backend(name: str) -> Backend:
    """Port 8000 of a Service of ``prod``."""
    return Backend("prod", name, 8000, served_by=name)


def plan(key: ServiceKey = CHAT, **fields: Any) -> RoutePlan:
    """A plan on a free port; keyword arguments are fields of RoutePlan."""
    given = {"key": key, "uid": key.name, "backend": backend(key.name), "listen_port": free_port()} | fields
    return RoutePlan(**given)


def share(running: int, queued: int = 0, *, fallback: int = 0, pool: int | None = None) -> ProxyShare:
    """What the one proxy may let in."""
    return ProxyShare(FleetLimit(running, queued), fallback, pool)


def to_small(**fields: Any) -> FallbackPlan:
    """A fallback to the Service ``chat-small``."""
    return FallbackPlan(backend("chat-small"), **fields)


def to_canary(weight_percent: int, **fields: Any) -> CanaryRoute:
    """A canary behind the Service ``chat-canary`` that serves the same model."""
    return CanaryRoute(Backend("prod", "chat-canary", 8000, served_by="chat"), weight_percent, **fields)


@dataclass(frozen=True)
class Reply:
    """An answer as the client got it."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def told(self) -> tuple[int, str, str]:
        """Status, who served, and why."""
        return self.status, self.headers[SERVED_BY], self.headers[REASON]


@dataclass
class Gateway:
    """An Envoy, its plans as they are now, and a client without a limit of its own."""

    envoy: EnvoyOnFiles
    client: aiohttp.ClientSession
    states: dict[ServiceKey, RouteState]
    shares: dict[ServiceKey, ProxyShare]
    pods: Sequence[StreamingUpstream]
    sent: list[asyncio.Task[Reply]] = field(default_factory=list)

    def change(
        self, key: ServiceKey = CHAT, *, share: ProxyShare | None = None, plan: Any = None, **state: Any
    ) -> None:
        """Publish another share, other fields of the plan (a mapping), or other endpoints."""
        before = self.states[key]
        changed = replace(before.plan, **plan) if plan else before.plan
        self.states[key] = replace(before, plan=changed, **state)
        self.shares[key] = share or self.shares[key]
        self.envoy.apply(list(self.states.values()), self.shares)

    def send(self, count: int = 1, key: ServiceKey = CHAT, **headers: str) -> list[asyncio.Task[Reply]]:
        """Send so many requests at once; underscores of header names become dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        tasks = [asyncio.create_task(self.post(key, named)) for _ in range(count)]
        self.sent += tasks
        return tasks

    async def send_apart(self, count: int, key: ServiceKey = CHAT) -> None:
        """Send one after the other, each when the one before runs: the balancer counts no connecting ones."""
        for _ in range(count):
            running = self._running() + 1
            self.send(1, key)

            # Envoy counts a request that connects as one that waits.
            async def runs(after: int = running) -> bool:
                return self._running() >= after

            await self.until(runs)

    def _running(self) -> int:
        return sum(pod.running for pod in self.pods)

    async def post(
        self, key: ServiceKey = CHAT, headers: Mapping[str, str] | None = None, body: bytes = b"{}"
    ) -> Reply:
        """Post and read the whole answer."""
        address = f"http://127.0.0.1:{self.states[key].plan.listen_port}/v1/chat/completions"
        async with self.client.post(address, data=BytesIO(body), headers=headers) as reply:
            return Reply(reply.status, reply.headers, await reply.text())

    async def all_decided(self) -> None:
        """Wait until every request sent is answered, waits at Envoy, or runs at an upstream that knows it."""
        seen, seen_at = (0, 0), 0.0
        async with asyncio.timeout(10):
            while True:
                stats = await self.envoy.stats()
                active = sum(value for name, value in stats.items() if _gauge(name, "upstream_rq_active"))
                waiting = sum(
                    value for name, value in stats.items() if _gauge(name, "upstream_rq_pending_active")
                )
                if (active, waiting) != seen:
                    seen, seen_at = (active, waiting), time.monotonic()
                # Envoy counts a request that connects as one that waits; such a one does not stay.
                stays = not waiting or time.monotonic() - seen_at > CONNECTED_SECONDS
                undecided = sum(not task.done() for task in self.sent)
                if stays and undecided == active + waiting and active == self._running():
                    return
                await asyncio.sleep(0.02)

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something asked of the gateway holds."""
        async with asyncio.timeout(10):
            while not await holds():  # noqa: ASYNC110 - what is asked is another process
                await asyncio.sleep(0.02)

    async def in_flight(self, cluster: str) -> tuple[int, int]:
        """Return what runs and what waits at a cluster."""
        stats = await self.envoy.stats()
        prefix = f"cluster.{cluster}.upstream_rq"
        return stats[f"{prefix}_active"], stats[f"{prefix}_pending_active"]

    def outcomes(self) -> Counter[tuple[int, str, str]]:
        """Count the answers until now."""
        return Counter(task.result().told for task in self.sent if task.done() and not task.cancelled())


def _gauge(stat: str, gauge: str) -> bool:
    cluster, _, name = stat.partition(".upstream")
    return cluster.startswith("cluster.") and "_" in cluster and f"upstream{name}" == gauge


@asynccontextmanager
async def gateway(
    directory: Path,
    services: Iterable[
        tuple[RoutePlan, ProxyShare, Iterable[StreamingUpstream], Iterable[StreamingUpstream]]
    ],
    *,
    canary: Iterable[StreamingUpstream] = (),
    workers: int = 1,
    memory_limit_bytes: int | None = None,
) -> AsyncIterator[Gateway]:
    """Start upstreams and an Envoy for services: plan, share, own pods, pods of the fallback.

    `canary` are the canary's pods of those services whose plans have one.
    """
    served = [(plan, share, list(own), list(other)) for plan, share, own, other in services]
    tried = list(canary)
    pods = list({id(pod): pod for _, _, *both in served for some in (*both, tried) for pod in some}.values())
    for pod in pods:
        await pod.start()
    states = {
        plan.key: RouteState(
            plan,
            tuple(pod.endpoint() for pod in own),
            tuple(pod.endpoint() for pod in other),
            tuple(pod.endpoint() for pod in tried) if plan.canary is not None else (),
        )
        for plan, _, own, other in served
    }
    shares = {plan.key: share for plan, share, _, _ in served}
    envoy = EnvoyOnFiles(directory, workers, memory_limit_bytes)
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
        gate = Gateway(envoy, client, states, shares, pods)
        try:
            await envoy.start(list(states.values()), shares)
            yield gate
        finally:
            for pod in pods:
                pod.released.set()
            for task in gate.sent:
                task.cancel()
            await asyncio.gather(*gate.sent, return_exceptions=True)
            await envoy.stop()
            for pod in pods:
                await pod.stop()
