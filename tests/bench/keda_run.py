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

from bench.keda_report import Period, Run, Seen
from bench.keda_systems import BenchError, System, Trial
from fakes.kind_cluster import Cluster, deployment, load

NOT_TRUSTED = "Not reported: "
TELL_SECONDS = 15.0
DRAINS_WITHIN_SECONDS = 120.0
STARTS_WITHIN_SECONDS = 5.0  # a Job says late that its pod runs, and the generator takes a second to start
WATCHED = "{.spec.replicas} {.status.replicas} {.status.readyReplicas}{'\\n'}"


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


@dataclass
class Commentary:
    """Tells every quarter of a minute how it goes, and why when the target changed."""

    trial: Trial
    watch: DeploymentWatch
    why: Callable[[], str]
    tell: Callable[[str], None]
    told_seconds: float = -TELL_SECONDS
    target: int = 1

    def at(self, seconds: float) -> None:
        """Tell what there is to tell `seconds` into the load."""
        last = self.watch.seen[-1]
        if seconds < self.told_seconds + TELL_SECONDS and last.target == self.target:
            return
        why = f": {self.why()}" if last.target != self.target else ""
        self.told_seconds, self.target = seconds, last.target
        self.tell(
            f"{seconds:4.0f} s  {self.trial.rate_at(seconds):4g} req/s  {last.replicas} replicas, "
            f"{last.ready} ready, target {last.target}{why}"
        )


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


def run(cluster: Cluster, trial: Trial, *, system: System, number: int, tell: Callable[[str], None]) -> Run:
    """Make one run; raises BenchError or the cluster's AssertionError when it cannot be made."""
    with cluster.namespace(f"bench-{system.name.lower()}") as namespace:
        cluster.apply(*deployment(namespace, replicas=1, startup_seconds=trial.startup_seconds))
        cluster.apply(system.objects(namespace, trial))
        with watched(cluster, namespace) as watch:
            tell("one engine starts")
            cluster.wait(
                "an engine is ready",
                lambda: cluster.ready(namespace) >= 1,
                namespace=namespace,
                seconds=trial.startup_seconds + 90,
            )
            _await_control(cluster, namespace, system)
            commentary = Commentary(trial, watch, lambda: system.says(cluster, namespace), tell)
            period = _loaded(cluster, namespace, trial, commentary.at)
            text = cluster.kubectl("logs", "job/load", "-n", namespace).stdout
        report, void = read_report(text)
    return Run(system.name, number, period, tuple(watch.seen), report, void)


def _await_control(cluster: Cluster, namespace: str, system: System) -> None:
    try:
        cluster.wait(
            f"{system.name} is in charge",
            lambda: system.in_charge(cluster, namespace),
            namespace=namespace,
            seconds=90,
        )
    except AssertionError as error:
        told = cluster.kubectl("describe", "scaledobject,hpa", "-n", namespace, check=False).stdout
        raise BenchError(f"{error}\n{told[-4000:]}") from error


def _loaded(cluster: Cluster, namespace: str, trial: Trial, tell: Callable[[float], None]) -> Period:
    """Send the load and wait for its report, telling how it goes; return when it was due."""
    job = load(namespace, trial.rates)
    # Of many clients: one that keeps its connections would stay with the replicas it began with.
    job["spec"]["template"]["spec"]["containers"][0]["args"].append("--connections=new")
    cluster.apply(job)
    cluster.wait("the load's pod runs", lambda: _job(cluster, namespace, "ready"), namespace=namespace)
    began = time.monotonic()
    due = began + trial.load_seconds
    while not (_job(cluster, namespace, "succeeded") or _job(cluster, namespace, "failed")):
        if time.monotonic() > due + DRAINS_WITHIN_SECONDS:
            raise BenchError(f"the load does not end\n{cluster.report(namespace)}")
        tell(time.monotonic() - began)
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
