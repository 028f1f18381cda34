"""A canary that fails: what clients see, and that everything is counted where it happened."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from fakes.envoy_gateway import CHAT, UNLIMITED, Gateway, gateway, plan, share, to_canary
from fakes.streaming_upstream import (
    Behaviour,
    StreamingUpstream,
    at_once,
    cut,
    cut_later,
    held,
    last_of_its_connection,
    refused,
)
from penstock.dataplane.envoy.arm_counts import ArmCounters, arms
from penstock.dataplane.envoy.bootstrap import ARM_STATS_PATH
from penstock.dataplane.envoy.names import SERVED_BY
from penstock.dataplane.envoy.proxy_limits import KEPT_BODY_BYTES
from penstock.model.traffic import ArmCount

pytestmark = pytest.mark.timed

STABLE, CANARY = (200, "chat", "primary"), (200, "chat@canary", "canary")
CLUSTERS = ("prod_chat", "prod_chat_canary")
SENT = 6


async def counted(gate: Gateway, counters: ArmCounters) -> tuple[ArmCount, ArmCount]:
    """Look once, as the operator does each second, and return both arms' counts since the first look."""
    counters.add("p", await gate.envoy.stats(ARM_STATS_PATH), CLUSTERS)
    found = arms(gate.states[CHAT].plan, {"p": await gate.envoy.stats()}, counters)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("behaviour", "told", "canary", "stable"),
    [
        (at_once, CANARY, (SENT, 0), (0, 0)),
        (last_of_its_connection, CANARY, (SENT, 0), (0, 0)),
        (refused(503), STABLE, (SENT, SENT), (SENT, 0)),
        (refused(500), STABLE, (SENT, SENT), (SENT, 0)),
        (cut, STABLE, (SENT, SENT), (SENT, 0)),
        (None, STABLE, (SENT, SENT), (SENT, 0)),
        # Its own answers, and no server errors: they pass as they are.
        (refused(429), (429, "chat@canary", "canary"), (SENT, 0), (0, 0)),
        (refused(400), (400, "chat@canary", "canary"), (SENT, 0), (0, 0)),
        # Begun: never repeated.
        (cut_later, "broken", (SENT, SENT), (0, 0)),
    ],
    ids=["well", "closes", "503", "500", "reset", "connection refused", "429", "400", "cut in the middle"],
)
async def test_what_a_canary_fails_is_answered_by_the_stable_arm_and_counted_as_its_own(
    tmp_path: Path,
    behaviour: Behaviour | None,
    told: object,
    canary: tuple[int, int],
    stable: tuple[int, int],
) -> None:
    chat = StreamingUpstream("chat-0", behaviour=at_once)
    tried = StreamingUpstream("canary-0", behaviour=behaviour or at_once)
    served = (plan(canary=to_canary(100)), share(50, 10), [chat], [])
    async with gateway(tmp_path, [served], canary=[tried]) as gate:
        counters = ArmCounters()
        await counted(gate, counters)
        if behaviour is None:
            await tried.stop()
        seen: Counter[object] = Counter()
        for _ in range(SENT):
            try:
                seen[(await gate.post(body=b"prompt")).told] += 1
            except aiohttp.ClientPayloadError:
                seen["broken"] += 1
        assert seen == {told: SENT}
        assert {each.body for each in chat.seen} <= {b"prompt"}
        found = await counted(gate, counters)
        assert found == (ArmCount(*map(float, stable)), ArmCount(*map(float, canary)))


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"prompt"


@pytest.mark.parametrize(
    ("method", "body", "tried"),
    [
        ("POST", lambda: b"x" * KEPT_BODY_BYTES, True),
        ("POST", lambda: b"x" * (KEPT_BODY_BYTES + 1), False),
        ("POST", lambda: chunks(2), False),
        ("GET", lambda: None, True),
    ],
    ids=["kept whole", "longer", "chunked", "without a body"],
)
async def test_what_could_not_be_sent_again_is_not_sent_to_a_canary_that_may_fail_it(
    tmp_path: Path, method: str, body: Callable[[], object], tried: bool
) -> None:
    chat = StreamingUpstream("chat-0", behaviour=at_once)
    broken = StreamingUpstream("canary-0", behaviour=refused(500))
    served = plan(canary=to_canary(100))
    async with gateway(tmp_path, [(served, UNLIMITED, [chat], [])], canary=[broken]) as gate:
        address = f"http://127.0.0.1:{served.listen_port}/v1/models"
        async with gate.client.request(method, address, data=body()) as reply:
            assert (reply.status, reply.headers[SERVED_BY]) == (200, "chat")
        assert bool(broken.seen) == tried


async def test_a_canary_that_alone_has_pods_gets_long_requests_as_well(tmp_path: Path) -> None:
    tried = StreamingUpstream("canary-0", behaviour=at_once)
    served = (plan(canary=to_canary(5)), UNLIMITED, [], [])
    async with gateway(tmp_path, [served], canary=[tried]) as gate:
        assert (await gate.post(body=b"x" * (KEPT_BODY_BYTES + 1))).told == CANARY


