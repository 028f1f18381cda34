"""What the real Envoy lets in, makes wait and sheds under our resources."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from fakes.envoy_gateway import CHAT, TWO_CLASSES, UNLIMITED, gateway, plan, share, to_small
from fakes.streaming_upstream import StreamingUpstream, at_once
from penstock.dataplane.envoy import names
from penstock.model.traffic import ClassShare

pytestmark = pytest.mark.timed


async def test_a_cold_burst_is_split_into_limit_fallback_cap_and_shed(tmp_path: Path) -> None:
    chat, small = StreamingUpstream("chat-0"), StreamingUpstream("small-0")
    async with gateway(
        tmp_path, [(plan(fallback=to_small()), share(4, 2, fallback=4), [chat], [small])]
    ) as gate:
        gate.send(14)
        await gate.all_decided()

        assert gate.outcomes() == {(429, "-", "shed"): 4}
        assert await gate.in_flight("prod_chat") == (4, 2)
        assert (chat.running, small.running) == (4, 4)

        chat.released.set()
        small.released.set()
        await asyncio.gather(*gate.sent)
        assert (chat.most_running, small.most_running) == (4, 4)
        assert gate.outcomes() == {
            (200, "chat", "primary"): 6,
            (200, "chat-small", "overload"): 4,
            (429, "-", "shed"): 4,
        }


async def test_two_workers_let_in_one_more_at_most(tmp_path: Path) -> None:
    # Each decides by counts that both share; two may see the last place free at the same moment.
    chat, small = StreamingUpstream("chat-0"), StreamingUpstream("small-0")
    served = (plan(fallback=to_small()), share(4, 2, fallback=4), [chat], [small])
    async with gateway(tmp_path, [served], workers=2) as gate:
        gate.send(14)
        await gate.all_decided()
        running, waiting = await gate.in_flight("prod_chat")
        assert 6 <= running + waiting <= 7
        assert 4 <= running <= 5
        assert 4 <= small.running <= 5


async def test_a_shed_reply_is_an_openai_error_with_the_routes_retry_after(tmp_path: Path) -> None:
    served = (plan(retry_after_seconds=7), share(0), [StreamingUpstream("chat-0")], [])
    async with gateway(tmp_path, [served]) as gate:
        reply = await gate.post()
        assert reply.told == (429, "-", "shed")
        assert reply.headers["retry-after"] == "7"
        assert reply.headers["content-type"] == "application/json"
        assert json.loads(reply.text) == {
            "error": {
                "message": "This service is at its limit. Try again in 7 s.",
                "type": "rate_limit_error",
                "param": None,
                "code": "overloaded",
            }
        }

        gate.change(plan={"retry_after_seconds": 31})

        async def said_31() -> bool:
            return (await gate.post()).headers["retry-after"] == "31"

        await gate.until(said_31)


async def test_a_large_request_that_is_shed_still_reads_its_429(tmp_path: Path) -> None:
    served = (plan(), share(0), [StreamingUpstream("chat-0")], [])
    async with gateway(tmp_path, [served]) as gate:
        replies = [await gate.post(body=b"x" * 4_000_000) for _ in range(5)]
        assert Counter(reply.told for reply in replies) == {(429, "-", "shed"): 5}


async def test_each_class_is_let_in_up_to_its_own_part_of_the_limit(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0")
    classes = plan(class_header="x-request-class", default_class="batch", classes=TWO_CLASSES)
    async with gateway(tmp_path, [(classes, share(8), [chat], [])]) as gate:
        gate.send(3)  # no header: the default class
        gate.send(3, x_request_class="batch")
        gate.send(2, x_request_class="made-up")
        await gate.all_decided()
        assert gate.outcomes() == {(429, "-", "shed"): 4}
        assert chat.running == 4

        gate.send(6, x_request_class="interactive")
        await gate.all_decided()
        assert gate.outcomes() == {(429, "-", "shed"): 6}
        assert chat.running == 8

        stats = await gate.envoy.stats()
        counted = {
            each: (
                stats[names.offered_stat(classes, each)],
                stats[names.shed_stat(CHAT, each)],
            )
            for each in ("interactive", "batch")
        }
        assert counted == {"interactive": (6, 2), "batch": (8, 4)}


async def test_a_class_header_is_not_honoured_where_the_resource_names_none(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0")
    classes = plan(default_class="batch", classes=TWO_CLASSES)
    async with gateway(tmp_path, [(classes, share(8), [chat], [])]) as gate:
        gate.send(8, x_request_class="interactive")
        await gate.all_decided()
        assert chat.running == 4
        assert (await gate.envoy.stats())[names.offered_stat(classes, "batch")] == 8


async def test_a_class_named_like_lua_code_is_a_name(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0", behaviour=at_once)
    odd = 'x"] = nil, os.exit() --'
    classes = plan(class_header="x-request-class", default_class=odd, classes=(ClassShare(odd, 1),))
    async with gateway(tmp_path, [(classes, share(8), [chat], [])]) as gate:
        assert (await gate.post()).told == (200, "chat", "primary")
        assert (await gate.post(headers={"x-request-class": odd})).told == (200, "chat", "primary")


async def test_waiting_requests_are_served_in_the_order_they_came(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0")
    async with gateway(tmp_path, [(plan(), share(1, 5), [chat], [])]) as gate:
        gate.send()
        await gate.all_decided()
        for number in range(5):
            gate.send(x_number=str(number))
            await gate.all_decided()
        assert await gate.in_flight("prod_chat") == (1, 5)
        chat.released.set()
        await asyncio.gather(*gate.sent)
        assert [seen.headers["x-number"] for seen in chat.seen[1:]] == ["0", "1", "2", "3", "4"]


async def test_without_a_limit_everything_passes(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0")
    async with gateway(tmp_path, [(plan(), UNLIMITED, [chat], [])]) as gate:
        gate.send(200)
        await gate.all_decided()
        assert chat.running == 200
        assert gate.outcomes() == {}


@pytest.mark.parametrize("waiting", [True, False])
async def test_a_client_that_leaves_frees_its_slot(tmp_path: Path, waiting: bool) -> None:
    chat = StreamingUpstream("chat-0")
    async with gateway(tmp_path, [(plan(), share(2, 1), [chat], [])]) as gate:
        first = gate.send(2)
        await gate.all_decided()
        queued = gate.send(1)
        await gate.all_decided()
        assert await gate.in_flight("prod_chat") == (2, 1)

        leaver = (queued if waiting else first)[0]
        leaver.cancel()

        async def nobody_waits() -> bool:  # the queued one left, or moved up into the place of the first
            there = len(chat.seen) == (2 if waiting else 3)
            return there and await gate.in_flight("prod_chat") == (2, 0)

        await gate.until(nobody_waits)
        assert len(chat.seen) == (2 if waiting else 3)
        assert chat.cancelled == (0 if waiting else 1)
        gate.send(2)
        await gate.all_decided()
        assert gate.outcomes() == {(429, "-", "shed"): 1}
