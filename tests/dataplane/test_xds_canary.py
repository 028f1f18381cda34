"""A canary over real xDS: who has it, how fast, and that its coming and going cuts nobody."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from fakes.envoy_gateway import CHAT, SMALL, plan, to_canary
from fakes.streaming_upstream import StreamingUpstream, at_once
from fakes.xds_gateways import GROUP, PlaneServer, proxies
from penstock.dataplane.envoy.names import SERVED_BY
from penstock.dataplane.envoy.versions import STAY_SECONDS
from penstock.model.traffic import ArmCount, CanaryRoute, FleetLimit, GatewayGroup, RouteState

pytestmark = pytest.mark.timed

SECONDS = 10.0


@dataclass
class Arms:
    """One gateway with a service of two arms beside another service."""

    server: PlaneServer
    client: aiohttp.ClientSession
    chat: StreamingUpstream
    canary: StreamingUpstream
    bare: RouteState
    other: RouteState

    def publish(self, canary: CanaryRoute | None, **fields: object) -> None:
        """Publish both services, one with this canary."""
        state = replace(self.bare, plan=replace(self.bare.plan, canary=canary, **fields))  # type: ignore[arg-type]
        if canary is not None:
            state = replace(state, canary_endpoints=(self.canary.endpoint(),))
        assert self.server.plane is not None
        self.server.plane.publish(GROUP, [state, self.other])

    @property
    def group(self) -> GatewayGroup:
        assert self.server.plane is not None
        return self.server.plane.groups()[GROUP]

    async def acknowledged(self) -> None:
        async with asyncio.timeout(SECONDS):
            while not self.group.acknowledged(CHAT):  # noqa: ASYNC110 - it is the proxy that changes
                await asyncio.sleep(0.002)

    async def ask(self) -> tuple[int, str]:
        """Return status and who served."""
        async with self.client.get(f"http://127.0.0.1:{self.bare.plan.listen_port}/") as reply:
            await reply.read()
            return reply.status, reply.headers[SERVED_BY]


@asynccontextmanager
async def two_arms(directory: Path) -> AsyncIterator[Arms]:
    server, chat, canary = (
        PlaneServer(),
        StreamingUpstream("chat-0", at_once),
        StreamingUpstream("c-0", at_once),
    )
    await chat.start()
    await canary.start()
    await server.start()
    bare = RouteState(plan(limit=FleetLimit(40, 10)), (chat.endpoint(),))
    other = RouteState(plan(SMALL, limit=FleetLimit(4, 1)), (chat.endpoint(),))
    async with aiohttp.ClientSession() as client:
        arms = Arms(server, client, chat, canary, bare, other)
        arms.publish(None)
        try:
            async with proxies(directory, server):
                await arms.acknowledged()
                yield arms
        finally:
            await server.kill()
            await chat.stop()
            await canary.stop()


async def test_no_request_is_lost_while_canaries_come_with_any_weight_move_and_go(tmp_path: Path) -> None:
    """Clusters before the routes that name them, and after them."""
    async with two_arms(tmp_path) as arms:
        told: Counter[tuple[int, str]] = Counter()

        async def client() -> None:
            while True:
                told[await arms.ask()] += 1
                await asyncio.sleep(0.01)

        clients = [asyncio.create_task(client()) for _ in range(4)]
        for turn in range(5):
            for weight in (100, 5, 50, 0):
                arms.publish(to_canary(weight, in_flight_limit=20))
                await asyncio.sleep(0.08)
            arms.publish(None)
            await asyncio.sleep(0.05)
            if turn == 3:
                await asyncio.sleep(STAY_SECONDS)
                arms.publish(None)  # its clusters leave now
                await asyncio.sleep(0.1)
        for each in clients:
            assert not each.done()
            each.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        assert set(told) == {(200, "chat"), (200, "chat@canary")}


async def test_a_weight_takes_effect_within_milliseconds(tmp_path: Path) -> None:
    async with two_arms(tmp_path) as arms:
        arms.publish(to_canary(0))
        await arms.acknowledged()
        seconds = []
        for index in range(20):
            weight, wanted = (100, "chat@canary") if index % 2 == 0 else (0, "chat")
            began = time.perf_counter()
            arms.publish(to_canary(weight))
            while (await arms.ask())[1] != wanted:
                assert time.perf_counter() - began < SECONDS
            seconds.append(time.perf_counter() - began)
            await arms.acknowledged()
        assert float(np.median(seconds)) < 0.05  # the bench looks at p99, on a machine of its own


async def test_what_was_published_is_acknowledged_service_by_service(tmp_path: Path) -> None:
    async with two_arms(tmp_path) as arms:
        while arms.group.behind:  # noqa: ASYNC110 - it is the proxy that changes
            await asyncio.sleep(0.01)
        arms.publish(to_canary(0))
        assert arms.group.behind == {CHAT}
        assert not arms.group.acknowledged(CHAT)
        assert arms.group.acknowledged(SMALL)
        await arms.acknowledged()
        for change in (to_canary(30), to_canary(30, in_flight_limit=3)):
            arms.publish(change)
            assert not arms.group.acknowledged(CHAT), "a weight"
            await arms.acknowledged()
        arms.publish(to_canary(30, in_flight_limit=3))
        assert arms.group.acknowledged(CHAT), "nothing new"
        arms.publish(
            to_canary(30, in_flight_limit=3), backend=replace(arms.bare.plan.backend, served_by="v2")
        )
        assert not arms.group.acknowledged(CHAT), "endpoints"
        await arms.acknowledged()
    assert not GatewayGroup("nobody").acknowledged(CHAT)


async def test_a_reading_tells_both_arms_while_there_is_a_canary(tmp_path: Path) -> None:
    async with two_arms(tmp_path) as arms:
        plane = arms.server.plane
        assert plane is not None

        async def arm_counts() -> tuple[ArmCount | None, ArmCount | None]:
            reading = (await plane.read(0.0))[CHAT]
            return reading.stable_arm, reading.canary_arm

        assert await arm_counts() == (None, None)
        await arms.ask()
        arms.publish(to_canary(0))
        await arms.acknowledged()
        assert await arm_counts() == (ArmCount(), ArmCount())
        await arms.ask()
        arms.publish(to_canary(100))
        await arms.acknowledged()
        for _ in range(3):
            await arms.ask()
        assert await arm_counts() == (ArmCount(1, 0), ArmCount(3, 0))
        reading = (await plane.read(0.0))[CHAT]
        assert reading.by_pod == {"chat-0": 0, "c-0": 0}
        arms.publish(None)
        assert await arm_counts() == (None, None)
