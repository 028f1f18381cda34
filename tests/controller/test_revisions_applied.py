"""What is written for an owned workload, on the fake API and on a real kube-apiserver."""

from __future__ import annotations

import pytest

from fakes.api_servers_plugin import Served
from fakes.kube_bodies import a_deployment
from fakes.owned_workload import OwnedWorkload, revision
from penstock.kube.api import DEPLOYMENTS, SERVICES, NotFound
from penstock.model.spec import Mode


async def test_the_first_template_is_a_deployment_and_a_service(served: Served) -> None:
    chat = OwnedWorkload(served)
    assert await chat.ensure(revision("v1")) is None
    assert await chat.deployments() == {"chat-v1": ("stable", 2)}
    assert await chat.selected() == {"chat": "v1"}
    body = await chat.get("chat-v1")
    (owner,) = body["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == ("u-1", True)
    assert "finalizers" not in body["metadata"]
    (container,) = body["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "vllm:v1"
    (port,) = (await served.kube.get(SERVICES, served.namespace, "chat"))["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, 8000)


async def test_what_is_as_wanted_is_neither_read_nor_written(served: Served) -> None:
    chat = OwnedWorkload(served)
    await chat.ensure(revision("v1"), revision("v2"))
    await chat.ensure(revision("v1"), revision("v2"))
    chat.kube.calls.clear()
    assert await chat.ensure(revision("v1"), revision("v2")) is None
    assert chat.kube.calls == []


async def test_a_changed_template_is_a_second_deployment_with_a_service_of_its_own(served: Served) -> None:
    chat = OwnedWorkload(served)
    await chat.ensure(revision("v1"))
    assert await chat.ensure(revision("v1"), revision("v2", replicas=1)) is None
    assert await chat.deployments() == {"chat-v1": ("stable", 2), "chat-v2": ("canary", 1)}
    assert await chat.selected() == {"chat": "v1", "chat-canary": "v2"}


async def test_a_promotion_moves_services_and_labels_and_touches_no_pod(served: Served) -> None:
    chat = OwnedWorkload(served)
    await chat.ensure(revision("v1"), revision("v2"))
    before = await chat.get("chat-v2")
    assert await chat.ensure(revision("v2"), idle=frozenset()) is None
    # The canary's Service stays: gateways route to it until they have the next route.
    assert await chat.selected() == {"chat": "v2", "chat-canary": "v2"}
    assert await chat.deployments() == {"chat-v1": ("retired", 2), "chat-v2": ("stable", 2)}
    after = await chat.get("chat-v2")
    assert after["spec"]["template"] == before["spec"]["template"]


async def test_an_earlier_revision_is_scaled_in_when_it_is_idle_and_not_before(served: Served) -> None:
    chat = OwnedWorkload(served)
    await chat.ensure(revision("v1"))
    await chat.ensure(revision("v2"), idle=frozenset())
    await chat.ensure(revision("v2"), idle=frozenset())
    assert (await chat.deployments())["chat-v1"] == ("retired", 2)
    assert await chat.ensure(revision("v2"), idle=frozenset({"v1"})) is None
    assert (await chat.deployments())["chat-v1"] == ("retired", 0)


async def test_nothing_earlier_goes_before_its_successor_is_there(served: Served) -> None:
    chat = OwnedWorkload(served)
    await chat.ensure(revision("v1"))
    await served.kube.create(DEPLOYMENTS, served.namespace, a_deployment("chat-v2"))
    problem = await chat.ensure(revision("v2"))
    assert problem is not None
    assert (await chat.deployments())["chat-v1"] == ("stable", 2)
    assert await chat.selected() == {"chat": "v1"}


async def test_three_earlier_revisions_are_kept_and_older_ones_deleted(served: Served) -> None:
    chat = OwnedWorkload(served)
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


async def test_a_template_with_another_port_is_led_to_by_the_same_port_of_the_services(
    served: Served,
) -> None:
    chat = OwnedWorkload(served)
    moved = revision("v2", ports=[{"containerPort": 9000}])
    assert await chat.ensure(revision("v1"), moved) is None
    assert await chat.ensure(moved) is None
    for name in ("chat", "chat-canary"):
        (port,) = (await served.kube.get(SERVICES, served.namespace, name))["spec"]["ports"]
        assert (port["port"], port["targetPort"]) == (80, 9000)


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.PAUSED])
async def test_nothing_is_written_but_in_enforce(served: Served, mode: Mode) -> None:
    chat = OwnedWorkload(served, mode=mode)
    assert await chat.ensure(revision("v1"), revision("v2")) == (
        "RevisionNotCreated",
        f"Deployment chat-v1 does not exist, and mode {mode.value} writes nothing: set mode Enforce",
    )
    assert chat.kube.calls == []
    await OwnedWorkload(served).ensure(revision("v1"))
    assert await chat.ensure(revision("v1"), revision("v2")) is None
    assert chat.kube.calls == []


async def test_a_template_without_a_port_is_run_and_said(served: Served) -> None:
    chat = OwnedWorkload(served)
    assert await chat.ensure(revision("v1", ports=[])) == (
        "NoPort",
        "no container of workload.template names a port: add ports: [{name: http, containerPort: 8000}] "
        "to the engine's, or set workload.serviceRef.port",
    )
    assert await chat.deployments() == {"chat-v1": ("stable", 2)}


@pytest.mark.api
async def test_what_the_api_server_refuses_is_told_in_its_words(served_real: Served) -> None:
    chat = OwnedWorkload(served_real)
    problem = await chat.ensure(revision("v1"), revision("v2", imagePullPolicy="Sometimes"))
    assert problem is not None
    assert problem[0] == "RevisionNotWritten"
    assert "Unsupported value" in problem[1]
    assert await chat.deployments() == {"chat-v1": ("stable", 2)}, "the stable arm is hindered by nothing"


async def test_a_service_that_is_gone_leaves_nothing_behind_here(served: Served) -> None:
    chat = OwnedWorkload(served)
    await chat.ensure(revision("v1"))
    assert chat.objects.remembered(chat.spec.key) == {"v1"}
    chat.objects.forget(chat.spec.key)
    assert chat.objects.remembered(chat.spec.key) == frozenset()
    with pytest.raises(NotFound):
        await chat.get("chat-v2")
