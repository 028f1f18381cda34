"""A small cluster in walked time: Deployments make pods, Services select them, slices follow a second later.

As much of the API as the operator uses, in one namespace. Pods of an image in `crashing` never get ready.
Removal is a ReplicaSet's: unready pods first, then the lowest deletion cost.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.controller.cache import FleetCache
from penstock.controller.endpoints import EndpointCache
from penstock.kube.api import (
    DEPLOYMENTS,
    EVENTS,
    PODS,
    Conflict,
    NotFound,
    PatchType,
    Resource,
    Scale,
)

NAMESPACE = "prod"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


@dataclass
class PlayedPod:
    """A pod and the streams it serves: when each ends, and by which of the gateways' clusters it came."""

    name: str
    deployment: str
    image: str
    labels: Mapping[str, str]
    ready_at: float | None
    cost: str = ""
    streams: list[tuple[float, str]] = field(default_factory=list)

    def is_ready(self, now: float) -> bool:
        return self.ready_at is not None and self.ready_at <= now


class PlayedCluster:
    """Objects by kind and name. `crashing` are images whose containers end at once."""

    def __init__(self, *, now: float, startup_seconds: float = 20.0) -> None:
        self.now, self.startup_seconds = now, startup_seconds
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.pods: dict[str, PlayedPod] = {}
        self.events: list[tuple[float, str, str, str]] = []  # when, type, reason, note
        self.scaled: list[tuple[float, str, int]] = []
        self.crashing: set[str] = set()
        self.cut: list[str] = []  # a stream each, of a pod that was removed
        self._version = 100
        self._random = random.Random(7)

    # What users do.

    def put(self, body: Mapping[str, Any]) -> None:
        """Create or change an object, as ``kubectl apply`` does."""
        self._store(_merged(self.objects.get(_key(body), {}), body))

    def delete_object(self, kind: str, name: str) -> None:
        """Delete an object and, as the garbage collector does, what it owns."""
        gone = self.objects.pop((kind, name))
        for key, body in list(self.objects.items()):
            if any(
                owner["uid"] == gone["metadata"].get("uid")
                for owner in body["metadata"].get("ownerReferences", ())
            ):
                self.delete_object(*key)

    def replicas(self, name: str) -> int:
        return int(self.objects["Deployment", name]["spec"].get("replicas", 1))

    def ready_pods(self, deployment: str) -> list[PlayedPod]:
        return [pod for pod in self.pods.values() if pod.deployment == deployment and pod.is_ready(self.now)]

    # Controllers.

    def reconcile(self) -> None:
        """Bring pods to what Deployments want, and end the streams that are over."""
        for pod in self.pods.values():
            pod.streams = [each for each in pod.streams if each[0] > self.now]
        wanted = {name: body for (kind, name), body in self.objects.items() if kind == "Deployment"}
        for pod in [each for each in self.pods.values() if each.deployment not in wanted]:
            self._remove(pod)
        for name, body in wanted.items():
            template = body["spec"]["template"]
            image = template["spec"]["containers"][0]["image"]
            for pod in [each for each in self.pods.values() if each.deployment == name]:
                if pod.image != image:
                    del self.pods[pod.name]  # its owner's rollout, which drains by itself
            mine = [each for each in self.pods.values() if each.deployment == name]
            for _ in range(self.replicas(name) - len(mine)):
                self._start(name, image, template["metadata"]["labels"])
            ranked = sorted(mine, key=lambda pod: (pod.is_ready(self.now), float(pod.cost or 0), pod.name))
            for pod in ranked[: max(0, len(mine) - self.replicas(name))]:
                self._remove(pod)
            self._report(name, body)

    def feed(self, cache: FleetCache, endpoints: EndpointCache) -> None:
        """Let the caches see what watches would have shown by now."""
        for kind, name in [key for key in self._seen(cache) if key not in self.objects]:
            if kind == "InferenceService":
                cache.forget_service(NAMESPACE, name)
            else:
                cache.forget_workload(kind, NAMESPACE, name)
        for (kind, _), body in list(self.objects.items()):
            if kind == "InferenceService":
                cache.see_service(body)
            elif kind == "Deployment":
                cache.see_workload(kind, body)
            elif kind == "Service":
                cache.see_cluster_service(body)
                endpoints.see_service(body)
                cache.see_slice(self._slice(body))
                endpoints.see(self._slice(body))

    def _seen(self, cache: FleetCache) -> list[tuple[str, str]]:
        known = [("InferenceService", key.name) for key in cache.services]
        return known + [(kind, name) for _, kind, name in cache.workloads]

    def _slice(self, service: Mapping[str, Any]) -> dict[str, Any]:
        name, spec = service["metadata"]["name"], service["spec"]
        chosen = [pod for pod in self.pods.values() if spec["selector"].items() <= pod.labels.items()]
        return {
            "metadata": {
                "namespace": NAMESPACE,
                "name": f"{name}-x",
                "labels": {"kubernetes.io/service-name": name},
            },
            "ports": [{"name": port.get("name", ""), "port": 8000} for port in spec["ports"]],
            "endpoints": [
                {
                    "addresses": [f"10.0.0.{index}"],
                    "conditions": {"ready": pod.is_ready(self.now)},
                    "targetRef": {"kind": "Pod", "name": pod.name},
                }
                for index, pod in enumerate(sorted(chosen, key=lambda pod: pod.name))
            ],
        }

    def _start(self, deployment: str, image: str, labels: Mapping[str, str]) -> None:
        ready_at = None if image in self.crashing else self.now + self.startup_seconds
        name = f"{deployment}-7d9f-{self._random.randrange(16**5):05x}"
        self.pods[name] = PlayedPod(name, deployment, image, dict(labels), ready_at)

    def _remove(self, pod: PlayedPod) -> None:
        self.cut += [pod.name] * len(pod.streams)
        del self.pods[pod.name]

    def _report(self, name: str, body: dict[str, Any]) -> None:
        mine = [pod for pod in self.pods.values() if pod.deployment == name]
        status = {
            "observedGeneration": body["metadata"]["generation"],
            "replicas": len(mine),
            "updatedReplicas": len(mine),
            "readyReplicas": len(self.ready_pods(name)),
        }
        if status != body.get("status"):
            self._version += 1
            body["status"] = status
            body["metadata"]["resourceVersion"] = str(self._version)

    def _store(self, body: dict[str, Any]) -> dict[str, Any]:
        before = self.objects.get(_key(body), {})
        metadata = body["metadata"]
        self._version += 1
        metadata.setdefault("namespace", NAMESPACE)
        metadata.setdefault("uid", f"u-{self._version}")
        metadata.setdefault("creationTimestamp", f"2026-01-01T00:00:00.{self._version}Z")
        changed = before.get("spec") != body.get("spec")
        metadata["generation"] = before.get("metadata", {}).get("generation", 0) + changed
        metadata["resourceVersion"] = str(self._version)
        self.objects[_key(body)] = body
        return copy.deepcopy(body)

    # The API server.

    def _found(self, kind: str, name: str) -> dict[str, Any]:
        if (kind, name) not in self.objects:
            raise NotFound(f"{kind} {name} not found", status=404)
        return self.objects[kind, name]

    async def resource_of(self, group: str, kind: str) -> Resource:
        return DEPLOYMENTS

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        return copy.deepcopy(self._found(resource.kind, name))

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = ""
    ) -> list[dict[str, Any]]:
        wanted = dict(each.split("=") for each in label_selector.split(",") if each)
        if resource == PODS:
            return [self._pod(pod) for pod in self.pods.values() if wanted.items() <= pod.labels.items()]
        return [
            copy.deepcopy(body)
            for (kind, _), body in self.objects.items()
            if kind == resource.kind and wanted.items() <= body["metadata"].get("labels", {}).items()
        ]

    def _pod(self, pod: PlayedPod) -> dict[str, Any]:
        crashes = [{"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "exit code 1"}}}]
        ready = "True" if pod.is_ready(self.now) else "False"
        return {
            "metadata": {
                "name": pod.name,
                "annotations": {DELETION_COST: pod.cost} if pod.cost else {},
            },
            "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": crashes if pod.ready_at is None else [],
            },
        }

    async def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if resource == EVENTS:
            self.events.append((self.now, body["type"], body["reason"], body["note"]))
            return {}
        if _key(body) in self.objects:
            raise Conflict("already exists", status=409)
        return self._store(copy.deepcopy(dict(body)))

    async def apply(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        return self._store(_merged(self.objects.get(_key(body), {}), body))

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Any,
        *,
        subresource: str = "",
        patch_type: PatchType = PatchType.MERGE,
    ) -> dict[str, Any]:
        if resource == PODS:
            self.pods[name].cost = body["metadata"]["annotations"][DELETION_COST] or ""
            return {}
        return self._store(_merged(self._found(resource.kind, name), body))

    async def delete(self, resource: Resource, namespace: str, name: str) -> None:
        self.delete_object(resource.kind, name)

    async def get_scale(self, resource: Resource, namespace: str, name: str) -> Scale:
        body = self._found("Deployment", name)
        current = body.get("status", {}).get("replicas", 0)
        return Scale(self.replicas(name), current, "", body["metadata"]["resourceVersion"])

    async def patch_scale(
        self, resource: Resource, namespace: str, name: str, *, replicas: int, resource_version: str
    ) -> Scale:
        body = self._found("Deployment", name)
        if body["metadata"]["resourceVersion"] != resource_version:
            raise Conflict("the object has been modified", status=409)
        self.scaled.append((self.now, name, replicas))
        written = self._store(_merged(body, {"spec": {"replicas": replicas}}))
        return Scale(replicas, replicas, "", written["metadata"]["resourceVersion"])


def _key(body: Mapping[str, Any]) -> tuple[str, str]:
    return str(body["kind"]), str(body["metadata"]["name"])


def _merged(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7386, on copies."""
    result = copy.deepcopy(dict(old))
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            result[name] = _merged(result.get(name) or {}, value)
        else:
            result[name] = copy.deepcopy(value)
    return result
