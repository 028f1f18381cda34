"""200 services of one gateway group: each proxy holds 1,003 questions open, and one change is still fast."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from fakes.envoy_gateway import TWO_CLASSES, backend, plan
from fakes.streaming_upstream import StreamingUpstream, at_once
from fakes.xds_gateways import PlaneServer, proxies
from penstock.model.spec import ServiceKey
from penstock.model.traffic import FallbackPlan, FleetLimit, RouteState

pytestmark = pytest.mark.timed

SERVICES = 200
FIRST_PORT = 21_000  # below the ports that the proxy's own 1,003 questions are sent from


@pytest.mark.slow
async def test_200_services_cost_nothing_idle_and_one_change_is_still_fast(tmp_path: Path) -> None:
    upstream, server = StreamingUpstream("chat-0", at_once), PlaneServer()
    await upstream.start()
    plane = await server.start()
    fallback = FallbackPlan(backend("chat-small"), in_flight_limit=0)
    routes = [
        RouteState(
            plan(
                ServiceKey("prod", f"chat-{number}"),
                listen_port=FIRST_PORT + number,
                limit=FleetLimit(40, 10),
                fallback=fallback,
                classes=TWO_CLASSES,
                class_header="x-class",
            ),
            (upstream.endpoint(),),
            (upstream.endpoint(),),
        )
        for number in range(SERVICES)
    ]
    plane.publish("prod", routes)
    try:
        async with proxies(tmp_path, server), aiohttp.ClientSession() as client:
            async with asyncio.timeout(60):
                while plane.groups()["prod"].current != 1:  # noqa: ASYNC110 - the proxy changes it
                    await asyncio.sleep(0.05)
            asked = plane.server.questions
            await asyncio.sleep(5.0)
            assert plane.server.questions - asked <= 10, "questions are held 40 to 60 s"
            assert len(await plane.read(0.0)) == SERVICES
            seconds = []
            url = f"http://127.0.0.1:{routes[100].plan.listen_port}/"
            for index in range(30):
                closed = index % 2 == 0
                limit = FleetLimit(0, 0) if closed else FleetLimit(40, 10)
                changed = replace(routes[100], plan=replace(routes[100].plan, limit=limit))
                began = time.perf_counter()
                plane.publish("prod", [*routes[:100], changed, *routes[101:]])
                while True:
                    async with client.get(url) as reply:
                        if (reply.status == 429) == closed:
                            break
                    assert time.perf_counter() - began < 10
                seconds.append(time.perf_counter() - began)
                await asyncio.sleep(0.15)
            # 16 ms at the median, 32 at most of 60; `make bench-dataplane` takes the percentiles.
            assert min(seconds) < 0.05
            assert statistics.median(seconds) < 0.5
    finally:
        await server.kill()
        await upstream.stop()
