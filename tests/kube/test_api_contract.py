"""The same cases against the fake API and a real kube-apiserver: what tests rely on is what clusters do."""

from __future__ import annotations

import asyncio

import pytest

from fakes.api_servers_plugin import Served
from fakes.kube_bodies import CONFIG_MAPS, a_config_map, a_deployment, a_service
from penstock.kube.api import (
    DEPLOYMENTS,
    EVENTS,
    INFERENCE_SERVICES,
    LEASES,
    PODS,
    STATEFUL_SETS,
    Conflict,
    NotFound,
    Resource,
    Unprocessable,
)


async def test_a_created_object_comes_back_with_what_the_server_adds(served: Served) -> None:
    created = await served.kube.create(DEPLOYMENTS, served.namespace, a_deployment(replicas=3))
    metadata = created["metadata"]
    assert created["kind"] == "Deployment"
    assert metadata["namespace"] == served.namespace
    assert metadata["generation"] == 1
    assert int(metadata["resourceVersion"]) > 0
    assert metadata["uid"]
    assert metadata["creationTimestamp"].endswith("Z")
    assert created["spec"]["replicas"] == 3
    assert await served.kube.get(DEPLOYMENTS, served.namespace, "chat") == created


async def test_a_name_is_made_from_generate_name(served: Served) -> None:
    body = a_config_map("x") | {"metadata": {"generateName": "made-"}}
    created = await served.kube.create(CONFIG_MAPS, served.namespace, body)
    assert created["metadata"]["name"].startswith("made-")
    assert len(created["metadata"]["name"]) > len("made-")


async def test_creating_twice_is_a_conflict(served: Served) -> None:
    await served.kube.create(DEPLOYMENTS, served.namespace, a_deployment())
    with pytest.raises(Conflict, match=r'^deployments\.apps "chat" already exists$'):
        await served.kube.create(DEPLOYMENTS, served.namespace, a_deployment())


@pytest.mark.parametrize(
    ("resource", "message"),
    [
        (DEPLOYMENTS, r'^deployments\.apps "absent" not found$'),
        (PODS, r'^pods "absent" not found$'),
        (
            Resource("nobody.dev", "v1", "things", "Thing"),
            r"could not find the requested resource|404 page not found",
        ),
    ],
)
async def test_what_does_not_exist_is_not_found(served: Served, resource: Resource, message: str) -> None:
    with pytest.raises(NotFound, match=message):
        await served.kube.get(resource, served.namespace, "absent")


async def test_a_namespace_that_contradicts_the_url_is_refused(served: Served) -> None:
    body = a_config_map("x")
    body["metadata"]["namespace"] = "elsewhere"
    with pytest.raises(Unprocessable, match="the namespace of the provided object does not match"):
        await served.kube.create(CONFIG_MAPS, served.namespace, body)


async def test_a_list_in_pages_is_the_whole_list(served: Served) -> None:
    names = [f"map-{index}" for index in range(5)]
    for name in names:
        await served.kube.create(CONFIG_MAPS, served.namespace, a_config_map(name))
    path = CONFIG_MAPS.path(served.namespace)
    found: list[str] = []
    versions = set()
    token, pages = "", 0
    while True:
        status, page = await served.request("GET", f"{path}?limit=2&continue={token}")
        assert status == 200
        assert page["kind"] == "ConfigMapList"
        found += [item["metadata"]["name"] for item in page["items"]]
        versions.add(page["metadata"]["resourceVersion"])
        pages += 1
        token = page["metadata"].get("continue", "")
        if not token:
            break
    # A namespace of a real cluster has a map of its own (kube-root-ca.crt) where controllers run.
    assert [name for name in found if name.startswith("map-")] == names
    assert pages == 3
    assert len(versions) == 1


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("labelSelector=tier=a", ["one"]),
        ("labelSelector=tier!=a", ["three", "two"]),
        ("labelSelector=tier in (a,b)", ["one", "two"]),
        ("labelSelector=tier notin (a)", ["three", "two"]),
        ("labelSelector=tier", ["one", "two"]),
        ("labelSelector=!tier", ["three"]),
        ("labelSelector=tier=b,team=x", ["two"]),
        ("labelSelector=tier in (a,b),team=x", ["two"]),
        ("fieldSelector=metadata.name=two", ["two"]),
        ("fieldSelector=metadata.name!=two", ["one", "three"]),
    ],
)
async def test_selectors_choose(served: Served, selector: str, expected: list[str]) -> None:
    for name, labels in (("one", {"tier": "a"}), ("two", {"tier": "b", "team": "x"}), ("three", {})):
        await served.kube.create(CONFIG_MAPS, served.namespace, a_config_map(name, **labels))
    _, answer = await served.request("GET", f"{CONFIG_MAPS.path(served.namespace)}?{selector}")
    assert [item["metadata"]["name"] for item in answer["items"]] == expected


