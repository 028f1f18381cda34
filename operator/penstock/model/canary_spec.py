"""What the user asks of canaries: who is tried, in which steps, and what regression is too much."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from penstock.model.references import Mode, TargetRef


class OnInsufficientEvidence(StrEnum):
    """What becomes of a canary whose time is over without a verdict."""

    HOLD = "Hold"
    PROMOTE = "Promote"
    ROLLBACK = "Rollback"


class CheckType(StrEnum):
    """What a check of the user's own is."""

    COUNTERS = "Counters"  # bad requests of all requests, judged like errors
    THRESHOLD = "Threshold"  # one number that must stay below or above another


@dataclass(frozen=True, slots=True)
class CanaryCheck:
    """A further check of the user's own; in its queries ``$arm_pods`` stands for a regex of the arm's pods.

    `bad` and `total` with Counters; `query` and at least one of `at_most`, `at_least` with Threshold.
    """

    name: str
    type: CheckType
    bad: str = ""
    total: str = ""
    query: str = ""
    at_most: float | None = None
    at_least: float | None = None
    failures_allowed: int = 3  # in a row


@dataclass(frozen=True, slots=True)
class CanarySpec:
    """How a new revision is tried.

    `target` names a second workload (an adopted canary); without it, a changed `workload.template`
    starts one (an owned canary).
    """

    target: TargetRef | None = None
    mode: Mode = Mode.ENFORCE  # Observe or Enforce; the weaker of this and the service's wins
    step_percents: tuple[int, ...] = (5, 20, 50)  # of requests, rising
    max_regression_percent: int = 15  # smallest regression worth a rollback
    max_duration_seconds: float = 3600.0
    warm_up_seconds: float = 30.0  # after a pod became ready, its requests are no evidence
    on_insufficient_evidence: OnInsufficientEvidence = OnInsufficientEvidence.HOLD
    sticky_header: str = ""  # requests with the same value of it stay on one arm
    checks: tuple[CanaryCheck, ...] = ()
