"""The agent beside a gateway: what it serves while the operator is down, and when it holds its tongue."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from fakes.envoy_gateway import backend, plan, to_small
from fakes.streaming_upstream import StreamingUpstream
from fakes.xds_gateways import EnvoyProcess, PlaneServer
from penstock.controller.gateway_agent import (
    AgentSettings,
    GatewayAgent,
    endpoints_of,
    gateways_beside,
)
from penstock.controller.undecided_routes import route_of
from penstock.dataplane.envoy.lame_duck import drain
from penstock.dataplane.envoy.server import serve
from penstock.dataplane.envoy.stored import store_plans
from penstock.kube.api import ENDPOINT_SLICES, Forbidden, Object, Resource
from penstock.model.traffic import FleetLimit, RoutePlan, RouteState
from penstock.sandbox.child_process import free_port
from penstock.sandbox.fake_api import FakeApi

pytestmark = pytest.mark.timed

SETTINGS = AgentSettings(Path("plans.json"), "prod", "gateway-0")


def slice_of(
    service: str, *pods: tuple[str, str], port: int = 8000, name: str = "", **conditions: bool
) -> Object:
    """An EndpointSlice of (pod, address) pairs."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {
            "name": f"{service}-{'-'.join(pod for pod, _ in pods)}-{port}",
            "namespace": "prod",
            "labels": {"kubernetes.io/service-name": service},
        },
        "ports": [{"name": name, "port": port}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True, **conditions},
                "targetRef": {"kind": "Pod", "name": pod},
            }
            for pod, address in pods
        ],
    }


class Slices:
    """An API server that lists slices, or fails."""

    def __init__(self, bodies: Iterable[Object] = ()) -> None:
        self.bodies = list(bodies)
        self.asked: list[str] = []
        self.failure: Exception | None = None

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = ""
    ) -> list[Object]:
        assert resource is ENDPOINT_SLICES
        self.asked.append(namespace)
        if self.failure is not None:
            raise self.failure
        return [body for body in self.bodies if body["metadata"]["namespace"] == namespace]


def named_plan(**changes: Any) -> RoutePlan:
    given = {"backend": replace(backend("chat"), port_name=""), "per_replica": FleetLimit(10, 4)} | changes
    return plan(**given)


@pytest.mark.parametrize(
    ("serving", "gateways", "limit"),
    [(1, 1, (10, 4)), (3, 2, (15, 6)), (3, 4, (8, 3)), (0, 1, (10, 4)), (0, 2, (5, 2))],
)
def test_the_limit_is_that_per_replica_times_those_that_serve_over_the_gateways(
    serving: int, gateways: int, limit: tuple[int, int]
) -> None:
    pods = [(f"chat-{index}", f"10.0.0.{index}") for index in range(serving)]
    served = named_plan()
    route = route_of(served, endpoints_of([slice_of("chat", *pods)], [served.backend]), gateways)
    assert route.plan.limit == FleetLimit(*limit)
    assert len(route.endpoints) == serving


def test_what_was_observed_stays_without_a_limit() -> None:
    served = named_plan(per_replica=None)
    route = route_of(served, endpoints_of([slice_of("chat", ("chat-0", "10.0.0.1"))], [served.backend]), 2)
    assert route.plan.limit is None


def test_the_room_in_the_fallback_is_shared_as_well() -> None:
    served = named_plan(fallback=to_small(in_flight_limit=5))
    slices = [slice_of("chat", ("chat-0", "10.0.0.1")), slice_of("chat-small", ("small-0", "10.0.0.2"))]
    assert served.fallback is not None
    route = route_of(served, endpoints_of(slices, [served.backend, served.fallback.backend]), 2)
    assert route.plan.fallback is not None
    assert route.plan.fallback.in_flight_limit == 3
    assert [each.pod for each in route.fallback_endpoints] == ["small-0"]


@pytest.mark.parametrize(
    ("stored", "names", "found"),
    [
        ("http", ("http", "metrics"), [8000]),
        ("metrics", ("http", "metrics"), [8001]),
        ("gone", ("http", "metrics"), []),
        (None, ("http",), [8000]),
        (None, ("http", "metrics"), []),  # not guessed
    ],
)
def test_ports_are_found_by_name_and_not_guessed(
    stored: str | None, names: tuple[str, ...], found: list[int]
) -> None:
    behind = replace(backend("chat"), port_name=stored)
    body = slice_of("chat", ("chat-0", "10.0.0.1"))
    body["ports"] = [{"name": name, "port": 8000 + index} for index, name in enumerate(names)]
    cache = endpoints_of([body], [behind])
    assert [each.port for each in cache.of("prod", "chat", 8000)] == found


