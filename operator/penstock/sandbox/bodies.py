"""What the sandbox's controllers write: Pods, EndpointSlices, Deployment status. Values in, dicts out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from penstock.kube.api import DEPLOYMENTS, Object
from penstock.sandbox.local_pod import LocalPod

MANAGED = "sandbox.penstock.dev/managed"
URL = "sandbox.penstock.dev/url"
HASH = "pod-template-hash"
SERVICE_NAME = "kubernetes.io/service-name"
POD_IP = "127.0.0.1"


def template_hash(template: Mapping[str, Any]) -> str:
    """Return the label value that tells pods of one template from those of another."""
    return hashlib.sha256(orjson.dumps(template, option=orjson.OPT_SORT_KEYS)).hexdigest()[:10]


def command_of(template: Mapping[str, Any]) -> list[str]:
    """Return command and arguments of the first container."""
    container = ((template.get("spec") or {}).get("containers") or [{}])[0]
    return [str(word) for word in (*(container.get("command") or ()), *(container.get("args") or ()))]


def pod_body(pod: LocalPod, deployment: Object) -> Object:
    """Return the Pod to create."""
    template = deployment["spec"]["template"]
    metadata = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "labels": dict(pod.labels),
            "annotations": {**(metadata.get("annotations") or {}), MANAGED: "true"},
            "ownerReferences": [
                {
                    "apiVersion": f"{DEPLOYMENTS.group}/{DEPLOYMENTS.version}",
                    "kind": DEPLOYMENTS.kind,
                    "name": deployment["metadata"]["name"],
                    "uid": deployment["metadata"]["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": template.get("spec") or {},
    }


def pod_status(pod: LocalPod) -> Object:
    """Return the Pod's status."""
    if not pod.node:
        return {
            "phase": "Pending",
            "conditions": [
                _condition(
                    "PodScheduled", "False", pod.created_at, reason="Unschedulable", message=pod.shortage
                )
            ],
        }
    ready_since = pod.ready_at or pod.started_at or pod.created_at
    ready = "True" if pod.ready else "False"
    why = {} if pod.ready else {"reason": "ContainersNotReady"}
    started = _time(pod.started_at or pod.created_at)
    state: Object = {"running": {"startedAt": started}}
    if not pod.running:
        reason, message = pod.waiting
        state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
    return {
        "phase": "Running" if pod.running or pod.restarts else "Pending",
        "podIP": POD_IP,
        "podIPs": [{"ip": POD_IP}],
        "hostIP": POD_IP,
        "startTime": _time(pod.created_at),
        "conditions": [
            _condition("PodScheduled", "True", pod.created_at),
            _condition("Initialized", "True", pod.created_at),
            _condition("ContainersReady", ready, ready_since, **why),
            _condition("Ready", ready, ready_since, **why),
        ],
        "containerStatuses": [
            {
                "name": pod.container_name,
                "ready": pod.ready,
                "started": pod.running,
                "restartCount": pod.restarts,
                "image": "sandbox",
                "imageID": "",
                "state": state,
            }
        ],
    }


def slice_body(pod: LocalPod, service: Object, position: int) -> Object:
    """Return the EndpointSlice of one pod behind one Service.

    One slice a pod, because a slice has one list of ports and every local process listens on its own.
    The address is made up: the API refuses loopback addresses in slices. Readers go by targetRef.
    """
    metadata = service["metadata"]
    ports = (service.get("spec") or {}).get("ports") or [{}]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{metadata['name']}-{pod.name.rsplit('-', 1)[-1]}",
            "labels": {
                SERVICE_NAME: metadata["name"],
                "endpointslice.kubernetes.io/managed-by": "penstock-sandbox",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": ports[0].get("name", ""), "port": urlsplit(pod.url).port, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [f"10.244.{position // 250}.{position % 250 + 1}"],
                "conditions": {
                    "ready": pod.ready,
                    "serving": pod.ready_at is not None,
                    "terminating": pod.terminating,
                },
                "nodeName": pod.node,
                "targetRef": {
                    "kind": "Pod",
                    "name": pod.name,
                    "namespace": metadata["namespace"],
                    "uid": pod.uid,
                },
            }
        ],
    }


def deployment_status(
    deployment: Object, pods: Sequence[LocalPod], *, least_available: int, failure: str, now: float
) -> Object:
    """Return the Deployment's status; conditions keep their times while they stay what they are."""
    spec, metadata = deployment["spec"], deployment["metadata"]
    wanted = spec.get("replicas", 1)
    current = template_hash(spec["template"])
    alive = [pod for pod in pods if not pod.terminating]
    ready = sum(pod.ready for pod in alive)
    updated = sum(pod.template_hash == current for pod in alive)
    complete = updated == wanted == ready == len(alive)
    conditions = [
        _condition("Available", "True", now, reason="MinimumReplicasAvailable")
        if ready >= least_available
        else _condition("Available", "False", now, reason="MinimumReplicasUnavailable"),
        _progress(deployment, complete=complete, replicas=len(alive), updated=updated, ready=ready, now=now),
    ]
    if failure:
        conditions.append(_condition("ReplicaFailure", "True", now, reason="FailedCreate", message=failure))
    before = {each["type"]: each for each in (deployment.get("status") or {}).get("conditions") or ()}
    return {
        "observedGeneration": metadata.get("generation", 1),
        "replicas": len(alive),
        "updatedReplicas": updated,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, wanted - ready),
        "conditions": [_kept(before.get(each["type"]), each) for each in conditions],
    }


def _progress(
    deployment: Object, *, complete: bool, replicas: int, updated: int, ready: int, now: float
) -> Object:
    status = deployment.get("status") or {}
    before = {each["type"]: each for each in status.get("conditions") or ()}.get("Progressing")
    if complete:
        return _condition("Progressing", "True", now, reason="NewReplicaSetAvailable")
    if before is not None and before["reason"] == "NewReplicaSetAvailable" and replicas == updated:
        return dict(before)  # scaling up what is rolled out is no rollout: the real controller says so too
    moved = (updated, ready) != (status.get("updatedReplicas", 0), status.get("readyReplicas", 0))
    if before is None or moved:
        updating = _condition("Progressing", "True", now, reason="ReplicaSetUpdated")
        return {**updating, "lastUpdateTime": _time(now)}
    since = datetime.fromisoformat(before["lastUpdateTime"]).timestamp()
    deadline = deployment["spec"].get("progressDeadlineSeconds", 600)
    if before["reason"] == "ReplicaSetUpdated" and now - since > deadline:
        return _condition("Progressing", "False", now, reason="ProgressDeadlineExceeded")
    return dict(before)


def _kept(before: Object | None, after: Object) -> Object:
    now = after["lastTransitionTime"]
    if before is None:
        return {"lastUpdateTime": now, **after}
    same_status = before["status"] == after["status"]
    same = same_status and before.get("reason") == after.get("reason")
    return {
        "lastUpdateTime": before.get("lastUpdateTime", now) if same else now,
        **after,
        "lastTransitionTime": before["lastTransitionTime"] if same_status else now,
    }


def _condition(kind: str, status: str, at: float, *, reason: str = "", message: str = "") -> Object:
    condition: Object = {"type": kind, "status": status, "lastTransitionTime": _time(at)}
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
