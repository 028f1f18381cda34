"""Deployments of a fake API, kept by the sandbox's controllers with containers that are no processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakes.containers import FakeRuntime
from penstock.kube.api import DEPLOYMENTS, ENDPOINT_SLICES, PODS, SERVICES, Object
from penstock.sandbox.deployments import LocalDeployments, PodTimes
from penstock.sandbox.discovery_files import DiscoveryFiles
from penstock.sandbox.fake_api import FakeApi, wait_until
from penstock.sandbox.local_process import ContainerError
from penstock.sandbox.nodes import NodePool, NodeSettings
from penstock.sandbox.rest import ApiAccess, RestClient

NAMESPACE = "prod"
COST = "controller.kubernetes.io/pod-deletion-cost"


def deployment(replicas: int = 2, **spec: Any) -> Object:
    container = {
        "name": "engine",
        "image": "penstock",
        "command": ["penstock", "engine"],
        "args": ["--profile=a"],
    }
    template = {"metadata": {"labels": {"app": "chat"}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "chat", "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "chat"}},
            "template": template,
            **spec,
        },
    }


SERVICE: Object = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "chat", "namespace": NAMESPACE},
    "spec": {"selector": {"app": "chat"}, "ports": [{"name": "http", "port": 8000}]},
}


@dataclass
class Sandbox:
    api: FakeApi
    controller: LocalDeployments
    runtime: FakeRuntime
    files: DiscoveryFiles

    def deployment(self) -> Object:
        return self.api.get(DEPLOYMENTS, NAMESPACE, "chat")

    def status(self) -> Object:
        return self.deployment().get("status") or {}

    def pods(self) -> list[Object]:
        return self.api.objects(PODS, NAMESPACE)

    def scale(self, replicas: int) -> None:
        self.edit(replicas=replicas)

    def edit(self, **spec: Any) -> None:
        def change(body: Object) -> Object:
            return {**body, "spec": {**body["spec"], **spec}}

        self.api.edit(DEPLOYMENTS, NAMESPACE, "chat", change)

    def urls(self) -> list[str]:
        path = self.files.urls_file("chat")
        return path.read_text().split() if path.exists() else []

    def scraped(self) -> list[dict[str, Any]]:
        return json.loads(self.files.targets_file.read_text())

    async def until_ready(self, count: int) -> None:
        await wait_until(
            lambda: self.status().get("readyReplicas") == count == len(self.urls()),
            what=f"{count} ready: {self.status()}",
        )


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    runtime = FakeRuntime()
    files = DiscoveryFiles(tmp_path, NAMESPACE)
    async with FakeApi() as api, RestClient(ApiAccess(api.url)) as rest:
        controller = LocalDeployments(
            rest,
            NAMESPACE,
            runtime=runtime,
            nodes=NodePool(NodeSettings(pods_per_node=3)),
            files=files,
            times=PodTimes(backoff_seconds=0.3),
        )
        api.create(SERVICES, SERVICE)
        api.create(DEPLOYMENTS, deployment())
        task = asyncio.create_task(controller.run())
        yield Sandbox(api, controller, runtime, files)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert runtime.alive == []


async def test_a_deployment_gets_pods_endpoints_targets_and_a_status(sandbox: Sandbox):
    await sandbox.until_ready(2)
    assert sandbox.runtime.commands == [["penstock", "engine", "--profile=a"]] * 2
    status = sandbox.status()
    assert {key: status[key] for key in status if key != "conditions"} == {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "unavailableReplicas": 0,
    }
    assert [(each["type"], each["status"], each["reason"]) for each in status["conditions"]] == [
        ("Available", "True", "MinimumReplicasAvailable"),
        ("Progressing", "True", "NewReplicaSetAvailable"),
    ]
    names = sorted(pod["metadata"]["name"] for pod in sandbox.pods())
    assert all(pod["spec"]["nodeName"] == "sandbox-node-0" for pod in sandbox.pods())
    assert all(pod["status"]["podIP"] == "127.0.0.1" for pod in sandbox.pods())
    assert {pod["metadata"]["annotations"]["sandbox.penstock.dev/url"] for pod in sandbox.pods()} == set(
        sandbox.urls()
    )
    await wait_until(
        lambda: all(
            each["endpoints"][0]["conditions"] == {"ready": True, "serving": True, "terminating": False}
            for each in sandbox.api.objects(ENDPOINT_SLICES, NAMESPACE)
        )
    )
    slices = sandbox.api.objects(ENDPOINT_SLICES, NAMESPACE)
    assert sorted(each["endpoints"][0]["targetRef"]["name"] for each in slices) == names
    assert {each["metadata"]["labels"]["kubernetes.io/service-name"] for each in slices} == {"chat"}
    assert [target["labels"] for target in sandbox.scraped()] == [
        {"namespace": "prod", "pod": name, "container": "engine", "service": "chat"} for name in names
    ]


async def test_a_scale_down_takes_the_pod_with_the_lowest_deletion_cost(sandbox: Sandbox):
    sandbox.scale(3)
    await sandbox.until_ready(3)
    # not the newest, which would go without a cost
    victim = min(sandbox.controller.pods, key=lambda pod: pod.created_at).name
    sandbox.api.edit(
        PODS,
        NAMESPACE,
        victim,
        lambda body: {**body, "metadata": {**body["metadata"], "annotations": {COST: "-1000000"}}},
    )
    sandbox.scale(2)
    await sandbox.until_ready(2)
    await wait_until(lambda: len(sandbox.controller.pods) == 2)
    assert victim not in {pod["metadata"]["name"] for pod in sandbox.pods()}
    assert sandbox.runtime.of(victim).grace_seconds == 30


async def test_a_pod_leaves_the_endpoints_before_its_process_is_asked_to_end(sandbox: Sandbox):
    await sandbox.until_ready(2)
    sandbox.scale(1)
    await wait_until(lambda: len(sandbox.urls()) == 1)
    assert len(sandbox.runtime.alive) == 2
    # it is scraped to its end: its last requests count
    assert len(sandbox.scraped()) == 2
    await wait_until(lambda: len(sandbox.runtime.alive) == 1)
    await wait_until(lambda: len(sandbox.scraped()) == 1)


async def test_pods_without_room_stay_pending_as_the_scheduler_says_and_go_first(sandbox: Sandbox):
    await sandbox.until_ready(2)
    sandbox.scale(5)
    await sandbox.until_ready(3)

    def unscheduled() -> list[Object]:
        return [pod["status"] for pod in sandbox.pods() if not pod["spec"].get("nodeName")]

    await wait_until(lambda: len([status for status in unscheduled() if status]) == 2)
    for status in unscheduled():
        (condition,) = status["conditions"]
        assert status["phase"] == "Pending"
        assert (condition["type"], condition["status"], condition["reason"]) == (
            "PodScheduled",
            "False",
            "Unschedulable",
        )
        assert condition["message"].startswith("0/1 nodes are available: 1 Too many pods.")
    assert sandbox.status()["replicas"] == 5
    conditions = {each["type"]: each["reason"] for each in sandbox.status()["conditions"]}
    assert conditions == {"Available": "MinimumReplicasUnavailable", "Progressing": "NewReplicaSetAvailable"}
    sandbox.scale(3)
    await wait_until(lambda: len(sandbox.pods()) == 3)
    assert len(sandbox.runtime.alive) == 3


async def test_a_new_node_takes_the_waiting_pods(sandbox: Sandbox):
    sandbox.scale(4)
    await sandbox.until_ready(3)
    sandbox.controller.nodes.resize(nodes=2, max_nodes=2)
    await sandbox.until_ready(4)


async def test_a_crashed_container_is_restarted_in_its_pod_after_a_back_off(sandbox: Sandbox):
    await sandbox.until_ready(2)
    crashed = sandbox.runtime.containers[0]
    crashed.crash(status=1)

    def container() -> Object:
        body = sandbox.api.get(PODS, NAMESPACE, crashed.name)
        return body["status"]["containerStatuses"][0]

    await wait_until(lambda: "waiting" in container()["state"])
    assert container()["state"]["waiting"] == {
        "reason": "CrashLoopBackOff",
        "message": "the container ended with status 1",
    }
    assert (container()["ready"], container()["restartCount"]) == (False, 1)
    await sandbox.until_ready(2)
    assert len(sandbox.pods()) == 2
    assert sandbox.runtime.of(crashed.name) is not crashed


async def test_a_container_that_cannot_start_says_why(sandbox: Sandbox):
    await sandbox.until_ready(2)
    sandbox.runtime.refusal = ContainerError("CreateContainerError", "no such profile")
    sandbox.scale(3)

    def waiting() -> list[Object]:
        states = [
            (pod.get("status") or {}).get("containerStatuses", [{}])[0].get("state", {})
            for pod in sandbox.pods()
        ]
        return [state["waiting"] for state in states if "waiting" in state]

    await wait_until(lambda: {"reason": "CreateContainerError", "message": "no such profile"} in waiting())
    assert sandbox.status()["readyReplicas"] == 2


async def test_a_pod_that_fails_its_probe_leaves_the_endpoints_and_comes_back(sandbox: Sandbox):
    await sandbox.until_ready(2)
    sandbox.runtime.containers[0].is_ready = False
    await sandbox.until_ready(1)
    assert len(sandbox.pods()) == 2
    sandbox.runtime.containers[0].is_ready = True
    await sandbox.until_ready(2)


async def test_a_deleted_pod_is_ended_and_replaced(sandbox: Sandbox):
    await sandbox.until_ready(2)
    victim = sandbox.runtime.containers[0].name
    sandbox.api.delete(PODS, NAMESPACE, victim)
    await wait_until(lambda: sandbox.runtime.of(victim).ended.is_set())
    await sandbox.until_ready(2)
    assert victim not in {pod["metadata"]["name"] for pod in sandbox.pods()}


async def test_a_new_template_is_rolled_out_without_losing_capacity(sandbox: Sandbox):
    await sandbox.until_ready(2)
    before = {pod["metadata"]["name"] for pod in sandbox.pods()}
    spec = deployment()["spec"]["template"]
    spec["spec"]["containers"][0]["args"] = ["--profile=b"]
    fewest = 2
    sandbox.edit(template=spec)
    while {pod["metadata"]["name"] for pod in sandbox.pods()} & before:
        fewest = min(fewest, len(sandbox.urls()))
        await asyncio.sleep(0.01)
    await sandbox.until_ready(2)
    assert fewest == 2
    assert sandbox.runtime.commands[-1] == ["penstock", "engine", "--profile=b"]
    await wait_until(
        lambda: sandbox.status()["observedGeneration"] == 2 and sandbox.status()["updatedReplicas"] == 2
    )


async def test_a_deleted_deployment_leaves_nothing(sandbox: Sandbox):
    await sandbox.until_ready(2)
    sandbox.api.delete(DEPLOYMENTS, NAMESPACE, "chat")
    await wait_until(lambda: sandbox.pods() == [] and sandbox.controller.pods == [])
    await wait_until(lambda: sandbox.api.objects(ENDPOINT_SLICES, NAMESPACE) == [])
    assert (sandbox.urls(), sandbox.scraped()) == ([], [])


async def test_a_deployment_made_anew_under_its_name_gets_pods_of_its_own(sandbox: Sandbox):
    await sandbox.until_ready(2)
    before = {pod["metadata"]["name"] for pod in sandbox.pods()}
    sandbox.api.delete(DEPLOYMENTS, NAMESPACE, "chat")
    sandbox.api.create(DEPLOYMENTS, deployment())
    await wait_until(lambda: not {pod["metadata"]["name"] for pod in sandbox.pods()} & before)
    await sandbox.until_ready(2)


async def test_pods_left_by_an_earlier_run_are_removed(sandbox: Sandbox):
    await sandbox.until_ready(2)
    left = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "chat-left", "annotations": {"sandbox.penstock.dev/managed": "true"}},
        "spec": {"containers": [{"name": "engine", "image": "penstock"}]},
    }
    foreign = {**left, "metadata": {"name": "foreign"}}
    sandbox.api.create(PODS, left, NAMESPACE)
    sandbox.api.create(PODS, foreign, NAMESPACE)
    await wait_until(lambda: len(sandbox.pods()) == 3)
    assert "foreign" in {pod["metadata"]["name"] for pod in sandbox.pods()}


async def test_an_api_that_comes_and_goes_does_not_confuse_it(sandbox: Sandbox):
    await sandbox.until_ready(2)
    sandbox.api.drop_watches()
    sandbox.api.forget_history(DEPLOYMENTS)
    sandbox.scale(3)
    await sandbox.until_ready(3)
    assert len(sandbox.pods()) == 3
