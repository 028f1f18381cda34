"""The objects of an owned workload, as server-side apply takes them: values in, dictionaries out.

One Deployment per revision of the pod template, `<service>-<revision>`, whose pods never change: what
changes is which revision the Services select. Services and Deployments belong to the InferenceService.

    Service <service> --revision: the stable one--> pods       Service <service>-canary --revision--> pods

`spec.replicas` is in the first body only. Afterwards it moves through /scale; applied once and left out
later, the API server would set it back to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from penstock.dataplane.envoy.gateway_services import HTTP_PORT, SERVICE_LABEL
from penstock.dataplane.envoy.manifests import MANAGED_BY, PREFIX, is_ours
from penstock.kube.api import INFERENCE_SERVICES, Object
from penstock.model.revision import owned_target
from penstock.model.spec import ServiceKey, ServiceRef, ServiceSpec

REVISION_LABEL: Final = PREFIX + "revision"
ARM_LABEL: Final = PREFIX + "arm"
# The API server's default. An engine that loads its weights for longer makes no progress meanwhile.
PROGRESS_DEADLINE_SECONDS: Final = 600
STARTUPS_WITHOUT_PROGRESS: Final = 3


class Arm(StrEnum):
    """What a revision is for; earlier ones are kept without replicas, to go back to."""

    STABLE = "stable"
    CANARY = "canary"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class PodPort:
    """A Service's port and the port of the pods behind it, by number or name."""

    port: int
    target: int | str


def arm_service_name(key: ServiceKey, arm: Arm) -> str:
    """Return the Service made for an arm's pods: at most 53 characters. Of an owned stable arm: see below."""
    return f"{key.name}-{arm}"


def stable_service_name(spec: ServiceSpec) -> str:
    """Return the Service of an owned workload's stable arm, which is the one that clients know."""
    return spec.service.name if spec.service is not None else spec.key.name


def served_by(spec: ServiceSpec, revision: str) -> ServiceSpec:
    """Return the spec of an owned workload as all else goes by it: with a target and a Service in front."""
    front = ServiceRef(stable_service_name(spec), spec.service.port if spec.service is not None else None)
    return replace(spec, target=owned_target(spec.key.name, revision), service=front)


def revision_labels(key: ServiceKey, revision: str) -> dict[str, str]:
    """Return the labels that select a revision's pods and no other pod."""
    return {SERVICE_LABEL: key.name, REVISION_LABEL: revision}


def revision_deployment(spec: ServiceSpec, revision: str, template: Mapping[str, Any], arm: Arm) -> Object:
    """Return a revision's Deployment without its replicas."""
    labels = revision_labels(spec.key, revision)
    metadata = dict(template.get("metadata") or {})
    # Of a template read back from a cluster, this null is no content.
    metadata.pop("creationTimestamp", None)
    metadata["labels"] = dict(metadata.get("labels") or {}) | labels
    patience = STARTUPS_WITHOUT_PROGRESS * spec.replicas.initial_startup_seconds
    body = _object("apps/v1", "Deployment", owned_target(spec.key.name, revision).name, spec.key)
    body["metadata"]["labels"] |= {REVISION_LABEL: revision, ARM_LABEL: arm.value}
    body["metadata"]["ownerReferences"] = [owner_reference(spec)]
    return body | {
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {**template, "metadata": metadata},
            "progressDeadlineSeconds": max(PROGRESS_DEADLINE_SECONDS, round(patience)),
            # Its template never changes: there is no ReplicaSet to go back to.
            "revisionHistoryLimit": 0,
        }
    }


def with_replicas(deployment: Object, replicas: int) -> Object:
    """Return the body that a Deployment is created from."""
    return deployment | {"spec": deployment["spec"] | {"replicas": replicas}}


def owned_service(spec: ServiceSpec, name: str, revision: str, port: PodPort, arm: Arm) -> Object:
    """Return a Service of an owned workload that selects one revision."""
    body = arm_service(spec.key, name, revision_labels(spec.key, revision), [port_entry(port)], arm)
    body["metadata"]["ownerReferences"] = [owner_reference(spec)]
    return body