async def test_spec_and_status_are_written_apart(served: Served) -> None:
    body = a_service() | {"status": {"observedGeneration": 7}}
    created = await served.kube.create(INFERENCE_SERVICES, served.namespace, body)
    assert "status" not in created
    both = {"spec": {"mode": "Observe"}, "status": {"observedGeneration": 1}}
    of_status = await served.kube.patch(
        INFERENCE_SERVICES, served.namespace, "chat", both, subresource="status"
    )
    assert of_status["status"] == {"observedGeneration": 1}
    assert of_status["spec"]["mode"] == "Enforce"
    both["status"] = {"observedGeneration": 2}
    of_spec = await served.kube.patch(INFERENCE_SERVICES, served.namespace, "chat", both)
    assert of_spec["status"] == {"observedGeneration": 1}
    assert of_spec["spec"]["mode"] == "Observe"


async def test_generation_counts_changes_of_the_spec_only(served: Served) -> None:
    kube, at = served.kube, (INFERENCE_SERVICES, served.namespace, "chat")
    await kube.create(INFERENCE_SERVICES, served.namespace, a_service())
    labelled = await kube.patch(*at, {"metadata": {"labels": {"a": "b"}}})
    told = await kube.patch(*at, {"status": {"observedGeneration": 1}}, subresource="status")
    changed = await kube.patch(*at, {"spec": {"replicas": {"max": 7}}})
    generations = [each["metadata"]["generation"] for each in (labelled, told, changed)]
    assert generations == [1, 1, 2]


async def test_defaults_are_filled_in_and_unknown_fields_dropped(served: Served) -> None:
    body = a_service(replicas={"max": 4, "unknown": 1}, cost=None)
    created = await served.kube.create(INFERENCE_SERVICES, served.namespace, body)
    assert created["spec"]["replicas"] == {
        "min": 1,
        "max": 4,
        "spare": 0,
        "initialStartup": "2m",
        "scaleDownWindow": "5m",
    }
    assert created["spec"]["engine"] == {
        "type": "VLLM",
        "profile": {"type": "Learned"},
        "maxConcurrency": 256,
    }
    assert "cost" not in created["spec"]


async def test_a_custom_resource_is_replaced_only_at_its_version(served: Served) -> None:
    created = await served.kube.create(INFERENCE_SERVICES, served.namespace, a_service())
    with pytest.raises(Unprocessable, match=r"metadata\.resourceVersion: Invalid value: .*must be specified"):
        await served.kube.replace(INFERENCE_SERVICES, served.namespace, "chat", a_service())
    created["spec"]["mode"] = "Paused"
    replaced = await served.kube.replace(INFERENCE_SERVICES, served.namespace, "chat", created)
    assert replaced["spec"]["mode"] == "Paused"


@pytest.mark.parametrize("resource", [DEPLOYMENTS, STATEFUL_SETS], ids=str)
async def test_scale_reads_and_sets_the_target(served: Served, resource: Resource) -> None:
    body = a_deployment(replicas=2) | {"kind": resource.kind}
    if resource is STATEFUL_SETS:
        body["spec"]["serviceName"] = "chat"
    created = await served.kube.create(resource, served.namespace, body)
    scale = await served.kube.get_scale(resource, served.namespace, "chat")
    assert (scale.replicas, scale.current, scale.selector) == (2, 0, "app=chat")
    assert scale.resource_version == created["metadata"]["resourceVersion"]
    written = await served.kube.patch_scale(
        resource, served.namespace, "chat", replicas=5, resource_version=scale.resource_version
    )
    assert written.replicas == 5
    after = await served.kube.get(resource, served.namespace, "chat")
    assert after["spec"]["replicas"] == 5
    assert after["metadata"]["generation"] == 2
    assert after["metadata"]["resourceVersion"] == written.resource_version
    with pytest.raises(Conflict, match="the object has been modified"):
        await served.kube.patch_scale(
            resource, served.namespace, "chat", replicas=6, resource_version=scale.resource_version
        )


