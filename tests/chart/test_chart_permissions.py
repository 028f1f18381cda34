"""The operator may do what this table says and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Objects = list[dict[str, Any]]
Permissions = set[tuple[str, str, str]]

READ = ("get", "list", "watch")
SERVED_NAMESPACE: Permissions = {
    *(("serving.penstock.dev", "inferenceservices", verb) for verb in READ),
    ("serving.penstock.dev", "inferenceservices/status", "patch"),
    *(("apps", "deployments", verb) for verb in READ),
    *(("apps", "statefulsets", verb) for verb in READ),
    *(("apps", "deployments/scale", verb) for verb in ("get", "patch")),
    *(("apps", "statefulsets/scale", verb) for verb in ("get", "patch")),
    *(("", "pods", verb) for verb in ("list", "patch")),
    *(("", "services", verb) for verb in READ),
    *(("discovery.k8s.io", "endpointslices", verb) for verb in READ),
    *(("autoscaling", "horizontalpodautoscalers", verb) for verb in READ),
    *(("keda.sh", "scaledobjects", verb) for verb in READ),
    ("events.k8s.io", "events", "create"),
}
WRITE = ("get", "create", "patch", "delete")
HTTP_ROUTES: Permissions = {("gateway.networking.k8s.io", "httproutes", verb) for verb in (*READ, "patch")}
# Names hold: nothing of these kinds but our own can be read or written.
GATEWAY_PODS: Permissions = {
    (group, f"{resource}/{name}", verb)
    for group, resource, name in (
        ("apps", "deployments", "penstock-gateway"),
        ("", "serviceaccounts", "penstock-gateway"),
        ("", "secrets", "penstock-gateway"),
        ("", "configmaps", "penstock-gateway-plans"),
        ("policy", "poddisruptionbudgets", "penstock-gateway"),
        ("networking.k8s.io", "networkpolicies", "penstock-gateway"),
    )
    for verb in WRITE
}
ENDPOINT_READERS: Permissions = {
    ("rbac.authorization.k8s.io", f"{resource}/penstock-gateway", verb)
    for resource in ("roles", "rolebindings")
    for verb in WRITE
}
ROUTED_SERVICES: Permissions = {("", "services", verb) for verb in ("create", "patch")}
OWNED_WORKLOADS: Permissions = {("apps", "deployments", verb) for verb in ("create", "patch", "delete")}
SERVED: Permissions = SERVED_NAMESPACE | HTTP_ROUTES | GATEWAY_PODS | ENDPOINT_READERS | ROUTED_SERVICES
OWN_NAMESPACE: Permissions = {
    ("coordination.k8s.io", "leases", "create"),
    ("coordination.k8s.io", "leases/penstock", "get"),
    ("coordination.k8s.io", "leases/penstock", "update"),
}
LEADER_LABEL: Permissions = {("", "pods", "patch")}
# What another gateway.scope left is removed.
REMOVE = ("get", "delete")
LEFT_PODS: Permissions = {each for each in GATEWAY_PODS if each[2] in REMOVE}
LEFT_BY_CLUSTER: Permissions = {
    *LEFT_PODS,
    *(each for each in ENDPOINT_READERS if each[2] in REMOVE),
    ("apps", "deployments", "list"),
    *(("", "services", verb) for verb in ("get", "list", "delete")),
}
LEASE_ROLE = ("Role", "penstock-system", "penstock-lease")


def permissions(role: dict[str, Any]) -> Permissions:
    """Every (group, resource, verb) of a role; a resource held to a name is resource/name."""
    found = set()
    for rule in role["rules"]:
        names = rule.get("resourceNames", [""])
        found |= {
            (group, f"{resource}/{name}" if name else resource, verb)
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for name in names
            for verb in rule["verbs"]
        }
    return found


def granted(objects: Objects) -> dict[tuple[str, str, str], Permissions]:
    """What the operator's service account is bound to, by the role that grants it."""
    roles = {
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): permissions(each)
        for each in objects
        if each["kind"] in ("Role", "ClusterRole")
    }
    found = {}
    for binding in objects:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "penstock", "namespace": "penstock-system"}
        ]
        reference, namespace = binding["roleRef"], binding["metadata"].get("namespace", "")
        role = (reference["kind"], namespace if reference["kind"] == "Role" else "", reference["name"])
        found[role] = roles[role]
    return found


def test_by_default_one_cluster_role_and_a_lease_in_the_own_namespace(
    render: Callable[..., Objects],
) -> None:
    assert granted(render()) == {
        ("ClusterRole", "", "penstock"): SERVED,
        LEASE_ROLE: OWN_NAMESPACE | LEADER_LABEL | LEFT_BY_CLUSTER,
    }


