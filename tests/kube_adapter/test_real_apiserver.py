"""What only a real kube-apiserver can say: that it accepts what we write, and how it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.kube.aio_client import AioKubeApi, connect
from penstock.kube.answers import CallLimits
from penstock.kube.api import (
    DEPLOYMENTS,
    EVENTS,
    LEASES,
    PODS,
    Conflict,
    Forbidden,
    NotFound,
    PatchType,
    Resource,
    Unprocessable,
)
from penstock.kube.events import EventRecorder, EventType, ObjectReference
from penstock.kube.lease import LeaseElector
from penstock.sandbox.apiserver import ApiServer, ApiServerUnavailableError, find_binary

pytestmark = [pytest.mark.api, pytest.mark.slow]
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "chat"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "chat"}},
        "template": {
            "metadata": {"labels": {"app": "chat"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        },
    },
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[ApiServer]:
    try:
        for name in ("etcd", "kube-apiserver"):
            find_binary(name)
    except ApiServerUnavailableError as missing:
        pytest.skip(str(missing))
    with ApiServer() as running:
        yield running


@pytest.fixture
async def real(cluster: ApiServer, tmp_path: Path) -> AsyncIterator[AioKubeApi]:
    path = await asyncio.to_thread(cluster.kubeconfig, tmp_path / "kubeconfig")
    api = await connect(kubeconfig=str(path), limits=CallLimits(page_size=3))
    yield api
    await api.close()


async def test_a_scale_moves_only_under_its_resource_version(real: AioKubeApi) -> None:
    await real.create(DEPLOYMENTS, "default", DEPLOYMENT)
    before = await real.get_scale(DEPLOYMENTS, "default", "chat")
    assert (before.replicas, before.selector) == (2, "app=chat")
    after = await real.patch_scale(
        DEPLOYMENTS, "default", "chat", replicas=0, resource_version=before.resource_version
    )
    assert after.replicas == 0
    with pytest.raises(Conflict, match="the object has been modified"):
        await real.patch_scale(
            DEPLOYMENTS, "default", "chat", replicas=5, resource_version=before.resource_version
        )
    assert (await real.get(DEPLOYMENTS, "default", "chat"))["spec"]["replicas"] == 0


async def test_pages_merge_json_and_apply_patches_are_understood(real: AioKubeApi) -> None:
    for number in range(7):
        await real.create(
            CONFIG_MAPS, "default", {"metadata": {"name": f"n-{number}", "labels": {"t": "page"}}}
        )
    found = await real.list(CONFIG_MAPS, "default", label_selector="t=page")
    assert [each["metadata"]["name"] for each in found] == [f"n-{number}" for number in range(7)]
    await real.patch(CONFIG_MAPS, "default", "n-0", {"data": {"a": "1"}})
    operations = [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "remove", "path": "/data/a"}]
    await real.patch(CONFIG_MAPS, "default", "n-0", operations, patch_type=PatchType.JSON)
    with pytest.raises(Unprocessable):
        await real.patch(CONFIG_MAPS, "default", "n-0", operations, patch_type=PatchType.JSON)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fresh"}, "data": {"b": "2"}}
    applied = await real.patch(CONFIG_MAPS, "default", "fresh", body, patch_type=PatchType.APPLY)
    assert applied["metadata"]["managedFields"][0]["operation"] == "Apply"


async def test_refusals_carry_the_servers_own_words(
    real: AioKubeApi, cluster: ApiServer, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match=r'^deployments\.apps "none" not found$'):
        await real.get(DEPLOYMENTS, "default", "none")
    twice = {"metadata": {"name": "twice"}}
    await real.create(CONFIG_MAPS, "default", twice)
    with pytest.raises(Conflict, match=r'^configmaps "twice" already exists$'):
        await real.create(CONFIG_MAPS, "default", twice)
    with pytest.raises(Unprocessable, match=r'^ConfigMap "A_B" is invalid: metadata\.name: Invalid value'):
        await real.create(CONFIG_MAPS, "default", {"metadata": {"name": "A_B"}})
    path = await asyncio.to_thread(cluster.kubeconfig, tmp_path / "wrong", token="wrong")
    stranger = await connect(kubeconfig=str(path))
    with pytest.raises(Forbidden, match=r"^Unauthorized$"):
        await stranger.list(PODS)
    await stranger.close()


async def test_a_lease_goes_from_hand_to_hand(real: AioKubeApi) -> None:
    first, second = (LeaseElector(real, "default", "hand", name) for name in "ab")
    await first.acquire()
    taking = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.5)
    assert (first.role, second.role, second.holder) == ("leader", "standby", "a")
    await first.release()
    async with asyncio.timeout(10):
        await taking
    spec = (await real.get(LEASES, "default", "hand"))["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("b", 1)
    await second.release()
    assert not (await real.get(LEASES, "default", "hand"))["spec"].get("holderIdentity")


async def test_the_longest_event_is_accepted(real: AioKubeApi) -> None:
    about = ObjectReference("apps/v1", "Deployment", "default", "chat", "u-1")
    recorder = EventRecorder(real, instance="pod-" + "x" * 200)
    words = {"reason": "R" * 200, "action": "A" * 200, "message": "🚀" * 2000}
    for each in (about, replace(about, namespace="", name="n" * 253, uid="u-2")):
        assert await recorder.record(each, EventType.WARNING, **words)
    events = await real.list(EVENTS, "default")
    ours = [event for event in events if event.get("reportingController") == "penstock"]
    assert [len(event["note"].encode()) for event in ours] == [1023, 1023]
    assert not await recorder.record(about, EventType.WARNING, **words)


async def test_kinds_are_discovered(real: AioKubeApi) -> None:
    assert await real.resource_of("", "ConfigMap") == CONFIG_MAPS
    assert await real.resource_of("apps", "ReplicaSet") == Resource("apps", "v1", "replicasets", "ReplicaSet")
    with pytest.raises(NotFound, match="serves no kind 'Nothing' in group 'apps'"):
        await real.resource_of("apps", "Nothing")
