"""Gateways of another gateway.scope, and what tenants may write: on the fake API and on a real one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from fakes.api_servers_plugin import Served
from penstock.controller.gateways import GatewayObjects, GatewayPlacement
from penstock.controller.owned_objects import RESOURCES, Problem
from penstock.dataplane.envoy.gateway_services import PORT_ANNOTATION
from penstock.dataplane.envoy.manifests import GROUP_LABEL
from penstock.dataplane.envoy.stored import store_plans
from penstock.dataplane.envoy.template import GatewayTemplate
from penstock.kube.api import Forbidden, NotFound, PatchType, Resource
from penstock.model.spec import ServiceKey
from penstock.model.traffic import Backend, CanaryRoute, FallbackPlan, RoutePlan

SERVICES, DEPLOYMENTS, CONFIG_MAPS = RESOURCES["Service"], RESOURCES["Deployment"], RESOURCES["ConfigMap"]
PODS_OF_CHAT = {"app": "chat"}


class Operator:
    """One life of the operator with a scope; `home` "" is gateway.scope=namespace."""

    def __init__(self, served: Served, home: str = "", *, watched: tuple[str, ...] = ()) -> None:
        self.served, self.now = served, 1000.0
        placement = GatewayPlacement(
            key=b"k" * 32,
            xds_host="xds",
            xds_port=18000,
            template=GatewayTemplate(image="i", namespace=release_namespace(served)),
            namespace=home,
            watched=watched or (served.namespace,),
        )
        self.objects = GatewayObjects(served.kube, placement)

    async def round(
        self, *plans: RoutePlan, reached: Collection[RoutePlan] = (), seconds: float = 1.0
    ) -> dict[ServiceKey, Problem]:
        """Let one round end; returns what it met with."""
        self.now += seconds
        routes: dict[str, list[RoutePlan]] = {}
        for plan in plans:
            routes.setdefault(self.objects.group_of(plan.key), []).append(plan)
        keys = [plan.key for plan in plans]
        met: dict[ServiceKey, Problem] = {}
        for _ in range(2):  # the second tells of the first
            met = dict(
                self.objects.follow(routes, keys, reached=[each.key for each in reached], now=self.now)
            )
            await self.objects.settled()
        return met


def release_namespace(served: Served) -> str:
    return f"{served.namespace}-home"


async def create_namespace(served: Served, name: str) -> None:
    await served.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})


@pytest.fixture
async def home(served: Served) -> str:
    """The namespace of the release, beside that of the services."""
    await create_namespace(served, release_namespace(served))
    return release_namespace(served)


def a_plan(namespace: str, name: str = "chat", *, port: int = 10_000) -> RoutePlan:
    return RoutePlan(ServiceKey(namespace, name), "u", Backend(namespace, name, 8000, "llama"), port)


async def create_backend(served: Served, namespace: str = "") -> None:
    spec = {"selector": PODS_OF_CHAT, "ports": [{"port": 8000, "targetPort": 9000}]}
    body = {"metadata": {"name": "chat"}, "spec": spec}
    await served.kube.create(SERVICES, namespace or served.namespace, body)


async def group_in(served: Served, namespace: str) -> str:
    """Whose gateways stand in a namespace; "" where none do."""
    try:
        body = await served.kube.get(DEPLOYMENTS, namespace, "penstock-gateway")
    except NotFound:
        return ""
    return str(body["metadata"]["labels"][GROUP_LABEL])


async def front(served: Served) -> dict[str, Any]:
    spec: dict[str, Any] = (await served.kube.get(SERVICES, served.namespace, "chat-penstock"))["spec"]
    return spec


async def ours_in(served: Served, namespace: str) -> set[str]:
    """Every kind of object of ours in a namespace."""
    selector = "app.kubernetes.io/managed-by=penstock"
    found = {
        kind: await served.kube.list(resource, namespace, label_selector=selector)
        for kind, resource in RESOURCES.items()
    }
    return {kind for kind, bodies in found.items() if bodies}


async def edit(served: Served, resource: Resource, name: str, body: dict[str, Any]) -> None:
    path = f"{resource.path(served.namespace, name)}?fieldManager=kubectl-edit"
    status, answer = await served.request("PATCH", path, body, PatchType.MERGE.value)
    assert status == 200, answer


async def test_services_pass_to_the_clusters_gateways_when_those_have_their_routes(
    served: Served, home: str
) -> None:
    await create_backend(served)
    plan = a_plan(served.namespace)
    await Operator(served).round(plan)
    after = Operator(served, home)
    assert await after.round(plan) == {}
    assert (await front(served))["selector"][GROUP_LABEL] == served.namespace, "the new have no route yet"
    assert (await group_in(served, served.namespace), await group_in(served, home)) == (
        served.namespace,
        "penstock",
    )
    await after.round(plan, reached=[plan])
    assert (await front(served))["type"] == "ExternalName"
    await after.round(plan)
    assert await group_in(served, served.namespace), "clients may still come by the old address"
    await after.round(plan, seconds=61.0)
    assert (await group_in(served, served.namespace), await group_in(served, home)) == ("", "penstock")
    # The new gateways' agents read EndpointSlices here.
    assert await ours_in(served, served.namespace) == {"Service", "Role", "RoleBinding"}


async def test_services_pass_to_their_namespaces_gateways_when_those_have_their_routes(
    served: Served, home: str
) -> None:
    await create_backend(served)
    plan = a_plan(served.namespace)
    await Operator(served, home).round(plan)
    alias = await front(served)
    after = Operator(served)
    assert await after.round(plan) == {}
    assert (await front(served))["externalName"] == alias["externalName"]
    await after.round(plan, reached=[plan])
    assert (await front(served))["selector"][GROUP_LABEL] == served.namespace
    await after.round(plan)
    await after.round(plan, seconds=61.0)
    assert await ours_in(served, home) == set()
    assert await group_in(served, served.namespace) == served.namespace


async def test_a_service_deleted_between_two_scopes_is_handed_back(served: Served, home: str) -> None:
    await create_backend(served)
    await Operator(served).round(a_plan(served.namespace))
    after = Operator(served, home)
    await after.round()
    assert (await front(served))["selector"] == PODS_OF_CHAT
    await after.round(seconds=61.0)
    assert await ours_in(served, served.namespace) == {"Service"}


async def test_a_service_with_tls_deleted_between_two_scopes_stays_at_the_old_gateways(
    served: Served, home: str
) -> None:
    await create_backend(served)
    plan = replace(a_plan(served.namespace), tls_secret="chat-tls")
    await Operator(served).round(plan)
    before = await front(served)
    after = Operator(served, home)
    await after.round()
    await after.round(seconds=600.0)
    assert await front(served) == before
    assert (await group_in(served, served.namespace), await group_in(served, home)) == (served.namespace, "")
    await served.kube.delete(SERVICES, served.namespace, "chat-penstock")
    await after.round(seconds=61.0)
    await after.round(seconds=61.0)
    assert await group_in(served, served.namespace) == ""


@pytest.mark.parametrize("scopes", [(False, True), (True, False)], ids=["to cluster", "to namespace"])
async def test_in_the_namespace_of_the_release_the_new_gateways_follow_the_old(
    served: Served, scopes: tuple[bool, bool]
) -> None:
    await create_backend(served)
    plan = a_plan(served.namespace)
    first, second = (served.namespace if cluster else "" for cluster in scopes)
    await Operator(served, first).round(plan)
    after = Operator(served, second)
    for _ in range(4):
        problems = await after.round(plan, reached=[plan], seconds=61.0)
    assert problems == {}
    wanted = "penstock" if second else served.namespace
    assert await group_in(served, served.namespace) == wanted
    assert (await front(served))["selector"][GROUP_LABEL] == wanted


async def test_gateways_that_cannot_be_removed_are_tried_again_in_a_minute(
    served_fake: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, home = served_fake, release_namespace(served_fake)
    await Operator(served).round(a_plan(served.namespace))
    await served.kube.delete(SERVICES, served.namespace, "chat-penstock")
    after, asked = Operator(served, home), []

    async def refused(*arguments: Any) -> None:
        asked.append(arguments)
        raise Forbidden("no")

    with monkeypatch.context() as patch:
        patch.setattr(served.kube, "delete", refused)
        await after.round()
        for _ in range(3):
            await after.round(seconds=20.5)
    assert len(asked) == 1
    await after.round(seconds=60.0)
    assert await group_in(served, served.namespace) == ""


async def test_the_agents_role_goes_from_a_namespace_that_is_not_served_any_more(
    served: Served, home: str
) -> None:
    other = f"{served.namespace}-other"
    await create_namespace(served, other)
    plans = [a_plan(served.namespace), a_plan(other, port=10_001)]
    for namespace in (served.namespace, other):
        await create_backend(served, namespace)
    both = (served.namespace, other)
    await Operator(served, home, watched=both).round(*plans)
    again = Operator(served, home, watched=both)
    await again.round(*plans)
    assert "Role" in await ours_in(served, other)
    await again.round(plans[0])
    assert await ours_in(served, other) == {"Service"}
    assert "Role" in await ours_in(served, served.namespace)
    await again.round()
    assert await ours_in(served, served.namespace) == {"Service"}
    assert await ours_in(served, home) == set()


async def test_stored_plans_of_other_groups_and_of_other_namespaces_backends_are_not_taken_over(
    served: Served,
) -> None:
    plan = a_plan(served.namespace)
    await Operator(served).round(plan)
    theirs = Backend("victim", "chat", 8000, "llama")
    canary = CanaryRoute(theirs, weight_percent=100)
    spilling = FallbackPlan(a_plan(served.namespace).backend, service=ServiceKey("victim", "chat"))
    forged = [
        a_plan("victim", port=10_001),
        replace(a_plan(served.namespace, "a", port=10_002), backend=theirs),
        replace(a_plan(served.namespace, "b", port=10_003), canary=canary),
        replace(a_plan(served.namespace, "c", port=10_004), fallback=FallbackPlan(theirs)),
        replace(a_plan(served.namespace, "d", port=10_005), fallback=spilling),
    ]
    data = {"data": {"plans.json": store_plans([plan, *forged])}}
    await edit(served, CONFIG_MAPS, "penstock-gateway-plans", data)
    again = Operator(served)
    await again.objects.recover()
    assert again.objects.stored() == {served.namespace: (plan,)}
    key = ServiceKey(served.namespace, "new")
    assert again.objects.listen_port(served.namespace, key) == 10_001, "nor are their ports"


async def test_a_service_that_names_other_gateways_takes_none_of_their_ports(served: Served) -> None:
    plan = a_plan(served.namespace, port=10_007)
    await Operator(served).round(plan)
    await edit(served, SERVICES, "chat-penstock", {"metadata": {"labels": {GROUP_LABEL: "victim"}}})
    await served.kube.delete(CONFIG_MAPS, served.namespace, "penstock-gateway-plans")
    again = Operator(served)
    await again.objects.recover()
    assert again.objects.groups() == (served.namespace,)
    assert again.objects.listen_port("victim", ServiceKey("victim", "chat")) == 10_000
    assert again.objects.listen_port(served.namespace, plan.key) == 10_000


async def test_no_tenant_takes_the_port_of_another_by_editing_a_service(served: Served, home: str) -> None:
    # By name the editor comes first, as who keeps a port that two claim.
    mine, victims = a_plan(served.namespace, port=10_001), a_plan(f"{served.namespace}z", port=10_000)
    watched = (served.namespace, victims.key.namespace)
    await create_namespace(served, victims.key.namespace)
    await Operator(served, home, watched=watched).round(mine, victims)
    await edit(served, SERVICES, "chat-penstock", {"metadata": {"annotations": {PORT_ANNOTATION: "10000"}}})
    again = Operator(served, home, watched=watched)
    await again.objects.recover()
    assert again.objects.listen_port("penstock", victims.key) == 10_000
    assert again.objects.listen_port("penstock", mine.key) == 10_001
