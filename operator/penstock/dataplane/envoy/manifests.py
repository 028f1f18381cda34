"""The Kubernetes objects of one gateway group, as server-side apply takes them: all but its Services.

Everything is called ``penstock-gateway`` and labelled as ours, so that RBAC can name it and nothing of a
user's is ever taken over. Objects carry no owner references and no finalizers: gateways outlive the operator.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from penstock.dataplane.envoy.bootstrap import bootstrap
from penstock.dataplane.envoy.gateway_pod import (
    ADMIN_PORT,
    AGENT_PORT,
    BOOTSTRAP_FILE,
    GATEWAY,
    PLANS,
    PLANS_FILE,
    STATS_PORT,
    pod_spec,
)
from penstock.dataplane.envoy.ports import FIRST_PORT, LAST_PORT
from penstock.dataplane.envoy.template import GatewayTemplate

Object = dict[str, Any]

PREFIX: Final = "serving.penstock.dev/"
GROUP_LABEL: Final = PREFIX + "gateway-group"
MANAGED_BY: Final = {"app.kubernetes.io/managed-by": "penstock"}
OPERATOR_LABELS: Final = {"app.kubernetes.io/component": "operator"}
POD_LABELS: Final = {"app.kubernetes.io/name": GATEWAY, "app.kubernetes.io/component": "gateway"}


@dataclass(frozen=True, slots=True)
class GatewayGroupPlan:
    """One group of gateways as it is to be in the cluster.

    `namespace` holds its pods; `xds_host` and `xds_port` are where they find the operator; `plans` is
    the stored configuration for pods born while the operator is down; `served_namespaces` are those
    whose EndpointSlices its agents read.
    """

    name: str
    namespace: str
    token: str
    xds_host: str
    xds_port: int
    template: GatewayTemplate
    plans: str = ""
    tls_secrets: tuple[str, ...] = ()
    served_namespaces: tuple[str, ...] = field(default=())


def selector(group: str) -> dict[str, str]:
    """Return the labels that select a group's pods and no other pod."""
    return {**POD_LABELS, GROUP_LABEL: group}


def is_ours(body: Mapping[str, Any]) -> bool:
    """Whether an object bears our label."""
    labels = (body.get("metadata") or {}).get("labels") or {}
    return all(labels.get(name) == value for name, value in MANAGED_BY.items())


def group_objects(group: GatewayGroupPlan) -> list[Object]:
    """Return all objects of a group in the order in which they are to be applied."""
    secret = bootstrap_secret(group)
    return [
        service_account(group),
        *endpoint_readers(group),
        secret,
        plans_map(group),
        *([network_policy(group)] if group.template.network_policy["enabled"] else ()),
        disruption_budget(group),
        deployment(group, secret),
    ]


def unwanted_objects(group: GatewayGroupPlan, left_namespaces: Collection[str] = ()) -> list[Object]:
    """Return what a group may have from before and is not to have, in the order of deletion.

    `left_namespaces` are those whose EndpointSlices its agents read before and need no more.
    """
    policy = [] if group.template.network_policy["enabled"] else [network_policy(group)]
    left = [each for namespace in sorted(left_namespaces) for each in _reader(group, namespace)]
    return [*reversed(left), *policy]


def service_account(group: GatewayGroupPlan) -> Object:
    """Return the account of the agents."""
    # Pods ask for the token where they need it: the proxy's container gets none.
    return _object("v1", "ServiceAccount", group) | {"automountServiceAccountToken": False}


def endpoint_readers(group: GatewayGroupPlan) -> Iterable[Object]:
    """Yield a Role and its binding in each namespace whose EndpointSlices the agents read."""
    for namespace in sorted({group.namespace, *group.served_namespaces}):
        yield from _reader(group, namespace)


