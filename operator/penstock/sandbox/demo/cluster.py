"""The demo's cluster on this machine: an API, a Prometheus, and Deployments as local processes.

The API is a real kube-apiserver with etcd where their binaries are found, else the sandbox's fake one.
Everything lives in one temporary directory, and everything ends with this process.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from enum import StrEnum
from pathlib import Path

import yaml

import penstock
from penstock.kube.api import Object, Resource
from penstock.sandbox.apiserver import ApiServer, ApiServerUnavailableError, find_binary
from penstock.sandbox.demo.commentary import Kind, PodCounts, Say
from penstock.sandbox.demo.scene import NAME, NAMESPACE, Scene
from penstock.sandbox.deployments import LocalDeployments, PodTimes
from penstock.sandbox.discovery_files import DiscoveryFiles
from penstock.sandbox.fake_api import FakeApi
from penstock.sandbox.local_process import LocalRuntime
from penstock.sandbox.nodes import NodePool, NodeSettings
from penstock.sandbox.prometheus import PrometheusProcess, obtain_prometheus
from penstock.sandbox.rest import ApiAccess, RestClient

CRD_FILE = "serving.penstock.dev_inferenceservices.yaml"
NAMESPACES = Resource("", "v1", "namespaces", "Namespace")


class ApiChoice(StrEnum):
    """Which API server to use; `auto`: the real one where its binaries are found."""

    AUTO = "auto"
    REAL = "real"
    FAKE = "fake"


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


class DemoCluster:
    """A running cluster; use `opened`. The parts are there once it is."""

    rest: RestClient
    deployments: LocalDeployments
    prometheus: PrometheusProcess
    kubeconfig: Path

    def __init__(self, home: Path, scene: Scene, say: Say) -> None:
        self.home, self._scene, self._say = home, scene, say
        self.controllers: asyncio.Task[None] | None = None

    def pods(self, target: int) -> PodCounts:
        """Count the workload's pods there are now; `target` is what the Deployment asks for."""
        pods = [pod for pod in self.deployments.pods if pod.deployment == NAME]
        ready, draining = sum(pod.ready for pod in pods), sum(pod.terminating for pod in pods)
        return PodCounts(target, ready, len(pods) - ready - draining, draining)

    @property
    def logs(self) -> Path:
        """Directory of the children's output."""
        return self.home / "logs"

    @property
    def urls_file(self) -> Path:
        """File with the URLs of the Service's ready pods."""
        return self._files.urls_file(NAME)

    @property
    def is_ready(self) -> bool:
        """Whether every service has its first replica; the others of the workload may be on their way."""
        ready = {pod.deployment for pod in self.deployments.pods if pod.ready}
        return ready.issuperset(self._scene.services)

    def engine_urls(self) -> tuple[str, ...]:
        """Return the URLs of all ready pods, whatever they serve."""
        return tuple(pod.url for pod in self.deployments.pods if pod.ready)

    async def open(self, stack: AsyncExitStack, choice: ApiChoice) -> None:
        """Start everything; `stack` ends it."""
        self.logs.mkdir(parents=True, exist_ok=True)
        try:
            async with asyncio.TaskGroup() as group:  # side by side: the API server takes 5 s
                prometheus = group.create_task(self._start_prometheus(stack))
                api = group.create_task(self._start_api(stack, choice))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        self.prometheus, access = prometheus.result(), api.result()
        self.rest = await stack.enter_async_context(RestClient(access))
        await self.rest.create(NAMESPACES.path(), {"metadata": {"name": NAMESPACE}})
        directory = self.prometheus.directory
        if directory is None:
            raise DemoError("Prometheus has no directory to find its targets in")
        self._files = DiscoveryFiles(directory, NAMESPACE)
        self.deployments = LocalDeployments(
            self.rest,
            NAMESPACE,
            runtime=LocalRuntime(self.logs),
            nodes=NodePool(NodeSettings(pods_per_node=self._scene.most_pods)),
            files=self._files,
            times=PodTimes(startup_seconds=self._scene.startup_seconds),
        )
        self.controllers = asyncio.create_task(self.deployments.run(), name="Deployments")
        stack.push_async_callback(_end, self.controllers)

    async def apply(self, resource: Resource, body: Object) -> None:
        """Create an object in the demo's namespace."""
        await self.rest.create(resource.path(NAMESPACE), body)

    async def _start_prometheus(self, stack: AsyncExitStack) -> PrometheusProcess:
        loop = asyncio.get_running_loop()

        def notify(text: str) -> None:
            loop.call_soon_threadsafe(self._say, Kind.SETUP, text)

        stop = threading.Event()
        stack.callback(stop.set)  # a thread cannot be cancelled
        binary = await asyncio.to_thread(obtain_prometheus, notify, stop)
        directory = self.home / "prometheus"
        directory.mkdir()
        prometheus = PrometheusProcess(
            scrape_interval_seconds=self._scene.scrape_interval_seconds,
            binary=binary,
            directory=directory,
            log_directory=self.logs,
        )
        stack.callback(prometheus.close)
        await asyncio.to_thread(prometheus.start)
        self._say(Kind.SETUP, f"Prometheus ({binary}), scraping every second")
        return prometheus

    async def _start_api(self, stack: AsyncExitStack, choice: ApiChoice) -> ApiAccess:
        self.kubeconfig = self.home / "kubeconfig"
        definition = yaml.safe_load(crd_file().read_text())
        if choice is not ApiChoice.FAKE and (real := self._real_server(choice)):
            self._say(Kind.SETUP, "starting etcd and kube-apiserver (about 5 s)")
            stack.callback(real.stop)
            await asyncio.to_thread(real.start)
            await asyncio.to_thread(real.define, definition)
            real.kubeconfig(self.kubeconfig)
            self._say(Kind.SETUP, f"a real kube-apiserver at {real.url}")
            return ApiAccess(real.url, real.token, real.tls())
        fake = await stack.enter_async_context(FakeApi([definition]))
        fake.kubeconfig(self.kubeconfig)
        self._say(
            Kind.SETUP,
            "a small stand-in for the Kubernetes API; for a real one put etcd and kube-apiserver on the "
            "PATH (testbed/binaries builds them)",
        )
        return ApiAccess(fake.url)

    def _real_server(self, choice: ApiChoice) -> ApiServer | None:
        try:
            find_binary("etcd")
            find_binary("kube-apiserver")
        except ApiServerUnavailableError:
            if choice is ApiChoice.REAL:
                raise
            return None
        return ApiServer()


def crd_file() -> Path:
    """Return our CustomResourceDefinition: in the installed package, else in the checkout."""
    package = Path(penstock.__file__).parent
    for directory in (package / "crds", package.parents[1] / "crds"):
        if (directory / CRD_FILE).exists():
            return directory / CRD_FILE
    raise DemoError(f"{CRD_FILE} is neither in the package nor in a checkout: reinstall penstock")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