async def test_a_target_scaled_to_zero_reads_as_zero(served: Served) -> None:
    await served.kube.create(DEPLOYMENTS, served.namespace, a_deployment(replicas=0))
    assert (await served.kube.get_scale(DEPLOYMENTS, served.namespace, "chat")).replicas == 0


async def test_a_workload_without_a_count_has_one_replica(served: Served) -> None:
    await served.kube.create(DEPLOYMENTS, served.namespace, a_deployment())
    assert (await served.kube.get_scale(DEPLOYMENTS, served.namespace, "chat")).replicas == 1


async def test_what_has_no_scale_is_not_found(served: Served) -> None:
    await served.kube.create(CONFIG_MAPS, served.namespace, a_config_map("map"))
    with pytest.raises(NotFound):
        await served.kube.get_scale(CONFIG_MAPS, served.namespace, "map")
    await served.kube.create(INFERENCE_SERVICES, served.namespace, a_service())
    with pytest.raises(NotFound):
        await served.kube.get_scale(INFERENCE_SERVICES, served.namespace, "chat")


async def test_a_negative_count_is_refused(served: Served) -> None:
    created = await served.kube.create(DEPLOYMENTS, served.namespace, a_deployment())
    version = created["metadata"]["resourceVersion"]
    with pytest.raises(Unprocessable, match="must be greater than or equal to 0"):
        await served.kube.patch_scale(
            DEPLOYMENTS, served.namespace, "chat", replicas=-1, resource_version=version
        )


async def test_of_two_writers_of_a_lease_one_wins(served: Served) -> None:
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "penstock"},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15},
    }
    created = await served.kube.create(LEASES, served.namespace, lease)
    claims = [created | {"spec": created["spec"] | {"holderIdentity": who}} for who in ("b", "c")]
    answers = await asyncio.gather(
        *(served.kube.replace(LEASES, served.namespace, "penstock", claim) for claim in claims),
        return_exceptions=True,
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "dict"]


async def test_an_event_is_stored(served: Served) -> None:
    body = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "chat.1"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "type": "Normal",
        "reason": "Scaled",
        "action": "Scale",
        "note": "5 replicas",
        "reportingController": "penstock",
        "reportingInstance": "penstock-0",
        "regarding": {"kind": "InferenceService", "namespace": served.namespace, "name": "chat"},
    }
    await served.kube.create(EVENTS, served.namespace, body)
    (event,) = await served.kube.list(EVENTS, served.namespace)
    assert event["note"] == "5 replicas"


async def test_a_finalizer_keeps_a_deleted_object(served: Served) -> None:
    body = a_config_map("map")
    body["metadata"]["finalizers"] = ["penstock.dev/test"]
    await served.kube.create(CONFIG_MAPS, served.namespace, body)
    path = CONFIG_MAPS.path(served.namespace, "map")
    assert (await served.request("DELETE", path))[0] == 200
    held = await served.kube.get(CONFIG_MAPS, served.namespace, "map")
    assert held["metadata"]["deletionTimestamp"]
    await served.kube.patch(CONFIG_MAPS, served.namespace, "map", {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await served.kube.get(CONFIG_MAPS, served.namespace, "map")


async def test_kinds_are_discovered(served: Served) -> None:
    assert await served.kube.resource_of("serving.penstock.dev", "InferenceService") == INFERENCE_SERVICES
    with pytest.raises(NotFound):
        await served.kube.resource_of("nobody.dev", "Thing")


async def test_our_resource_is_discovered_with_its_names(served: Served) -> None:
    _, answer = await served.request("GET", "/apis/serving.penstock.dev/v1alpha1")
    (ours,) = [each for each in answer["resources"] if each["name"] == "inferenceservices"]
    assert ours["shortNames"] == ["psvc"]
    assert ours["categories"] == ["penstock"]
    assert {"name", "kind"} <= ours.keys()
    assert "inferenceservices/status" in [each["name"] for each in answer["resources"]]
    assert "inferenceservices/scale" not in [each["name"] for each in answer["resources"]]
