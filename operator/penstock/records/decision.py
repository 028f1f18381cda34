"""The decisions on one service at one instant as one line; documented in docs/decision.schema.json.

Every field is written, also where it holds its default: programs that read it need no defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penstock.model.decision import Decision
from penstock.policy.admission import Admission
from penstock.policy.fallback import FallbackShare
from penstock.records.scalars import from_float


def decision_line(
    at: float,
    service: str,
    replicas: Decision[int],
    admission: Decision[Admission],
    fallback: Decision[FallbackShare],
) -> dict[str, Any]:
    """Return plain JSON of a line; `at` in Unix seconds, `service` namespace/name."""
    return {
        "at": from_float(at),
        "service": service,
        "replicas": _decision(replicas, int),
        "admission": _decision(admission, _admission),
        "fallback": _decision(fallback, _fallback),
    }


def _decision(decision: Decision[Any], value: Callable[[Any], Any]) -> dict[str, Any]:
    return {
        "value": None if decision.value is None else value(decision.value),
        "reason": decision.reason.value,
        "message": decision.message,
        "inputs": {name: from_float(each) for name, each in decision.inputs.items()},
        "binding": decision.binding,
    }


def _admission(admission: Admission) -> dict[str, Any]:
    shed = admission.shed_ratio
    return {
        "per_replica": {
            "running": admission.per_replica.running,
            "queued": admission.per_replica.queued,
        },
        "serving": admission.serving,
        "enforced": admission.enforced,
        "queue_ratio": from_float(admission.queue_ratio),
        "shed_ratio": None if shed is None else from_float(shed),
        "retry_after_seconds": admission.retry_after_seconds,
    }


def _fallback(share: FallbackShare) -> dict[str, Any]:
    return {
        "planned_ratio": from_float(share.planned_ratio),
        "offered_ratio": from_float(share.offered_ratio),
        "in_flight_limit": share.in_flight_limit,
        "enforced": share.enforced,
    }
