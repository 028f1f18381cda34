"""What is told of each change of a target, whoever made it: a log line, a metric, an Event."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from penstock.controller.service_state import Outcome
from penstock.controller.show import StatusWriter
from penstock.telemetry.metrics import OperatorMetrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ScalingNews:
    """Tells that the target of an outcome was set to a number of replicas."""

    status: StatusWriter
    metrics: OperatorMetrics

    def note(self, outcome: Outcome, replicas: int) -> None:
        """Write the log line and count; at once, for it costs no request."""
        before = _before(outcome)
        self.metrics.scale_writes.labels("up" if replicas > before else "down").inc()
        log.info(
            "scaled",
            service=str(outcome.spec.key),
            target=str(outcome.spec.target),
            replicas_before=before,
            replicas=replicas,
            reason=outcome.decision.reason.value,
            message=outcome.decision.message,
            **{name: round(value, 4) for name, value in outcome.decision.inputs.items()},
        )

    def announce(self, outcome: Outcome, replicas: int) -> None:
        """Have an Event written."""
        self.status.announce_scaling(outcome, replicas, _before(outcome))


def _before(outcome: Outcome) -> int:
    pool = outcome.seen.pool
    assert pool is not None  # noqa: S101 - its target was set
    return pool.target
