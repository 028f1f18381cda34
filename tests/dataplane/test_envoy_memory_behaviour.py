"""How much of requests the real Envoy holds, what becomes of longer ones, and what it does near its limit."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import orjson
import pytest

from fakes.envoy_gateway import UNLIMITED, Gateway, gateway, plan, share, to_small
from fakes.streaming_upstream import StreamingUpstream, at_once, refused
from penstock.dataplane.envoy.proxy_limits import KEPT_BODY_BYTES

pytestmark = pytest.mark.timed

KIB, MIB = 2**10, 2**20


async def held_bytes(gate: Gateway, *, count: int, body_bytes: int) -> float:
    """Send so many requests, and return by how much memory has grown for each when all are there."""

    async def allocated() -> int:
        return int(orjson.loads(await gate.envoy.admin("/memory"))["allocated"])

    before = await allocated()
    for _ in range(count):
        gate.sent.append(asyncio.create_task(gate.post(body=b"x" * body_bytes)))
    await gate.all_decided()
    return (await allocated() - before) / count


@pytest.mark.parametrize(
    ("running", "body_bytes", "most"),
    # Unlike Envoy's own 1.1 and 2.7 MiB.
    [(100, 1000 * KIB, 400 * KIB), (1, 4 * MIB, 900 * KIB)],
    ids=["running", "waiting"],
)
async def test_of_a_long_request_only_the_beginning_is_held(
    tmp_path: Path, running: int, body_bytes: int, most: int
) -> None:
    served = (plan(), share(running, 100), [StreamingUpstream("chat-0")], [])
    async with gateway(tmp_path, [served]) as gate:
        assert 0 < await held_bytes(gate, count=60, body_bytes=body_bytes) < most


async def test_a_client_by_http_2_sends_no_more_of_a_stream_than_is_taken(tmp_path: Path) -> None:
    served = plan()
    async with gateway(tmp_path, [(served, UNLIMITED, [], [])]) as gate:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.listen_port)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
            length, kind, _, _ = struct.unpack("!xHBBL", (await reader.readexactly(9)))
            settings = dict(struct.iter_unpack("!HL", await reader.readexactly(length)))
            writer.transport.abort()
        assert (kind, settings[4]) == (4, KEPT_BODY_BYTES)  # SETTINGS, and in it the initial window
        assert (await gate.post()).status == 503


async def test_a_request_that_is_longer_than_what_is_kept_is_sent_once(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0", behaviour=refused(503))
    small = StreamingUpstream("small-0", behaviour=at_once)
    served = (plan(fallback=to_small()), share(8, fallback=4), [chat], [small])
    async with gateway(tmp_path, [served]) as gate:
        kept = await gate.post(body=b"x" * KEPT_BODY_BYTES)
        assert (kept.told, len(small.seen[0].body)) == ((200, "chat-small", "error"), KEPT_BODY_BYTES)
        longer = await gate.post(body=b"x" * (KEPT_BODY_BYTES + 1))
        assert (longer.told, longer.text) == ((503, "chat", "primary"), "engine says no")


async def test_a_gateway_short_of_memory_refuses_what_is_new_and_keeps_its_streams(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0")
    async with gateway(tmp_path, [(plan(), UNLIMITED, [chat], [])], memory_limit_bytes=64 * MIB) as gate:
        for _ in range(400):
            gate.sent.append(asyncio.create_task(gate.post(body=b"x" * KEPT_BODY_BYTES)))
            await asyncio.sleep(0.02)
            if gate.outcomes():
                break
        await gate.all_decided()
        assert set(gate.outcomes()) == {(503, "-", "unavailable")}
        refused_first = next(task.result() for task in gate.sent if task.done())
        assert '"message":"This gateway\'s memory is nearly used up. Try again."' in refused_first.text
        assert chat.running > 100
        assert (await gate.envoy.stats())[
            "cluster.prod_chat.upstream_rq_active"
        ] == chat.running  # it is seen

        chat.released.set()
        assert {(await task).told for task in gate.sent} == {
            (200, "chat", "primary"),
            (503, "-", "unavailable"),
        }

        async def serves_again() -> bool:
            return (await gate.post()).told == (200, "chat", "primary")

        await gate.until(serves_again)
