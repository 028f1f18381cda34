"""A gateway pod that leaves: no stream is cut, keep-alive clients go, and the wait ends."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner

from fakes.envoy_gateway import CHAT, UNLIMITED, gateway, plan
from fakes.streaming_upstream import StreamingUpstream
from penstock.cli.drain import drain as drain_command
from penstock.dataplane.envoy.lame_duck import Drained, active_requests, drain
from penstock.sandbox.child_process import free_port


def waited(admin_port: int, *, deadline: float, least: float = 0.2) -> asyncio.Task[Drained]:
    call = asyncio.to_thread(drain, admin_port, deadline_seconds=deadline, least_seconds=least)
    return asyncio.create_task(call)


async def test_it_waits_for_the_stream_and_sends_keep_alive_clients_away(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0")
    async with gateway(tmp_path, [(plan(), UNLIMITED, [chat], [])]) as gate:
        (stream,) = gate.send()
        await gate.all_decided()
        draining = waited(gate.envoy.admin_port, deadline=20)
        await asyncio.sleep(1.5)
        assert not draining.done(), "a stream is under way"
        chat.released.set()
        address = f"http://127.0.0.1:{gate.states[CHAT].plan.listen_port}/"
        async with gate.client.post(address, data=b"{}") as reply:
            assert reply.status == 200, "still served: not every node has heard yet"
            assert reply.headers["connection"] == "close"
        drained = await draining
        assert drained.active == 0
        assert 1.5 <= drained.waited_seconds < 10
        reply = await stream
        assert reply.status == 200
        assert reply.text.endswith("data: [DONE]\n\n")
        assert not await gate.envoy._ready(), "no new connections from the cluster's Services"


async def test_at_the_deadline_it_tells_how_many_are_cut(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0")
    async with gateway(tmp_path, [(plan(), UNLIMITED, [chat], [])]) as gate:
        gate.send(3)
        await gate.all_decided()
        assert await asyncio.to_thread(active_requests, "127.0.0.1", gate.envoy.admin_port) == 3
        drained = await waited(gate.envoy.admin_port, deadline=1.0)
        assert drained.active == 3
        assert 1.0 <= drained.waited_seconds < 4


async def test_an_idle_one_still_serves_until_every_node_has_heard(tmp_path: Path) -> None:
    async with gateway(tmp_path, [(plan(), UNLIMITED, [StreamingUpstream("chat-0")], [])]) as gate:
        drained = await waited(gate.envoy.admin_port, deadline=20, least=1.5)
        assert drained.active == 0
        assert drained.waited_seconds >= 1.5


def test_without_a_proxy_there_is_nothing_to_wait_for() -> None:
    began = time.monotonic()
    done = CliRunner().invoke(drain_command, ["--admin-port", str(free_port()), "--deadline", "1m"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("nothing to drain: ")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("path", ["/ready", "/stats?format=json"])
async def test_statistics_of_the_admin_interface_itself_do_not_count(tmp_path: Path, path: str) -> None:
    async with gateway(tmp_path, [(plan(), UNLIMITED, [StreamingUpstream("chat-0")], [])]) as gate:
        address = f"http://127.0.0.1:{gate.envoy.admin_port}{path}"
        async with aiohttp.ClientSession() as session, session.get(address):
            assert await asyncio.to_thread(active_requests, "127.0.0.1", gate.envoy.admin_port) == 0
