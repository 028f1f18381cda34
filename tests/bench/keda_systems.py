"""The systems of `make bench-keda`: what is applied, when it is in charge, why it decided as it did."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from fakes.kind_cluster import ROOT, Cluster, service

HPA = "keda-hpa-chat"  # KEDA names it after the ScaledObject, and metrics after the place of their trigger
METRICS = {"s0-prometheus": "queue", "s1-prometheus": "concurrency"}


class BenchError(Exception):
    """A run that could not be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What all runs have in common."""

    rates: str = "2:35,6:60,12:70,4:55,1:40"
    startup_seconds: int = 30
    queue: float = 5.0
    concurrency: float = 5.0

    @property
    def steps(self) -> list[tuple[float, float]]:
        """The load's steps: requests a second, seconds."""
        pairs = (step.split(":") for step in self.rates.split(","))
        return [(float(rate), float(seconds)) for rate, seconds in pairs]

    @property
    def load_seconds(self) -> float:
        """How long the load lasts."""
        return sum(seconds for _, seconds in self.steps)

    def rate_at(self, seconds: float) -> float:
        """Return the requests a second that are due `seconds` into the load; 0 after it."""
        for rate, lasting in self.steps:
            if seconds < lasting:
                return rate
            seconds -= lasting
        return 0.0


@dataclass(frozen=True, slots=True)
class System:
    """An autoscaler: its object for a namespace, whether it is in charge there, what it says."""

    name: str
    objects: Callable[[str, Trial], dict[str, Any]]
    in_charge: Callable[[Cluster, str], bool]
    says: Callable[[Cluster, str], str]


def scaled_object(namespace: str, trial: Trial) -> dict[str, Any]:
    """Return manifests/kind/scaledobject.yaml in a namespace, with a trial's thresholds."""
    text = (ROOT / "manifests/kind/scaledobject.yaml").read_text()
    body = dict(yaml.safe_load(text.replace('namespace="default"', f'namespace="{namespace}"')))
    body["metadata"]["namespace"] = namespace
    thresholds = {"queue": trial.queue, "concurrency": trial.concurrency}
    for trigger in body["spec"]["triggers"]:
        trigger["metadata"]["threshold"] = f"{thresholds[trigger['name']]:g}"
    return body


def inference_service(namespace: str, trial: Trial) -> dict[str, Any]:
    """Return manifests/kind/objectives.yaml in a namespace, told how long a start takes."""
    known = {"initialStartup": f"{trial.startup_seconds + 5}s", "scaleDownWindow": "1m"}
    return service(namespace, **known)


def external_values(hpa: dict[str, Any]) -> dict[str, float]:
    """Return what an HPA has read, a replica, by metric; only what it has read."""
    metrics = [each.get("external", {}) for each in hpa.get("status", {}).get("currentMetrics") or []]
    return {
        each["metric"]["name"]: _amount(each["current"]["averageValue"])
        for each in metrics
        if each.get("current", {}).get("averageValue")
    }


def _amount(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def _hpa(cluster: Cluster, namespace: str) -> dict[str, Any]:
    found = cluster.kubectl("get", "hpa", HPA, "-n", namespace, "-o", "json", check=False)
    return {} if found.returncode else dict(json.loads(found.stdout))


def _hpa_says(cluster: Cluster, namespace: str) -> str:
    read = external_values(_hpa(cluster, namespace))
    known = [f"{name} {read[metric]:.1f}" for metric, name in METRICS.items() if metric in read]
    return f"a replica has {', '.join(known)}" if known else "nothing read"


def _penstock_in_charge(cluster: Cluster, namespace: str) -> bool:
    conditions = [cluster.condition(namespace, kind) for kind in ("Ready", "MetricsAvailable")]
    return all(each.get("status") == "True" for each in conditions)


def _penstock_says(cluster: Cluster, namespace: str) -> str:
    return str(cluster.status(namespace).get("decision", {}).get("message", "nothing decided"))


KEDA = System(
    "KEDA",
    scaled_object,
    lambda cluster, namespace: len(external_values(_hpa(cluster, namespace))) == 2,
    _hpa_says,
)
PENSTOCK = System("Penstock", inference_service, _penstock_in_charge, _penstock_says)
