"""The targets of one tick: set while the services after them are still being decided.

At 10,000 services of which 1 % change a tick decides for a third of a second; the API server sets targets
meanwhile. What is shown of them follows behind the tick (``status_outbox.py``): it is less urgent.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from penstock.controller.apply import ScaleWriter
from penstock.controller.scaling_news import ScalingNews
from penstock.controller.service_state import Outcome, ServiceState
from penstock.model.spec import RoutingType

SCALES_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Writers:
    """Who writes what; `drains`: gateways keep requests from the victims of a scale-down."""

    scale: ScaleWriter
    news: ScalingNews
    drains: bool
    dry_run: bool


class TickWrites:
    """Sets the targets of a tick as they are decided. One refused write stops nobody else's."""

    def __init__(self, writers: Writers, now: float) -> None:
        self._writers, self._now = writers, now
        self._places = asyncio.Semaphore(SCALES_AT_ONCE)
        self._targets: list[asyncio.Task[None]] = []
        self._set: list[tuple[Outcome, int]] = []  # and how many replicas there are to be

    def begin(self, state: ServiceState, outcome: Outcome, replicas: int, version: str) -> None:
        """Begin to set one service's target.

        `version` is the newest known resourceVersion of the target, empty where that is not known.
        """
        if not self._writers.dry_run:
            writing = self._write_scale(state, outcome, replicas, version)
            self._targets.append(asyncio.create_task(writing))

    async def targets_set(self) -> None:
        """Wait until every target is set, then tell Events, whose writing would compete with theirs.

        A defect in one write is raised when the others are done.
        """
        results = await asyncio.gather(*self._targets, return_exceptions=True)
        for outcome, replicas in self._set:
            self._writers.news.announce(outcome, replicas)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _write_scale(self, state: ServiceState, outcome: Outcome, replicas: int, version: str) -> None:
        """Set the target; tell it in a log line and a metric."""
        pool = outcome.seen.pool
        assert pool is not None  # noqa: S101 - a decision to write has seen the pool
        if replicas < pool.target and self._writers.drains and outcome.spec.routing_type is RoutingType.ENVOY:
            return  # the one-second task closes the victims first, then lowers the target
        async with self._places:
            if not await self._writers.scale.write(outcome, state, replicas, self._now, version=version):
                return
        self._writers.news.note(outcome, replicas)
        self._set.append((outcome, replicas))
