"""The real operator, ``penstock run``, as a child process that can be killed and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from penstock.sandbox.child_process import ChildProcess
from penstock.sandbox.demo.scene import NAMESPACE, Scene


@dataclass(slots=True)
class OperatorProcess:
    """One operator; it ends with this process, however that ends."""

    kubeconfig: Path
    prometheus_url: str
    log: Path
    scene: Scene
    gateway_arguments: tuple[str, ...] = ()  # of `penstock run`, where it serves a gateway
    listen_port: int = 0  # of its metrics; 0: any
    is_killed: bool = field(default=False, init=False)
    _child: ChildProcess | None = field(default=None, init=False)

    @property
    def command(self) -> list[str]:
        """Return the command line."""
        scene = self.scene
        return [
            sys.executable,
            "-m",
            "penstock",
            "run",
            f"--kubeconfig={self.kubeconfig}",
            f"--prometheus-url={self.prometheus_url}",
            f"--tick-seconds={scene.tick_seconds:g}",
            f"--scrape-interval={scene.scrape_interval_seconds:g}",
            f"--rate-window={scene.rate_window_seconds:g}",
            f"--namespace={NAMESPACE}",
            f"--lease-namespace={NAMESPACE}",
            f"--listen=127.0.0.1:{self.listen_port}",
            "--log-format=console",
            *self.gateway_arguments,
        ]

    @property
    def pid(self) -> int:
        """Process id of the one started last; 0 before."""
        return self._child.pid if self._child else 0

    @property
    def lease_suffix(self) -> str:
        """How the Lease's holder ends while this process holds it."""
        return f"-{self.pid}"

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._child is not None and self._child.running

    @property
    def last_words(self) -> str:
        """The end of what it logged."""
        return self._child.last_words() if self._child else "it was never started"

    def start(self) -> None:
        """Start it."""
        self.is_killed = False
        self._child = ChildProcess(self.command, self.log)

    def kill(self) -> None:
        """Kill it without a word, as a node that is lost does."""
        self.is_killed = True
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, signal.SIGKILL)
            self._child.stop()

    def stop(self) -> None:
        """Ask it to end, and wait."""
        if self._child is not None:
            self._child.stop()
