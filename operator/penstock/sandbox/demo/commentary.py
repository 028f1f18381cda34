"""What is said of a change of an InferenceService: remarks from its status before and after. Pure.

A decision is said when its reason, its sentence or its count changes, with Penstock's own sentence;
a condition when its status or reason does. Nothing here knows what should come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a remark is about; the value is what the reader sees."""

    SETUP = "setup"
    APPLY = "apply"
    LOAD = "load"
    DECISION = "decides"
    CONDITION = "reports"
    REPLICAS = "replicas"
    CANARY = "canary"
    EVIDENCE = "evidence"
    OPERATOR = "operator"
    NOTE = "note"
    LOG = "log"


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing to say."""

    kind: Kind
    text: str


Say = Callable[[Kind, str], None]
# Ready and Accepted say that the resource is acted upon; in a demo that is seen anyway.
# The status in which somebody should look.
_WRONG = {
    "MetricsAvailable": "False",
    "ObjectivesMet": "False",
    "ScalingLimited": "True",
    "AdmissionLimited": "True",
    "FallbackActive": "True",
}


def remarks(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Remark]:
    """Yield what changed between two statuses of an InferenceService; {} is none yet."""
    yield from _decision(before, after)
    stood = _conditions(before)
    for name, condition in _conditions(after).items():
        if name not in _WRONG:
            continue
        earlier = stood.get(name, {})
        if (earlier.get("status"), earlier.get("reason")) == (condition["status"], condition["reason"]):
            continue
        was_wrong, is_wrong = _is_wrong(earlier), _is_wrong(condition)
        if is_wrong or was_wrong:
            text = f"{name}={condition['status']} ({condition['reason']}): {condition['message']}"
            yield Remark(Kind.CONDITION, text)


def _decision(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Remark]:
    old, new = before.get("decision") or {}, after.get("decision") or {}
    if not new or _identity(before, old) == _identity(after, new):
        return
    yield Remark(Kind.DECISION, f"{new['reason']}: {new['message']}")


def _is_wrong(condition: Mapping[str, Any]) -> bool:
    # Every new replica is ready some seconds before Prometheus has found it: that is no trouble here.
    if condition.get("reason") == "PartialReporting":
        return False
    return bool(condition) and condition["status"] == _WRONG[condition["type"]]


def _identity(status: Mapping[str, Any], decision: Mapping[str, Any]) -> tuple[object, ...]:
    wanted = (status.get("replicas") or {}).get("desired")
    return decision.get("reason"), decision.get("message"), wanted


def _conditions(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {each["type"]: each for each in status.get("conditions") or ()}


@dataclass(frozen=True, slots=True)
class PodCounts:
    """The Deployment's pods now; `target` is what its ``spec.replicas`` asks for."""

    target: int
    ready: int
    starting: int
    draining: int

    @property
    def all(self) -> int:
        """Return how many exist: each occupies a GPU, ready or not."""
        return self.ready + self.starting + self.draining

    def remark(self) -> Remark:
        """Say how many replicas there are of how many."""
        rest = [
            f"{count} {what}"
            for count, what in ((self.starting, "starting"), (self.draining, "draining"))
            if count
        ]
        return Remark(Kind.REPLICAS, ", ".join([f"{self.ready} ready of {self.target} wanted", *rest]))
