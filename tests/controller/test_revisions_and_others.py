"""What others do to the objects of an owned workload: scale, delete, edit, take their names, restart us."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.api_servers_plugin import Served
from fakes.kube_bodies import a_deployment
from fakes.owned_workload import OwnedWorkload, revision
from penstock.kube.api import DEPLOYMENTS, SERVICES, PatchType
from penstock.model.spec import ServiceRef


async def test_a_restarted_operator_changes_nothing(served: Served) -> None:
    chat = OwnedWorkload(served)
    await chat.ensure(revision("v1"), revision("v2"))
    await chat.scale("chat-v1", 7)
    before = [await chat.get(name) for name in ("chat-v1", "chat-v2")]
    again = OwnedWorkload(served)
    # The template of the stable revision is not the spec's any more: it is read back.
    assert await again.ensure(revision("v1", known=False), revision("v2")) is None
    after = [await again.get(name) for name in ("chat-v1", "chat-v2")]
    assert [each["metadata"]["generation"] for each in after] == [
        each["metadata"]["generation"] for each in before
    ]
    assert await again.deployments() == {"chat-v1": ("stable", 7), "chat-v2": ("canary", 2)}


async def test_scale_is_not_fought_over(served: Served) -> None:
    chat = OwnedWorkload(served)
    await chat.ensure(revision("v1"), revision("v2"))
    await chat.scale("chat-v1", 9)
    # Another arm is a new apply of the whole object.
    await chat.ensure(revision("v2"), revision("v1"))
    assert await chat.deployments() == {"chat-v1": ("canary", 9), "chat-v2": ("stable", 2)}


@pytest.mark.parametrize("scaled", [True, False], ids=["scaled", "never scaled"])
async def test_an_apply_of_the_same_object_leaves_its_replicas(served: Served, scaled: bool) -> None:
    chat = OwnedWorkload(served)
    await chat.ensure(revision("v1"))
    if scaled:
        await chat.scale("chat-v1", 5)
    for _ in range(2):
        again = OwnedWorkload(served)
        assert await again.ensure(revision("v1")) is None
    assert await chat.deployments() == {"chat-v1": ("stable", 5 if scaled else 2)}


async def test_a_deployment_of_somebody_else_is_left_alone(served: Served) -> None:
    chat = OwnedWorkload(served)
    before = await served.kube.create(DEPLOYMENTS, served.namespace, a_deployment("chat-v1"))
    problem = await chat.ensure(revision("v1"))
    assert problem == (
        "RevisionNameTaken",
        f"Deployment {served.namespace}/chat-v1 exists and is not Penstock's: "
        "delete it, or give the InferenceService another name",
    )
    after = await chat.get("chat-v1")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert await served.kube.list(SERVICES, served.namespace) == [], "it would lead nowhere"


async def test_a_users_service_of_that_name_is_left_alone(served: Served) -> None:
    chat = OwnedWorkload(served)
    theirs = {"metadata": {"name": "chat"}, "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}]}}
    await served.kube.create(SERVICES, served.namespace, {"apiVersion": "v1", "kind": "Service"} | theirs)
    problem = await chat.ensure(revision("v1"))
    assert problem == (
        "RevisionNameTaken",
        f"Service {served.namespace}/chat exists and is not Penstock's: "
        "delete it, or name another in workload.serviceRef",
    )
    found = await served.kube.get(SERVICES, served.namespace, "chat")
    assert found["spec"]["selector"] == {"app": "x"}
    chat.spec = replace(chat.spec, service=ServiceRef("llama", 8000))
    assert await chat.ensure(revision("v1")) is None
    service = await served.kube.get(SERVICES, served.namespace, "llama")
    assert service["spec"]["selector"]["serving.penstock.dev/revision"] == "v1"


async def test_the_stable_arm_cannot_have_the_canarys_service(served_fake: Served) -> None:
    chat = OwnedWorkload(served_fake)
    chat.spec = replace(chat.spec, service=ServiceRef("chat-canary"))
    assert await chat.ensure(revision("v1")) == (
        "RevisionNameTaken",
        "Service chat-canary is the canary's: name another in workload.serviceRef",
    )
    assert await chat.deployments() == {}


async def test_a_revision_of_the_service_that_had_this_name_is_waited_for(served: Served) -> None:
    await OwnedWorkload(served, uid="u-0").ensure(revision("v1"))
    problem = await OwnedWorkload(served).ensure(revision("v1"))
    assert problem == (
        "RevisionNameTaken",
        f"Deployment {served.namespace}/chat-v1 exists and goes with the InferenceService chat "
        "that was deleted: wait until it is gone",
    )


async def test_what_a_deletion_left_behind_is_taken_back(served: Served) -> None:
    chat = OwnedWorkload(served, uid="u-0")
    await chat.ensure(revision("v1"))
    await chat.scale("chat-v1", 4)
    # What the garbage collector does on `kubectl delete --cascade=orphan`.
    orphan = [{"op": "remove", "path": "/metadata/ownerReferences"}]
    for resource, name in ((DEPLOYMENTS, "chat-v1"), (SERVICES, "chat")):
        await served.kube.patch(resource, served.namespace, name, orphan, patch_type=PatchType.JSON)
    again = OwnedWorkload(served, uid="u-1")
    assert await again.ensure(revision("v1")) is None
    body = await again.get("chat-v1")
    assert [each["uid"] for each in body["metadata"]["ownerReferences"]] == ["u-1"]
    assert body["spec"]["replicas"] == 4


async def test_a_deployment_deleted_by_hand_comes_back_with_the_replicas_asked_for(served: Served) -> None:
    chat = OwnedWorkload(served)
    await chat.ensure(revision("v1"), revision("v2"))
    await chat.ensure(revision("v1", known=False), revision("v2"))
    await served.kube.delete(DEPLOYMENTS, served.namespace, "chat-v1")
    # Its template is not in the spec any more.
    assert await chat.ensure(revision("v1", replicas=6, known=False), revision("v2")) is None
    assert await chat.deployments() == {"chat-v1": ("stable", 6), "chat-v2": ("canary", 2)}
    (container,) = (await chat.get("chat-v1"))["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "vllm:v1"


async def test_a_template_that_nobody_knows_any_more_is_said(served: Served) -> None:
    assert await OwnedWorkload(served).ensure(revision("v1", known=False)) == (
        "RevisionLost",
        f"Deployment {served.namespace}/chat-v1 is gone, and its pod template with it: "
        "write that to workload.template once more to have it back",
    )


async def test_a_service_deleted_by_hand_comes_back(served: Served) -> None:
    chat = OwnedWorkload(served)
    await chat.ensure(revision("v1"))
    await chat.ensure(revision("v1"))
    await served.kube.delete(SERVICES, served.namespace, "chat")
    assert await chat.ensure(revision("v1")) is None
    assert await chat.selected() == {"chat": "v1"}


async def test_a_hand_that_changed_the_pods_is_undone_after_a_restart(served: Served) -> None:
    chat = OwnedWorkload(served)
    await chat.ensure(revision("v1"))
    path = f"{DEPLOYMENTS.path(served.namespace, 'chat-v1')}?fieldManager=kubectl-edit"
    body = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "vllm:mine"}]
    status, _ = await served.request("PATCH", path, body, PatchType.JSON.value)
    assert status == 200
    assert await OwnedWorkload(served).ensure(revision("v1")) is None
    (container,) = (await chat.get("chat-v1"))["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "vllm:v1"