def test_with_namespaces_nothing_is_granted_outside_them(render: Callable[..., Objects]) -> None:
    objects = render("rbac.scope=namespaces", "rbac.namespaces={prod,staging}")
    assert granted(objects) == {
        ("Role", "prod", "penstock"): SERVED,
        ("Role", "staging", "penstock"): SERVED,
        LEASE_ROLE: OWN_NAMESPACE | LEADER_LABEL | LEFT_BY_CLUSTER,
    }
    assert not [each for each in objects if each["kind"] == "ClusterRoleBinding"]


def test_an_extra_kind_is_scaled_and_nothing_else(render: Callable[..., Objects]) -> None:
    kind = "rbac.extraTargets[0].apiGroup=leaderworkerset.x-k8s.io"
    more = granted(render(kind, "rbac.extraTargets[0].resource=leaderworkersets"))
    group = "leaderworkerset.x-k8s.io"
    assert more[("ClusterRole", "", "penstock")] - SERVED == {
        (group, "leaderworkersets/scale", "get"),
        (group, "leaderworkersets/scale", "patch"),
    }


def test_without_gateways_and_routes_nothing_but_scale_and_status_is_written(
    render: Callable[..., Objects],
) -> None:
    assert granted(render("gateway.enabled=false", "gatewayAPI.enabled=false")) == {
        ("ClusterRole", "", "penstock"): SERVED_NAMESPACE,
        LEASE_ROLE: OWN_NAMESPACE,
    }


def test_deployments_are_written_only_where_workloads_are_to_be_owned(render: Callable[..., Objects]) -> None:
    more = granted(render("ownedWorkloads.enabled=true"))[("ClusterRole", "", "penstock")]
    assert more - SERVED == OWNED_WORKLOADS
    nothing_else = ("gateway.enabled=false", "gatewayAPI.enabled=false", "ownedWorkloads.enabled=true")
    alone = granted(render(*nothing_else))[("ClusterRole", "", "penstock")]
    assert alone == SERVED_NAMESPACE | OWNED_WORKLOADS | ROUTED_SERVICES


def test_weights_of_a_canary_need_the_services_of_its_arms(render: Callable[..., Objects]) -> None:
    by_routes = granted(render("gateway.enabled=false"))[("ClusterRole", "", "penstock")]
    assert by_routes == SERVED_NAMESPACE | HTTP_ROUTES | ROUTED_SERVICES


def test_gateways_for_the_whole_cluster_are_written_in_the_own_namespace_only(
    render: Callable[..., Objects],
) -> None:
    found = granted(render("gateway.scope=cluster"))
    assert found[("ClusterRole", "", "penstock")] == SERVED - GATEWAY_PODS | LEFT_PODS
    own = OWN_NAMESPACE | LEADER_LABEL | GATEWAY_PODS | ENDPOINT_READERS
    assert found[LEASE_ROLE] == own | {
        *(("", "services", verb) for verb in ("get", "list", "create", "patch", "delete")),
        ("apps", "deployments", "list"),
        *(("discovery.k8s.io", "endpointslices", verb) for verb in ("get", "list")),
    }


@pytest.mark.parametrize("values", [(), ("rbac.scope=namespaces", "rbac.namespaces={prod}")])
def test_no_role_holds_a_wildcard(render: Callable[..., Objects], values: tuple[str, ...]) -> None:
    roles = [each for each in render(*values) if each["kind"] in ("Role", "ClusterRole")]
    assert roles
    for role in roles:
        assert "*" not in str(role["rules"]), role["metadata"]["name"]


def test_built_in_roles_get_inference_services_but_not_their_status(render: Callable[..., Objects]) -> None:
    by_name = {each["metadata"]["name"]: each for each in render() if each["kind"] == "ClusterRole"}
    assert permissions(by_name["penstock-edit"]) == {
        ("serving.penstock.dev", "inferenceservices", verb)
        for verb in ("create", "update", "patch", "delete")
    }
    assert permissions(by_name["penstock-view"]) == {
        ("serving.penstock.dev", resource, verb)
        for resource in ("inferenceservices", "inferenceservices/status")
        for verb in READ
    }
    aggregate = "rbac.authorization.k8s.io/aggregate-to-"
    assert by_name["penstock-view"]["metadata"]["labels"][f"{aggregate}view"] == "true"
    assert f"{aggregate}view" not in by_name["penstock-edit"]["metadata"]["labels"]


def test_roles_can_be_left_to_the_cluster_administrator(render: Callable[..., Objects]) -> None:
    kinds = {each["kind"] for each in render("rbac.create=false")}
    assert not kinds & {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}
