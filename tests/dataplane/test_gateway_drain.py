"""A gateway pod that leaves: no stream is cut, keep-alive clients go, and the wait ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner

from fakes.envoy_gateway import CHAT, UNLIMITED, gateway, plan
from fakes.streaming_upstream import StreamingUpstream
from penstock.cli.drain import drain as drain_command
from penstock.dataplane.envoy import lame_duck
from penstock.dataplane.envoy.lame_duck import Drained, active_requests, drain
from penstock.sandbox.child_process import free_port

pytestmark = pytest.mark.timed

Answer = tuple[int, str] | None


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


class PlayedAdmin:
    """An admin port whose answers, (status, body) by turns, the test gives; None answers late."""

    def __init__(self, fails: Sequence[Answer], looks: Sequence[Answer]) -> None:
        self.left = {"POST": list(fails), "GET": list(looks)}
        self.asked: list[str] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.method)
        left = self.left[request.method]
        given = left.pop(0) if len(left) > 1 else left[0]
        if given is None:
            await asyncio.sleep(1.0)
            return web.Response(status=503)
        return web.Response(status=given[0], text=given[1])


@asynccontextmanager
async def admin(played: PlayedAdmin) -> AsyncIterator[int]:
    runner = web.ServerRunner(web.Server(played.answer), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def active(count: int) -> Answer:
    return 200, json.dumps({"stats": [{"name": "http.prod_chat.downstream_rq_active", "value": count}]})


@pytest.mark.parametrize(
    "bad", [None, (503, ""), (200, "{"), (200, "[]"), (200, '{"stats": [{"name": "a"}]}')]
)
async def test_a_look_that_fails_is_not_an_idle_one(bad: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lame_duck, "_CALL_SECONDS", 0.3)
    played = PlayedAdmin([(200, "OK")], [active(1), bad, active(0), bad, active(0)])
    async with admin(played) as port:
        drained = await waited(port, deadline=20)
    assert drained.active == 0
    assert played.asked == ["POST", *["GET"] * 6], "idle at two looks in a row"


@pytest.mark.parametrize("bad", [None, (500, "")])
async def test_failing_the_health_check_is_tried_again(bad: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lame_duck, "_CALL_SECONDS", 0.3)
    played = PlayedAdmin([bad, bad, (200, "OK")], [active(0)])
    async with admin(played) as port:
        drained = await waited(port, deadline=20)
    assert drained.active == 0
    assert played.asked == ["POST", "POST", "POST", "GET", "GET"]


async def test_a_proxy_that_never_tells_is_waited_for_until_the_deadline() -> None:
    played = PlayedAdmin([(200, "OK")], [(503, "")])
    async with admin(played) as port:
        arguments = ["--admin-port", str(port), "--deadline", "1s"]
        done = await asyncio.to_thread(CliRunner().invoke, drain_command, arguments)
    assert done.exit_code == 0, done.output
    assert done.output == "whether requests were still active after 1 s was not told\n"


async def test_a_proxy_that_ended_meanwhile_has_nothing_left() -> None:
    played = PlayedAdmin([(200, "OK")], [active(1)])
    async with admin(played) as port:
        draining = waited(port, deadline=20)
        while len(played.asked) < 3:  # noqa: ASYNC110 - another thread asks
            await asyncio.sleep(0.02)
    drained = await draining
    assert drained.active == 0
    assert drained.waited_seconds < 5


@pytest.mark.parametrize("path", ["/ready", "/stats?format=json"])
async def test_statistics_of_the_admin_interface_itself_do_not_count(tmp_path: Path, path: str) -> None:
    async with gateway(tmp_path, [(plan(), UNLIMITED, [StreamingUpstream("chat-0")], [])]) as gate:
        address = f"http://127.0.0.1:{gate.envoy.admin_port}{path}"
        async with aiohttp.ClientSession() as session, session.get(address):
            assert await asyncio.to_thread(active_requests, "127.0.0.1", gate.envoy.admin_port) == 0
