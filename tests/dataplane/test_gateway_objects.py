"""The objects of a gateway group: what they promise to clients, to the cluster and to the next operator."""

from __future__ import annotations

import base64
import json
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.cli.drain import drain as drain_command
from penstock.cli.gateway import gateway as gateway_command
from penstock.dataplane.envoy.gateway_services import (
    FoundService,
    direct_service,
    gateway_services,
    read_service,
)
from penstock.dataplane.envoy.manifests import (
    GatewayGroupPlan,
    group_objects,
    is_ours,
    selector,
    unwanted_objects,
)
from penstock.dataplane.envoy.ports import FIRST_PORT, LAST_PORT, NoPortError, allocate_ports
from penstock.dataplane.envoy.template import GatewayTemplate, TemplateError, read_template
from penstock.dataplane.envoy.tokens import group_token
from penstock.model.spec import ServiceKey
from penstock.model.traffic import Backend, RoutePlan

CHAT = ServiceKey("prod", "chat")
KEY = bytes(range(32))


def a_plan(key: ServiceKey = CHAT, *, port: int = 10_000, tls_secret: str = "") -> RoutePlan:
    backend = Backend(key.namespace, key.name, 8000, served_by="llama")
    return RoutePlan(key=key, uid="u", backend=backend, listen_port=port, tls_secret=tls_secret)


def a_group(**changes: Any) -> GatewayGroupPlan:
    template = changes.pop("template", GatewayTemplate(image="penstock-gateway:dev"))
    return GatewayGroupPlan(
        **{
            "name": "prod",
            "namespace": "prod",
            "token": group_token(KEY, "prod"),
            "xds_host": "penstock-xds.penstock-system.svc",
            "xds_port": 18000,
            "template": template,
            "plans": "[]",
        }
        | changes
    )


def objects(group: GatewayGroupPlan) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in group_objects(group)}