def test_gateways_are_counted_in_the_slices_that_list_this_pod() -> None:
    slices = [
        slice_of("chat", *((f"chat-{index}", f"10.0.0.{index}") for index in range(5))),
        slice_of("chat-penstock", ("gateway-0", "10.0.1.1"), ("gateway-1", "10.0.1.2")),
        slice_of("chat-penstock", ("gateway-2", "10.0.1.3"), ready=False),
    ]
    assert gateways_beside(slices, SETTINGS) == 3
    assert gateways_beside(slices[:1], SETTINGS) == 0


class Beside:
    """An agent with its server, on the port where a gateway looks for it."""

    def __init__(self, plans: Path, kube: Slices, pod: str = "gateway-0") -> None:
        self.port = free_port()
        self.agent = GatewayAgent(AgentSettings(plans, "prod", pod), kube)
        self._runner: web.AppRunner | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Beside:
        self._runner = await serve(self.agent.server.app(), "127.0.0.1", self.port)
        self._task = asyncio.create_task(self.agent.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        assert self._runner is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._runner.cleanup()
        await self.agent.close()


@asynccontextmanager
async def engine(name: str, seconds: float = 0.02) -> AsyncIterator[StreamingUpstream]:
    async def answer(upstream: StreamingUpstream, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.Response(text="answered")

    upstream = StreamingUpstream(name, answer)
    await upstream.start()
    try:
        yield upstream
    finally:
        await upstream.stop()


async def test_an_agent_that_nobody_asks_lists_nothing_and_is_well_once_it_has_plans(tmp_path: Path) -> None:
    kube, plans = Slices(), tmp_path / "plans.json"
    async with Beside(plans, kube) as beside, aiohttp.ClientSession() as session:
        health = f"http://127.0.0.1:{beside.port}/healthz"
        async with session.get(health) as reply:
            assert reply.status == 503
        plans.write_text(store_plans([named_plan()]))
        await asyncio.sleep(0.5)
        async with session.get(health) as reply:
            assert reply.status == 200
        plans.write_text("{}")
        await asyncio.sleep(0.5)
        async with session.get(health) as reply:
            assert reply.status == 200, "the plans before still hold"
    assert kube.asked == []


async def test_a_gateway_born_without_an_operator_serves_and_endpoints_stay_live(tmp_path: Path) -> None:
    plans, kube = tmp_path / "plans.json", Slices()
    async with engine("chat-0") as first, engine("chat-1") as second, aiohttp.ClientSession() as client:
        served = named_plan(per_replica=FleetLimit(1, 0))
        plans.write_text(store_plans([served]))
        kube.bodies = [slice_of("chat", ("chat-0", "127.0.0.1"), port=first.port)]
        async with Beside(plans, kube) as beside:
            gateway = EnvoyProcess(tmp_path, xds_port=free_port(), agent_port=beside.port)
            began = time.monotonic()
            try:
                await gateway.start()
                assert time.monotonic() - began < 10
                url = f"http://127.0.0.1:{served.listen_port}/"
                async with client.get(url) as reply:
                    assert reply.status == 200
                kube.bodies = [slice_of("chat", ("chat-1", "127.0.0.1"), port=second.port)]
                await asyncio.sleep(3.5)
                seen = len(first.seen)
                async with client.get(url) as reply:
                    assert reply.status == 200
                assert (len(first.seen), len(second.seen)) == (seen, 1)
                # The API server is gone as well: nothing changes.
                kube.failure = Forbidden("endpointslices is forbidden")
                await asyncio.sleep(3.0)
                async with client.get(url) as reply:
                    assert reply.status == 200
            finally:
                await gateway.stop()


async def test_without_endpoints_known_a_newborn_gateway_gets_no_empty_configuration(tmp_path: Path) -> None:
    plans, kube = tmp_path / "plans.json", Slices()
    kube.failure = Forbidden("endpointslices is forbidden")
    plans.write_text(store_plans([named_plan()]))
    async with Beside(plans, kube) as beside, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{beside.port}/v3/discovery:clusters"
        question = {"node": {"id": "gateway-0", "cluster": "prod"}}
        async with session.post(url, json=question) as reply:
            assert (reply.status, await reply.text()) == (503, "nothing is known of this group yet\n")


@pytest.mark.slow
async def test_all_gateways_restarted_and_two_engines_moved_while_the_operator_is_down(
    tmp_path: Path,
) -> None:
    """Errors below one in a thousand; clients go to gateways that are ready, as through a Service."""
    plans, kube = tmp_path / "plans.json", Slices()
    served = named_plan(per_replica=FleetLimit(20, 10))
    plans.write_text(store_plans([served]))
    statuses: Counter[int] = Counter()
    server = PlaneServer()
    async with AsyncExitStack() as stack:
        engines = {name: await stack.enter_async_context(engine(name, 0.1)) for name in ("chat-0", "chat-1")}

        def slices(*leaving: str) -> list[Object]:
            return [
                slice_of("chat", (name, "127.0.0.1"), port=each.port, **_conditions(name in leaving))
                for name, each in engines.items()
            ]

        kube.bodies = slices()
        plane = await server.start()
        endpoints = tuple(each.endpoint() for each in engines.values())
        plane.publish("prod", [RouteState(replace(served, limit=FleetLimit(40, 20)), endpoints)])
        gateways: list[EnvoyProcess] = []
        for index in range(2):
            beside = await stack.enter_async_context(Beside(plans, kube, f"gateway-{index}"))
            gateway = EnvoyProcess(
                tmp_path,
                server.port,
                node=f"gateway-{index}",
                address=f"127.0.0.{20 + index}",
                agent_port=beside.port,
            )
            stack.push_async_callback(gateway.stop)
            await gateway.start()
            gateways.append(gateway)
        ready = list(gateways)
        await server.kill()
        client = await stack.enter_async_context(aiohttp.ClientSession())

        async def one(number: int) -> None:
            while True:
                gateway = ready[number % len(ready)]
                try:
                    async with client.post(f"http://{gateway.address}:{served.listen_port}/") as reply:
                        await reply.read()
                        statuses[reply.status] += 1
                except aiohttp.ClientError:
                    statuses[0] += 1
                await asyncio.sleep(0.02)

        clients = [asyncio.create_task(one(number)) for number in range(20)]
        await asyncio.sleep(1)
        for gateway in gateways:
            ready.remove(gateway)
            await asyncio.to_thread(drain, gateway.admin_port, deadline_seconds=10.0, least_seconds=1.0)
            await gateway.stop()
            await gateway.start()
            ready.append(gateway)
        for index in (0, 1):
            moved, name = f"chat-{index}", f"chat-{index + 2}"
            engines[name] = await stack.enter_async_context(engine(name, 0.1))
            kube.bodies = slices(moved)
            await asyncio.sleep(4.5)
            assert engines[moved].running == 0
            await engines.pop(moved).stop()
            kube.bodies = slices()
        await asyncio.sleep(3)
        for each in clients:
            each.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    total = sum(statuses.values())
    assert total > 1500
    assert total - statuses[200] < total / 1000, statuses


def _conditions(leaving: bool) -> dict[str, bool]:
    return {"ready": not leaving, "serving": True, "terminating": leaving}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path, number: int, status: int) -> None:
    plans = tmp_path / "plans.json"
    plans.write_text(store_plans([named_plan()]))
    port = free_port()
    api = FakeApi()
    await api.start()
    api.create(ENDPOINT_SLICES, slice_of("chat", ("chat-0", "10.0.0.1")), "prod")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock", "gateway", "--plans", str(plans), "--namespace", "prod"),
        *("--listen", f"127.0.0.1:{port}", "--kubeconfig", str(api.kubeconfig(tmp_path / "kubeconfig"))),
        env={name: value for name, value in os.environ.items() if name != "KUBECONFIG"},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            question = {
                "node": {"id": "gateway-0", "cluster": "prod"},
                "type_url": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            }
            while True:
                try:
                    url = f"http://127.0.0.1:{port}/v3/discovery:clusters"
                    async with session.post(url, json=question) as reply:
                        if reply.status == 200:
                            names = [each["name"] for each in (await reply.json())["resources"]]
                            break
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.1)
            assert "prod_chat" in names
            process.send_signal(number)
            assert process.stderr is not None
            log = (await process.stderr.read()).decode()
            assert await process.wait() == status, log
            assert "Traceback" not in log
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await api.stop()
