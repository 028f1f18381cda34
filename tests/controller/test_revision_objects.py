"""The objects of an owned workload: names, owners, ports, and whose objects are left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes.builders import service
from penstock.controller.revision_objects import (
    Arm,
    PodPort,
    arm_service,
    arm_service_name,
    owned_service,
    pod_port,
    revision_deployment,
    served_by,
    taken_by_another,
    with_replicas,
)
from penstock.model.spec import ReplicaSpec, ServiceKey, ServiceRef, TargetRef

CHAT = service()
TEMPLATE: dict[str, Any] = {
    "metadata": {
        "labels": {"app": "chat", "serving.penstock.dev/revision": "mine"},
        "annotations": {"a": "b"},
    },
    "spec": {"containers": [{"name": "engine", "image": "vllm:1"}]},
}
OURS = {
    "app.kubernetes.io/managed-by": "penstock",
    "app.kubernetes.io/part-of": "penstock",
    "serving.penstock.dev/service": "chat",
}
SELECTED = {"serving.penstock.dev/service": "chat", "serving.penstock.dev/revision": "bcdf245678"}
OWNER = {
    "apiVersion": "serving.penstock.dev/v1alpha1",
    "kind": "InferenceService",
    "name": "chat",
    "uid": "u-1",
    "controller": True,
    "blockOwnerDeletion": False,
}


def with_containers(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"containers": list(containers)}}


def test_a_revision_is_one_deployment_whose_pods_bear_the_users_labels_and_ours() -> None:
    assert revision_deployment(CHAT, "bcdf245678", TEMPLATE, Arm.CANARY) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "chat-bcdf245678",
            "namespace": "prod",
            "labels": OURS
            | {"serving.penstock.dev/revision": "bcdf245678", "serving.penstock.dev/arm": "canary"},
            "ownerReferences": [OWNER],
        },
        "spec": {
            "selector": {"matchLabels": SELECTED},
            "template": {
                "metadata": {"labels": {"app": "chat"} | SELECTED, "annotations": {"a": "b"}},
                "spec": {"containers": [{"name": "engine", "image": "vllm:1"}]},
            },
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 0,
        },
    }


def test_the_template_that_was_given_stays_as_it_was() -> None:
    before = repr(TEMPLATE)
    revision_deployment(CHAT, "bcdf245678", TEMPLATE, Arm.STABLE)
    assert repr(TEMPLATE) == before


def test_replicas_are_in_the_first_body_only() -> None:
    body = revision_deployment(CHAT, "bcdf245678", TEMPLATE, Arm.STABLE)
    assert with_replicas(body, 3)["spec"]["replicas"] == 3
    assert "replicas" not in body["spec"]


def test_another_arm_changes_nothing_of_the_pods() -> None:
    arms = [revision_deployment(CHAT, "bcdf245678", TEMPLATE, arm)["spec"] for arm in Arm]
    assert arms[0] == arms[1] == arms[2]


def test_an_engine_that_loads_for_long_has_three_startups_before_its_rollout_counts_as_failed() -> None:
    slow = replace(CHAT, replicas=ReplicaSpec(initial_startup_seconds=1200.0))
    body = revision_deployment(slow, "bcdf245678", TEMPLATE, Arm.STABLE)
    assert body["spec"]["progressDeadlineSeconds"] == 3600


def test_a_template_read_back_from_the_cluster_gives_the_same_object() -> None:
    body = revision_deployment(CHAT, "bcdf245678", TEMPLATE, Arm.STABLE)
    back = body["spec"]["template"]
    back["metadata"]["creationTimestamp"] = None
    assert revision_deployment(CHAT, "bcdf245678", back, Arm.STABLE) == revision_deployment(
        CHAT, "bcdf245678", TEMPLATE, Arm.STABLE
    )


def test_the_longest_name_of_a_service_leaves_room_for_all_names_made_of_it() -> None:
    key = ServiceKey("prod", "a" * 46)
    deployment = revision_deployment(replace(CHAT, key=key), "bcdf245678", TEMPLATE, Arm.STABLE)
    names = [deployment["metadata"]["name"], *(arm_service_name(key, arm) for arm in Arm)]
    assert max(map(len, names)) == 57


def test_a_service_of_an_owned_workload_selects_one_revision_and_goes_with_it() -> None:
    assert owned_service(CHAT, "chat", "bcdf245678", PodPort(80, 8000), Arm.STABLE) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "chat",
            "namespace": "prod",
            "labels": OURS | {"serving.penstock.dev/arm": "stable"},
            "ownerReferences": [OWNER],
        },
        "spec": {
            "type": "ClusterIP",
            "selector": SELECTED,
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8000}],
        },
    }


METRICS = {"name": "metrics", "containerPort": 9400}
HTTP = {"name": "http", "containerPort": 8000}


@pytest.mark.parametrize(
    ("template", "asked", "port"),
    [
        pytest.param(with_containers({"ports": [HTTP]}), None, PodPort(80, 8000), id="the only one"),
        pytest.param(
            with_containers({"ports": [METRICS]}, {"ports": [HTTP]}),
            None,
            PodPort(80, 8000),
            id="http of a later container before the first of a sidecar",
        ),
        pytest.param(
            with_containers({"ports": [{"containerPort": 7000}, METRICS]}),
            None,
            PodPort(80, 7000),
            id="the first where none is named http",
        ),
        pytest.param(
            with_containers({"ports": [HTTP]}), 8080, PodPort(8080, 8000), id="a Service's port of its own"
        ),
        pytest.param(
            with_containers({"ports": [HTTP, METRICS]}), 9400, PodPort(9400, 9400), id="the one asked for"
        ),
        pytest.param(
            with_containers({"ports": [{"containerPort": 53, "protocol": "UDP"}, HTTP]}),
            None,
            PodPort(80, 8000),
            id="UDP is not where requests go",
        ),
        pytest.param(with_containers({"name": "engine"}), 8000, PodPort(8000, 8000), id="only asked for"),
        pytest.param(with_containers({"name": "engine"}), None, None, id="nobody says"),
        pytest.param({}, None, None, id="an empty template"),
    ],
)
def test_where_a_templates_pods_serve(
    template: dict[str, Any], asked: int | None, port: PodPort | None
) -> None:
    assert pod_port(template, asked) == port


def found(name: str = "chat", *, owner: dict[str, Any] | None = None, **labels: str) -> dict[str, Any]:
    owners = [] if owner is None else [owner]
    return {"metadata": {"name": name, "labels": labels, "ownerReferences": owners}}


@pytest.mark.parametrize(
    ("there", "why"),
    [
        pytest.param(found(owner=OWNER), "", id="ours"),
        pytest.param(
            found(owner=OWNER | {"uid": "u-0"}),
            "goes with the InferenceService chat that was deleted: wait until it is gone",
            id="of the one that had this name before",
        ),
        pytest.param(
            found(owner=OWNER | {"name": "chat-b", "uid": "u-7"}),
            "belongs to InferenceService chat-b: rename one of the two",
            id="of another service",
        ),
        pytest.param(
            found(owner={"kind": "Rollout", "name": "chat", "uid": "r", "controller": True}),
            "belongs to Rollout chat: rename one of the two",
            id="of another controller",
        ),
        pytest.param(
            {"metadata": {"labels": OURS}}, "", id="left behind by a deletion that spared what was owned"
        ),
        pytest.param(
            {"metadata": {"labels": OURS | {"serving.penstock.dev/service": "other"}}},
            "belongs to InferenceService other: rename one of the two",
            id="left behind by another service",
        ),
        pytest.param(
            {"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}},
            "is not Penstock's (managed by Helm): delete it, or name another in workload.serviceRef",
            id="of a chart",
        ),
        pytest.param(
            {"metadata": {}},
            "is not Penstock's: delete it, or name another in workload.serviceRef",
            id="of somebody",
        ),
    ],
)
def test_whose_an_object_is(there: dict[str, Any], why: str) -> None:
    wanted = owned_service(CHAT, "chat", "bcdf245678", PodPort(80, 8000), Arm.STABLE)
    assert taken_by_another(there, wanted) == why


def test_an_adopted_arm_is_not_taken_from_an_owned_workload_of_another_service() -> None:
    wanted = arm_service(CHAT.key, "chat", {"app": "chat"}, [], Arm.STABLE)
    theirs = found(owner=OWNER | {"name": "chat-b", "uid": "u-7"})
    assert taken_by_another(theirs, wanted) == "belongs to InferenceService chat-b: rename one of the two"


@pytest.mark.parametrize("port", [None, 80])
def test_an_owned_workload_is_the_stable_revision_for_everybody_else(port: int | None) -> None:
    asked = None if port is None else ServiceRef("llama", port)
    spec = served_by(replace(CHAT, service=asked), "bcdf245678")
    assert spec.target == TargetRef("apps", "Deployment", "chat-bcdf245678")
    assert spec.service == ServiceRef("chat" if port is None else "llama", port)
    assert served_by(spec, "bcdf245678") == spec
