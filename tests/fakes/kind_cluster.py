"""A kind cluster as the tests use it: kubectl and helm by name, waiting with a bound and a reason."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SYSTEM, MONITORING = "penstock-system", "monitoring"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kind-from-source" / "bin"
WINDOW_SECONDS = 20  # of rates, in manifests/kind/values.yaml


@dataclass
class Cluster:
    """One cluster; all objects of a test live in a namespace of its own."""

    name: str
    kubeconfig: Path
    notes: list[str] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {"KUBECONFIG": str(self.kubeconfig), "PATH": f"{os.environ['PATH']}:{CACHE}"}

    def run(
        self, *command: str, stdin: str = "", seconds: float = 120, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            env=self.env,
            cwd=ROOT,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done

    def kubectl(self, *words: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("kubectl", "--request-timeout=20s", *words, stdin=stdin, check=check)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        return dict(json.loads(self.kubectl("get", kind, name, "-n", namespace, "-o", "json").stdout))

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def prepare(self, *values: str) -> None:
        """Install Prometheus and the chart; the operator's namespace refuses what is not restricted."""
        self.kubectl("apply", "-f", "manifests/kind/prometheus.yaml")
        restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM, "labels": restricted}}
        )
        self.available("deploy/prometheus", MONITORING)
        self.install(*values)

    def available(self, what: str, namespace: str, *, seconds: int = 90) -> None:
        """Wait until an object says that it is available."""
        words = ("wait", "-n", namespace, "--for=condition=Available", what, f"--timeout={seconds}s")
        self.run("kubectl", *words, seconds=seconds + 30)

    def install(self, *values: str) -> None:
        """Install the chart, `values` as KEY=VALUE; a newer image of the same tag restarts the operator."""
        image = self.run("docker", "image", "inspect", "-f", "{{.Id}}", "penstock:dev").stdout.strip()
        self.run(
            *("helm", "upgrade", "--install", "penstock", "charts/penstock", "-n", SYSTEM),
            *("-f", "manifests/kind/values.yaml", "--set-string", f"podAnnotations.image={image}"),
            *(word for value in values for word in ("--set", value)),
            *("--wait", "--timeout", "120s"),
            seconds=150,
        )

    @contextmanager
    def namespace(self, prefix: str) -> Iterator[str]:
        """Create a namespace for one test; a kept cluster may still be deleting that of the last run."""
        name = f"{prefix}-{secrets.token_hex(2)}"
        self.kubectl("create", "namespace", name)
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")
            # Pods of the test before would take the next one's cores.
            self.kubectl("delete", "pods", "--all", "-n", name, "--grace-period=0", "--force", check=False)

    @contextmanager
    def watched(self, kind: str, name: str, namespace: str, template: str) -> Iterator[Path]:
        """Write a line of `template` (jsonpath) at each change of an object, while the block runs."""
        with NamedTemporaryFile("w", suffix=".watch", delete=False) as lines:
            watch = subprocess.Popen(
                ["kubectl", "get", kind, name, "-n", namespace, "--watch", "-o", f"jsonpath={template}"],
                stdout=lines,
                env=self.env,
            )
        try:
            yield Path(lines.name)
        finally:
            watch.terminate()
            watch.wait(10)
            Path(lines.name).unlink()

    def replicas(self, namespace: str) -> int:
        """Return the target's spec.replicas."""
        return int(self.get("deployment", "chat", namespace)["spec"]["replicas"])

    def ready(self, namespace: str) -> int:
        """Return how many replicas are ready."""
        return int(self.get("deployment", "chat", namespace)["status"].get("readyReplicas", 0))

    def status(self, namespace: str) -> dict[str, Any]:
        """Return the InferenceService's status."""
        return dict(self.get("psvc", "chat", namespace).get("status") or {})

    def condition(self, namespace: str, kind: str) -> dict[str, Any]:
        """Return a condition; {} while there is none."""
        found = [each for each in self.status(namespace).get("conditions", []) if each["type"] == kind]
        return dict(found[0]) if found else {}

    def wait(self, what: str, holds: Callable[[], bool], *, namespace: str, seconds: float = 60) -> float:
        """Wait until `holds`; how long it took. Fails with what the cluster says."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > seconds:
                raise AssertionError(f"not within {seconds:g} s: {what}\n{self.report(namespace)}")
            time.sleep(0.5)
        return time.monotonic() - began

    def stays(self, what: str, holds: Callable[[], bool], *, namespace: str, seconds: float) -> None:
        """Watch that `holds` all the time."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if not holds():
                raise AssertionError(
                    f"{time.monotonic() - began:.0f} s in: not {what}\n{self.report(namespace)}"
                )
            time.sleep(1.0)

    def report(self, namespace: str) -> str:
        """Return what helps to understand a failure."""
        parts = [
            self.kubectl("describe", "psvc", "-n", namespace, check=False).stdout,
            self.kubectl("get", "pods", "-n", namespace, "-o", "wide", check=False).stdout,
            self.kubectl("logs", "-n", SYSTEM, "deploy/penstock", "--tail=30", check=False).stdout,
        ]
        return "\n".join(part[-4000:] for part in parts)


def deployment(
    namespace: str, *, replicas: int | None = None, startup_seconds: int = 3
) -> list[dict[str, Any]]:
    """Return the Deployment and Service of manifests/kind/chat.yaml in a namespace."""
    documents = list(yaml.safe_load_all((ROOT / "manifests/kind/chat.yaml").read_text()))
    for each in documents:
        each["metadata"]["namespace"] = namespace
    spec = documents[0]["spec"]
    if replicas is not None:
        spec["replicas"] = replicas
    args = spec["template"]["spec"]["containers"][0]["args"]
    args[:] = [
        f"--startup-delay={startup_seconds}s" if each.startswith("--startup") else each for each in args
    ]
    return documents


def service(namespace: str, *, mode: str = "Enforce", **replicas: Any) -> dict[str, Any]:
    """Return the InferenceService of manifests/kind/objectives.yaml in a namespace."""
    body = dict(yaml.safe_load((ROOT / "manifests/kind/objectives.yaml").read_text()))
    body["metadata"]["namespace"] = namespace
    body["spec"]["mode"] = mode
    body["spec"]["replicas"] = {
        "min": 1,
        "max": 6,
        "initialStartup": "8s",
        "scaleDownWindow": "15s",
    } | replicas
    return body


def load(namespace: str, rates: str, *options: str) -> dict[str, Any]:
    """Return the load Job of manifests/kind/load.yaml with other rates, reporting JSON."""
    body = dict(yaml.safe_load((ROOT / "manifests/kind/load.yaml").read_text()))
    body["metadata"]["namespace"] = namespace
    args = body["spec"]["template"]["spec"]["containers"][0]["args"]
    args[:] = [f"--rate={rates}" if each.startswith("--rate") else each for each in args]
    # Three clusters share the cores; an objective of a second is not about 50 ms, the usual bound.
    # Engines that end their steps late serve worse than modelled: that can fail such a test, not pass it.
    args += ["-o", "json", "--max-send-lag=250ms", "--max-engine-lag=0.5", *options]
    return body
