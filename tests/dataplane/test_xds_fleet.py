"""Several real Envoys that share limits, and what becomes of traffic while who serves them comes and goes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest

from fakes.envoy_gateway import plan, to_small
from fakes.streaming_upstream import StreamingUpstream
from fakes.xds_gateways import EnvoyProcess, PlaneServer
from penstock.model.traffic import FleetLimit, RoutePlan, RouteState

pytestmark = pytest.mark.timed

# Connections outlive a share that fell; they last 5 s.
SETTLE_SECONDS = 9.0


def addresses(count: int) -> list[str]:
    return [f"127.0.0.{10 + index}" for index in range(count)]


@dataclass
class Fleet:
    """An operator's data plane whose one-second task runs, and gateways on addresses of their own."""

    server: PlaneServer
    gateways: list[EnvoyProcess]
    routes: list[RouteState]
    most_in_flight: float = 0.0
    _ticking: asyncio.Task[None] | None = None

    def tick(self) -> None:
        self._ticking = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            assert self.server.plane is not None
            for reading in (await self.server.plane.read(0.0)).values():
                self.most_in_flight = max(self.most_in_flight, reading.in_flight)
            self.server.plane.publish("prod", self.routes)
            await asyncio.sleep(1.0)

    async def stop_ticking(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticking
            self._ticking = None


@asynccontextmanager
async def fleet(directory: Path, routes: list[RouteState], count: int) -> AsyncIterator[Fleet]:
    server = PlaneServer()
    await server.start()
    assert server.plane is not None
    server.plane.publish("prod", routes)
    gateways = [
        EnvoyProcess(directory, server.port, node=f"gateway-{index}", address=address)
        for index, address in enumerate(addresses(count))
    ]
    found = Fleet(server, gateways, routes)
    found.tick()
    try:
        await asyncio.gather(*(each.start() for each in gateways))
        yield found
    finally:
        await found.stop_ticking()
        for each in gateways:
            await each.stop()
        await server.kill()


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=False), timeout=timeout
    ) as opened:
        yield opened


@dataclass
class Clients:
    """Closed-loop clients of one gateway: each sends its next request when the one before is answered."""

    url: str
    statuses: Counter[int] = field(default_factory=Counter)
    pause_seconds: float = 0.0

    async def run(self, client: aiohttp.ClientSession, count: int) -> None:
        await asyncio.gather(*(self._one(client) for _ in range(count)))

    async def _one(self, client: aiohttp.ClientSession) -> None:
        while True:
            try:
                async with client.post(self.url, data=b"{}") as reply:
                    await reply.read()
                    self.statuses[reply.status] += 1
                    refused = reply.status != 200
            except aiohttp.ClientError:
                self.statuses[0] += 1
                refused = True
            await asyncio.sleep(0.05 if refused else self.pause_seconds)


def url(address: str, published: RoutePlan) -> str:
    return f"http://{address}:{published.listen_port}/v1/completions"


