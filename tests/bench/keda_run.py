"""One run: a fresh namespace, one engine, one autoscaler, the load, and the Deployment watched all along.

The autoscaler is told to be in charge before the load begins (KEDA's HPA has read its metrics, Penstock's
service is Ready), so that neither pays for being installed.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml

from bench.keda_report import Period, Run, Seen
from fakes.kind_cluster import ROOT, Cluster, deployment, load, service

PENSTOCK, KEDA = "Penstock", "KEDA"
NOT_TRUSTED = "Not reported: "
TELL_SECONDS = 15.0
STARTS_WITHIN_SECONDS = 5.0  # a Job says late that its pod runs, and the generator takes a second to start
WATCHED = "{.spec.replicas} {.status.replicas} {.status.readyReplicas}{'\\n'}"


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


@dataclass
class DeploymentWatch:
    """What a Deployment was like, each change with the time it was told."""

    seen: list[Seen] = field(default_factory=list)

    def take(self, lines: Iterator[str]) -> None:
        """Read lines of `WATCHED` until there are no more."""
        for line in lines:
            words = line.rstrip("\n").split(" ")
            target, replicas, ready = (int(word or 0) for word in words)
            self.seen.append(Seen(time.monotonic(), target, replicas, ready))


@contextmanager
def watched(cluster: Cluster, namespace: str) -> Iterator[DeploymentWatch]:
    """Watch the Deployment `chat` while the block runs."""
    found = DeploymentWatch()
    words = ["kubectl", "get", "deployment", "chat", "-n", namespace, "--watch", "-o", f"jsonpath={WATCHED}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=cluster.env) as watch:
        assert watch.stdout is not None
        reading = threading.Thread(target=found.take, args=(watch.stdout,))
        reading.start()
        try:
            yield found
            if watch.poll() is not None:
                raise BenchError("the watch of the Deployment ended before the load did")
        finally:
            watch.terminate()
            reading.join(10)


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
    """Return the InferenceService of manifests/kind/objectives.yaml, told how long a start takes."""
    known = {"initialStartup": f"{trial.startup_seconds + 5}s", "scaleDownWindow": "1m"}
    return service(namespace, **known)


def keda_in_charge(cluster: Cluster, namespace: str) -> bool:
    """Whether the ScaledObject is ready and its HPA has read both metrics."""
    found = cluster.kubectl("get", "hpa", "keda-hpa-chat", "-n", namespace, "-o", "json", check=False)
    if found.returncode:
        return False
    metrics = json.loads(found.stdout).get("status", {}).get("currentMetrics") or []
    return len([each for each in metrics if each.get("external", {}).get("current")]) == 2


def penstock_in_charge(cluster: Cluster, namespace: str) -> bool:
    """Whether the InferenceService is Ready and its metrics are read."""
    conditions = [cluster.condition(namespace, kind) for kind in ("Ready", "MetricsAvailable")]
    return all(each.get("status") == "True" for each in conditions)


def run(cluster: Cluster, trial: Trial, *, system: str, number: int, tell: Callable[[str], None]) -> Run:
    """Make one run; raises BenchError or the cluster's AssertionError when it cannot be made."""
    in_charge = {KEDA: keda_in_charge, PENSTOCK: penstock_in_charge}[system]
    autoscaler = {KEDA: scaled_object, PENSTOCK: inference_service}[system]
    with cluster.namespace(f"bench-{system.lower()}") as namespace:
        cluster.apply(*deployment(namespace, replicas=1, startup_seconds=trial.startup_seconds))
        cluster.apply(autoscaler(namespace, trial))
        with watched(cluster, namespace) as watch:
            tell("one engine starts")
            cluster.wait(
                "an engine is ready",
                lambda: cluster.ready(namespace) >= 1,
                namespace=namespace,
                seconds=trial.startup_seconds + 90,
            )
            _await_control(cluster, namespace, system, in_charge)
            period = _loaded(cluster, namespace, trial, watch, tell)
            text = cluster.kubectl("logs", "job/load", "-n", namespace).stdout
        report, void = read_report(text)
    return Run(system, number, period, tuple(watch.seen), report, void)


def _await_control(
    cluster: Cluster, namespace: str, system: str, in_charge: Callable[[Cluster, str], bool]
) -> None:
    try:
        cluster.wait(
            f"{system} is in charge", lambda: in_charge(cluster, namespace), namespace=namespace, seconds=90
        )
    except AssertionError as error:
        told = cluster.kubectl("describe", "scaledobject,hpa", "-n", namespace, check=False).stdout
        raise BenchError(f"{error}\n{told[-4000:]}") from error


def _loaded(
    cluster: Cluster, namespace: str, trial: Trial, watch: DeploymentWatch, tell: Callable[[str], None]
) -> Period:
    """Send the load and wait for its report; return when it was due."""
    cluster.apply(load(namespace, trial.rates))
    cluster.wait("the load's pod runs", lambda: _job(cluster, namespace, "ready"), namespace=namespace)
    began = time.monotonic()
    due = began + trial.load_seconds
    told = -TELL_SECONDS
    while not (_job(cluster, namespace, "succeeded") or _job(cluster, namespace, "failed")):
        now = time.monotonic()
        if now > due + 120:
            raise BenchError(f"no end of the load 2 minutes after it was due\n{cluster.report(namespace)}")
        if now - began - told >= TELL_SECONDS:
            told = now - began
            last = watch.seen[-1]
            tell(
                f"{told:4.0f} s  {trial.rate_at(told):4g} req/s  target {last.target}, "
                f"{last.replicas} replicas, {last.ready} ready"
            )
        time.sleep(1.0)
    if time.monotonic() < due - STARTS_WITHIN_SECONDS:
        said = cluster.kubectl("logs", "job/load", "-n", namespace).stdout
        raise BenchError(f"the load ended early: {said}")
    return Period(began, due)


def _job(cluster: Cluster, namespace: str, count: str) -> bool:
    return bool(cluster.get("job", "load", namespace)["status"].get(count))


def read_report(text: str) -> tuple[dict[str, Any] | None, str]:
    """Return the load's report, or None and why there is none. Raises BenchError for anything else."""
    if NOT_TRUSTED in text:
        return None, text[text.index(NOT_TRUSTED) :].strip()
    if "{" not in text:
        raise BenchError(f"the load did not report: {text.strip() or 'no output'}")
    return dict(json.loads(text[text.index("{") :])), ""