def static(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What its proxies start with."""
    body: dict[str, Any] = json.loads(base64.b64decode(found["Secret"]["data"]["bootstrap.json"]))
    return body


def pod(group: GatewayGroupPlan) -> dict[str, Any]:
    spec: dict[str, Any] = objects(group)["Deployment"]["spec"]["template"]["spec"]
    return spec


def test_every_object_is_labelled_as_ours_and_lives_in_the_groups_namespace() -> None:
    for each in group_objects(a_group()):
        assert is_ours(each), each["kind"]
        assert each["metadata"]["namespace"] == "prod"
        assert each["metadata"]["name"] in ("penstock-gateway", "penstock-gateway-plans")
        assert "ownerReferences" not in each["metadata"]
        assert "finalizers" not in each["metadata"]


def test_the_pod_meets_the_restricted_security_standard() -> None:
    spec = pod(a_group())
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"]
    for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
        assert forbidden not in spec


def test_the_clusters_own_choice_of_a_user_can_be_left_to_it() -> None:
    spec = pod(a_group(template=read_template({"image": "i", "podSecurityContext": {"runAsNonRoot": True}})))
    assert spec["securityContext"] == {"runAsNonRoot": True}


def test_the_agent_has_limits_of_both_kinds_for_namespaces_with_a_quota_on_them() -> None:
    _, agent = pod(a_group())["containers"]
    assert set(agent["resources"]["limits"]) == {"cpu", "memory"}


def test_only_the_agent_sees_the_service_accounts_token() -> None:
    spec = pod(a_group())
    assert spec["automountServiceAccountToken"] is False
    mounts = {each["name"]: {m["name"] for m in each["volumeMounts"]} for each in spec["containers"]}
    assert mounts == {"envoy": {"bootstrap"}, "agent": {"plans", "account"}}


@pytest.mark.parametrize("command", [drain_command, gateway_command], ids=["drain", "agent"])
def test_the_pods_commands_are_ones_that_penstock_knows(command: click.Command) -> None:
    envoy, agent = pod(a_group(template=GatewayTemplate(image="i", replicas=3)))["containers"]
    given = {
        "drain": envoy["lifecycle"]["preStop"]["exec"]["command"],
        "gateway": agent["command"],
    }[str(command.name)]
    assert given[:2] == ["penstock", command.name]
    with click.Context(command, info_name=command.name) as context:
        command.parse_args(context, given[2:])
    if command is gateway_command:
        assert context.params["gateways"] == 3
        assert str(context.params["plans"]) == "/etc/penstock/plans/plans.json"
        assert {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}} in agent["env"]


def test_pods_leave_one_by_one_and_a_leaving_one_waits_for_its_streams() -> None:
    group = a_group(template=GatewayTemplate(image="i", drain_seconds=300))
    built = objects(group)
    spec = built["Deployment"]["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    budget = built["PodDisruptionBudget"]["spec"]
    assert (budget["maxUnavailable"], "minAvailable" in budget) == (1, False), "a lone one can be evicted"
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert pod(group)["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
    assert pod(group)["terminationGracePeriodSeconds"] == 315
    for container in pod(group)["containers"]:
        command = container["lifecycle"]["preStop"]["exec"]["command"]
        assert command == ["penstock", "drain", "--admin-port=9901", "--deadline=300s"]


def test_selectors_of_two_groups_never_meet() -> None:
    one, other = selector("prod"), selector("dev")
    assert one != other
    assert objects(a_group())["Deployment"]["spec"]["selector"]["matchLabels"] == one
    labels = objects(a_group())["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert one.items() <= labels.items()
    assert not other.items() <= labels.items()


def test_the_secret_holds_the_token_and_another_token_rolls_the_pods() -> None:
    before, after = objects(a_group()), objects(a_group(token="another"))
    node = static(before)["node"]
    assert (node["cluster"], node["metadata"]["token"]) == ("prod", group_token(KEY, "prod"))
    assert "id" not in node, "pods share the file: each says its name on the command line"
    assert group_token(KEY, "prod") not in json.dumps([before["Deployment"], before["ConfigMap"]])
    old, new = (each["Deployment"]["spec"]["template"]["metadata"] for each in (before, after))
    assert old["annotations"] != new["annotations"]


def test_new_plans_do_not_roll_the_pods() -> None:
    assert objects(a_group())["Deployment"] == objects(a_group(plans='[{"a": 1}]'))["Deployment"]


def test_the_agent_may_read_endpoint_slices_where_services_are_and_nothing_else() -> None:
    group = a_group(name="penstock", namespace="penstock-system", served_namespaces=("prod", "dev"))
    roles = [each for each in group_objects(group) if each["kind"] == "Role"]
    assert {each["metadata"]["namespace"] for each in roles} == {"penstock-system", "prod", "dev"}
    for role in roles:
        rule = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list"]}
        assert role["rules"] == [rule]
    bindings = [each for each in group_objects(group) if each["kind"] == "RoleBinding"]
    subject = {"kind": "ServiceAccount", "name": "penstock-gateway", "namespace": "penstock-system"}
    assert [each["subjects"] for each in bindings] == [[subject]] * 3


STATISTICS = {"protocol": "TCP", "port": 9902}


def guarded(*peers: dict[str, Any]) -> GatewayTemplate:
    policy = {"enabled": True, "from": list(peers)}
    return GatewayTemplate(image="i", namespace="penstock-system", network_policy=policy)


def test_by_default_no_network_policy_opens_what_a_namespace_denies() -> None:
    group = a_group()
    assert "NetworkPolicy" not in objects(group)
    (left,) = unwanted_objects(group)
    assert (left["kind"], left["metadata"]["name"]) == ("NetworkPolicy", "penstock-gateway")


def test_the_network_policy_lets_in_listeners_and_statistics_but_no_admin_port() -> None:
    group = a_group(template=guarded())
    assert objects(group)["NetworkPolicy"]["spec"]["ingress"] == [
        {"ports": [{"protocol": "TCP", "port": FIRST_PORT, "endPort": LAST_PORT}, STATISTICS]}
    ]
    assert unwanted_objects(group) == []


def test_a_network_policy_with_peers_lets_in_those_and_the_operator_to_the_statistics() -> None:
    peer = {"podSelector": {"matchLabels": {"app": "ingress"}}}
    clients, operator = objects(a_group(template=guarded(peer)))["NetworkPolicy"]["spec"]["ingress"]
    assert clients["from"] == [peer]
    assert operator == {
        "ports": [STATISTICS],
        "from": [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "penstock-system"}},
                "podSelector": {"matchLabels": {"app.kubernetes.io/component": "operator"}},
            }
        ],
    }


def test_certificates_are_mounted_where_sds_names_them_and_may_be_missing() -> None:
    spec = pod(a_group(tls_secrets=("b-tls", "a-tls")))
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert volumes["tls-0"]["secret"] == {"secretName": "a-tls", "optional": True}
    mounts = [m for m in spec["containers"][0]["volumeMounts"] if m["name"].startswith("tls-")]
    assert [each["mountPath"] for each in mounts] == [
        "/etc/penstock/tls/prod_a-tls",
        "/etc/penstock/tls/prod_b-tls",
    ]


def test_a_service_leads_to_its_own_listener() -> None:
    (service,) = gateway_services(a_plan(port=10_007), group="prod", namespace="prod")
    assert service["metadata"]["name"] == "chat-penstock"
    assert service["spec"] == {
        "type": "ClusterIP",
        "selector": selector("prod"),
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 10_007}],
    }


def test_with_a_certificate_it_is_port_443() -> None:
    (service,) = gateway_services(a_plan(tls_secret="chat-tls"), group="prod", namespace="prod")
    (port,) = service["spec"]["ports"]
    assert (port["name"], port["port"]) == ("https", 443)


def test_a_cluster_wide_group_is_reached_by_an_alias_in_the_users_namespace() -> None:
    beside, alias = gateway_services(a_plan(), group="penstock", namespace="penstock-system")
    assert alias["metadata"]["namespace"] == "prod"
    assert alias["metadata"]["name"] == "chat-penstock"
    assert beside["metadata"]["namespace"] == "penstock-system"
    name = beside["metadata"]["name"]
    assert alias["spec"]["externalName"] == f"{name}.penstock-system.svc.cluster.local"
    assert len(name) <= 63
    assert read_service(beside) is None, "only the one that clients know carries the port"


@given(st.sampled_from(["", "tls"]), st.integers(FIRST_PORT, LAST_PORT))
def test_a_service_can_be_read_back_after_a_restart(tls: str, port: int) -> None:
    (service,) = gateway_services(a_plan(port=port, tls_secret=tls), group="prod", namespace="prod")
    found = FoundService(CHAT, "prod", port, "chat", 8000, direct=False, tls=bool(tls))
    assert read_service(service) == found


@pytest.mark.parametrize(
    "metadata",
    [
        {"name": "chat-penstock", "namespace": "prod"},
        {"name": "chat-penstock", "namespace": "prod", "labels": {"app.kubernetes.io/managed-by": "Helm"}},
        {"name": "other", "namespace": "prod", "labels": {"app.kubernetes.io/managed-by": "penstock"}},
    ],
)
def test_services_of_others_are_not_read_as_ours(metadata: dict[str, Any]) -> None:
    assert read_service({"metadata": metadata}) is None


def test_the_service_of_a_service_that_is_gone_selects_the_targets_pods() -> None:
    (service,) = gateway_services(a_plan(), group="prod", namespace="prod")
    found = read_service(service)
    assert found is not None
    backend = {"spec": {"selector": {"app": "chat"}, "ports": [{"port": 8000, "targetPort": "http"}]}}
    direct = direct_service(found, backend, service["spec"]["ports"])
    assert direct is not None
    assert direct["spec"] == {
        "type": "ClusterIP",
        "selector": {"app": "chat"},
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}],
    }
    again = read_service(direct)
    assert again is not None
    assert again.direct
    assert again.listen_port is None


@pytest.mark.parametrize(
    "spec",
    [{}, {"ports": [{"port": 8000}]}, {"selector": {"app": "chat"}, "ports": [{"port": 9000}]}],
    ids=["nothing", "no selector", "another port"],
)
def test_a_service_that_cannot_be_handed_back_says_so(spec: dict[str, Any]) -> None:
    found = FoundService(CHAT, "prod", 10_000, "chat", 8000, direct=False)
    assert direct_service(found, {"spec": spec}, [{"port": 80}]) is None


KEYS = st.builds(ServiceKey, st.sampled_from(["a", "b"]), st.sampled_from([f"s{n}" for n in range(30)]))


@given(st.dictionaries(KEYS, st.integers(FIRST_PORT - 2, LAST_PORT + 2)), st.sets(KEYS))
def test_ports_are_distinct_in_range_and_kept(
    existing: dict[ServiceKey, int], services: set[ServiceKey]
) -> None:
    allocated = allocate_ports(existing, services)
    assert set(allocated) == services
    assert len(set(allocated.values())) == len(services)
    assert all(FIRST_PORT <= port <= LAST_PORT for port in allocated.values())
    shared = [port for port in existing.values() if list(existing.values()).count(port) > 1]
    for key in services & existing.keys():
        if FIRST_PORT <= existing[key] <= LAST_PORT and existing[key] not in shared:
            assert allocated[key] == existing[key]
    assert allocate_ports(allocated, services) == allocated
    others = set(existing) - services
    assert not {existing[key] for key in others if existing[key] not in shared} & set(allocated.values())


def test_a_port_just_given_up_is_not_given_to_the_next_service() -> None:
    before = {ServiceKey("a", "one"): 10_000, ServiceKey("a", "two"): 10_001}
    assert allocate_ports(before, [ServiceKey("a", "three")]) == {ServiceKey("a", "three"): 10_002}


def test_a_full_group_says_what_to_do() -> None:
    full = {ServiceKey("a", f"s{n}"): n for n in range(FIRST_PORT, LAST_PORT + 1)}
    with pytest.raises(
        NoPortError, match="b/x gets no port: a gateway group has 8000; use one group per namespace"
    ):
        allocate_ports(full, [ServiceKey("b", "x")])
    freed = {key: port for key, port in full.items() if port != 12_345}
    assert allocate_ports(freed, [ServiceKey("b", "x")]) == {ServiceKey("b", "x"): 12_345}


def test_tokens_differ_by_group_and_by_key_and_need_a_real_key() -> None:
    assert group_token(KEY, "prod") == group_token(KEY, "prod")
    assert len({group_token(KEY, "prod"), group_token(KEY, "dev"), group_token(KEY[::-1], "prod")}) == 3
    with pytest.raises(ValueError, match="the gateways' key has 5 bytes: use at least 16 random ones"):
        group_token(b"short", "prod")


def test_a_template_is_the_charts_values() -> None:
    body = {"image": "i", "replicas": 3, "resources": {"limits": {}}, "pod": {"nodeSelector": {"a": "b"}}}
    template = read_template(body)
    assert (template.image, template.replicas, template.concurrency) == ("i", 3, 1)
    assert pod(a_group(template=template))["nodeSelector"] == {"a": "b"}


def limited(memory: object) -> dict[str, object]:
    return {"image": "i", "resources": {"limits": {"memory": memory}}}


@pytest.mark.parametrize(
    ("written", "limit_bytes"),
    [
        ("512Mi", 2**29),
        ("0.5Gi", 2**29),
        (".5Gi", 2**29),
        ("1G", 10**9),
        ("1e9", 10**9),
        ("128974848000m", 128_974_848),
        (536_870_912, 2**29),
    ],
)
def test_a_memory_limit_is_read_as_kubernetes_does(written: object, limit_bytes: int) -> None:
    assert read_template(limited(written)).memory_limit_bytes == limit_bytes


@pytest.mark.parametrize("memory", ["1Gi", None])
def test_a_proxy_is_told_of_its_containers_memory_limit(memory: str | None) -> None:
    limits = {"memory": memory} if memory else None
    found = objects(a_group(template=GatewayTemplate("i", resources={"limits": limits})))
    monitors = static(found)["overload_manager"]["resource_monitors"]
    heaps = [each["typed_config"]["max_heap_size_bytes"] for each in monitors if "fixed_heap" in each["name"]]
    assert heaps == ([2**30] if memory else [])


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (None, "the gateway template is no mapping: see the chart's value gateway"),
        ({}, "image: name the gateway image"),
        ({"image": "i", "replica": 2}, "unknown key replica: there are image"),
        ({"image": "i", "replicas": 0}, "replicas: 0 is below 1"),
        ({"image": "i", "replicas": "2"}, "replicas: '2' is no int"),
        ({"image": "i", "concurrency": True}, "concurrency: True is no int"),
        ({"image": "i", "resources": []}, r"resources: \[\] is no Mapping"),
        (limited("512MB"), "resources.limits.memory: '512MB' is no quantity: write for example 512Mi"),
        (limited("512m"), "resources.limits.memory: '512m' is below 64Mi, with which Envoy starts"),
        ({"image": "i", "resources": {"limits": "a"}}, "resources.limits.memory: 'a' is no mapping"),
        ({"image": "i", "networkPolicy": {"enabled": True}}, "networkPolicy: give enabled and from"),
        ({"image": "i", "pod": {"containers": []}}, "pod.containers: set by the gateway itself"),
    ],
)
def test_a_wrong_template_names_the_key(body: object, sentence: str) -> None:
    with pytest.raises(TemplateError, match=sentence):
        read_template(body)
