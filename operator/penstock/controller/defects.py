"""A defect of ours that one service meets: counted each time, logged when it is another than before."""

from __future__ import annotations

import structlog

from penstock.model.spec import ServiceKey
from penstock.telemetry.metrics import OperatorMetrics

log = structlog.get_logger(__name__)


def note_defect(
    error: Exception, before: str, *, event: str, key: ServiceKey, metrics: OperatorMetrics
) -> str:
    """Return the defect in words, which are `before` of the next one; `event` is the log line's."""
    metrics.failed_steps.inc()
    defect = f"{type(error).__name__}: {error}"
    if defect != before:
        log.error(event, service=str(key), exc_info=error)
    return defect
