"""Containers without processes: the test says when one becomes ready or ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from penstock.sandbox.local_process import Container, ContainerError


@dataclass(eq=False)
class FakeContainer:
    """A container that is ready at once unless told otherwise."""

    name: str
    url: str
    is_ready: bool = True
    grace_seconds: float | None = None  # of the last stop
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    status: int = 0

    async def ready(self) -> bool:
        return self.is_ready and not self.ended.is_set()

    async def wait(self) -> int:
        await self.ended.wait()
        return self.status

    async def stop(self, grace_seconds: float) -> None:
        self.grace_seconds = grace_seconds
        self.ended.set()

    def crash(self, status: int = 1) -> None:
        self.status = status
        self.ended.set()


@dataclass
class FakeRuntime:
    """Starts `FakeContainer`s; `refusal` makes it refuse."""

    containers: list[FakeContainer] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    ready: bool = True
    refusal: ContainerError | None = None

    async def start(self, name: str, command: Sequence[str], startup_seconds: float) -> Container:
        del startup_seconds
        if self.refusal is not None:
            raise self.refusal
        self.commands.append(list(command))
        url = f"http://127.0.0.1:{20000 + len(self.containers)}"
        container = FakeContainer(name, url, is_ready=self.ready)
        self.containers.append(container)
        return container

    def of(self, pod: str) -> FakeContainer:
        """The newest container of a pod."""
        return next(each for each in reversed(self.containers) if each.name == pod)

    @property
    def alive(self) -> list[FakeContainer]:
        return [each for each in self.containers if not each.ended.is_set()]
