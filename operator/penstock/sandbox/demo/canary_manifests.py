"""What the canary scene applies: the Deployment that runs, the one beside it, and the InferenceService."""

from __future__ import annotations

from penstock.kube.api import Object
from penstock.sandbox.demo.canary_scene import CANARY, CanaryScene, Try
from penstock.sandbox.demo.manifests import deployments, services
from penstock.sandbox.demo.scene import MODEL, NAME, NAMESPACE, PROFILE


def stable_deployment(scene: CanaryScene) -> Object:
    """Return the workload that runs."""
    return next(deployments(scene.cluster))


def service(scene: CanaryScene) -> Object:
    """Return the Service in front of it, whose selector leaves the canary's pods out."""
    return next(services(scene.cluster))


def canary_deployment(scene: CanaryScene, tried: Try) -> Object:
    """Return the workload beside it: other labels, a revision's flags, no replicas: Penstock sets them."""
    body = stable_deployment(scene)
    labels = {"app": CANARY}
    template = body["spec"]["template"]
    (container,) = template["spec"]["containers"]
    container["args"] = [*container["args"], *tried.flags]
    template["metadata"]["labels"] = labels
    body["metadata"]["name"] = CANARY
    body["spec"] |= {"replicas": 0, "selector": {"matchLabels": labels}}
    return body


def inference_service_yaml(scene: CanaryScene) -> str:
    """Return the YAML that is shown and applied."""
    steps = ", ".join(str(each) for each in scene.step_percents)
    return f"""\
apiVersion: serving.penstock.dev/v1alpha1
kind: InferenceService
metadata: {{name: {NAME}, namespace: {NAMESPACE}}}
spec:
  workload:
    targetRef: {{kind: Deployment, name: {NAME}}}
    modelNames: [{MODEL}]
  slo:
    ttft: {{p95: 1s}}            # errors are judged too, always
    availabilityPercent: "{scene.availability_percent}"
  engine:
    type: VLLM
    profile: {{type: Named, name: {PROFILE}}}
  replicas:                    # a canary's come on top
    min: {scene.stable_replicas}
    max: {scene.stable_replicas}
    initialStartup: 10s
  canary:
    targetRef: {{name: {CANARY}}}
    stepPercents: [{steps}]
    maxRegressionPercent: {scene.max_regression_percent}   # more slow requests
    warmUp: {scene.warm_up_seconds}s
    maxDuration: 5m
  routing: {{type: Envoy}}
"""
