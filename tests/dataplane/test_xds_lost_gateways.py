"""A gateway whose node is lost leaves its part to the others in seconds; one that is only silent keeps it."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import aiohttp
import pytest

from fakes.envoy_gateway import CHAT, plan
from fakes.own_network import gain_node, in_own_network, lose_node, open_network
from fakes.xds_gateways import GROUP, TOKEN, EnvoyProcess, PlaneServer
from penstock.dataplane.envoy.backend import EnvoyDataPlane
from penstock.dataplane.envoy.bootstrap import POLLED_STATS_PATH
from penstock.dataplane.envoy.lost_peers import NOTICED_SECONDS
from penstock.dataplane.envoy.poller import StatsPoller
from penstock.dataplane.envoy.proxies import GONE_SECONDS, LOST_SECONDS, Proxy
from penstock.dataplane.envoy.server import Caller
from penstock.dataplane.envoy.stats import Stats
from penstock.model.traffic import FleetLimit, RouteState

pytestmark = pytest.mark.timed

LIMIT = 40
ROUTES = [RouteState(plan(limit=FleetLimit(LIMIT, 0)), ())]


class Unreadable(StatsPoller):
    """Reads statistics, but not of those in `blocked`; `shown` are played."""

    def __init__(self, shown: Mapping[str, Stats] | None = None) -> None:
        super().__init__()
        self.shown, self.blocked = shown, set[str]()

    async def read(self, proxies: Sequence[Proxy], path: str = POLLED_STATS_PATH) -> dict[str, Stats]:
        seen = [each for each in proxies if each.name not in self.blocked]
        if self.shown is None:
            return await super().read(seen, path)
        return {each.name: self.shown[each.name] for each in seen}


def limits(plane: EnvoyDataPlane) -> dict[str, int]:
    """Return what each proxy may have in flight."""
    found = {name: shares[CHAT].limit for name, (_, shares) in plane._groups[GROUP].given.items()}
    return {name: limit.in_flight for name, limit in found.items() if limit is not None}


async def second(plane: EnvoyDataPlane) -> None:
    """What the one-second task does."""
    await plane.read(0.0)
    plane.publish(GROUP, ROUTES)


def played_plane(count: int) -> tuple[EnvoyDataPlane, Unreadable, list[Proxy]]:
    """A plane whose proxies have held a question since they took half of the limit together."""
    names = [f"gateway-{index}" for index in range(count)]
    load = {"cluster.prod_chat.upstream_rq_active": LIMIT // 2 // count}
    played = Unreadable(dict.fromkeys(names, load))
    plane = EnvoyDataPlane(lambda _: None)
    plane._poller = played
    plane.publish(GROUP, ROUTES)
    proxies = [plane.proxy(Caller(GROUP, name, "127.0.0.1", "", 19_000, ""), "1") for name in names]
    found = [proxy for proxy in proxies if proxy is not None]
    for proxy in found:
        proxy.open_questions = 10
    return plane, played, found


async def silent_for(plane: EnvoyDataPlane, proxies: Sequence[Proxy], seconds: float) -> None:
    """Let time pass in which these say nothing."""
    await second(plane)
    for proxy in proxies:
        assert proxy.doubted_at is not None
        proxy.doubted_at -= seconds
        plane._groups[GROUP].looks.pop(proxy.name, None)
    await second(plane)


async def test_the_limit_of_a_lost_gateway_is_the_others_though_its_questions_are_open() -> None:
    plane, played, (_, lost) = played_plane(2)
    played.blocked.add(lost.name)
    await silent_for(plane, [lost], LOST_SECONDS - 1.0)
    assert limits(plane)["gateway-0"] < LIMIT
    await silent_for(plane, [lost], LOST_SECONDS)
    assert limits(plane) == {"gateway-0": LIMIT, "gateway-1": LIMIT // 2}
    assert plane.groups()[GROUP].proxies == 2, "nobody knows whether it has streams"


@pytest.mark.parametrize("sign", ["asks", "shows"])
async def test_a_lost_gateway_that_gives_a_sign_of_life_has_its_part_a_round_later(sign: str) -> None:
    plane, played, (_, lost) = played_plane(2)
    before = limits(plane)
    played.blocked.add(lost.name)
    await silent_for(plane, [lost], LOST_SECONDS)
    assert limits(plane) != before
    if sign == "asks":
        lost.asked(("", ""), "", time.monotonic())
    else:
        played.blocked.clear()
    await second(plane)
    assert sum(limits(plane).values()) < 1.5 * LIMIT
    assert limits(plane)["gateway-0"] < LIMIT


@pytest.mark.parametrize("gone", [2, 3])
async def test_where_most_gateways_are_lost_it_may_be_the_operator_and_nobody_gets_their_parts(
    gone: int,
) -> None:
    plane, played, proxies = played_plane(3)
    played.blocked |= {each.name for each in proxies[:gone]}
    await silent_for(plane, proxies[:gone], LOST_SECONDS - 1.0)
    before = limits(plane)
    await silent_for(plane, proxies[:gone], LOST_SECONDS)
    assert limits(plane) == before


async def ask(session: aiohttp.ClientSession, port: int, kind: str, version: str = "") -> tuple[int, str]:
    """Ask as a proxy does; return the status and the version answered."""
    node = {"id": "gateway-0", "cluster": GROUP, "metadata": {"token": TOKEN, "stats_port": 1}}
    question = {"node": node, "version_info": version}
    async with session.post(f"http://127.0.0.1:{port}/v3/discovery:{kind}", json=question) as reply:
        return reply.status, (await reply.json())["version_info"] if reply.status == 200 else version


async def holding(
    session: aiohttp.ClientSession, port: int
) -> tuple[dict[str, str], list[asyncio.Task[tuple[int, str]]]]:
    """Take what there is, by kind, and ask anew; return the versions and the questions that are held."""
    versions = {kind: (await ask(session, port, kind))[1] for kind in ("clusters", "listeners")}
    return versions, [asyncio.create_task(ask(session, port, *each)) for each in versions.items()]


async def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait, and return for how long; at most `seconds`."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it is the gateways that change
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def test_a_gateway_whose_statistics_are_silent_is_made_to_ask_anew_and_nobody_else() -> None:
    server = PlaneServer()
    plane = await server.start()
    plane.publish(GROUP, ROUTES)
    try:
        async with aiohttp.ClientSession() as session:
            versions, held = await holding(session, server.port)
            proxy = plane._groups[GROUP].proxies["gateway-0"]
            await until(lambda: proxy.open_questions == 2, 5.0)
            for answered in (1, 2):
                await plane.read(0.0)  # nobody listens at its port
                assert await asyncio.wait_for(held[0], 5.0) == (304, versions["clusters"])
                assert proxy.doubted_at is not None
                held[0] = asyncio.create_task(ask(session, server.port, "clusters", versions["clusters"]))
                await until(lambda: proxy.doubted_at is None and proxy.open_questions == 2, 5.0)
                assert server.plane is not None
                assert server.plane.server.questions == 4 + answered
            assert not held[1].done()
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)
    finally:
        await server.kill()


@pytest.mark.slow
@pytest.mark.seconds(40)
async def test_a_gateway_that_hangs_and_one_whose_statistics_cannot_be_read(tmp_path: Path) -> None:
    server = PlaneServer()
    plane = await server.start()
    plane._poller = poller = Unreadable()
    plane.publish(GROUP, ROUTES)
    gateways = [
        EnvoyProcess(tmp_path, server.port, node=f"gateway-{index}", address=f"127.0.0.{40 + index}")
        for index in range(2)
    ]

    async def ticks() -> None:
        while True:
            await second(plane)
            seen.append(limits(plane))
            await asyncio.sleep(1.0)

    seen: list[dict[str, int]] = []
    ticking = asyncio.create_task(ticks())
    try:
        await asyncio.gather(*(each.start() for each in gateways))
        await until(lambda: len(limits(plane)) == 2, 10.0)
        poller.blocked.add("gateway-1")
        await asyncio.sleep(LOST_SECONDS + 6.0)
        assert max(each["gateway-0"] for each in seen[4:]) < LIMIT, "the other still serves"
        process = gateways[1].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)  # its connections stay, and nothing is heard of it
        took = await until(lambda: limits(plane)["gateway-0"] == LIMIT, LOST_SECONDS + 8.0)
        assert took >= LOST_SECONDS - 1.0
        process.send_signal(signal.SIGCONT)
        await until(lambda: limits(plane)["gateway-0"] < LIMIT, 5.0)
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
        for each in gateways:
            await each.stop()
        await server.kill()


async def test_connections_of_gateways_are_asked_whether_they_live() -> None:
    server = PlaneServer()
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{server.port}/healthz"):
                pass
            assert server._runner is not None
            assert server._runner.server is not None
            [connection] = server._runner.server.connections
            assert connection.transport is not None
            accepted = connection.transport.get_extra_info("socket")
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            idle, every, times, unacknowledged = (
                accepted.getsockopt(socket.IPPROTO_TCP, each) for each in options
            )
            assert idle + times * every == NOTICED_SECONDS
            assert unacknowledged == NOTICED_SECONDS * 1000
    finally:
        await server.kill()


@pytest.mark.slow
@pytest.mark.seconds(45)
@in_own_network
async def test_the_questions_of_a_lost_node_end_before_they_would_be_answered(tmp_path: Path) -> None:
    open_network()
    address = gain_node("10.9.0.2")
    server = PlaneServer()
    plane = await server.start(EnvoyDataPlane(lambda _: TOKEN, hold_seconds=(300.0, 300.0)))
    plane.publish(GROUP, ROUTES)
    try:
        connector = aiohttp.TCPConnector(local_addr=(address, 0))
        async with aiohttp.ClientSession(connector=connector) as session:
            _, held = await holding(session, server.port)
            proxy = plane._groups[GROUP].proxies["gateway-0"]
            await until(lambda: proxy.open_questions == 2, 5.0)
            lose_node(address)
            await plane.read(0.0)  # one question is answered, and that never acknowledged; one is silent
            assert plane.groups()[GROUP].proxies == 1
            await until(lambda: plane.groups()[GROUP].proxies == 0, NOTICED_SECONDS + GONE_SECONDS + 5.0)
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)
    finally:
        await server.kill()
