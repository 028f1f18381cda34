"""A canary's verdict, its evidence row by row, and the limits it was judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from penstock.model.canary_counts import Metric


class VerdictKind(StrEnum):
    """What the evidence allows."""

    CONTINUE = "Continue"  # undecided, and the evidence comes soon enough
    PROMOTE = "Promote"  # every judged metric is shown to be no worse than the margin, at like load
    NEXT_STEP = "NextStep"  # the same at the load it has had, which flatters it: not for a promotion
    ROLLBACK = "Rollback"
    INSUFFICIENT = "InsufficientEvidence"  # undecided, and at this rate it will stay so


class CanaryReason(StrEnum):
    """Why; CamelCase as conditions and Events want it."""

    NO_WORSE = "NoWorse"
    NO_WORSE_AT_LESS_LOAD = "NoWorseAtLessLoad"
    ERRORS_REGRESSED = "ErrorsRegressed"  # more errors than the stable arm
    ERROR_STOP_LOSS = "ErrorStopLoss"  # too many errors whatever the stable arm does
    TTFT_REGRESSED = "TTFTRegressed"
    TPOT_REGRESSED = "TPOTRegressed"
    LATENCY_REGRESSED = "LatencyRegressed"
    CHECK_FAILED = "CheckFailed"  # a user's check
    GATHERING = "GatheringEvidence"
    TOO_LITTLE_TRAFFIC = "TooLittleTraffic"
    TOO_SLOW = "EvidenceTooSlow"  # traffic enough, but not for a verdict before the deadline
    CANARY_METRICS_MISSING = "CanaryMetricsMissing"
    BUCKETS_TOO_COARSE = "BucketsTooCoarse"  # no bucket edge tells slow requests from others
    STABLE_METRICS_MISSING = "StableMetricsMissing"
    JUDGE_FAILED = "JudgeFailed"  # a defect of ours


@dataclass(frozen=True, slots=True)
class Evidence:
    """One row of the table. `failures` are errors, or requests slower than `edge_seconds`.

    `ratio` is the canary's share of failures over the stable arm's, with a 95 % interval; None: not known.
    `log10_against` is evidence that the canary is worse than allowed (rollback), `log10_for` that it is
    not (promotion), `log10_for_step` the same at whatever load (next step); each decides at its own
    threshold. A missing metric has `missing` set and no numbers.
    """

    metric: str
    stable_total: float = 0.0
    stable_failures: float = 0.0
    canary_total: float = 0.0
    canary_failures: float = 0.0
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    log10_against: float = 0.0
    log10_for: float = 0.0
    against_threshold: float = 0.0
    for_threshold: float = 0.0
    edge_seconds: float | None = None
    missing: str = ""
    log10_for_step: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One reason, one sentence with its numbers, and the rows behind it.

    `requests_needed`: how many more canary requests a verdict will take; None: not known.
    """

    kind: VerdictKind
    reason: CanaryReason
    message: str
    evidence: tuple[Evidence, ...] = ()
    requests_needed: float | None = None
    seconds_needed: float | None = None


@dataclass(frozen=True, slots=True)
class ThresholdCheck:
    """A user's query on the canary; a regression after `failures_allowed` values in a row out of bounds."""

    name: str
    at_least: float | None = None
    at_most: float | None = None
    failures_allowed: int = 3


@dataclass(frozen=True, slots=True)
class JudgeLimits:
    """What counts as worse, and how sure to be.

    `max_regression_ratio` bounds the canary's share of slow requests over the stable arm's (1.15: 15 % more
    requests above an edge). `alpha` bounds the probability of a false rollback, shared by what is judged, of
    a canary that is just within the margin (an equal one: measured below 1 %); `beta` that of promoting
    one that is worse than allowed. `error_increase` is the increase of the
    error share that promotion must exclude, `error_stop_loss` the share that ends a canary whatever the
    stable arm does: policy.canary_errors derives both from an availability objective.
    `expected_ratio` is latency canary / stable that the model expects of equal revisions: above 1 where a
    few replicas have longer queues than many at the same load each. `unlike` are the latencies of which the
    arms' loads per replica, `load_ratio` canary / stable, make no comparison in favour: less load flatters.
    `deadline_seconds`: time left for a verdict; None: any.
    """

    metrics: tuple[Metric, ...] = (Metric.ERRORS, Metric.TTFT, Metric.TPOT)
    max_regression_ratio: float = 1.15
    alpha: float = 0.08
    beta: float = 0.05
    error_increase: float = 0.0025
    error_stop_loss: float = 0.05
    expected_ratio: Mapping[Metric, float] = field(default_factory=dict)
    unlike: frozenset[Metric] = frozenset()
    load_ratio: float | None = None  # not known
    counter_checks: tuple[str, ...] = ()
    threshold_checks: tuple[ThresholdCheck, ...] = ()
    deadline_seconds: float | None = None
