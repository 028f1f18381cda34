"""The writes of one tick: targets while the services after them are still being decided, then statuses.

At 10,000 services of which 1 % change a tick decides for a third of a second; the API server sets targets
meanwhile. Statuses take as long again. They wait until every target is set: showing is less urgent.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from penstock.controller.apply import ScaleWriter
from penstock.controller.cache import KnownService
from penstock.controller.service_state import Outcome, ServiceState
from penstock.controller.show import StatusWriter
from penstock.controller.step import replicas_to_write
from penstock.model.spec import RoutingType
from penstock.telemetry.metrics import OperatorMetrics

log = structlog.get_logger(__name__)
SCALES_AT_ONCE = 32
STATUSES_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Writers:
    """Who writes what; `drains`: gateways keep requests from the victims of a scale-down."""

    scale: ScaleWriter
    status: StatusWriter
    metrics: OperatorMetrics
    drains: bool
    dry_run: bool


class TickWrites:
    """Collects the writes of a tick as they are decided. One refused write stops nobody else's."""

    def __init__(self, writers: Writers, now: float) -> None:
        self._writers, self._now = writers, now
        self._places = asyncio.Semaphore(SCALES_AT_ONCE)
        self._targets: list[asyncio.Task[None]] = []
        self._to_show: list[tuple[KnownService, ServiceState, Outcome | None]] = []

    def begin(self, known: KnownService, state: ServiceState, outcome: Outcome | None, version: str) -> None:
        """Begin to write one service; `outcome` None: only what is wrong with its spec is shown.

        `version` is the newest known resourceVersion of the target, empty where that is not known.
        """
        self._to_show.append((known, state, outcome))
        replicas = None if outcome is None else replicas_to_write(outcome, state)
        if outcome is not None and replicas is not None and not self._writers.dry_run:
            writing = self._write_scale(state, outcome, replicas, version)
            self._targets.append(asyncio.create_task(writing))

    async def targets_set(self) -> None:
        """Wait until every target is set."""
        await _all(self._targets)

    async def shown(self) -> None:
        """Write the statuses and wait for them."""
        places = asyncio.Semaphore(STATUSES_AT_ONCE)
        await _all([asyncio.create_task(self._show(*each, places)) for each in self._to_show])

    async def _show(
        self, known: KnownService, state: ServiceState, outcome: Outcome | None, places: asyncio.Semaphore
    ) -> None:
        async with places:
            if outcome is None:
                await self._writers.status.show_invalid(known, state, self._now)
            else:
                await self._writers.status.show(known, state, outcome, self._now)

    async def _write_scale(self, state: ServiceState, outcome: Outcome, replicas: int, version: str) -> None:
        """Set the target; tell it in a log line, a metric and an Event."""
        pool = outcome.seen.pool
        assert pool is not None  # noqa: S101 - a decision to write has seen the pool
        if replicas < pool.target and self._writers.drains and outcome.spec.routing_type is RoutingType.ENVOY:
            return  # the one-second task closes the victims first, then lowers the target
        async with self._places:
            if not await self._writers.scale.write(outcome, state, replicas, self._now, version=version):
                return
        direction = "up" if replicas > pool.target else "down"
        self._writers.metrics.scale_writes.labels(direction).inc()
        log.info(
            "scaled",
            service=str(outcome.spec.key),
            target=str(outcome.spec.target),
            replicas_before=pool.target,
            replicas=replicas,
            reason=outcome.decision.reason.value,
            message=outcome.decision.message,
            **{name: round(value, 4) for name, value in outcome.decision.inputs.items()},
        )
        self._writers.status.announce_scaling(outcome, replicas, pool.target)


async def _all(writes: list[asyncio.Task[None]]) -> None:
    """Wait for all writes; a defect in one is raised when the others are done."""
    for result in await asyncio.gather(*writes, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
