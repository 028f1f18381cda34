"""kopf watches the fake API as it watches a cluster, through every kind of interruption."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import kopf
import pytest

from penstock.kube.api import DEPLOYMENTS, INFERENCE_SERVICES
from penstock.sandbox.fake_api import FakeApi, wait_until

Seen = list[tuple[str | None, str, str]]  # type of the event, kind, name


def a_service(name: str) -> dict[str, Any]:
    spec = {"workload": {"targetRef": {"name": name}}, "slo": {"ttft": {"p95": "500ms"}}}
    return {"metadata": {"name": name, "namespace": "prod"}, "spec": spec}


def a_deployment(name: str) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "engine", "args": ["x" * 200] * 8}]}}
    return {"metadata": {"name": name, "namespace": "prod"}, "spec": {"replicas": 2, "template": template}}


def registry_of(api: FakeApi, seen: Seen) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: object) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=api.url)

    @kopf.on.event("serving.penstock.dev", "v1alpha1", "inferenceservices", registry=registry)
    @kopf.on.event("apps", "v1", "deployments", registry=registry)
    async def see(event: Any, body: Any, **_: object) -> None:
        seen.append((event["type"], body["kind"], body["metadata"]["name"]))

    return registry


def settings_of(chunk_size: int) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.watching.chunk_size = chunk_size
    settings.watching.reconnect_backoff = 0.05
    return settings


@asynccontextmanager
async def operator(api: FakeApi, *, chunk_size: int = 1) -> AsyncIterator[Seen]:
    """A kopf operator over two resources, and what it has seen.

    No fixture: on its way out kopf cancels every task that is younger than itself, such as the one in
    which pytest-asyncio ends a fixture.
    """
    seen: Seen = []
    stop = asyncio.Event()
    settings = settings_of(chunk_size)
    running = asyncio.create_task(
        kopf.operator(registry=registry_of(api, seen), settings=settings, clusterwide=True, stop_flag=stop)
    )
    try:
        yield seen
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)


@pytest.fixture
async def api(crd: dict[str, Any]) -> AsyncIterator[FakeApi]:
    """A fake API with two objects of each of two types."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
    async with FakeApi([crd], bookmark_seconds=0.5) as api:
        for name in ("a", "b"):
            api.create(INFERENCE_SERVICES, a_service(name))
            api.create(DEPLOYMENTS, a_deployment(name))
        yield api


async def listed(seen: Seen) -> None:
    await wait_until(lambda: len(seen) == 4, what="the first listing")


async def test_listed_objects_come_without_a_type(api: FakeApi) -> None:
    async with operator(api) as seen:
        await listed(seen)
        expected = {(None, kind, name) for kind in ("InferenceService", "Deployment") for name in ("a", "b")}
        assert set(seen) == expected


async def test_changes_are_seen_as_they_happen(api: FakeApi) -> None:
    async with operator(api) as seen:
        await listed(seen)
        api.create(INFERENCE_SERVICES, a_service("c"))
        api.edit(DEPLOYMENTS, "prod", "a", lambda body: body | {"spec": body["spec"] | {"replicas": 3}})
        api.delete(DEPLOYMENTS, "prod", "b")
        expected: Seen = [
            ("ADDED", "InferenceService", "c"),
            ("MODIFIED", "Deployment", "a"),
            ("DELETED", "Deployment", "b"),
        ]
        await wait_until(lambda: set(expected) <= set(seen), what=str(expected))
        assert api.requests.writes() == 0, "watching writes nothing"


async def test_a_dropped_watch_is_taken_up_again(api: FakeApi) -> None:
    async with operator(api) as seen:
        await listed(seen)
        lists = api.requests.total("list")
        api.drop_watches()
        api.create(DEPLOYMENTS, a_deployment("c"))
        await wait_until(lambda: ("ADDED", "Deployment", "c") in seen, what="an object made meanwhile")
        assert api.requests.total("list") == lists, "the version it knew was enough"


async def test_a_forgotten_version_makes_it_list_again(api: FakeApi) -> None:
    async with operator(api) as seen:
        await listed(seen)
        port = int(api.url.rpartition(":")[2])
        await api.stop()
        api.create(DEPLOYMENTS, a_deployment("c"))
        api.forget_history(DEPLOYMENTS)
        await api.start(port=port)
        await wait_until(lambda: (None, "Deployment", "c") in seen, what="a new listing", timeout=30)


async def test_a_restarted_api_server_tells_what_happened_meanwhile(api: FakeApi) -> None:
    async with operator(api) as seen:
        await listed(seen)
        port = int(api.url.rpartition(":")[2])
        await api.stop()
        api.delete(INFERENCE_SERVICES, "prod", "b")
        await asyncio.sleep(0.2)
        await api.start(port=port)
        gone = ("DELETED", "InferenceService", "b")
        await wait_until(lambda: gone in seen, what=str(gone), timeout=30)


async def test_thousands_are_listed_page_by_page(api: FakeApi) -> None:
    for index in range(1_998):
        api.create(INFERENCE_SERVICES, a_service(f"s{index:05d}"))
        api.create(DEPLOYMENTS, a_deployment(f"s{index:05d}"))
    async with operator(api, chunk_size=500) as seen:
        await wait_until(lambda: len(set(seen)) == 4_000, timeout=60, what="4,000 objects")
    assert api.requests.total("list") == 8
