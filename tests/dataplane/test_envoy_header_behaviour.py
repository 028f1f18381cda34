"""Which headers the real Envoy passes, strips and adds; and that bodies pass as they are."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fakes.envoy_gateway import gateway, plan, share, to_small
from fakes.streaming_upstream import StreamingUpstream, at_once, refused

pytestmark = pytest.mark.timed

STEERING = {
    "x-envoy-retry-on": "5xx,retriable-status-codes",
    "x-envoy-retriable-status-codes": "503",
    "x-envoy-max-retries": "10",
    "x-envoy-upstream-rq-timeout-ms": "50",
    "x-envoy-upstream-rq-per-try-timeout-ms": "50",
    "X-Envoy-Internal": "true",
    "x-penstock-served-by": "me",
    "X-Penstock-Reason": "because",
    "x-penstock-fallback": "sometimes",
}


async def test_headers_that_steer_the_proxy_never_reach_the_engine(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0", behaviour=at_once)
    async with gateway(tmp_path, [(plan(), share(4), [chat], [])]) as gate:
        assert (await gate.post(headers=STEERING)).told == (200, "chat", "primary")
        arrived = chat.seen[0].headers
        assert [name for name in arrived if name.startswith(("x-envoy", "x-penstock"))] == []


async def test_a_client_cannot_ask_for_retries(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0", behaviour=refused(503))
    async with gateway(tmp_path, [(plan(), share(4), [chat], [])]) as gate:
        assert (await gate.post(headers=STEERING)).told == (503, "chat", "primary")
        assert len(chat.seen) == 1


async def test_a_client_cannot_set_a_timeout(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0")
    async with gateway(tmp_path, [(plan(), share(4), [chat], [])]) as gate:
        gate.send(1, x_envoy_upstream_rq_timeout_ms="50", x_envoy_upstream_rq_per_try_timeout_ms="50")
        await asyncio.sleep(0.5)
        chat.released.set()
        assert (await gate.sent[0]).told == (200, "chat", "primary")


async def test_authorization_and_unknown_headers_pass_untouched(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0", behaviour=at_once)
    sent = {
        "authorization": "Bearer sk-secret",
        "x-request-id": "mine",
        "x-forwarded-proto": "https",
        "x-request-class": "interactive",
        "under_score": "kept",
        "openai-organization": "org",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
    async with gateway(tmp_path, [(plan(), share(4), [chat], [])]) as gate:
        await gate.post(headers=sent | {"x-forwarded-for": "203.0.113.7"})
        arrived = chat.seen[0].headers
        assert {name: arrived.get(name) for name in sent} == sent
        assert arrived["x-forwarded-for"].startswith("203.0.113.7,")
        added = set(arrived) - set(sent) - {"host", "content-length", "content-type", "x-forwarded-for"}
        assert added <= {"accept", "accept-encoding", "user-agent"}  # the client's own
        assert arrived["host"] == f"127.0.0.1:{gate.states[plan().key].plan.listen_port}"


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
async def test_bodies_pass_untouched(tmp_path: Path, size: int) -> None:
    chat = StreamingUpstream("chat-0", behaviour=at_once)
    small = StreamingUpstream("small-0", behaviour=at_once)
    body = bytes(number % 251 for number in range(size))
    served = (plan(fallback=to_small()), share(4, fallback=4), [chat], [small])
    async with gateway(tmp_path, [served]) as gate:
        assert (await gate.post(body=body)).told == (200, "chat", "primary")
        assert chat.seen[0].body == body


async def test_the_engines_own_answer_passes_but_for_our_two_headers(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0", behaviour=refused(429))
    async with gateway(tmp_path, [(plan(), share(4), [chat], [])]) as gate:
        reply = await gate.post()
        assert (reply.told, reply.text) == ((429, "chat", "primary"), "engine says no")
        assert reply.headers["x-from"] == "chat-0"
        assert reply.headers["server"].startswith("Python/")
        assert [name for name in reply.headers if name.lower().startswith("x-envoy")] == []


async def test_the_first_byte_passes_before_the_last_is_written(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0")
    served = plan()
    async with gateway(tmp_path, [(served, share(4), [chat], [])]) as gate:
        address = f"http://127.0.0.1:{served.listen_port}/v1/completions"
        async with asyncio.timeout(5), gate.client.post(address, data=b"{}") as reply:
            assert await reply.content.readany() == b"data: first\n\n"
            chat.released.set()
            assert await reply.content.read() == b"data: [DONE]\n\n"
