"""What the sections share: the light upstream as a process, plans for it, and the gateway before it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.raw_http import KeepAlive, request_bytes
from fakes.xds_gateways import EnvoyProcess, PlaneServer
from penstock.dataplane.envoy.backend import EnvoyDataPlane
from penstock.model.spec import ServiceKey
from penstock.model.traffic import Backend, Endpoint, FallbackPlan, FleetLimit, RoutePlan, RouteState
from penstock.sandbox.child_process import free_port

GROUP = "bench"
OPEN = FleetLimit(1000, 1000)
_UPSTREAM = Path(__file__).with_name("sse_upstream.py")
_START_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Upstream:
    """The light upstream; `connection` goes straight to it."""

    port: int
    connection: KeepAlive

    def state(self) -> dict[str, int]:
        """Return running, most running since the last look, requests."""
        counts: dict[str, int] = json.loads(self.connection.ask(request_bytes("/state", method="GET")).body)
        return counts


@contextlib.asynccontextmanager
async def light_upstream() -> AsyncIterator[Upstream]:
    """Run the light upstream while in the block."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, str(_UPSTREAM), stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        async with asyncio.timeout(_START_SECONDS):
            port = int(await process.stdout.readline())
        connection = KeepAlive(port)
        yield Upstream(port, connection)
        connection.close()
    finally:
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


def free_ports(count: int) -> list[int]:
    """Return so many different ports that were free a moment ago."""
    return [free_port() for _ in range(count)]


def stream_path(tokens: int, gap_milliseconds: float) -> str:
    """Return the path that makes the light upstream stream so many tokens."""
    return f"/tokens/{tokens}/gap/{gap_milliseconds:g}"


@dataclass(slots=True)
class Gateway:
    """One proxy, and the operator's server of its configuration in this process."""

    plane: EnvoyDataPlane
    pid: int
    #: Held while the statistics are read, and from a change to its effect: the operator publishes as soon as
    #: it has read, and reads again a second later.
    reading: asyncio.Lock

    def publish(self, routes: Sequence[RouteState]) -> None:
        """Serve these routes from now on."""
        self.plane.publish(GROUP, routes)

    async def has_everything(self) -> None:
        """Wait until the proxy has had all that was published for a second: 200 new listeners take four."""
        since = time.monotonic()
        async with asyncio.timeout(_START_SECONDS * 4):
            while time.monotonic() < since + 1.0:
                group = self.plane.groups()[GROUP]
                if group.rejected:
                    raise RuntimeError(f"rejected: {next(iter(group.rejected.values()))}")
                if not group.proxies == group.current == 1:
                    since = time.monotonic()
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def running_gateway() -> AsyncIterator[Gateway]:
    """Run one proxy while in the block; its statistics are read every second, as the operator does."""
    server = PlaneServer()
    with tempfile.TemporaryDirectory() as directory:
        plane = await server.start()
        plane.publish(GROUP, [])
        envoy = EnvoyProcess(Path(directory), server.port, group=GROUP)
        reading = asyncio.Lock()
        reader = asyncio.create_task(_read_every_second(plane, reading))
        try:
            await envoy.start()
            assert envoy.process is not None
            yield Gateway(plane, envoy.process.pid, reading)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            await envoy.stop()
            await server.kill()


async def _read_every_second(plane: EnvoyDataPlane, reading: asyncio.Lock) -> None:
    while True:
        await asyncio.sleep(1.0)
        async with reading:
            await plane.read(time.time())


def route(
    name: str,
    *,
    listen_port: int,
    upstream_ports: tuple[int, ...],
    limit: FleetLimit | None = None,
    fallback_ports: tuple[int, ...] = (),
    fallback_limit: int = 0,
    planned_ratio: float = 0.0,
) -> RouteState:
    """Return the plan of one service whose replicas listen on ports of this machine."""
    key = ServiceKey(GROUP, name)
    fallback = None
    if fallback_ports:
        backend = Backend(GROUP, f"{name}-small", 80, f"{name}-small")
        fallback = FallbackPlan(backend, planned_ratio=planned_ratio, in_flight_limit=fallback_limit)
    plan = RoutePlan(
        key=key,
        uid=name,
        backend=Backend(GROUP, name, 80, name),
        listen_port=listen_port,
        limit=limit,
        per_replica=limit,
        fallback=fallback,
    )
    return RouteState(plan, _pods(name, upstream_ports), _pods(f"{name}-small", fallback_ports))


def _pods(name: str, ports: tuple[int, ...]) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(f"{name}-{port}", "127.0.0.1", port) for port in ports)
