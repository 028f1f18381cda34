"""Watches of the fake API and of a real kube-apiserver tell the same story."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fakes.api_servers_plugin import Served
from penstock.kube.api import INFERENCE_SERVICES, Resource

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")


def told(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


async def a_map(served: Served, name: str, **labels: str) -> dict[str, Any]:
    body = {"metadata": {"name": name, "labels": labels}, "data": {"a": "1"}}
    return await served.kube.create(CONFIG_MAPS, served.namespace, body)


async def version_of_list(served: Served) -> str:
    _, answer = await served.request("GET", CONFIG_MAPS.path(served.namespace))
    version: str = answer["metadata"]["resourceVersion"]
    return version


async def test_a_watch_from_a_list_tells_what_came_after_it(served: Served) -> None:
    await a_map(served, "before")
    version = await version_of_list(served)
    await a_map(served, "after")
    await served.kube.patch(CONFIG_MAPS, served.namespace, "before", {"data": {"a": "2"}})
    path = CONFIG_MAPS.path(served.namespace)
    await served.request("DELETE", f"{path}/after")
    events = await served.watch(f"{path}?watch=1&resourceVersion={version}", until=3)
    assert told(events) == [("ADDED", "after"), ("MODIFIED", "before"), ("DELETED", "after")]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions)), "a deletion has a version of its own"


async def test_a_watch_without_a_version_starts_with_what_there_is(served: Served) -> None:
    await a_map(served, "one")
    await a_map(served, "two")
    events = await served.watch(f"{CONFIG_MAPS.path(served.namespace)}?watch=true", until=2)
    assert sorted(told(events)) == [("ADDED", "one"), ("ADDED", "two")]


async def test_an_open_watch_is_told_at_once(served: Served) -> None:
    version = await version_of_list(served)
    path = f"{CONFIG_MAPS.path(served.namespace)}?watch=1&resourceVersion={version}"
    watching = asyncio.create_task(served.watch(path, until=1))
    await asyncio.sleep(0.2)
    assert not watching.done()
    await a_map(served, "new")
    assert told(await asyncio.wait_for(watching, 5)) == [("ADDED", "new")]


async def test_an_object_that_leaves_the_selection_is_told_as_deleted(served: Served) -> None:
    version = await version_of_list(served)
    await a_map(served, "one", tier="a")
    await a_map(served, "other", tier="b")
    await served.kube.patch(CONFIG_MAPS, served.namespace, "one", {"metadata": {"labels": {"tier": "b"}}})
    await served.kube.patch(CONFIG_MAPS, served.namespace, "one", {"metadata": {"labels": {"tier": "a"}}})
    path = f"{CONFIG_MAPS.path(served.namespace)}?watch=1&labelSelector=tier=a&resourceVersion={version}"
    events = await served.watch(path, until=3)
    assert told(events) == [("ADDED", "one"), ("DELETED", "one"), ("ADDED", "one")]


async def test_other_namespaces_are_not_told(served: Served) -> None:
    version = await version_of_list(served)
    if served.fake is None:
        await served.request("POST", "/api/v1/namespaces", {"metadata": {"name": f"{served.namespace}-2"}})
    body = {"metadata": {"name": "theirs"}}
    await served.kube.create(CONFIG_MAPS, f"{served.namespace}-2", body)
    await a_map(served, "ours")
    path = f"{CONFIG_MAPS.path(served.namespace)}?watch=1&resourceVersion={version}"
    assert told(await served.watch(path, until=1)) == [("ADDED", "ours")]


async def test_a_watch_ends_after_its_time(served: Served) -> None:
    version = await version_of_list(served)
    path = f"{CONFIG_MAPS.path(served.namespace)}?watch=1&resourceVersion={version}&timeoutSeconds=1"
    async with asyncio.timeout(4):
        assert await served.watch(path, until=1) == []


async def test_writes_of_status_are_told(served: Served) -> None:
    body = {
        "apiVersion": INFERENCE_SERVICES.base_path.removeprefix("/apis/"),
        "kind": "InferenceService",
        "metadata": {"name": "chat"},
        "spec": {"workload": {"targetRef": {"name": "chat"}}, "slo": {"ttft": {"p95": "500ms"}}},
    }
    created = await served.kube.create(INFERENCE_SERVICES, served.namespace, body)
    version = created["metadata"]["resourceVersion"]
    patch = {"status": {"observedGeneration": 1}}
    await served.kube.patch(INFERENCE_SERVICES, served.namespace, "chat", patch, subresource="status")
    # The same again changes nothing, so nothing is told.
    await served.kube.patch(INFERENCE_SERVICES, served.namespace, "chat", patch, subresource="status")
    path = f"{INFERENCE_SERVICES.path(served.namespace)}?watch=1&resourceVersion={version}"
    events = await served.watch(path, until=2, seconds=1)
    assert told(events) == [("MODIFIED", "chat")]
    assert events[0]["object"]["status"] == {"observedGeneration": 1}


@pytest.mark.parametrize("served", ["fake"], indirect=True)
async def test_a_forgotten_version_is_answered_with_410(served: Served) -> None:
    assert served.fake is not None
    version = await version_of_list(served)
    await a_map(served, "new")
    served.fake.forget_history(CONFIG_MAPS)
    path = f"{CONFIG_MAPS.path(served.namespace)}?watch=1&resourceVersion={version}"
    (event,) = await served.watch(path, until=1)
    assert event["type"] == "ERROR"
    assert event["object"]["code"] == 410
    assert event["object"]["reason"] == "Expired"


@pytest.mark.parametrize("served", ["fake"], indirect=True)
async def test_bookmarks_come_while_nothing_happens(served: Served) -> None:
    version = await version_of_list(served)
    path = f"{CONFIG_MAPS.path(served.namespace)}?watch=1&resourceVersion={version}"
    (event,) = await served.watch(f"{path}&allowWatchBookmarks=true", until=1)
    assert event["type"] == "BOOKMARK"
    assert event["object"]["metadata"]["resourceVersion"] == version


@pytest.mark.parametrize("served", ["fake"], indirect=True)
async def test_a_dropped_watch_ends(served: Served) -> None:
    assert served.fake is not None
    version = await version_of_list(served)
    path = f"{CONFIG_MAPS.path(served.namespace)}?watch=1&resourceVersion={version}"
    watching = asyncio.create_task(served.watch(path, until=1))
    await asyncio.sleep(0.1)
    served.fake.drop_watches(CONFIG_MAPS)
    assert await asyncio.wait_for(watching, 2) == []
