"""What the demo plays: the workload, the load against time, and times compressed to fit four minutes.

The engine is llama-3.1-8b on one L40S at its own speed. Prompts of 2,000 tokens make it slow where it
matters (a prefill takes 150 ms), so some 4 requests/s fill a replica's objective while the whole
fleet streams fewer than 500 tokens/s, which two cores do beside Prometheus and an API server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from penstock.engine.arrivals import Lengths, RateStep
from penstock.kube.api import Object
from penstock.model.duration import format_duration

NAMESPACE = "demo"
NAME = "chat"
PROFILE = "llama-3.1-8b-l40s"
MODEL = "llama-3.1-8b"
LENGTHS = Lengths(input_tokens=2000, output_tokens=40, scv=0.3)


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of constant load."""

    name: str
    per_second: float
    seconds: float
    says: str  # what happens and why it matters


@dataclass(frozen=True, slots=True)
class Scene:
    """One performance. `operator_killed_after_seconds` counts from the start of the load; None: never."""

    phases: tuple[Phase, ...]
    first_mode: str = "Enforce"
    initial_replicas: int = 1
    operator_killed_after_seconds: float | None = None
    ttft_p95_seconds: float = 1.0
    max_replicas: int = 8
    startup_seconds: float = 4.0
    initial_startup_seconds: int = 8
    scale_down_window_seconds: int = 15
    tick_seconds: float = 1.0
    scrape_interval_seconds: float = 1.0
    rate_window_seconds: float = 12.0
    lengths: Lengths = LENGTHS

    @property
    def rates(self) -> tuple[RateStep, ...]:
        """Return the load as a schedule."""
        return tuple(RateStep(phase.per_second, phase.seconds) for phase in self.phases)

    @property
    def load_seconds(self) -> float:
        """Return how long the load lasts."""
        return sum(phase.seconds for phase in self.phases)

    def phase_at(self, seconds: float) -> int:
        """Return the position of the phase at a time since the start of the load."""
        end = 0.0
        for position, phase in enumerate(self.phases):
            end += phase.seconds
            if seconds < end:
                return position
        return len(self.phases) - 1


def full_scene() -> Scene:
    """Return the whole performance: Observe, Enforce, a load step, a killed operator, and down again."""
    return Scene(
        phases=(
            Phase(
                "quiet",
                2,
                44,
                "2 requests/s at one replica, and nobody who scales it: the service as Penstock finds it.",
            ),
            Phase(
                "step",
                9,
                58,
                "the load jumps from 2 to 9 requests/s. Two replicas only just bear it; new ones need "
                "some 6 s to start, so what counts is to see it at once and to order enough.",
            ),
            Phase(
                "after",
                2,
                80,
                "the load falls back to 2 requests/s. Replicas go only after fewer have been enough "
                "for the whole scaleDownWindow, and the least busy ones first.",
            ),
        ),
        first_mode="Observe",
        operator_killed_after_seconds=66.0,
    )


def quick_scene() -> Scene:
    """Return the shortest performance that shows a scale-up and a scale-down."""
    return Scene(
        phases=(
            Phase("quiet", 2, 24, "2 requests/s at two replicas, and nobody who scales them."),
            Phase("step", 9, 24, "the load jumps from 2 to 9 requests/s."),
            Phase("after", 2, 26, "the load falls back to 2 requests/s."),
        ),
        initial_replicas=2,
        scale_down_window_seconds=10,
        rate_window_seconds=8.0,
    )


def deployment(scene: Scene) -> Object:
    """Return the workload: the user's own Deployment of stand-in engines."""
    container = {
        "name": "engine",
        "image": "penstock",
        "command": ["penstock", "engine"],
        "args": [f"--profile={PROFILE}", f"--model-name={MODEL}"],
        "ports": [{"name": "http", "containerPort": 8000}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "replicas": scene.initial_replicas,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 30},
            },
        },
    }


def service() -> Object:
    """Return the Service in front of the workload."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"selector": {"app": NAME}, "ports": [{"name": "http", "port": 8000, "targetPort": "http"}]},
    }


def inference_service(scene: Scene) -> Object:
    """Return the resource that the user writes; parsed from the text that is shown."""
    body: dict[str, Any] = yaml.safe_load(inference_service_yaml(scene))
    return body


def inference_service_yaml(scene: Scene) -> str:
    """Return the YAML that is shown and applied."""
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
  engine:
    type: VLLM
    profile: {{type: Named, name: {PROFILE}}}
  replicas:
    min: 1
    max: {scene.max_replicas}
    spare: 1                   # the objective holds with one replica lost
    initialStartup: {scene.initial_startup_seconds}s         # until it has been measured
    scaleDownWindow: {scene.scale_down_window_seconds}s       # minutes, where starting takes minutes
  routing: {{type: None, balancer: LeastRequests}}
"""