def bootstrap_secret(group: GatewayGroupPlan) -> Object:
    """Return the Secret with what a proxy starts from; the token in it is the group's."""
    body = bootstrap(
        group=group.name,
        token=group.token,
        xds_host=group.xds_host,
        xds_port=group.xds_port,
        agent_port=AGENT_PORT,
        admin_port=ADMIN_PORT,
        stats_port=STATS_PORT,
        memory_limit_bytes=group.template.memory_limit_bytes,
    )
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    data = {BOOTSTRAP_FILE: base64.b64encode(text).decode()}
    return _object("v1", "Secret", group) | {"type": "Opaque", "data": data}


def plans_map(group: GatewayGroupPlan) -> Object:
    """Return the ConfigMap with the last plans."""
    return _object("v1", "ConfigMap", group, name=PLANS) | {"data": {PLANS_FILE: group.plans}}


def network_policy(group: GatewayGroupPlan) -> Object:
    """Return what may reach the pods: services' listeners and the statistics, from the template's peers.

    No peers: from anywhere, as in any NetworkPolicy. The operator always reads the statistics.
    """
    statistics = {"protocol": "TCP", "port": STATS_PORT}
    ingress: list[Object] = [
        {"ports": [{"protocol": "TCP", "port": FIRST_PORT, "endPort": LAST_PORT}, statistics]}
    ]
    if peers := list(group.template.network_policy["from"]):
        ingress[0]["from"] = peers
        home = {"kubernetes.io/metadata.name": group.template.namespace}
        operator = {
            "namespaceSelector": {"matchLabels": home},
            "podSelector": {"matchLabels": OPERATOR_LABELS},
        }
        ingress.append({"ports": [statistics], "from": [operator]})
    return _object("networking.k8s.io/v1", "NetworkPolicy", group) | {
        "spec": {
            "podSelector": {"matchLabels": selector(group.name)},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        }
    }


def disruption_budget(group: GatewayGroupPlan) -> Object:
    """Return the PodDisruptionBudget: one pod leaves at a time.

    Counted by what may be missing: `minAvailable: 1` would never let a lone gateway's node be drained. A pod
    that is not ready serves nobody, and holds up no drain.
    """
    return _object("policy/v1", "PodDisruptionBudget", group) | {
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector(group.name)},
        }
    }


def deployment(group: GatewayGroupPlan, secret: Object) -> Object:
    """Return the Deployment; another bootstrap rolls its pods, because a proxy reads it once."""
    digest = hashlib.sha256(secret["data"][BOOTSTRAP_FILE].encode()).hexdigest()[:16]
    labels = selector(group.name)
    return _object("apps/v1", "Deployment", group) | {
        "spec": {
            "replicas": group.template.replicas,
            "selector": {"matchLabels": labels},
            # Streams of the old pods finish beside the new ones.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {
                    "labels": labels | MANAGED_BY,
                    "annotations": {
                        PREFIX + "bootstrap": digest,
                        "kubectl.kubernetes.io/default-container": "envoy",
                    },
                },
                "spec": pod_spec(
                    group.template, namespace=group.namespace, labels=labels, tls_secrets=group.tls_secrets
                ),
            },
        }
    }


def _reader(group: GatewayGroupPlan, namespace: str) -> Iterable[Object]:
    rule = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list"]}
    api = "rbac.authorization.k8s.io"
    yield _object(f"{api}/v1", "Role", group, namespace=namespace) | {"rules": [rule]}
    yield _object(f"{api}/v1", "RoleBinding", group, namespace=namespace) | {
        "roleRef": {"apiGroup": api, "kind": "Role", "name": GATEWAY},
        "subjects": [{"kind": "ServiceAccount", "name": GATEWAY, "namespace": group.namespace}],
    }


def _object(
    api_version: str, kind: str, group: GatewayGroupPlan, *, name: str = GATEWAY, namespace: str = ""
) -> Object:
    labels = POD_LABELS | MANAGED_BY | {"app.kubernetes.io/part-of": "penstock", GROUP_LABEL: group.name}
    metadata = {"name": name, "namespace": namespace or group.namespace, "labels": labels}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}
