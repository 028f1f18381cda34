"""What the operator writes for gateways, on the fake API and on a real kube-apiserver with RBAC."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from fakes.api_servers_plugin import Served
from penstock.controller.gateways import GatewayObjects, GatewayPlacement
from penstock.controller.owned_objects import RESOURCES
from penstock.dataplane.envoy import ports, stored
from penstock.dataplane.envoy.gateway_services import PORT_ANNOTATION
from penstock.dataplane.envoy.template import GatewayTemplate
from penstock.kube.api import NotFound, PatchType
from penstock.model.spec import ServiceKey
from penstock.model.traffic import Backend, FleetLimit, RoutePlan

SERVICES, DEPLOYMENTS, CONFIG_MAPS = RESOURCES["Service"], RESOURCES["Deployment"], RESOURCES["ConfigMap"]
EXAMPLE_SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "spec": {"selector": {"app": "chat"}, "ports": [{"port": 8000, "targetPort": 9000}]},
}


def objects_of(served: Served, kube: Any = None, **template: Any) -> GatewayObjects:
    placement = GatewayPlacement(
        key=b"k" * 32,
        xds_host="penstock-xds.penstock-system.svc",
        xds_port=18000,
        template=GatewayTemplate(image="penstock-gateway:dev", **template),
        watched=(served.namespace,),
    )
    return GatewayObjects(kube or served.kube, placement)


def a_plan(served: Served, name: str = "chat", *, running: int = 10, port: int = 10_000) -> RoutePlan:
    return RoutePlan(
        key=ServiceKey(served.namespace, name),
        uid="u",
        backend=Backend(served.namespace, name, 8000, served_by="llama"),
        listen_port=port,
        per_replica=FleetLimit(running, 2),
    )


async def create_backend(served: Served, name: str = "chat") -> None:
    await served.kube.create(SERVICES, served.namespace, EXAMPLE_SERVICE | {"metadata": {"name": name}})


async def names(served: Served) -> set[tuple[str, str]]:
    """Every object of ours in the test's namespace."""
    found = set()
    for kind, resource in RESOURCES.items():
        selector = "app.kubernetes.io/managed-by=penstock"
        for body in await served.kube.list(resource, served.namespace, label_selector=selector):
            found.add((kind, body["metadata"]["name"]))
    return found


GROUP = {
    *(
        (kind, "penstock-gateway")
        for kind in RESOURCES
        if kind not in ("Service", "ConfigMap", "NetworkPolicy")
    ),
    ("ConfigMap", "penstock-gateway-plans"),
}


async def ensure(
    objects: GatewayObjects, served: Served, *plans: RoutePlan, now: float = 0.0, **more: Any
) -> Any:
    existing = more.pop("existing", [plan.key for plan in plans])
    return await objects.ensure(served.namespace, plans, existing=existing, now=now, **more)


