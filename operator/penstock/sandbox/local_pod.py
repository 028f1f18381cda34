"""A pod of the sandbox, and its life: placed, started, probed, restarted, stopped.

What kubelet does, with its own words in the status. All times are seconds of the wall clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from penstock.sandbox.local_process import Container, ContainerError, ContainerRuntime

PROBE_SECONDS = 0.25
PROBE_FAILURES = 3  # kubelet's default failureThreshold
ENDPOINT_SECONDS = 0.5  # between leaving the endpoints and SIGTERM: clients must have looked again
LONGEST_BACKOFF_SECONDS = 300.0


@dataclass(slots=True, eq=False)
class LocalPod:
    """One pod as its status says."""

    name: str
    deployment: str
    template_hash: str
    labels: Mapping[str, str]
    created_at: float
    uid: str = ""
    node: str = ""  # empty: not scheduled
    shortage: str = ""  # the scheduler's sentence while there is no room
    container_name: str = "engine"
    url: str = ""  # while a process serves
    started_at: float | None = None
    ready_at: float | None = None  # None: not ready
    waiting: tuple[str, str] = ("ContainerCreating", "")  # reason and message while nothing runs
    restarts: int = 0
    terminating: bool = False
    deletion_cost: int = 0
    written: dict[str, object] = field(default_factory=dict)  # what the API was told last

    @property
    def ready(self) -> bool:
        """Whether it serves and is not on its way out."""
        return self.ready_at is not None and not self.terminating

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.started_at is not None


class PodLife:
    """Drives one pod; `on_change` is called whenever the pod is not what it was."""

    def __init__(
        self,
        pod: LocalPod,
        command: Sequence[str],
        runtime: ContainerRuntime,
        *,
        startup_seconds: float,
        backoff_seconds: float,
        on_change: Callable[[], None],
    ) -> None:
        self.pod = pod
        self._command = command
        self._runtime = runtime
        self._startup_seconds = startup_seconds
        self._backoff_seconds = backoff_seconds
        self._on_change = on_change
        self._container: Container | None = None
        self._task: asyncio.Task[None] | None = None

    def start_on(self, node: str) -> None:
        """Bind the pod to a node and start its container."""
        self.pod.node, self.pod.shortage = node, ""
        self._task = asyncio.create_task(self._run(), name=f"pod {self.pod.name}")
        self._on_change()

    async def stop(self, grace_seconds: float, *, notice_seconds: float = ENDPOINT_SECONDS) -> None:
        """End the container: endpoints first, after `notice_seconds` SIGTERM, then SIGKILL."""
        self.pod.terminating = True
        self._on_change()
        if self.pod.running:
            await asyncio.sleep(notice_seconds)
        await self._end(grace_seconds)
        self._ended()

    async def _end(self, grace_seconds: float) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._container is not None:
            await self._container.stop(grace_seconds)

    async def _run(self) -> None:
        pod = self.pod
        while True:
            try:
                self._container = await self._runtime.start(pod.name, self._command, self._startup_seconds)
                pod.url, pod.started_at = self._container.url, time.time()
                self._on_change()
                status = await self._probe_until_exit(self._container)
                pod.waiting = ("CrashLoopBackOff", f"the container ended with status {status}")
            except ContainerError as error:
                pod.waiting = (error.reason, str(error))
            backoff = min(self._backoff_seconds * 2**pod.restarts, LONGEST_BACKOFF_SECONDS)
            pod.restarts += 1
            self._ended()
            await asyncio.sleep(backoff)

    async def _probe_until_exit(self, container: Container) -> int:
        pod = self.pod
        ended = asyncio.ensure_future(container.wait())
        failures = 0
        try:
            while not ended.done():
                failures = 0 if await container.ready() else failures + 1
                if failures == 0 and pod.ready_at is None:
                    pod.ready_at = time.time()
                    self._on_change()
                elif failures >= PROBE_FAILURES and pod.ready_at is not None:
                    pod.ready_at = None
                    self._on_change()
                await asyncio.wait({ended}, timeout=PROBE_SECONDS)
            status = ended.result()
        finally:
            ended.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(ended, return_exceptions=True)
        await container.stop(0)
        self._container = None
        return status

    def _ended(self) -> None:
        self.pod.ready_at = self.pod.started_at = None
        self.pod.url = ""
        self._on_change()
