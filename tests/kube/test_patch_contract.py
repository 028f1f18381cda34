"""The three kinds of patches do on the fake API what they do on a real kube-apiserver."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.api_servers_plugin import Served
from fakes.kube_bodies import CONFIG_MAPS, a_config_map, a_service
from penstock.kube.api import (
    INFERENCE_SERVICES,
    Conflict,
    PatchType,
    Unprocessable,
)


async def test_a_merge_patch_removes_by_null_and_replaces_lists(served: Served) -> None:
    body = a_service(
        workload={"targetRef": {"name": "chat"}, "modelNames": ["a", "b"]}, cost={"perReplicaHour": "4"}
    )
    await served.kube.create(INFERENCE_SERVICES, served.namespace, body)
    patch = {"spec": {"workload": {"modelNames": ["c"]}, "cost": None}}
    patched = await served.kube.patch(INFERENCE_SERVICES, served.namespace, "chat", patch)
    assert patched["spec"]["workload"]["modelNames"] == ["c"]
    assert "cost" not in patched["spec"]


async def test_a_patch_that_changes_nothing_is_no_write(served: Served) -> None:
    created = await served.kube.create(CONFIG_MAPS, served.namespace, a_config_map("map"))
    patched = await served.kube.patch(CONFIG_MAPS, served.namespace, "map", {"data": {"a": "1"}})
    assert patched["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


async def test_a_merge_patch_with_an_old_version_is_a_conflict(served: Served) -> None:
    created = await served.kube.create(CONFIG_MAPS, served.namespace, a_config_map("map"))
    await served.kube.patch(CONFIG_MAPS, served.namespace, "map", {"data": {"a": "2"}})
    version = created["metadata"]["resourceVersion"]
    with pytest.raises(Conflict, match="the object has been modified; please apply your changes"):
        await served.kube.patch(
            CONFIG_MAPS,
            served.namespace,
            "map",
            {"metadata": {"resourceVersion": version}, "data": {"a": "3"}},
        )


async def test_json_patch_adds_replaces_and_removes(served: Served) -> None:
    await served.kube.create(CONFIG_MAPS, served.namespace, a_config_map("map"))
    operations = [
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "replace", "path": "/data/a", "value": "one"},
        {"op": "remove", "path": "/data/b"},
        {"op": "add", "path": "/data/c~1d", "value": "3"},
        {"op": "copy", "from": "/data/a", "path": "/data/e"},
        {"op": "move", "from": "/data/c~1d", "path": "/data/f"},
    ]
    # "c/d" is no valid key of a ConfigMap; it is gone before the object is stored.
    patched = await served.kube.patch(
        CONFIG_MAPS, served.namespace, "map", operations, patch_type=PatchType.JSON
    )
    assert patched["data"] == {"a": "one", "e": "one", "f": "3"}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/data/a", "value": "other"},
        {"op": "remove", "path": "/data/absent"},
        {"op": "replace", "path": "/absent/deeper", "value": "1"},
    ],
)
async def test_a_json_patch_that_does_not_apply_is_unprocessable(
    served: Served, operation: dict[str, Any]
) -> None:
    await served.kube.create(CONFIG_MAPS, served.namespace, a_config_map("map"))
    with pytest.raises(Unprocessable) as refused:
        await served.kube.patch(CONFIG_MAPS, served.namespace, "map", [operation], patch_type=PatchType.JSON)
    assert refused.value.status == 422


async def test_applying_creates_then_drops_what_is_no_longer_applied(served: Served) -> None:
    body = a_config_map("map") | {"data": {"a": "1", "b": "2"}}
    at = (CONFIG_MAPS, served.namespace, "map")
    created = await served.kube.patch(*at, body, patch_type=PatchType.APPLY)
    assert created["data"] == {"a": "1", "b": "2"}
    applied = await served.kube.patch(*at, body | {"data": {"a": "1"}}, patch_type=PatchType.APPLY)
    assert applied["data"] == {"a": "1"}


async def test_applying_over_another_manager_needs_force(served: Served) -> None:
    path = CONFIG_MAPS.path(served.namespace, "map")
    apply = PatchType.APPLY.value

    async def applied(manager: str, value: str, force: str = "false") -> tuple[int, dict[str, Any]]:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"a": value}}
        return await served.request("PATCH", f"{path}?fieldManager={manager}&force={force}", body, apply)

    assert (await applied("first", "1"))[0] == 201
    assert (await applied("second", "1"))[0] == 200, "the same value is shared, not contested"
    status, answer = await applied("second", "2")
    assert status == 409
    assert answer["message"].startswith('Apply failed with 1 conflict: conflict with "first"')
    status, answer = await applied("second", "2", force="true")
    assert (status, answer["data"]) == (200, {"a": "2"})
    assert (await applied("first", "1"))[0] == 409
