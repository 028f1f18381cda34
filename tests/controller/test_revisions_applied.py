"""What is written for an owned workload, on the fake API and on a real kube-apiserver."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes.api_servers_plugin import Served
from fakes.builders import service
from fakes.kube_bodies import a_deployment
from fakes.recorded_api import RecordedApi, look
from penstock.controller.cache import FleetCache
from penstock.controller.revisions import RevisionObjects
from penstock.controller.wanted_revisions import Revision, WantedRevisions
from penstock.kube.api import DEPLOYMENTS, SERVICES, NotFound, PatchType
from penstock.model.revision import workload_template
from penstock.model.spec import Mode, ServiceKey, ServiceSpec

EARLIER = frozenset({"v1", "v2", "v3", "v4", "v5", "v6"})


def template(image: str, **container: Any) -> Any:
    ports = [{"name": "http", "containerPort": 8000}]
    engine = {"name": "engine", "image": image, "ports": ports} | container
    return workload_template({"metadata": {"labels": {"app": "chat"}}, "spec": {"containers": [engine]}})


def revision(name: str, *, replicas: int = 2, known: bool = True, **container: Any) -> Revision:
    return Revision(name, replicas, template(f"vllm:{name}", **container) if known else None)


class Workload:
    """An owned workload ``chat`` in the test's namespace, and the part of the operator under test."""

    def __init__(self, served: Served, *, mode: Mode = Mode.ENFORCE, uid: str = "u-1") -> None:
        self.served, self.cache = served, FleetCache()
        self.kube = RecordedApi(served.kube)
        self.objects = RevisionObjects(self.kube, self.cache)  # type: ignore[arg-type]
        key = ServiceKey(served.namespace, "chat")
        self.spec: ServiceSpec = replace(service(), key=key, mode=mode, uid=uid)
        self.now = 0.0

    async def ensure(
        self, stable: Revision, canary: Revision | None = None, *, idle: frozenset[str] = EARLIER
    ) -> tuple[str, str] | None:
        """Let 15 s pass, see what is there, bring it to what is wanted."""
        self.now += 15.0
        await look(self.served, self.cache)
        return await self.objects.ensure(WantedRevisions(self.spec, stable, canary, idle), self.now)

    async def deployments(self) -> dict[str, tuple[str, int]]:
        """Return arm and replicas of every Deployment, by name."""
        bodies = await self.served.kube.list(DEPLOYMENTS, self.served.namespace)
        return {
            each["metadata"]["name"]: (
                each["metadata"].get("labels", {}).get("serving.penstock.dev/arm", ""),
                each["spec"]["replicas"],
            )
            for each in bodies
        }

    async def selected(self) -> dict[str, str]:
        """Return the revision that every Service selects."""
        return {
            each["metadata"]["name"]: each["spec"]["selector"]["serving.penstock.dev/revision"]
            for each in await self.served.kube.list(SERVICES, self.served.namespace)
        }

    async def get(self, name: str) -> dict[str, Any]:
        return await self.served.kube.get(DEPLOYMENTS, self.served.namespace, name)

    async def scale(self, name: str, replicas: int) -> None:
        scale = await self.served.kube.get_scale(DEPLOYMENTS, self.served.namespace, name)
        await self.served.kube.patch_scale(
            DEPLOYMENTS,
            self.served.namespace,
            name,
            replicas=replicas,
            resource_version=scale.resource_version,
        )


