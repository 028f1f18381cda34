"""What of the real Envoy can be seen and reached from outside the pod; and upgrades."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from fakes.envoy_gateway import gateway, plan, share, to_small
from fakes.streaming_upstream import StreamingUpstream, at_once
from penstock.dataplane.envoy import names

pytestmark = pytest.mark.timed


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/ready", 200),
        ("GET", "/stats/prometheus", 200),
        ("GET", "/stats/penstock", 200),
        ("GET", "/stats", 404),
        ("GET", "/stats/penstock/../../config_dump", 404),
        ("GET", "/config_dump", 404),
        ("GET", "/clusters", 404),
        ("GET", "/ready/../quitquitquit", 404),
        ("POST", "/ready", 404),
        ("POST", "/quitquitquit", 404),
        ("POST", "/runtime_modify?penstock.failure_status=1", 404),
    ],
)
async def test_the_statistics_listener_passes_exact_paths_only(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    pod = StreamingUpstream("chat-0", behaviour=at_once)
    async with gateway(tmp_path, [(plan(), share(4), [pod], [])]) as gate:
        address = f"http://127.0.0.1:{gate.envoy.stats_port}{path}"
        async with gate.client.request(method, URL(address, encoded=True)) as reply:
            assert reply.status == status
        assert (await gate.post()).status == 200


async def test_the_admin_interface_listens_on_loopback_only(tmp_path: Path) -> None:
    async with gateway(tmp_path, [(plan(), share(4), [], [])]) as gate:
        listening = await gate.envoy.admin("/config_dump?mask=bootstrap.admin.address")
        assert '"address": "127.0.0.1"' in listening


async def test_the_polled_statistics_name_no_stranger_and_all_of_ours(tmp_path: Path) -> None:
    served = plan(fallback=to_small())
    pods = [StreamingUpstream(name, behaviour=at_once) for name in ("chat-0", "small-0")]
    async with gateway(tmp_path, [(served, share(4, fallback=2), pods[:1], pods[1:])]) as gate:
        await gate.post()
        stats = await gate.envoy.stats()
        assert stats[names.offered_stat(served, names.UNCLASSED)] == 1
        assert stats[names.shed_stat(served.key, names.UNCLASSED)] == 0
        assert stats[names.spilled_stat(served.key, names.UNCLASSED)] == 0
        assert "cluster.prod_chat.upstream_rq_pending_active" in stats
        assert "http.prod_chat.rds.prod_chat.update_rejected" in stats
        assert not any(name.startswith(("cluster.xds", "cluster.admin", "http.stats")) for name in stats)


async def test_a_websocket_is_passed_on_and_holds_one_place(tmp_path: Path) -> None:
    async def echo(upstream: StreamingUpstream, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{upstream.name}: {message.data}")
        return socket

    pod = StreamingUpstream("chat-0", behaviour=echo)
    served = plan()
    async with gateway(tmp_path, [(served, share(1), [pod], [])]) as gate:
        address = f"http://127.0.0.1:{served.listen_port}/v1/realtime"
        async with gate.client.ws_connect(address) as socket:
            await socket.send_str("hello")
            assert (await socket.receive_str(timeout=5)) == "chat-0: hello"
            assert (await gate.post()).told == (429, "-", "shed")
