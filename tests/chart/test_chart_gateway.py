"""What the chart gives gateways: a way to the leader, a key, a template, and permissions that suffice."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes.api_servers_plugin import Served
from penstock.controller.gateways import GatewayObjects, GatewayPlacement
from penstock.controller.owned_objects import RESOURCES
from penstock.dataplane.envoy.template import AGENT_RESOURCES, ENVOY_RESOURCES, GatewayTemplate, read_template
from penstock.dataplane.envoy.tokens import SHORTEST_KEY_BYTES
from penstock.kube.aio_client import AioKubeApi, connect
from penstock.kube.api import Forbidden, PatchType, Resource
from penstock.model.spec import ServiceKey
from penstock.model.traffic import Backend, RoutePlan
from penstock.sandbox.apiserver import ApiServer

Objects = list[dict[str, Any]]
Render = Callable[..., Objects]
SECRETS, SERVICES = RESOURCES["Secret"], RESOURCES["Service"]


def one(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def pod(objects: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = one(objects, "Deployment", "penstock")["spec"]["template"]
    return spec


def template(objects: Objects) -> GatewayTemplate:
    return read_template(
        yaml.safe_load(one(objects, "ConfigMap", "penstock-gateway")["data"]["template.yaml"])
    )


def test_gateways_find_the_leader_and_no_standby(render: Render) -> None:
    objects = render()
    service = one(objects, "Service", "penstock-xds")
    labels = pod(objects)["metadata"]["labels"]
    assert service["spec"]["selector"] == {
        **{name: labels[name] for name in service["spec"]["selector"] if name in labels},
        "serving.penstock.dev/leader": "true",
    }
    assert "serving.penstock.dev/leader" not in labels
    (container,) = pod(objects)["spec"]["containers"]
    assert {"name": "xds", "containerPort": 18000, "protocol": "TCP"} in container["ports"]
    assert "--xds-address=penstock-xds.penstock-system.svc:18000" in container["args"]
    assert [each["name"] for each in container["env"]] == ["POD_NAME", "POD_NAMESPACE"]


def test_the_template_is_what_the_operator_reads(render: Render) -> None:
    found = template(render())
    assert found.image.startswith("penstock-gateway:")
    assert found == GatewayTemplate(image=found.image, namespace="penstock-system")
    assert (found.resources, found.agent_resources) == (ENVOY_RESOURCES, AGENT_RESOURCES)
    changed = template(
        render("gateway.replicas=3", "gateway.concurrency=2", "gateway.pod.nodeSelector.pool=edge")
    )
    assert (changed.replicas, changed.concurrency, changed.pod) == (3, 2, {"nodeSelector": {"pool": "edge"}})


def test_who_may_reach_gateways_is_the_users_to_say(render: Render) -> None:
    peers = "gateway.networkPolicy.from[0].podSelector.matchLabels.app=ingress"
    found = template(render("gateway.networkPolicy.enabled=true", peers))
    peer = {"podSelector": {"matchLabels": {"app": "ingress"}}}
    assert found.network_policy == {"enabled": True, "from": [peer]}


def test_a_quota_on_limits_is_met_by_values(render: Render) -> None:
    found = template(render("gateway.resources.limits.cpu=2", "gateway.agentResources.limits.cpu=200m"))
    assert found.resources["limits"] == {"cpu": 2, "memory": "512Mi"}
    assert found.agent_resources["limits"] == {"cpu": "200m", "memory": "256Mi"}


def test_users_of_pods_can_be_left_to_the_cluster(render: Render) -> None:
    keys = ("runAsUser", "runAsGroup", "fsGroup")
    values = [f"{where}podSecurityContext.{key}=null" for where in ("", "gateway.") for key in keys]
    objects = render(*values)
    left = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod(objects)["spec"]["securityContext"] == left
    assert template(objects).pod_security_context == left


def test_a_new_template_restarts_the_operator(render: Render) -> None:
    name = "serving.penstock.dev/gateway-template"
    before, after = (
        pod(render(*values))["metadata"]["annotations"] for values in ([], ["gateway.replicas=3"])
    )
    assert before[name] != after[name]
    assert before == pod(render())["metadata"]["annotations"]


def test_the_chart_makes_a_key_that_is_long_enough_and_outlives_a_release(render: Render) -> None:
    secret = one(render(), "Secret", "penstock-gateway-key")
    key = base64.b64decode(secret["data"]["key"])
    assert len(key) > 2 * SHORTEST_KEY_BYTES
    assert secret["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert key != base64.b64decode(one(render(), "Secret", "penstock-gateway-key")["data"]["key"])


def test_a_key_of_the_users_own_is_mounted_instead(render: Render) -> None:
    objects = render("gateway.tokenSecret.name=mine", "gateway.tokenSecret.key=secret")
    assert not [each for each in objects if each["kind"] == "Secret"]
    spec = pod(objects)["spec"]
    assert {"name": "gateway-key", "secret": {"secretName": "mine"}} in spec["volumes"]
    assert "--gateway-key-file=/var/run/secrets/gateway/secret" in spec["containers"][0]["args"]


def test_without_gateways_there_is_nothing_of_them(render: Render) -> None:
    objects = render("gateway.enabled=false")
    assert "gateway" not in yaml.safe_dump(
        [each for each in objects if each["kind"] in ("Deployment", "Service")]
    )
    assert not [each for each in objects if each["kind"] in ("Secret", "ConfigMap")]


@pytest.mark.parametrize(
    ("scope", "namespaces"),
    [("namespace", {}), ("cluster", {"matchLabels": {"kubernetes.io/metadata.name": "penstock-system"}})],
)
def test_xds_is_open_to_gateway_pods_only(render: Render, scope: str, namespaces: dict[str, Any]) -> None:
    policy = one(render("networkPolicy.enabled=true", f"gateway.scope={scope}"), "NetworkPolicy", "penstock")
    (rule,) = [each for each in policy["spec"]["ingress"] if each["ports"][0]["port"] == "xds"]
    gateways = {"matchLabels": {"app.kubernetes.io/name": "penstock-gateway"}}
    assert rule["from"] == [{"namespaceSelector": namespaces, "podSelector": gateways}]


@pytest.fixture(params=["namespace", "cluster"])
async def operator(
    request: pytest.FixtureRequest, render: Render, apiserver: ApiServer, served_real: Served, tmp_path: Path
) -> AsyncIterator[tuple[AioKubeApi, GatewayPlacement]]:
    """The API server as the chart's operator may use it, with roles only in the test's two namespaces."""
    home, account = f"{served_real.namespace}-home", "penstock"
    await served_real.request("POST", "/api/v1/namespaces", {"metadata": {"name": home}})
    values = ("rbac.scope=namespaces", f"rbac.namespaces={{{served_real.namespace}}}")
    for body in render(*values, f"gateway.scope={request.param}"):
        if body["kind"] not in ("Role", "RoleBinding"):
            continue
        for subject in body.get("subjects", ()):
            subject["namespace"] = home
        namespace = body["metadata"]["namespace"].replace("penstock-system", home)
        body["metadata"]["namespace"] = namespace
        plural = f"{body['kind'].lower()}s"
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{plural}"
        status, answer = await served_real.request("POST", path, body)
        assert status == 201, answer
    token = apiserver.token_for(home, account)
    kube = await connect(kubeconfig=str(apiserver.kubeconfig(tmp_path / "operator", token=token)))
    placement = GatewayPlacement(
        key=b"k" * 32,
        xds_host="penstock-xds.svc",
        xds_port=18000,
        template=GatewayTemplate(image="i", namespace=home),
        namespace=home if request.param == "cluster" else "",
        watched=(served_real.namespace,),
    )
    yield kube, placement
    await kube.close()


@pytest.mark.api
async def test_the_operators_permissions_suffice_for_all_it_does_for_gateways(
    operator: tuple[AioKubeApi, GatewayPlacement], served_real: Served
) -> None:
    kube, placement = operator
    namespace = served_real.namespace
    backend = {"metadata": {"name": "chat"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 8000}]}}
    await served_real.kube.create(SERVICES, namespace, backend)
    key = ServiceKey(namespace, "chat")
    objects = GatewayObjects(kube, placement)
    await objects.recover()
    group = objects.group_of(key)
    port = objects.listen_port(group, key)
    assert port == 10_000
    plan = RoutePlan(key, "u", Backend(namespace, "chat", 8000, "llama"), port)
    assert await objects.ensure(group, [plan], existing=[key], now=0.0) == {}
    home = placement.namespace or namespace
    assert (await served_real.kube.get(SECRETS, home, "penstock-gateway"))["type"] == "Opaque"
    assert await objects.ensure(group, [], existing=[], now=100.0) == {}
    assert objects.groups() == ()
    for resource in RESOURCES.values():
        left = await served_real.kube.list(
            resource, home, label_selector="app.kubernetes.io/managed-by=penstock"
        )
        names = [each["metadata"]["name"] for each in left]
        assert names == (["chat-penstock"] if resource is SERVICES and not placement.namespace else [])
    service = await served_real.kube.get(SERVICES, namespace, "chat-penstock")
    assert service["spec"]["selector"] == {"a": "b"}
    assert service["spec"]["type"] == "ClusterIP"


@pytest.mark.api
async def test_the_operators_permissions_suffice_to_remove_what_another_scope_left(
    operator: tuple[AioKubeApi, GatewayPlacement], served_real: Served
) -> None:
    kube, placement = operator
    namespace, home = served_real.namespace, placement.template.namespace
    before = replace(placement, namespace="" if placement.namespace else home)
    plan = RoutePlan(ServiceKey(namespace, "chat"), "u", Backend(namespace, "chat", 8000, "llama"), 10_000)
    for api, place, times in ((served_real.kube, before, [0.0]), (kube, placement, [1.0, 2.0, 62.0])):
        objects = GatewayObjects(api, place)
        for now in [times[0], *times]:
            objects.follow({objects.group_of(plan.key): [plan]}, [plan.key], reached=[plan.key], now=now)
            await objects.settled()
    left, new = (namespace, home) if placement.namespace else (home, namespace)
    ours = "app.kubernetes.io/managed-by=penstock"
    deployments = RESOURCES["Deployment"]
    assert not await served_real.kube.list(deployments, left, label_selector=ours)
    assert len(await served_real.kube.list(deployments, new, label_selector=ours)) == 1
    services = await served_real.kube.list(SERVICES, left, label_selector=ours)
    assert [each["metadata"]["name"] for each in services] == (
        ["chat-penstock"] if placement.namespace else []
    )


@pytest.mark.api
async def test_no_other_secret_can_be_read_or_written(
    operator: tuple[AioKubeApi, GatewayPlacement], served_real: Served
) -> None:
    kube, placement = operator
    home = placement.namespace or served_real.namespace
    mine = {"metadata": {"name": "mine"}, "data": {"a": "YQ=="}}
    await served_real.kube.create(SECRETS, home, mine)
    with pytest.raises(Forbidden):
        await kube.get(SECRETS, home, "mine")
    with pytest.raises(Forbidden):
        await kube.list(SECRETS, home)
    with pytest.raises(Forbidden):
        await kube.patch(SECRETS, home, "mine", {"data": {"a": "Yg=="}})
    with pytest.raises(Forbidden):
        await kube.apply(SECRETS, home, "another", {"apiVersion": "v1", "kind": "Secret"} | mine)
    with pytest.raises(Forbidden):
        await kube.create(SECRETS, home, mine | {"metadata": {"name": "third"}})


@pytest.mark.api
async def test_it_cannot_give_agents_what_it_may_not_do_itself(
    operator: tuple[AioKubeApi, GatewayPlacement], served_real: Served
) -> None:
    kube, placement = operator
    home = placement.namespace or served_real.namespace
    roles = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    body = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "penstock-gateway"},
        "rules": [rule],
    }
    with pytest.raises(Forbidden, match="attempting to grant RBAC permissions not currently held"):
        await kube.patch(roles, home, "penstock-gateway", body, patch_type=PatchType.APPLY)