async def test_the_first_template_is_a_deployment_and_two_services(served: Served) -> None:
    chat = Workload(served)
    assert await chat.ensure(revision("v1")) is None
    assert await chat.deployments() == {"chat-v1": ("stable", 2)}
    assert await chat.selected() == {"chat": "v1", "chat-stable": "v1"}
    body = await chat.get("chat-v1")
    (owner,) = body["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == ("u-1", True)
    assert "finalizers" not in body["metadata"]
    (container,) = body["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "vllm:v1"
    (port,) = (await served.kube.get(SERVICES, served.namespace, "chat"))["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (8000, 8000)


async def test_what_is_as_wanted_is_neither_read_nor_written(served: Served) -> None:
    chat = Workload(served)
    await chat.ensure(revision("v1"), revision("v2"))
    await chat.ensure(revision("v1"), revision("v2"))
    chat.kube.calls.clear()
    assert await chat.ensure(revision("v1"), revision("v2")) is None
    assert chat.kube.calls == []


async def test_a_restarted_operator_changes_nothing(served: Served) -> None:
    chat = Workload(served)
    await chat.ensure(revision("v1"), revision("v2"))
    await chat.scale("chat-v1", 7)
    before = [await chat.get(name) for name in ("chat-v1", "chat-v2")]
    again = Workload(served)
    # The template of the stable revision is not the spec's any more: it is read back.
    assert await again.ensure(revision("v1", known=False), revision("v2")) is None
    after = [await again.get(name) for name in ("chat-v1", "chat-v2")]
    assert [each["metadata"]["generation"] for each in after] == [
        each["metadata"]["generation"] for each in before
    ]
    assert await again.deployments() == {"chat-v1": ("stable", 7), "chat-v2": ("canary", 2)}


async def test_a_changed_template_is_a_second_deployment_with_a_service_of_its_own(served: Served) -> None:
    chat = Workload(served)
    await chat.ensure(revision("v1"))
    assert await chat.ensure(revision("v1"), revision("v2", replicas=1)) is None
    assert await chat.deployments() == {"chat-v1": ("stable", 2), "chat-v2": ("canary", 1)}
    assert await chat.selected() == {"chat": "v1", "chat-stable": "v1", "chat-canary": "v2"}


async def test_a_promotion_moves_services_and_labels_and_touches_no_pod(served: Served) -> None:
    chat = Workload(served)
    await chat.ensure(revision("v1"), revision("v2"))
    before = await chat.get("chat-v2")
    assert await chat.ensure(revision("v2"), idle=frozenset()) is None
    # The canary's Service stays: gateways route to it until they have the next route.
    assert await chat.selected() == {"chat": "v2", "chat-stable": "v2", "chat-canary": "v2"}
    assert await chat.deployments() == {"chat-v1": ("retired", 2), "chat-v2": ("stable", 2)}
    after = await chat.get("chat-v2")
    assert after["spec"]["template"] == before["spec"]["template"]


async def test_an_earlier_revision_is_scaled_in_when_it_is_idle_and_not_before(served: Served) -> None:
    chat = Workload(served)
    await chat.ensure(revision("v1"))
    await chat.ensure(revision("v2"), idle=frozenset())
    await chat.ensure(revision("v2"), idle=frozenset())
    assert (await chat.deployments())["chat-v1"] == ("retired", 2)
    assert await chat.ensure(revision("v2"), idle=frozenset({"v1"})) is None
    assert (await chat.deployments())["chat-v1"] == ("retired", 0)


async def test_nothing_earlier_goes_before_its_successor_is_there(served: Served) -> None:
    chat = Workload(served)
    await chat.ensure(revision("v1"))
    await served.kube.create(DEPLOYMENTS, served.namespace, a_deployment("chat-v2"))
    problem = await chat.ensure(revision("v2"))
    assert problem is not None
    assert (await chat.deployments())["chat-v1"] == ("stable", 2)
    assert await chat.selected() == {"chat": "v1", "chat-stable": "v1"}


async def test_three_earlier_revisions_are_kept_and_older_ones_deleted(served: Served) -> None:
    chat = Workload(served)
    for name in ("v1", "v2", "v3", "v4", "v5", "v6"):
        assert await chat.ensure(revision(name)) is None
    for _ in range(3):
        assert await chat.ensure(revision("v6")) is None
    assert await chat.deployments() == {
        "chat-v3": ("retired", 0),
        "chat-v4": ("retired", 0),
        "chat-v5": ("retired", 0),
        "chat-v6": ("stable", 2),
    }


async def test_scale_is_not_fought_over(served: Served) -> None:
    chat = Workload(served)
    await chat.ensure(revision("v1"), revision("v2"))
    await chat.scale("chat-v1", 9)
    # Another arm is a new apply of the whole object.
    await chat.ensure(revision("v2"), revision("v1"))
    assert await chat.deployments() == {"chat-v1": ("canary", 9), "chat-v2": ("stable", 2)}


@pytest.mark.parametrize("scaled", [True, False], ids=["scaled", "never scaled"])
async def test_an_apply_of_the_same_object_leaves_its_replicas(served: Served, scaled: bool) -> None:
    chat = Workload(served)
    await chat.ensure(revision("v1"))
    if scaled:
        await chat.scale("chat-v1", 5)
    for _ in range(2):
        again = Workload(served)
        assert await again.ensure(revision("v1")) is None
    assert await chat.deployments() == {"chat-v1": ("stable", 5 if scaled else 2)}


async def test_a_deployment_of_somebody_else_is_left_alone(served: Served) -> None:
    chat = Workload(served)
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


async def test_a_users_service_of_that_name_is_left_alone_and_the_arm_served(served: Served) -> None:
    chat = Workload(served)
    theirs = {"metadata": {"name": "chat"}, "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}]}}
    await served.kube.create(SERVICES, served.namespace, {"apiVersion": "v1", "kind": "Service"} | theirs)
    problem = await chat.ensure(revision("v1"))
    assert problem == (
        "RevisionNameTaken",
        f"Service {served.namespace}/chat exists and is not Penstock's: "
        "delete it, or give the InferenceService another name",
    )
    stable = await served.kube.get(SERVICES, served.namespace, "chat-stable")
    assert stable["spec"]["selector"]["serving.penstock.dev/revision"] == "v1"


async def test_a_revision_of_the_service_that_had_this_name_is_waited_for(served: Served) -> None:
    await Workload(served, uid="u-0").ensure(revision("v1"))
    problem = await Workload(served).ensure(revision("v1"))
    assert problem == (
        "RevisionNameTaken",
        f"Deployment {served.namespace}/chat-v1 exists and goes with the InferenceService chat "
        "that was deleted: wait until it is gone",
    )


async def test_what_a_deletion_left_behind_is_taken_back(served: Served) -> None:
    chat = Workload(served, uid="u-0")
    await chat.ensure(revision("v1"))
    await chat.scale("chat-v1", 4)
    # What the garbage collector does on `kubectl delete --cascade=orphan`.
    orphan = [{"op": "remove", "path": "/metadata/ownerReferences"}]
    for resource, name in ((DEPLOYMENTS, "chat-v1"), (SERVICES, "chat"), (SERVICES, "chat-stable")):
        await served.kube.patch(resource, served.namespace, name, orphan, patch_type=PatchType.JSON)
    again = Workload(served, uid="u-1")
    assert await again.ensure(revision("v1")) is None
    body = await again.get("chat-v1")
    assert [each["uid"] for each in body["metadata"]["ownerReferences"]] == ["u-1"]
    assert body["spec"]["replicas"] == 4


async def test_a_deployment_deleted_by_hand_comes_back_with_the_replicas_asked_for(served: Served) -> None:
    chat = Workload(served)
    await chat.ensure(revision("v1"), revision("v2"))
    await chat.ensure(revision("v1", known=False), revision("v2"))
    await served.kube.delete(DEPLOYMENTS, served.namespace, "chat-v1")
    # Its template is not in the spec any more.
    assert await chat.ensure(revision("v1", replicas=6, known=False), revision("v2")) is None
    assert await chat.deployments() == {"chat-v1": ("stable", 6), "chat-v2": ("canary", 2)}
    (container,) = (await chat.get("chat-v1"))["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "vllm:v1"


async def test_a_template_that_nobody_knows_any_more_is_said(served: Served) -> None:
    assert await Workload(served).ensure(revision("v1", known=False)) == (
        "RevisionLost",
        f"Deployment {served.namespace}/chat-v1 is gone, and its pod template with it: "
        "write that to workload.template once more to have it back",
    )


async def test_a_service_deleted_by_hand_comes_back(served: Served) -> None:
    chat = Workload(served)
    await chat.ensure(revision("v1"))
    await chat.ensure(revision("v1"))
    await served.kube.delete(SERVICES, served.namespace, "chat-stable")
    assert await chat.ensure(revision("v1")) is None
    assert await chat.selected() == {"chat": "v1", "chat-stable": "v1"}


async def test_a_hand_that_changed_the_pods_is_undone_after_a_restart(served: Served) -> None:
    chat = Workload(served)
    await chat.ensure(revision("v1"))
    path = f"{DEPLOYMENTS.path(served.namespace, 'chat-v1')}?fieldManager=kubectl-edit"
    body = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "vllm:mine"}]
    status, _ = await served.request("PATCH", path, body, PatchType.JSON.value)
    assert status == 200
    assert await Workload(served).ensure(revision("v1")) is None
    (container,) = (await chat.get("chat-v1"))["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "vllm:v1"


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.PAUSED])
async def test_nothing_is_written_but_in_enforce(served: Served, mode: Mode) -> None:
    chat = Workload(served, mode=mode)
    assert await chat.ensure(revision("v1"), revision("v2")) == (
        "RevisionNotCreated",
        f"Deployment chat-v1 does not exist, and mode {mode.value} writes nothing: set mode Enforce",
    )
    assert chat.kube.calls == []
    await Workload(served).ensure(revision("v1"))
    assert await chat.ensure(revision("v1"), revision("v2")) is None
    assert chat.kube.calls == []


async def test_a_template_without_a_port_is_run_and_said(served: Served) -> None:
    chat = Workload(served)
    assert await chat.ensure(revision("v1", ports=[])) == (
        "NoPort",
        "no container of workload.template names a port: add ports: [{name: http, containerPort: 8000}] "
        "to the engine's, or set workload.serviceRef.port",
    )
    assert await chat.deployments() == {"chat-v1": ("stable", 2)}


@pytest.mark.api
async def test_what_the_api_server_refuses_is_told_in_its_words(served_real: Served) -> None:
    chat = Workload(served_real)
    problem = await chat.ensure(revision("v1"), revision("v2", imagePullPolicy="Sometimes"))
    assert problem is not None
    assert problem[0] == "RevisionNotWritten"
    assert "Unsupported value" in problem[1]
    assert await chat.deployments() == {"chat-v1": ("stable", 2)}, "the stable arm is hindered by nothing"


async def test_a_service_that_is_gone_leaves_nothing_behind_here(served: Served) -> None:
    chat = Workload(served)
    await chat.ensure(revision("v1"))
    assert chat.objects.remembered(chat.spec.key) == {"v1"}
    chat.objects.forget(chat.spec.key)
    assert chat.objects.remembered(chat.spec.key) == frozenset()
    with pytest.raises(NotFound):
        await chat.get("chat-v2")
