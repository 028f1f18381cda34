"""The Services by which clients reach gateways: ``http://<name>-penstock.<namespace>``.

One leads to the gateways' listener of its service; after the InferenceService is gone it stays and selects
the target's own pods, so that clients never notice: not with TLS, which engines do not end. With one gateway
group for the cluster the name in the user's namespace is an alias (ExternalName) of a Service beside the
pods: a selector ends at its namespace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from penstock.dataplane.envoy.manifests import GROUP_LABEL, MANAGED_BY, PREFIX, Object, is_ours, selector
from penstock.model.spec import ServiceKey
from penstock.model.traffic import RoutePlan

SUFFIX: Final = "-penstock"
SERVICE_LABEL: Final = PREFIX + "service"
SERVICE_NAMESPACE_LABEL: Final = PREFIX + "service-namespace"
#: What leads where, for us after a restart: the Service behind, and the gateways' port.
BACKEND_ANNOTATION: Final = PREFIX + "backend"
PORT_ANNOTATION: Final = PREFIX + "listen-port"
#: On a Service that bypasses the gateways because its InferenceService is gone.
DIRECT_ANNOTATION: Final = PREFIX + "direct"
HTTP_PORT: Final = 80
HTTPS_PORT: Final = 443


@dataclass(frozen=True, slots=True)
class FoundService:
    """What one of our Services says of itself.

    `direct`: it bypasses the gateways. `tls`: its clients speak TLS.
    """

    key: ServiceKey
    group: str
    listen_port: int | None
    backend: str
    backend_port: int | None
    direct: bool
    tls: bool = False


def service_name(key: ServiceKey) -> str:
    """Return the name that clients use."""
    return f"{key.name}{SUFFIX}"


def gateway_services(
    plan: RoutePlan, *, group: str, namespace: str, cluster_domain: str = "cluster.local"
) -> list[Object]:
    """Return the Services that lead to the gateways; `namespace` is that of their pods."""
    port = _port(plan, plan.listen_port)
    to_pods = {"type": "ClusterIP", "selector": selector(group), "ports": [port]}
    if namespace == plan.key.namespace:
        return [_service(plan, group) | {"spec": to_pods}]
    beside_pods = _service(plan, group)
    beside_pods["metadata"] |= {"name": _name_beside_pods(plan.key), "namespace": namespace}
    alias = f"{_name_beside_pods(plan.key)}.{namespace}.svc.{cluster_domain}"
    return [
        beside_pods | {"spec": to_pods},
        _service(plan, group) | {"spec": {"type": "ExternalName", "externalName": alias, "ports": [port]}},
    ]


def service_beside_pods(key: ServiceKey, namespace: str) -> Object:
    """Return what names the Service beside a cluster's gateways, for its removal."""
    metadata = {"name": _name_beside_pods(key), "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata}


def is_beside_pods(body: Mapping[str, Any]) -> bool:
    """Whether a Service is the one of ours beside a cluster's gateways, which an alias leads to."""
    metadata = body.get("metadata") or {}
    namespace = (metadata.get("labels") or {}).get(SERVICE_NAMESPACE_LABEL)
    return is_ours(body) and namespace not in (None, metadata.get("namespace"))


def direct_service(found: FoundService, backend: Mapping[str, Any], ports: list[Any]) -> Object | None:
    """Return the Service of a service that is gone: it selects what `backend`, its target's Service, selects.

    `ports` are those that clients know. None where that cannot be: `backend` selects nothing itself, or
    lacks the port.
    """
    spec = backend.get("spec") or {}
    chosen = dict(spec.get("selector") or {})
    target = next((each for each in spec.get("ports") or () if each.get("port") == found.backend_port), None)
    if not chosen or target is None or not ports:
        return None
    served = [
        {key: value for key, value in port.items() if key in ("name", "port", "protocol")}
        | {"targetPort": target.get("targetPort", target["port"])}
        for port in ports
    ]
    body = _labelled(found.key, found.group, found.key.namespace)
    body["metadata"]["annotations"] = {
        BACKEND_ANNOTATION: f"{found.backend}:{found.backend_port}",
        DIRECT_ANNOTATION: "true",
    }
    return body | {"spec": {"type": "ClusterIP", "selector": chosen, "ports": served}}


def read_service(body: Mapping[str, Any]) -> FoundService | None:
    """Return what a Service of ours leads to; None for others and for those beside a cluster's gateways."""
    metadata = body.get("metadata") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    name, namespace = labels.get(SERVICE_LABEL), metadata.get("namespace", "")
    if not is_ours(body) or not name or metadata.get("name") != f"{name}{SUFFIX}":
        return None
    if labels.get(SERVICE_NAMESPACE_LABEL) != namespace:
        return None
    backend, _, port = str(annotations.get(BACKEND_ANNOTATION, "")).rpartition(":")
    listen = str(annotations.get(PORT_ANNOTATION, ""))
    ports = (body.get("spec") or {}).get("ports") or ()
    return FoundService(
        key=ServiceKey(namespace, name),
        group=labels.get(GROUP_LABEL, ""),
        listen_port=_number(listen),
        backend=backend,
        backend_port=_number(port),
        direct=annotations.get(DIRECT_ANNOTATION) == "true",
        tls=any(each.get("port") == HTTPS_PORT for each in ports),
    )


def _number(text: str) -> int | None:
    """Return a port as written; None for what is none, a number that `int` refuses for its length with it."""
    return int(text) if text.isdecimal() and len(text) <= 5 else None


def _service(plan: RoutePlan, group: str) -> Object:
    body = _labelled(plan.key, group, plan.key.namespace)
    body["metadata"]["annotations"] = {
        BACKEND_ANNOTATION: f"{plan.backend.service}:{plan.backend.port}",
        PORT_ANNOTATION: str(plan.listen_port),
    }
    return body


def _labelled(key: ServiceKey, group: str, namespace: str) -> Object:
    labels = MANAGED_BY | {
        "app.kubernetes.io/part-of": "penstock",
        GROUP_LABEL: group,
        SERVICE_LABEL: key.name,
        SERVICE_NAMESPACE_LABEL: key.namespace,
    }
    metadata = {"name": service_name(key), "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata}


def _port(plan: RoutePlan, target: int) -> dict[str, Any]:
    name, port = ("https", HTTPS_PORT) if plan.tls_secret else ("http", HTTP_PORT)
    return {"name": name, "port": port, "protocol": "TCP", "targetPort": target}


def _name_beside_pods(key: ServiceKey) -> str:
    # Namespace and name together may have 110 characters, a Service's name 63.
    digest = hashlib.sha256(str(key).encode()).hexdigest()[:10]
    return f"{key.name}-{digest}"