@asynccontextmanager
async def pods(names: Sequence[str], seconds: float) -> AsyncIterator[list[StreamingUpstream]]:
    async def stream(upstream: StreamingUpstream, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        response = aiohttp.web.StreamResponse(headers={"x-from": upstream.name})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await asyncio.sleep(seconds)
        await response.write(b"data: [DONE]\n\n")
        return response

    started = [StreamingUpstream(name, stream) for name in names]
    for each in started:
        await each.start()
    try:
        yield started
    finally:
        for each in started:
            await each.stop()


async def work(*running: asyncio.Task[None], seconds: float) -> None:
    await asyncio.sleep(seconds)
    for each in running:
        assert not each.done(), "clients run until they are ended"


async def test_three_gateways_and_one_keep_alive_client_at_60_percent_see_no_429(tmp_path: Path) -> None:
    async with pods(["chat-0"], 0.5) as upstreams, session() as client:
        published = plan(limit=FleetLimit(40, 10))
        route = RouteState(published, tuple(each.endpoint() for each in upstreams))
        async with fleet(tmp_path, [route], 3):
            clients = Clients(url(addresses(3)[0], published))
            running = asyncio.create_task(clients.run(client, 30))
            await work(running, seconds=6)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert set(clients.statuses) == {200}
        assert clients.statuses[200] > 200


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
async def test_a_steady_overload_through_several_gateways_stays_within_the_limit(
    tmp_path: Path, count: int
) -> None:
    async with pods(["chat-0"], 1.0) as upstreams, session() as client:
        published = plan(limit=FleetLimit(20, 10))
        route = RouteState(published, tuple(each.endpoint() for each in upstreams))
        async with fleet(tmp_path, [route], count) as gateways:
            crowds = [Clients(url(address, published)) for address in addresses(count)]
            # One gateway has most of the clients.
            sizes = [40, *[25] * (count - 1)]
            running = [
                asyncio.create_task(crowd.run(client, size))
                for crowd, size in zip(crowds, sizes, strict=True)
            ]
            await work(*running, seconds=SETTLE_SECONDS)
            upstreams[0].most_running = 0
            gateways.most_in_flight = 0
            before = [crowd.statuses[200] for crowd in crowds]
            await work(*running, seconds=6)
            served = [crowd.statuses[200] - was for crowd, was in zip(crowds, before, strict=True)]
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            assert gateways.most_in_flight <= 30 + count
            assert upstreams[0].most_running <= 20 + count
            assert sum(served) >= 0.8 * 6 * 20, "the limit is used"
            assert all(crowd.statuses[429] > 0 for crowd in crowds)
            assert min(served) >= 0.5 * max(served), "who has fewer clients is not starved"


async def test_a_new_gateway_has_its_share_before_it_is_ready(tmp_path: Path) -> None:
    async with pods(["chat-0"], 0.2) as upstreams:
        published = plan(limit=FleetLimit(40, 0))
        route = RouteState(published, tuple(each.endpoint() for each in upstreams))
        async with fleet(tmp_path, [route], 1) as gateways:
            await gateways.stop_ticking()
            second = EnvoyProcess(tmp_path, gateways.server.port, node="late", address="127.0.0.30")
            try:
                await second.start()
                for gateway, share in ((second, 30), (gateways.gateways[0], 30)):
                    runtime = await gateway.admin("/runtime")
                    assert f'"final_value": "{share}"' in runtime, runtime
            finally:
                await second.stop()


async def test_counters_outlive_gateways_and_operators_do_not_count_the_past(tmp_path: Path) -> None:
    async with pods(["chat-0"], 0.0) as upstreams, session() as client:
        published = plan(limit=FleetLimit(40, 0))
        route = RouteState(published, tuple(each.endpoint() for each in upstreams))
        async with fleet(tmp_path, [route], 1) as gateways:
            await gateways.stop_ticking()
            gateway = gateways.gateways[0]

            async def send(count: int) -> None:
                for _ in range(count):
                    async with client.post(url(gateway.address, published)) as reply:
                        assert reply.status == 200

            async def offered() -> float:
                assert gateways.server.plane is not None
                reading = (await gateways.server.plane.read(0.0))[published.key]
                return reading.classes["default"].offered

            await send(5)
            assert await offered() == 5
            await gateway.stop()
            assert gateways.server.plane is not None
            gateways.server.plane.publish("prod", [route])
            await gateway.start()
            await send(3)
            assert await offered() == 8
            await gateways.server.kill()
            await gateways.server.start()
            gateways.server.plane.publish("prod", [route])
            await asyncio.sleep(3)
            assert await offered() == 0, "what was before is nobody's"
            await send(2)
            assert await offered() == 2


async def test_a_silent_gateway_is_left_out_not_zero(tmp_path: Path) -> None:
    server = PlaneServer()
    plane = await server.start()
    published = plan(limit=FleetLimit(40, 0))
    plane.publish("prod", [RouteState(published, ())])
    try:
        assert await plane.read(0.0) == {}
        gateway = EnvoyProcess(tmp_path, server.port)
        await gateway.start()
        try:
            assert (await plane.read(0.0))[published.key].proxies == 1
        finally:
            await gateway.stop()
        await asyncio.sleep(3.2)
        assert await plane.read(0.0) == {}
    finally:
        await server.kill()


async def test_removing_a_fallback_cuts_nobody(tmp_path: Path) -> None:
    """Routes that name a cluster go before the cluster does."""
    async with pods(["chat-0", "small-0"], 0.02) as (own, small), session() as client:
        bare = plan(limit=FleetLimit(4, 0))
        full = replace(bare, fallback=to_small(in_flight_limit=10))
        states = [
            RouteState(full, (own.endpoint(),), (small.endpoint(),)),
            RouteState(bare, (own.endpoint(),)),
        ]
        async with fleet(tmp_path, [states[0]], 1) as gateways:
            await gateways.stop_ticking()
            clients = Clients(url(gateways.gateways[0].address, bare), pause_seconds=0.01)
            running = asyncio.create_task(clients.run(client, 8))
            assert gateways.server.plane is not None
            for index in range(14):
                gateways.server.plane.publish("prod", [states[index % 2]])
                await asyncio.sleep(0.3)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert set(clients.statuses) <= {200, 429}
