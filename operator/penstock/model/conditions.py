"""Standard conditions: how findings become ``status.conditions`` (metav1.Condition).

`lastTransitionTime` moves only when the status changes, so that its age says how long something has
been so. All conditions are set from the first look on; idle is a reason, not an absence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

from penstock.model.value import value

# The schema refuses more; `kubectl describe` becomes unreadable well before.
LONGEST_MESSAGE = 1024


class ConditionType(StrEnum):
    """The conditions of an InferenceService, in the order they are shown."""

    READY = "Ready"  # this generation is accepted and acted upon
    ACCEPTED = "Accepted"  # the spec can be acted upon
    METRICS_AVAILABLE = "MetricsAvailable"  # every signal has a value
    OBJECTIVES_MET = "ObjectivesMet"  # the measured percentiles keep the SLO
    SCALING_LIMITED = "ScalingLimited"  # something but the objectives decides the count
    MODEL_TRUSTED = "ModelTrusted"  # measurements agree with the model that decides
    ADMISSION_LIMITED = "AdmissionLimited"  # more is offered than the limit lets in
    FALLBACK_ACTIVE = "FallbackActive"  # requests go to the fallback
    CANARY_HEALTHY = "CanaryHealthy"  # nothing speaks against what is tried, if anything is


class Status(StrEnum):
    """Status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@value(frozen=True, slots=True)
class Finding:
    """What is the case now: one condition, without generation and times."""

    type: str
    status: Status
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Condition:
    """One entry of ``status.conditions``; `last_transition_at` in Unix seconds."""

    type: str
    status: Status
    reason: str
    message: str
    observed_generation: int
    last_transition_at: float

    def to_dict(self) -> dict[str, Any]:
        """Return the condition as the API stores it."""
        return {
            "type": self.type,
            "status": self.status.value,
            "observedGeneration": self.observed_generation,
            "lastTransitionTime": timestamp(self.last_transition_at),
            "reason": self.reason,
            "message": self.message,
        }


def set_conditions(
    previous: Iterable[Condition], findings: Sequence[Finding], *, generation: int, now: float
) -> tuple[Condition, ...]:
    """Return a condition for each finding, in their order; others of `previous` are dropped.

    `now` is Unix seconds, `generation` that of the spec which the findings are about.
    """
    before = {condition.type: condition for condition in previous}
    conditions = []
    for finding in findings:
        known = before.get(finding.type)
        same = known is not None and known.status is finding.status
        conditions.append(
            Condition(
                type=finding.type,
                status=finding.status,
                reason=finding.reason,
                message=truncated(finding.message),
                observed_generation=generation,
                last_transition_at=known.last_transition_at
                if same and known is not None
                else float(int(now)),
            )
        )
    return tuple(conditions)


def read_conditions(status: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Return the conditions that a stored status carries; entries that cannot be read are left out."""
    found = []
    for entry in status.get("conditions") or ():
        try:
            found.append(
                Condition(
                    type=entry["type"],
                    status=Status(entry["status"]),
                    reason=entry["reason"],
                    message=entry.get("message", ""),
                    observed_generation=int(entry.get("observedGeneration", 0)),
                    last_transition_at=parse_timestamp(entry["lastTransitionTime"]),
                )
            )
        except (KeyError, TypeError, ValueError):
            # Written by hand or by another version: it is set anew at the next look.
            continue
    return tuple(found)


def differ(one: Iterable[Condition], other: Iterable[Condition]) -> bool:
    """Whether two lists of conditions differ in anything but their times and message numbers.

    The message is left out: it follows its reason, and its numbers may move at every look.
    """

    def essence(conditions: Iterable[Condition]) -> list[tuple[str, Status, str, int]]:
        return [(each.type, each.status, each.reason, each.observed_generation) for each in conditions]

    return essence(one) != essence(other)


def truncated(message: str, longest: int = LONGEST_MESSAGE) -> str:
    """Return `message`, its end replaced by three dots where it is longer than `longest` characters."""
    return message if len(message) <= longest else message[: longest - 3] + "..."


def timestamp(at: float) -> str:
    """Return Unix seconds as RFC 3339 in UTC, whole seconds as metav1.Time has them."""
    return _timestamp(int(at))


# Eight conditions of a service mostly share a time, and a fleet's change in the same ticks.
@lru_cache(maxsize=4096)
def _timestamp(whole_seconds: int) -> str:
    return datetime.fromtimestamp(whole_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=4096)
def parse_timestamp(text: str) -> float:
    """Return the Unix seconds of an RFC 3339 time. Raises `ValueError`, also without a time zone."""
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return parsed.timestamp()