async def test_what_both_arms_fail_is_an_error_of_both(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0", behaviour=refused(500))
    tried = StreamingUpstream("canary-0", behaviour=refused(500))
    served = (plan(canary=to_canary(100)), UNLIMITED, [chat], [])
    async with gateway(tmp_path, [served], canary=[tried]) as gate:
        counters = ArmCounters()
        await counted(gate, counters)
        assert (await gate.post()).told == (500, "chat", "primary")
        assert await counted(gate, counters) == (ArmCount(1, 1), ArmCount(1, 1))


async def test_no_request_fails_while_every_request_of_a_canary_under_load_does(tmp_path: Path) -> None:
    """A retry budget of 20 % would let most of them fail."""
    chat = StreamingUpstream("chat-0", behaviour=at_once)
    tried = StreamingUpstream("canary-0", behaviour=refused(503))
    served = (plan(canary=to_canary(50)), share(200, 50), [chat], [])
    async with gateway(tmp_path, [served], canary=[tried]) as gate:
        counters = ArmCounters()
        await counted(gate, counters)
        for _ in range(3):
            await asyncio.gather(*gate.send(100))
        assert gate.outcomes() == {STABLE: 300}
        stable, canary = await counted(gate, counters)
        assert canary.requests == canary.server_errors == len(tried.seen) > 100
        assert stable == ArmCount(300, 0)


async def test_what_a_canary_fails_waits_for_the_stable_arm_instead_of_overrunning_it(tmp_path: Path) -> None:
    chat, tried = StreamingUpstream("chat-0"), StreamingUpstream("canary-0", behaviour=refused(503))
    # 4 run at the stable arm; 8 more were for the canary.
    served = (plan(canary=to_canary(100)), replace(share(4, 8), canary_in_flight=8), [chat], [])
    async with gateway(tmp_path, [served], canary=[tried]) as gate:
        for _ in range(10):
            gate.send(1)
            await gate.all_decided()

        async def all_there() -> bool:  # the last may still be on its way from the canary
            return await gate.in_flight("prod_chat") == (4, 6)

        await gate.until(all_there)
        assert chat.most_running == 4
        chat.released.set()
        chat.behaviour = at_once
        assert {(await task).told for task in gate.sent} == {STABLE}


async def test_requests_in_flight_are_told_per_arm(tmp_path: Path) -> None:
    chat, tried = StreamingUpstream("chat-0"), StreamingUpstream("canary-0", behaviour=held)
    room = replace(share(9), canary_in_flight=2)
    async with gateway(tmp_path, [(plan(canary=to_canary(100)), room, [chat], [])], canary=[tried]) as gate:
        counters = ArmCounters()
        await counted(gate, counters)
        gate.send(5)
        await gate.all_decided()
        stable, canary = await counted(gate, counters)
        assert (stable.in_flight, canary.in_flight) == (3, 2)


def shown(success: int, error: int, cuts: int = 0, pod: str = "10.0.0.1_80") -> dict[str, int]:
    name = "cluster.prod_chat_canary"
    return {
        f"{name}.endpoint.{pod}.rq_success": success,
        f"{name}.endpoint.{pod}.rq_error": error,
        f"{name}.upstream_cx_destroy_remote_with_active_rq": cuts,
    }


def test_counts_survive_pods_and_proxies_that_come_go_and_begin_anew() -> None:
    counters = ArmCounters()

    def canary() -> tuple[float, float]:
        found = counters.of("prod_chat_canary", {})
        return found.requests, found.server_errors

    steps = [
        ("p0", shown(1000, 10), (0, 0)),  # before the first look: nobody's
        ("p0", shown(1003, 11), (4, 1)),
        ("p0", shown(5, 0, pod="fd00__1_80"), (9, 1)),  # another pod in its place
        ("p0", shown(2, 1), (12, 2)),  # the first is back, its entry began anew
        ("p1", shown(70, 7), (12, 2)),
        ("p1", shown(70, 8), (13, 3)),
        ("p1", shown(75, 9, cuts=6), (19, 6)),  # streams that were cut: successes by their headers
    ]
    for number, (proxy, stats, expected) in enumerate(steps):
        counters.add(proxy, stats, CLUSTERS)
        assert canary() == expected, f"step {number}"


def test_of_proxies_that_do_not_tell_arms_nothing_is_made_up() -> None:
    counters, tried = ArmCounters(), plan(canary=to_canary(20))
    assert arms(tried, {"old": {}}, counters) is None
    counters.add("new", {}, CLUSTERS)
    assert arms(tried, {"old": {}}, counters) is None
    assert arms(tried, {"old": {}, "new": {}}, counters) == (ArmCount(), ArmCount())
    assert arms(replace(tried, canary=None), {"new": {}}, counters) is None