async def test_a_group_is_created_and_goes_with_its_last_service(served: Served) -> None:
    await create_backend(served)
    objects = objects_of(served)
    await objects.recover()
    assert objects.listen_port(served.namespace, ServiceKey(served.namespace, "chat")) == 10_000
    assert await ensure(objects, served, a_plan(served)) == {}
    assert await names(served) == GROUP | {("Service", "chat-penstock")}
    assert await ensure(objects, served, now=1.0) == {}
    assert await names(served) == {("Service", "chat-penstock")}
    service = await served.kube.get(SERVICES, served.namespace, "chat-penstock")
    assert service["spec"]["selector"] == {"app": "chat"}
    (port,) = service["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, 9000)


async def test_what_is_as_applied_is_not_written_again(served: Served) -> None:
    objects = objects_of(served)
    await objects.recover()
    await ensure(objects, served, a_plan(served))
    version = (await served.kube.get(DEPLOYMENTS, served.namespace, "penstock-gateway"))["metadata"]
    again = objects_of(served)  # a restarted operator
    await again.recover()
    await ensure(again, served, a_plan(served), now=100.0)
    after = (await served.kube.get(DEPLOYMENTS, served.namespace, "penstock-gateway"))["metadata"]
    assert after["resourceVersion"] == version["resourceVersion"]


async def test_a_limit_that_moves_is_stored_once_a_minute(served: Served) -> None:
    objects = objects_of(served)
    await objects.recover()

    async def read_back(running: int, now: float) -> str:
        await ensure(objects, served, a_plan(served, running=running), now=now)
        body = await served.kube.get(CONFIG_MAPS, served.namespace, "penstock-gateway-plans")
        return str(body["data"]["plans.json"])

    assert '"running":10' in await read_back(10, 0.0)
    assert '"running":10' in await read_back(20, 30.0)
    assert '"running":30' in await read_back(30, 61.0)


async def test_what_gateways_were_told_survives_a_restart(served: Served) -> None:
    objects = objects_of(served)
    await objects.recover()
    plan = a_plan(served)
    await ensure(objects, served, plan)
    again = objects_of(served)
    assert again.stored() is None
    await again.recover()
    assert again.stored() == {served.namespace: (plan,)}


async def test_the_port_of_a_service_whose_service_object_was_deleted_is_not_given_to_another(
    served: Served,
) -> None:
    objects = objects_of(served)
    await objects.recover()
    await ensure(objects, served, a_plan(served))
    await served.kube.delete(SERVICES, served.namespace, "chat-penstock")
    again = objects_of(served)
    await again.recover()
    assert again.listen_port(served.namespace, ServiceKey(served.namespace, "other")) == 10_001


async def test_plans_of_another_schema_are_not_used(served: Served) -> None:
    objects = objects_of(served)
    await objects.recover()
    await ensure(objects, served, a_plan(served))
    newer = {"data": {"plans.json": '{"schema": 2, "routes": []}'}}
    await served.kube.patch(CONFIG_MAPS, served.namespace, "penstock-gateway-plans", newer)
    again = objects_of(served)
    await again.recover()
    assert again.stored() == {served.namespace: ()}


async def test_plans_that_do_not_fit_are_told_of_until_they_do_and_logged_once(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, plan = objects_of(served), a_plan(served)
    await objects.recover()
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(stored, "LARGEST_BYTES", 100)
        for now in (0.0, 1.0, 2.0, 61.0, 62.0):
            (reason, message) = (await ensure(objects, served, plan, now=now))[plan.key]
            assert reason == "PlansNotStored", now
            assert message.startswith("the plans of 1 services take ")
    assert [each["event"] for each in logs].count("plans not stored") == 1
    assert await ensure(objects, served, plan, now=122.0) == {}


async def test_plans_that_do_not_fit_are_not_written_anew_each_second(
    served_fake: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "LARGEST_BYTES", 100)
    objects, plan = objects_of(served_fake), a_plan(served_fake)
    await objects.recover()
    await ensure(objects, served_fake, plan)
    monkeypatch.setattr(objects, "_apply_group", None)  # would raise
    assert plan.key in await ensure(objects, served_fake, plan, now=1.0)


async def test_the_budget_of_an_earlier_version_gives_way(served: Served) -> None:
    objects, budgets = objects_of(served), RESOURCES["PodDisruptionBudget"]
    await objects.recover()
    await ensure(objects, served, a_plan(served))
    body = await served.kube.get(budgets, served.namespace, "penstock-gateway")
    metadata = {name: body["metadata"][name] for name in ("name", "namespace", "labels")}
    spec = {"minAvailable": 1, "selector": body["spec"]["selector"]}
    earlier = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}
    await served.kube.apply(budgets, served.namespace, "penstock-gateway", earlier)
    again = objects_of(served)
    await again.recover()
    assert await ensure(again, served, a_plan(served)) == {}
    after = (await served.kube.get(budgets, served.namespace, "penstock-gateway"))["spec"]
    assert (after["maxUnavailable"], "minAvailable" in after) == (1, False)


async def test_a_network_policy_goes_when_it_is_not_wanted_any_more(served: Served) -> None:
    peers = [{"podSelector": {"matchLabels": {"app": "ingress"}}}]
    objects = objects_of(served, namespace="penstock", network_policy={"enabled": True, "from": peers})
    await objects.recover()
    await ensure(objects, served, a_plan(served))
    assert ("NetworkPolicy", "penstock-gateway") in await names(served)
    again = objects_of(served)
    await again.recover()
    assert await ensure(again, served, a_plan(served)) == {}
    assert await names(served) == GROUP | {("Service", "chat-penstock")}


async def test_a_new_service_is_stored_at_once(served: Served) -> None:
    objects = objects_of(served)
    await objects.recover()
    await ensure(objects, served, a_plan(served))
    await ensure(objects, served, a_plan(served), a_plan(served, "other", port=10_001), now=1.0)
    body = await served.kube.get(CONFIG_MAPS, served.namespace, "penstock-gateway-plans")
    assert body["data"]["plans.json"].count('"running"') == 2


async def test_ports_survive_a_restart(served: Served) -> None:
    objects = objects_of(served)
    await objects.recover()
    await ensure(objects, served, a_plan(served, "first"), a_plan(served, "second", port=10_001))
    again = objects_of(served)
    assert again.listen_port(served.namespace, ServiceKey(served.namespace, "second")) is None
    await again.recover()
    ports = [
        again.listen_port(served.namespace, ServiceKey(served.namespace, each)) for each in ("new", "second")
    ]
    assert ports == [10_002, 10_001]


@pytest.mark.parametrize("edited", ["10000", "70000", "80", "9" * 5_000])
async def test_a_port_that_somebody_edited_is_repaired_after_a_restart(served: Served, edited: str) -> None:
    objects = objects_of(served)
    await objects.recover()
    await ensure(objects, served, a_plan(served, "first"), a_plan(served, "second", port=10_001))
    metadata = {"annotations": {PORT_ANNOTATION: edited}}
    path = f"{SERVICES.path(served.namespace, 'second-penstock')}?fieldManager=kubectl-edit"
    status, _ = await served.request("PATCH", path, {"metadata": metadata}, PatchType.MERGE.value)
    assert status == 200
    again = objects_of(served)
    await again.recover()

    def port(name: str) -> int | None:
        return again.listen_port(served.namespace, ServiceKey(served.namespace, name))

    assert [port("first"), port("second"), port("third")] == [10_000, 10_001, 10_002]
    await ensure(again, served, a_plan(served, "first"), a_plan(served, "second", port=10_001))
    service = await served.kube.get(SERVICES, served.namespace, "second-penstock")
    assert service["metadata"]["annotations"][PORT_ANNOTATION] == "10001"


async def test_ports_that_cannot_be_repaired_leave_the_others_theirs(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = objects_of(served)
    await objects.recover()
    await ensure(objects, served, a_plan(served, "first"), a_plan(served, "second", port=10_000))
    monkeypatch.setattr(ports, "LAST_PORT", 10_000)
    again = objects_of(served)
    await again.recover()
    assert again.listen_port(served.namespace, ServiceKey(served.namespace, "first")) == 10_000
    with pytest.raises(ports.NoPortError) as raised:
        again.listen_port(served.namespace, ServiceKey(served.namespace, "second"))
    assert str(raised.value) == (
        f"{served.namespace}/second gets no port: a gateway group has 1; "
        "use one group per namespace (gateway.scope=namespace)"
    )


@pytest.mark.parametrize("kind", ["Service", "Deployment"])
async def test_an_object_of_somebody_else_is_left_alone(served: Served, kind: str) -> None:
    metadata = {"name": "chat-penstock", "labels": {"app.kubernetes.io/managed-by": "Helm"}}
    body: dict[str, Any] = EXAMPLE_SERVICE | {"metadata": metadata}
    if kind == "Deployment":
        metadata["name"] = "penstock-gateway"
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    before = await served.kube.create(RESOURCES[kind], served.namespace, body)
    objects = objects_of(served)
    await objects.recover()
    problems = await ensure(objects, served, a_plan(served))
    (reason, message) = problems[ServiceKey(served.namespace, "chat")]
    assert reason == "GatewayNameTaken"
    assert message == (
        f"{kind} {served.namespace}/{metadata['name']} exists and is not Penstock's (managed by Helm): "
        "rename or delete it"
    )
    after = await served.kube.get(RESOURCES[kind], served.namespace, metadata["name"])
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    await ensure(objects, served, now=30.0)
    kept = await served.kube.get(RESOURCES[kind], served.namespace, metadata["name"])
    assert kept["metadata"]["uid"] == before["metadata"]["uid"], "not removed with the group either"


async def test_a_service_that_exists_without_a_plan_keeps_everything(served: Served) -> None:
    await create_backend(served)
    objects = objects_of(served)
    await objects.recover()
    await ensure(objects, served, a_plan(served))
    again = objects_of(served)
    await again.recover()
    await ensure(again, served, existing=[ServiceKey(served.namespace, "chat")])
    assert await names(served) == GROUP | {("Service", "chat-penstock")}
    service = await served.kube.get(SERVICES, served.namespace, "chat-penstock")
    assert service["spec"]["selector"]["app.kubernetes.io/name"] == "penstock-gateway"


async def test_a_service_deleted_while_the_operator_was_down_is_handed_back(served: Served) -> None:
    await create_backend(served)
    first = objects_of(served)
    await first.recover()
    await ensure(first, served, a_plan(served))
    again = objects_of(served)
    await again.recover()
    assert again.groups() == (served.namespace,)
    await ensure(again, served)
    service = await served.kube.get(SERVICES, served.namespace, "chat-penstock")
    assert service["spec"]["selector"] == {"app": "chat"}
    assert again.groups() == ()


async def test_a_returning_service_leads_to_the_gateways_only_when_they_have_its_route(
    served: Served,
) -> None:
    await create_backend(served)
    objects = objects_of(served)
    await objects.recover()
    await ensure(objects, served, a_plan(served))
    await ensure(objects, served, now=1.0)

    async def selected() -> dict[str, str]:
        body = await served.kube.get(SERVICES, served.namespace, "chat-penstock")
        return dict(body["spec"]["selector"])

    plan = a_plan(served)
    assert await ensure(objects, served, plan, now=2.0) == {}
    assert await selected() == {"app": "chat"}
    assert await ensure(objects, served, plan, reached=[plan.key], now=3.0) == {}
    assert (await selected())["app.kubernetes.io/name"] == "penstock-gateway"


async def test_a_deleted_object_comes_back_within_half_an_hour(served: Served) -> None:
    objects = objects_of(served)
    await objects.recover()
    await ensure(objects, served, a_plan(served))
    await served.kube.delete(DEPLOYMENTS, served.namespace, "penstock-gateway")
    await ensure(objects, served, a_plan(served), now=1800.0)
    assert (await served.kube.get(DEPLOYMENTS, served.namespace, "penstock-gateway"))["spec"]["replicas"] == 2


async def test_a_field_that_somebody_changed_by_hand_is_set_again(served: Served) -> None:
    objects = objects_of(served)
    await objects.recover()
    await ensure(objects, served, a_plan(served))
    path = f"{DEPLOYMENTS.path(served.namespace, 'penstock-gateway')}?fieldManager=kubectl-edit"
    status, _ = await served.request("PATCH", path, {"spec": {"replicas": 7}}, PatchType.MERGE.value)
    assert status == 200
    again = objects_of(served)
    await again.recover()
    assert await ensure(again, served, a_plan(served)) == {}
    body = await served.kube.get(DEPLOYMENTS, served.namespace, "penstock-gateway")
    assert body["spec"]["replicas"] == 2


async def test_following_never_waits_and_tells_of_the_round_before(served: Served) -> None:
    await create_backend(served)
    objects = objects_of(served)
    plan = a_plan(served)
    assert objects.follow({served.namespace: [plan]}, [plan.key], reached=[], now=0.0) == {}
    with pytest.raises(NotFound):
        await served.kube.get(DEPLOYMENTS, served.namespace, "penstock-gateway")
    await objects.settled()
    assert await names(served) == GROUP | {("Service", "chat-penstock")}
    await objects.close()