def arm_service(
    key: ServiceKey, name: str, selector: Mapping[str, str], ports: Sequence[Mapping[str, Any]], arm: Arm
) -> Object:
    """Return a Service that selects the pods of one arm; `ports` as Services have them."""
    body = _object("v1", "Service", name, key)
    body["metadata"]["labels"] |= {ARM_LABEL: arm.value}
    return body | {
        "spec": {"type": "ClusterIP", "selector": dict(selector), "ports": [dict(each) for each in ports]}
    }


def port_entry(port: PodPort) -> dict[str, Any]:
    """Return the port of an owned Service."""
    return {"name": "http", "port": port.port, "protocol": "TCP", "targetPort": port.target}


def pod_port(template: Mapping[str, Any], asked: int | None) -> PodPort | None:
    """Return where the Services of a template lead: to the container port that is `asked` for, else the one
    named http, else the first. None where the template names none and none is asked for.

    The Service's own port is the one asked for, else 80: that of a container may change with the template,
    and with it what clients have to write.
    """
    containers = (template.get("spec") or {}).get("containers") or ()
    ports = [
        each
        for container in containers
        for each in container.get("ports") or ()
        if each.get("protocol", "TCP") == "TCP"
    ]
    exact = [each for each in ports if each["containerPort"] == asked]
    chosen = [*exact, *(each for each in ports if each.get("name") == "http"), *ports]
    if not chosen:
        return None if asked is None else PodPort(asked, asked)
    return PodPort(HTTP_PORT if asked is None else asked, int(chosen[0]["containerPort"]))


def owner_reference(spec: ServiceSpec) -> dict[str, Any]:
    """Return that an object goes with its InferenceService.

    Without blockOwnerDeletion: where OwnerReferencesPermissionEnforcement is on (OpenShift), that needs a
    permission on finalizers, and nothing here is worth waiting for.
    """
    return {
        "apiVersion": f"{INFERENCE_SERVICES.group}/{INFERENCE_SERVICES.version}",
        "kind": INFERENCE_SERVICES.kind,
        "name": spec.key.name,
        "uid": spec.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def taken_by_another(found: Mapping[str, Any], wanted: Object) -> str:
    """Return why an object that exists is not this InferenceService's, as the end of a sentence; else "".

    One that nobody owns, but that bears our label and the service's name, was left behind by
    ``kubectl delete --cascade=orphan``: it is taken back.
    """
    theirs, ours = controller_of(found), controller_of(wanted)
    name = labels_of(wanted)[SERVICE_LABEL]
    if theirs is not None:
        if ours is not None and theirs.get("uid") == ours["uid"]:
            return ""
        if (theirs.get("kind"), theirs.get("name")) == (INFERENCE_SERVICES.kind, name):
            return f"goes with the InferenceService {name} that was deleted: wait until it is gone"
        return f"belongs to {theirs.get('kind')} {theirs.get('name')}: rename one of the two"
    if not is_ours(found):
        owner = labels_of(found).get("app.kubernetes.io/managed-by", "")
        whose = f" (managed by {owner})" if owner else ""
        named = wanted["kind"] == "Service" and ours and labels_of(wanted)[ARM_LABEL] == Arm.STABLE
        other = "name another in workload.serviceRef" if named else "give the InferenceService another name"
        return f"is not Penstock's{whose}: delete it, or {other}"
    service = labels_of(found).get(SERVICE_LABEL, "")
    return "" if service == name else f"belongs to InferenceService {service}: rename one of the two"


def labels_of(body: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the labels of an object."""
    labels: Mapping[str, str] = (body.get("metadata") or {}).get("labels") or {}
    return labels


def controller_of(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the owner reference of the controller of an object."""
    owners: Sequence[Mapping[str, Any]] = (body.get("metadata") or {}).get("ownerReferences") or ()
    return next((each for each in owners if each.get("controller")), None)


def _object(api_version: str, kind: str, name: str, key: ServiceKey) -> Object:
    labels = MANAGED_BY | {"app.kubernetes.io/part-of": "penstock", SERVICE_LABEL: key.name}
    metadata = {"name": name, "namespace": key.namespace, "labels": labels}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}
