"""Bodies of Kubernetes objects, as short as an API server accepts them."""

from __future__ import annotations

from typing import Any

from penstock.kube.api import Resource

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")


def a_deployment(name: str = "chat", **spec: object) -> dict[str, Any]:
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "engine", "image": "engine"}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template} | spec,
    }


def a_service(name: str = "chat", **spec: object) -> dict[str, Any]:
    wanted = {"workload": {"targetRef": {"name": name}}, "slo": {"ttft": {"p95": "500ms"}}}
    return {
        "apiVersion": "serving.penstock.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": wanted | spec,
    }


def a_config_map(name: str, **labels: str) -> dict[str, Any]:
    body = {"metadata": {"name": name, "labels": labels}, "data": {"a": "1", "b": "2"}}
    return {"apiVersion": "v1", "kind": "ConfigMap"} | body
