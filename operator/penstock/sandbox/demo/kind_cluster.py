"""The demo on a cluster that exists: `testbed/kind-demo` makes it, with Penstock and Prometheus in place.

Runs where pods' addresses can be reached, in the network of the cluster's only node, so that the load
generator sends to the replicas themselves as it does without a cluster. What the demo created it leaves
to the cluster's owner to remove.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from penstock.kube.api import DEPLOYMENTS, PODS, Object, Resource
from penstock.sandbox.demo.cluster import ApiChoice, DemoCluster, DemoError
from penstock.sandbox.demo.commentary import Kind, PodCounts, Say
from penstock.sandbox.demo.operator_process import OperatorProcess
from penstock.sandbox.demo.scene import NAME, NAMESPACE, Scene
from penstock.sandbox.prometheus import PrometheusProcess
from penstock.sandbox.rest import ApiAccess, RestClient

IMAGE = "penstock:dev"
PORT = 8000
OPERATOR = "penstock"
KILL_WITHIN_SECONDS = 10.0


class KindCluster(DemoCluster):
    """The demo's namespace on a real cluster, seen through one watch of its pods."""

    def __init__(self, home: Path, scene: Scene, say: Say, kubeconfig: Path) -> None:
        super().__init__(home, scene, say)
        self.kubeconfig = kubeconfig
        self.seen: dict[str, Object] = {}

    @property
    def urls_file(self) -> Path:
        """File with the URLs of the ready replicas."""
        return self.home / "urls"

    @property
    def is_ready(self) -> bool:
        """Whether the workload has its first replica; there is no other here."""
        return self.pods(0).ready > 0

    def engine_urls(self) -> tuple[str, ...]:
        """Return the URLs of the ready replicas."""
        return tuple(self.urls_file.read_text().split())

    def pods(self, target: int) -> PodCounts:
        """Count the workload's pods there are now; `target` is what the Deployment asks for."""
        pods = [pod for pod in self.seen.values() if _label(pod, "app") == NAME]
        draining = sum(_is_terminating(pod) for pod in pods)
        ready = sum(_is_ready(pod) for pod in pods)
        return PodCounts(target, ready, len(pods) - ready - draining, draining)

    async def open(self, stack: AsyncExitStack, choice: ApiChoice) -> None:
        """Connect and begin to watch."""
        del choice  # the API is the cluster's
        self.logs.mkdir(parents=True, exist_ok=True)
        self.urls_file.touch()
        access = _access(self.kubeconfig, self.home)
        self.rest = await stack.enter_async_context(RestClient(access))
        self.prometheus = ClusterPrometheus()
        watching = asyncio.create_task(self._follow_pods(), name="the watch of pods")
        self.controllers = watching
        stack.push_async_callback(_end, watching)
        self._say(Kind.SETUP, f"a Kubernetes cluster at {access.url}, Prometheus and Penstock in it")

    async def apply(self, resource: Resource, body: Object) -> None:
        """Create an object in the demo's namespace; the workload as a real cluster needs it."""
        wanted = _real_workload(body, self._scene) if resource is DEPLOYMENTS else body
        await self.rest.create(resource.path(NAMESPACE), wanted)

    async def _follow_pods(self) -> None:
        async for changes in self.rest.follow(PODS.path(NAMESPACE)):
            for change in changes:
                name = change.body["metadata"]["name"]
                if change.deleted:
                    self.seen.pop(name, None)
                else:
                    self.seen[name] = change.body
            urls = [
                f"http://{pod['status']['podIP']}:{PORT}\n"
                for pod in self.seen.values()
                if _label(pod, "app") == NAME and _is_ready(pod)
            ]
            partial = self.urls_file.with_suffix(".partial")
            partial.write_text("".join(urls))
            partial.replace(self.urls_file)


class ClusterPrometheus(PrometheusProcess):
    """The cluster's own Prometheus: the kubelet keeps it running."""

    @property
    def running(self) -> bool:
        """True: its absence shows in what Penstock reports."""
        return True


@dataclass(slots=True)
class OperatorPod(OperatorProcess):
    """The operator as the chart runs it; its Deployment starts it again after a kill."""

    cluster: KindCluster | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _killed: set[str] = field(default_factory=set)

    @property
    def lease_suffix(self) -> str:
        """How the Lease's holder ends while the present pod holds it: pod name, process 1."""
        return f"{next(iter(self._names()), 'no pod yet')}-1"

    @property
    def running(self) -> bool:
        """Whether there is a pod that was not killed."""
        return bool(self._names())

    @property
    def last_words(self) -> str:
        """Where its log is."""
        return f"see kubectl -n {NAMESPACE} logs deployment/{OPERATOR}"

    def start(self) -> None:
        """Leave it to the Deployment, which has started it or does so at once."""
        self.is_killed = False
        self._loop = asyncio.get_running_loop()

    def kill(self) -> None:
        """Delete the pod without grace, as a node that is lost does. Called from a thread."""
        self.is_killed = True
        if self.cluster is None or self._loop is None:
            raise DemoError("the operator was never started")
        for name in self._names():
            self._killed.add(name)
            deletion = self.cluster.rest.delete(PODS.path(NAMESPACE, name), grace_seconds=0)
            asyncio.run_coroutine_threadsafe(deletion, self._loop).result(KILL_WITHIN_SECONDS)

    def stop(self) -> None:
        """Leave it running: it belongs to the cluster."""

    def _names(self) -> list[str]:
        if self.cluster is None:
            return []
        pods = self.cluster.seen.items()
        return [
            name
            for name, pod in pods
            if _label(pod, "app.kubernetes.io/name") == OPERATOR
            and name not in self._killed
            and not _is_terminating(pod)
        ]


def _real_workload(body: Object, scene: Scene) -> Object:
    """Return the scene's Deployment with image, probe, scrape annotations and a restricted context."""
    workload: dict[str, Any] = yaml.safe_load(yaml.safe_dump(body))
    template = workload["spec"]["template"]
    template["metadata"]["annotations"] = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT)}
    pod = template["spec"]
    pod |= {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    (container,) = pod["containers"]
    container["args"] += [
        "--host=0.0.0.0",
        f"--port={PORT}",
        f"--startup-delay={scene.startup_seconds:g}s",
        "--drain-timeout=25s",
    ]
    container |= {
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "readinessProbe": {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return workload


def _access(kubeconfig: Path, home: Path) -> ApiAccess:
    """Return the way into a cluster that kind made: a client certificate in the file."""
    try:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        tls = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        pair = []
        for part in ("client-certificate-data", "client-key-data"):
            path = home / part
            path.touch(mode=0o600)
            path.write_bytes(base64.b64decode(user[part]))
            pair.append(str(path))
        tls.load_cert_chain(*pair)
        return ApiAccess(cluster["server"], tls=tls)
    except (OSError, KeyError, IndexError, TypeError, ValueError, yaml.YAMLError) as error:
        raise DemoError(f"{kubeconfig} is not a kubeconfig as kind writes it: {error!r}") from None


def _label(pod: Object, name: str) -> str:
    return str((pod["metadata"].get("labels") or {}).get(name, ""))


def _is_terminating(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and not _is_terminating(pod)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
