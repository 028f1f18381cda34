"""The writes of one tick, begun while the services after them are still being decided.

At 10,000 services of which 1 % change a tick decides for half a second and writes for as long; side by
side the two take little more than one. A target never waits for somebody's status: each has places of
its own, within the connections of the API client.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True)
class TickWrites:
    """Begins writes as they are decided; `finish` waits for them. One refused write stops nobody else's."""

    writers: Writers
    now: float
    _scales: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SCALES_AT_ONCE))
    _statuses: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STATUSES_AT_ONCE))
    _begun: list[asyncio.Task[None]] = field(default_factory=list)

    def begin(self, known: KnownService, state: ServiceState, outcome: Outcome | None, version: str) -> None:
        """Write one service's target and status; `outcome` None: only what is wrong with its spec.

        `version` is the newest known resourceVersion of the target, empty where that is not known.
        """
        self._begun.append(asyncio.create_task(self._write(known, state, outcome, version)))

    async def finish(self) -> None:
        """Wait until everything is written; a defect in one write is raised when the others are done."""
        for result in await asyncio.gather(*self._begun, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _write(
        self, known: KnownService, state: ServiceState, outcome: Outcome | None, version: str
    ) -> None:
        if outcome is None:
            async with self._statuses:
                await self.writers.status.show_invalid(known, state, self.now)
            return
        replicas = replicas_to_write(outcome, state)
        if replicas is not None and not self.writers.dry_run:
            async with self._scales:
                await self._write_scale(state, outcome, replicas, version)
        async with self._statuses:
            await self.writers.status.show(known, state, outcome, self.now)

    async def _write_scale(self, state: ServiceState, outcome: Outcome, replicas: int, version: str) -> None:
        """Set the target; tell it in a log line, a metric and an Event."""
        pool = outcome.seen.pool
        assert pool is not None  # noqa: S101 - a decision to write has seen the pool
        if replicas < pool.target and self.writers.drains and outcome.spec.routing_type is RoutingType.ENVOY:
            return  # the one-second task closes the victims first, then lowers the target
        if not await self.writers.scale.write(outcome, state, replicas, self.now, version=version):
            return
        direction = "up" if replicas > pool.target else "down"
        self.writers.metrics.scale_writes.labels(direction).inc()
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
        self.writers.status.announce_scaling(outcome, replicas, pool.target)
