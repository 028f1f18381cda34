"""The xDS server and the real Envoy: who has what, who refused what, and how fast it takes effect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from fakes.envoy_gateway import CHAT, plan
from fakes.streaming_upstream import StreamingUpstream, at_once, held
from fakes.xds_gateways import TOKEN, EnvoyProcess, PlaneServer, proxies
from penstock.dataplane.envoy.backend import EnvoyDataPlane
from penstock.dataplane.envoy.server import Caller
from penstock.model.traffic import FleetLimit, GatewayGroup, RoutePlan, RouteState

pytestmark = pytest.mark.timed

SECONDS = 10.0


@pytest.fixture
async def server() -> AsyncIterator[PlaneServer]:
    found = PlaneServer()
    await found.start()
    yield found
    await found.kill()


@pytest.fixture
async def upstream() -> AsyncIterator[StreamingUpstream]:
    found = StreamingUpstream("chat-0", at_once)
    await found.start()
    yield found
    await found.stop()


async def until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it is the proxies that change
            await asyncio.sleep(0.005)


def publish(server: PlaneServer, upstream: StreamingUpstream, published: RoutePlan) -> RouteState:
    """Publish one service."""
    assert server.plane is not None
    route = RouteState(published, (upstream.endpoint(),))
    server.plane.publish("prod", [route])
    return route


def group_of(server: PlaneServer) -> GatewayGroup:
    assert server.plane is not None
    return server.plane.groups()["prod"]


async def ask(port: int, **headers: str) -> tuple[int, str]:
    """Return status and body of one request on a connection of its own."""
    url = f"http://127.0.0.1:{port}/"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as reply:
        return reply.status, await reply.text()


async def test_the_echo_of_a_version_is_its_acknowledgement(
    server: PlaneServer, upstream: StreamingUpstream, tmp_path: Path
) -> None:
    published = plan(limit=FleetLimit(4, 2))
    publish(server, upstream, published)
    async with proxies(tmp_path, server):
        await until(lambda: (group_of(server).proxies, group_of(server).current) == (1, 1))
        assert await ask(published.listen_port) == (200, "answered")
        publish(server, upstream, replace(published, limit=FleetLimit(2, 1)))
        assert group_of(server).current == 0
        await until(lambda: group_of(server).current == 1)


async def test_a_change_takes_effect_within_milliseconds(
    server: PlaneServer, upstream: StreamingUpstream, tmp_path: Path
) -> None:
    published = plan(limit=FleetLimit(4, 2))
    publish(server, upstream, published)
    async with proxies(tmp_path, server), aiohttp.ClientSession() as session:
        await until(lambda: group_of(server).current == 1)
        seconds = []
        for index in range(40):
            # A pod that drains leaves the service without endpoints: 503, and 200 when it is back.
            gone = index % 2 == 0
            route = RouteState(published, (upstream.endpoint(draining=gone),))
            began = time.perf_counter()
            assert server.plane is not None
            server.plane.publish("prod", [route])
            while True:
                async with session.get(f"http://127.0.0.1:{published.listen_port}/") as reply:
                    if (reply.status != 200) == gone:
                        break
                assert time.perf_counter() - began < SECONDS
            seconds.append(time.perf_counter() - began)
            await until(lambda: group_of(server).current == 1)
        assert float(np.quantile(seconds, 0.9)) < 0.05


async def test_a_refused_configuration_is_told_and_neither_harms_nor_loops(
    server: PlaneServer, upstream: StreamingUpstream, tmp_path: Path
) -> None:
    published = plan(limit=FleetLimit(4, 2))
    publish(server, upstream, published)
    async with proxies(tmp_path, server):
        await until(lambda: group_of(server).current == 1)
        # A header that no HTTP knows: Envoy refuses the route.
        publish(server, upstream, replace(published, listen_port=70_000))
        await until(lambda: CHAT in group_of(server).rejected)
        message = group_of(server).rejected[CHAT]
        assert message.startswith("gateway gateway-0 refuses Listener prod_chat and keeps its last good")
        assert await ask(published.listen_port) == (200, "answered")
        assert server.plane is not None
        before = server.plane.server.questions
        await asyncio.sleep(2)
        assert server.plane.server.questions - before < 10
        publish(server, upstream, published)
        await until(lambda: not group_of(server).rejected and group_of(server).current == 1)


async def test_traffic_goes_on_while_the_operator_is_down_and_limits_follow_when_it_is_back(
    server: PlaneServer, upstream: StreamingUpstream, tmp_path: Path
) -> None:
    published = plan(limit=FleetLimit(4, 2))
    publish(server, upstream, published)
    async with proxies(tmp_path, server):
        await until(lambda: group_of(server).current == 1)
        await server.kill()
        assert [await ask(published.listen_port) for _ in range(20)] == [(200, "answered")] * 20
        await server.start()
        publish(server, upstream, replace(published, limit=FleetLimit(1, 0), retry_after_seconds=7))
        await until(lambda: group_of(server).current == 1, 30)
        upstream.behaviour = held
        url = f"http://127.0.0.1:{published.listen_port}/"
        async with aiohttp.ClientSession() as session, session.get(url) as first:
            await first.content.readline()
            assert (await ask(published.listen_port))[0] == 429
            upstream.released.set()


async def test_an_operator_that_knows_nothing_yet_says_that_it_is_not_ready(server: PlaneServer) -> None:
    async with aiohttp.ClientSession() as session:
        address = f"http://127.0.0.1:{server.port}"
        async with session.get(f"{address}/healthz") as reply:
            assert reply.status == 503
        assert server.plane is not None
        server.plane.publish("prod", [])
        async with session.get(f"{address}/healthz") as reply:
            assert reply.status == 200


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ({"node": {"id": "a", "cluster": "prod", "metadata": {"token": "wrong"}}}, 403),
        ({"node": {"id": "a", "cluster": "prod"}}, 403),
        ({"node": {}}, 400),
        ([], 400),
        (
            {
                "node": {"id": "a", "cluster": "prod", "metadata": {"token": TOKEN}},
                "resource_names": ["a", "b"],
            },
            400,
        ),
        ({"node": {"id": "a", "cluster": "unheard-of", "metadata": {"token": TOKEN}}}, 503),
        ({"padding": "x" * 300_000}, 413),
    ],
)
async def test_only_proxies_with_the_token_are_answered(
    server: PlaneServer, question: object, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert server.plane is not None
    server.plane.publish("prod", [])
    async with aiohttp.ClientSession() as session:
        address = f"http://127.0.0.1:{server.port}/v3/discovery:clusters"
        async with session.post(address, json=question) as reply:
            assert reply.status == status
    assert "wrong" not in capsys.readouterr().out


async def test_a_gateway_with_a_wrong_token_gets_nothing(server: PlaneServer, tmp_path: Path) -> None:
    assert server.plane is not None
    server.plane.publish("prod", [])
    stranger = EnvoyProcess(tmp_path, server.port, token="stolen")
    starting = asyncio.create_task(stranger.start())
    await until(lambda: server.plane is not None and server.plane.server.questions > 0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await stranger.stop()
    assert group_of(server).proxies == 0


async def test_a_gateway_that_dies_gives_its_share_back(
    server: PlaneServer, upstream: StreamingUpstream, tmp_path: Path
) -> None:
    published = plan(limit=FleetLimit(4, 2))
    publish(server, upstream, published)
    async with proxies(tmp_path, server) as (gateway,):
        await until(lambda: group_of(server).proxies == 1)
        await gateway.stop()
        await until(lambda: group_of(server).proxies == 0)


async def test_an_unchanged_fleet_costs_no_question() -> None:
    plane = EnvoyDataPlane(lambda _: TOKEN)
    plane.publish("prod", [])
    proxy = plane.proxy(Caller("prod", "gateway-0", "127.0.0.1", TOKEN, 0, ""), "")
    assert proxy is not None
    route = RouteState(plan(limit=FleetLimit(4, 2)), ())
    plane.publish("prod", [route])
    before = proxy.catalogue.answer(("type.googleapis.com/envoy.config.cluster.v3.Cluster", ""))
    plane.publish("prod", [route])
    after = proxy.catalogue.answer(("type.googleapis.com/envoy.config.cluster.v3.Cluster", ""))
    assert before is after
