"""The sandbox's controllers against a real kube-apiserver: what it validates and what it adds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from fakes.api_servers_plugin import Served
from fakes.containers import FakeRuntime
from penstock.kube.api import DEPLOYMENTS, ENDPOINT_SLICES, PODS, SERVICES, Object, Resource
from penstock.sandbox.apiserver import ApiServer
from penstock.sandbox.deployments import LocalDeployments
from penstock.sandbox.discovery_files import DiscoveryFiles
from penstock.sandbox.nodes import NodePool, NodeSettings
from penstock.sandbox.rest import ApiAccess, RestClient

T = TypeVar("T")

pytestmark = pytest.mark.api

CONTAINER = {"name": "engine", "image": "penstock", "command": ["penstock", "engine"]}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "chat"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "chat"}},
        "template": {"metadata": {"labels": {"app": "chat"}}, "spec": {"containers": [CONTAINER]}},
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "chat"},
    "spec": {"selector": {"app": "chat"}, "ports": [{"port": 8000}]},
}


class CountingClient(RestClient):
    """Counts what is written."""

    writes = 0

    async def merge(self, path: str, body: Mapping[str, Any]) -> Object:
        self.writes += 1
        return await super().merge(path, body)


class Watcher:
    """Reads the namespace as anybody would."""

    def __init__(self, rest: RestClient, namespace: str, controller: CountingClient) -> None:
        self.rest = rest
        self.namespace = namespace
        self.controller = controller

    async def items(self, resource: Resource) -> list[Object]:
        found: list[Object] = (await self.rest.get(resource.path(self.namespace)))["items"]
        return found

    async def scale(self, replicas: int) -> None:
        path = DEPLOYMENTS.path(self.namespace, "chat", "scale")
        await self.rest.merge(path, {"spec": {"replicas": replicas}})

    async def until_ready(self, count: int) -> Object:
        async def ready() -> Object | None:
            (body,) = await self.items(DEPLOYMENTS)
            status: Object = body.get("status", {})
            seen = status.get("observedGeneration") == body["metadata"]["generation"]
            return status if seen and status.get("readyReplicas", 0) == count else None

        return await until(ready)


async def until(look: Callable[[], Awaitable[T | None]], seconds: float = 20) -> T:
    async with asyncio.timeout(seconds):
        while (found := await look()) is None:  # noqa: ASYNC110 - the state of another process
            await asyncio.sleep(0.02)
        return found


@pytest.fixture
async def watcher(apiserver: ApiServer, served_real: Served, tmp_path: Path) -> AsyncIterator[Watcher]:
    namespace = served_real.namespace
    access = ApiAccess(apiserver.url, apiserver.token, apiserver.tls())
    async with RestClient(access) as rest, CountingClient(access) as counting:
        await rest.create(DEPLOYMENTS.path(namespace), DEPLOYMENT)
        await rest.create(SERVICES.path(namespace), SERVICE)
        controller = LocalDeployments(
            counting,
            namespace,
            runtime=FakeRuntime(),
            nodes=NodePool(NodeSettings(pods_per_node=3)),
            files=DiscoveryFiles(tmp_path, namespace),
        )
        task = asyncio.create_task(controller.run())
        yield Watcher(rest, namespace, counting)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_accepts_pods_slices_and_statuses(watcher: Watcher):
    status = await watcher.until_ready(2)
    assert [(each["type"], each["status"]) for each in status["conditions"]] == [
        ("Available", "True"),
        ("Progressing", "True"),
    ]
    pods = await watcher.items(PODS)
    assert {pod["spec"]["nodeName"] for pod in pods} == {"sandbox-node-0"}
    assert {pod["status"]["phase"] for pod in pods} == {"Running"}

    async def sliced() -> list[Object] | None:
        found = await watcher.items(ENDPOINT_SLICES)
        return found if len(found) == 2 else None

    names = {each["endpoints"][0]["targetRef"]["name"] for each in await until(sliced)}
    assert names == {pod["metadata"]["name"] for pod in pods}


async def test_a_quiet_deployment_is_not_written_again(watcher: Watcher):
    await watcher.until_ready(2)
    await asyncio.sleep(0.5)
    before = watcher.controller.writes
    await watcher.rest.merge(
        SERVICES.path(watcher.namespace, "chat"), {"metadata": {"annotations": {"look": "again"}}}
    )
    await asyncio.sleep(0.5)
    assert watcher.controller.writes == before


async def test_pods_without_room_wait_and_go_first_and_draining_ones_are_seen_terminating(watcher: Watcher):
    await watcher.until_ready(2)
    await watcher.scale(5)
    status = await watcher.until_ready(3)
    assert (status["replicas"], status["unavailableReplicas"]) == (5, 2)

    async def unschedulable() -> list[Object] | None:
        found = [pod for pod in await watcher.items(PODS) if not pod["spec"].get("nodeName")]
        return found if len(found) == 2 and all("conditions" in pod["status"] for pod in found) else None

    conditions = [pod["status"]["conditions"][0] for pod in await until(unschedulable)]
    assert [each["reason"] for each in conditions] == ["Unschedulable"] * 2
    await watcher.scale(2)

    async def terminating() -> str | None:
        gone = [pod for pod in await watcher.items(PODS) if "deletionTimestamp" in pod["metadata"]]
        return gone[0]["metadata"]["name"] if gone else None

    draining = await until(terminating)

    async def two_left() -> list[Object] | None:
        found = await watcher.items(PODS)
        return found if len(found) == 2 else None

    left = await until(two_left)
    assert all(pod["spec"].get("nodeName") for pod in left)
    assert draining not in {pod["metadata"]["name"] for pod in left}
    assert (await watcher.until_ready(2))["replicas"] == 2
