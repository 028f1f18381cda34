"""A node that is lost gives its places back at the real Envoy, on networks where nodes can be lost."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from fakes.envoy_gateway import CHAT, SMALL, Gateway, gateway, plan, share
from fakes.own_network import gain_node, in_own_network, lose_node, open_network
from fakes.streaming_upstream import StreamingUpstream, at_once
from penstock.dataplane.envoy.lost_peers import CLIENT_NOTICED_SECONDS, NOTICED_SECONDS
from penstock.model.spec import ServiceKey
from penstock.model.traffic import RoutePlan

LONG = ServiceKey("prod", "long")
LENGTHY_BYTES = 32_000_000


async def prefilling(upstream: StreamingUpstream, request: web.Request) -> web.StreamResponse:
    """Say nothing until the test releases: no headers either."""
    await upstream.released.wait()
    return await at_once(upstream, request)


async def lengthy(upstream: StreamingUpstream, request: web.Request) -> web.StreamResponse:
    """Answer with more than fits on the way to a client that does not read."""
    return web.Response(body=b"x" * LENGTHY_BYTES)


async def given_back(gate: Gateway, seconds: float, *clusters: str) -> None:
    """Wait until nothing is in flight at these clusters, a little longer than a lost peer may take."""
    async with asyncio.timeout(seconds + 8):
        while any([sum(await gate.in_flight(each)) for each in clusters]):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)


@pytest.mark.slow
@pytest.mark.seconds(35)
@in_own_network
async def test_streams_to_a_lost_node_end_and_those_of_an_engine_that_is_silent_for_as_long_last(
    tmp_path: Path,
) -> None:
    open_network()
    lost = {CHAT: StreamingUpstream("chat-0", address=gain_node("10.9.0.2"))}
    lost[SMALL] = StreamingUpstream("small-0", address=gain_node("fd00:9::2"))
    silent = StreamingUpstream("long-0", behaviour=prefilling)
    services = [(plan(key), share(2), [pod], []) for key, pod in {**lost, LONG: silent}.items()]
    async with gateway(tmp_path, services) as gate:
        [prefill] = gate.send(1, LONG)
        begun = time.monotonic()
        streaming = [task for key in lost for task in gate.send(1, key)]  # only asking tells that it ended
        await gate.all_decided()
        for key, pod in lost.items():
            pod.behaviour = at_once
            assert (await gate.post(key)).status == 200  # leaves a connection for the next
            lose_node(pod.address)
        unacknowledged = [task for key in lost for task in gate.send(1, key)]
        await asyncio.sleep(0.5)
        assert [(await gate.post(key)).told for key in lost] == [(429, "-", "shed")] * 2

        await given_back(gate, NOTICED_SECONDS, "prod_chat", "prod_chat-small")
        for task in streaming:
            with pytest.raises(aiohttp.ClientPayloadError):
                await task
        assert [(await task).told for task in unacknowledged] == [(503, "-", "unavailable")] * 2

        assert time.monotonic() - begun > NOTICED_SECONDS - 1
        silent.released.set()
        assert (await prefill).told == (200, "long", "primary")


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connected(served: RoutePlan, request: bytes, address: str = "127.0.0.1") -> Connection:
    """Begin a request from a node's address, and read nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.listen_port, local_addr=(address, 0))
    writer.write(b"POST / HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n" + request)
    return reader, writer


@pytest.mark.slow
@pytest.mark.seconds(75)
@in_own_network
async def test_clients_that_are_lost_give_their_places_back_and_one_that_is_slow_reads_on(
    tmp_path: Path,
) -> None:
    open_network()
    address = gain_node("10.9.0.3")
    served = plan()
    async with gateway(tmp_path, [(served, share(3), [StreamingUpstream("chat-0", lengthy)], [])]) as gate:
        begun = time.monotonic()
        uploads = await connected(served, b"Content-Length: 1000\r\n\r\nthe beginning", address)
        downloads = await connected(served, b"Content-Length: 0\r\n\r\n", address)
        reads_late = await connected(served, b"Content-Length: 0\r\n\r\n")

        async def all_there() -> bool:
            return await gate.in_flight("prod_chat") == (3, 0)

        await gate.until(all_there)
        lose_node(address)
        assert (await gate.post()).told == (429, "-", "shed")
        await asyncio.sleep(NOTICED_SECONDS + 5)
        assert len(await reads_late[0].read()) > LENGTHY_BYTES
        await given_back(gate, CLIENT_NOTICED_SECONDS, "prod_chat")
        assert time.monotonic() - begun > CLIENT_NOTICED_SECONDS - 1
        for _, writer in (uploads, downloads, reads_late):
            writer.transport.abort()
        await asyncio.sleep(0)
