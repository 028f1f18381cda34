"""InferenceServices whose revisions are tried, and the workloads of an adopted canary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fakes.played_cluster import NAMESPACE

GOOD, SLOW, CRASHING = "engine:good", "engine:slow", "engine:crashing"


def inference_service(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "serving.penstock.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "chat", "namespace": NAMESPACE, "uid": "psvc-1"},
        "spec": dict(spec),
    }


def template(image: str, **labels: str) -> dict[str, Any]:
    """Return a pod template of an image."""
    ports = [{"name": "http", "containerPort": 8000}]
    containers = [{"name": "engine", "image": image, "ports": ports}]
    return {"metadata": {"labels": {"app": "chat"} | labels}, "spec": {"containers": containers}}


def common(canary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what specs of both kinds share: three small steps, 20 minutes."""
    return {
        "mode": "Enforce",
        "slo": {"ttft": {"p95": "500ms"}},
        "engine": {"type": "VLLM", "profile": {"type": "Named", "name": "llama-3.1-8b-h100"}},
        "replicas": {"min": 2, "max": 8, "initialStartup": "20s"},
        "routing": {"type": "Envoy", "balancer": "LeastRequests"},
        "canary": {"stepPercents": [20, 50], "maxDuration": "20m", "warmUp": "15s"} | canary,
    }


def owned(image: str = GOOD, **canary: Any) -> dict[str, Any]:
    """Return the spec of a service whose pods are Penstock's."""
    workload = {"type": "Template", "modelNames": ["m"], "template": template(image)}
    return common(canary) | {"workload": workload}


def adopted(**canary: Any) -> dict[str, Any]:
    """Return the spec of a service beside ``Deployment/chat-next``."""
    workload = {
        "type": "Target",
        "targetRef": {"group": "apps", "kind": "Deployment", "name": "chat"},
        "serviceRef": {"name": "chat"},
    }
    tried = {"targetRef": {"group": "apps", "kind": "Deployment", "name": "chat-next"}}
    return common(tried | canary) | {"workload": workload}


def two_deployments(image: str = GOOD) -> list[dict[str, Any]]:
    """Return the workloads and the Service of an adopted canary; the Service selects both."""
    return [
        _deployment("chat", GOOD, "stable", 2),
        _deployment("chat-next", image, "next", 0),
        {
            "kind": "Service",
            "metadata": {"name": "chat", "namespace": NAMESPACE},
            "spec": {
                "selector": {"app": "chat"},
                "ports": [{"name": "http", "port": 80, "targetPort": 8000}],
            },
        },
    ]


def _deployment(name: str, image: str, track: str, replicas: int) -> dict[str, Any]:
    labels = {"app": "chat", "track": track}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template(image, **labels)}
    return {"kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}
