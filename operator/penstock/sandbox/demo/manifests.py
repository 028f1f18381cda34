"""What the demo applies: workloads, their Services, and the InferenceServices as the text that is shown.

With a gateway there are two of each: the model that users came for, and a smaller one that takes what
it cannot. The smaller one accepts the clients' model name too, or it could not stand in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from penstock.kube.api import Object
from penstock.model.duration import format_duration
from penstock.sandbox.demo.scene import MODEL, NAME, NAMESPACE, PROFILE, Scene


def deployments(scene: Scene) -> Iterator[Object]:
    """Yield the workloads: the user's own Deployments of stand-in engines."""
    yield _deployment(NAME, scene.initial_replicas, PROFILE, (MODEL,))
    if scene.fallback is not None:
        small = scene.fallback
        yield _deployment(small.name, small.replicas, small.profile, (small.model, MODEL))


def services(scene: Scene) -> Iterator[Object]:
    """Yield the Services in front of the workloads."""
    for name in scene.services:
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "selector": {"app": name},
                "ports": [{"name": "http", "port": 8000, "targetPort": "http"}],
            },
        }


def inference_services(scene: Scene) -> Iterator[Object]:
    """Yield the resources that the user writes; parsed from the text that is shown."""
    yield from yaml.safe_load_all(inference_service_yaml(scene))


def inference_service_yaml(scene: Scene) -> str:
    """Return the YAML that is shown and applied."""
    return _chat(scene) if scene.fallback is None else f"{_chat(scene)}---\n{_small(scene)}"


def _chat(scene: Scene) -> str:
    return f"""\
apiVersion: serving.penstock.dev/v1alpha1
kind: InferenceService
metadata: {{name: {NAME}, namespace: {NAMESPACE}}}
spec:
  mode: {scene.first_mode}
  workload:
    targetRef: {{kind: Deployment, name: {NAME}}}
    modelNames: [{MODEL}]
  slo:
    ttft: {{p95: {format_duration(scene.ttft_p95_seconds)}}}            # TTFT: time to first token
{_tpot(scene)}\
  engine:
    type: VLLM
    profile: {{type: Named, name: {PROFILE}}}
  replicas:
    min: 1
    max: {scene.max_replicas}
    spare: 1                   # the objective holds with one replica lost
    initialStartup: {_startup(scene)}# until it has been measured
    scaleDownWindow: {scene.scale_down_window_seconds}s       # minutes, where starting takes minutes
{_routing(scene)}"""


def _startup(scene: Scene) -> str:
    return f"{scene.initial_startup_seconds}s".ljust(11)


def _tpot(scene: Scene) -> str:
    if scene.tpot_p95_milliseconds is None:
        return ""
    tpot = f"tpot: {{p95: {scene.tpot_p95_milliseconds}ms}}"
    return f"    {tpot:<27}# TPOT: time per output token\n"


def _routing(scene: Scene) -> str:
    if scene.fallback is None:
        return "  routing: {type: None, balancer: LeastRequests}\n"
    return f"""\
  admission: {{policy: Auto}}    # limits from the same model
  fallback:
    backendRef: {{kind: InferenceService, name: {scene.fallback.name}}}
    maxPercent: {scene.fallback.max_percent}             # of the requests, over time
  routing: {{type: Envoy}}       # a gateway enforces both
"""


def _small(scene: Scene) -> str:
    small = scene.fallback
    if small is None:
        raise ValueError("this scene has no fallback")
    return f"""\
apiVersion: serving.penstock.dev/v1alpha1
kind: InferenceService
metadata: {{name: {small.name}, namespace: {NAMESPACE}}}
spec:
  workload:
    targetRef: {{kind: Deployment, name: {small.name}}}
    modelNames: [{small.model}, {MODEL}]
  slo:
    ttft: {{p95: {format_duration(scene.ttft_p95_seconds)}}}
    tpot: {{p95: {scene.tpot_p95_milliseconds}ms}}
  engine:
    type: VLLM
    profile: {{type: Named, name: {small.profile}}}
  replicas: {{min: {small.replicas}, max: {small.replicas}}}   # it has a limit of its own: no cascade
  routing: {{type: Envoy}}
"""


def _deployment(name: str, replicas: int, profile: str, models: tuple[str, ...]) -> Object:
    container: dict[str, Any] = {
        "name": "engine",
        "image": "penstock",
        "command": ["penstock", "engine"],
        "args": [f"--profile={profile}", *(f"--model-name={model}" for model in models)],
        "ports": [{"name": "http", "containerPort": 8000}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 30},
            },
        },
    }
