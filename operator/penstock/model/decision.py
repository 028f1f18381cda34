"""A decision and its explanation: one reason, one sentence, the same everywhere it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from penstock.model.canary_verdict import CanaryReason

T = TypeVar("T")


class Reason(StrEnum):
    """Why a value was decided; CamelCase as conditions and Events want it."""

    LATENCY_OBJECTIVE = "LatencyObjective"  # a latency percentile binds
    AVAILABILITY_OBJECTIVE = "AvailabilityObjective"  # the pool would shed more than allowed
    SATURATION = "Saturation"  # throughput binds: the pool would not be stable
    BACKLOG = "Backlog"  # requests already queued bind
    AT_MINIMUM = "AtMinimum"
    AT_MAXIMUM = "AtMaximum"
    STABILIZING = "Stabilizing"  # fewer would do, the window does not agree yet
    RATE_LIMITED = "RateLimited"  # maxAddedPerMinute
    ROLLOUT_IN_PROGRESS = "RolloutInProgress"  # no scale-down while the owner rolls out
    FOREIGN_SCALE_UP = "ForeignScaleUp"  # somebody raised the target; kept for 30 minutes
    PARTIAL_METRICS = "PartialMetrics"  # some pods do not report: no scale-down
    METRICS_MISSING = "MetricsMissing"  # hold
    TARGET_MISSING = "TargetMissing"
    SCALED_TO_ZERO = "ScaledToZero"  # somebody switched the target off; not ours to switch on
    CONFLICTING_AUTOSCALER = "ConflictingAutoscaler"
    TARGET_CLAIMED = "TargetClaimed"  # an older InferenceService scales the same workload
    LEARNING = "Learning"  # not enough seen yet to size
    PAUSED = "Paused"


class TrafficReason(StrEnum):
    """Why requests are let in, sent elsewhere or refused; the reasons of the traffic's conditions too."""

    ADMISSION_LIMITED = "AdmissionLimited"  # more is offered than the limit lets in
    WITHIN_LIMIT = "WithinLimit"
    NO_READY_REPLICA = "NoReadyReplica"  # the limit of one, so that recovery can begin
    FALLBACK_ACTIVE = "FallbackActive"  # requests go to the fallback, as planned or by spilling over
    IDLE = "Idle"  # the fallback stands by
    NO_ROOM = "NoRoom"  # the fallback is wanted, and full with its own load
    NO_FALLBACK = "NoFallback"
    OBSERVING = "Observing"  # computed and shown, not enforced
    NO_GATEWAY = "NoGateway"  # nothing in the request path could enforce it
    OFF = "Off"
    PAUSED = "Paused"
    LEARNING = "Learning"  # no model yet: everything is let in
    METRICS_MISSING = "MetricsMissing"
    TARGET_MISSING = "TargetMissing"
    EQUAL_PRIORITIES = "EqualPriorities"
    UNKNOWN_DEFAULT_CLASS = "UnknownDefaultClass"
    UNKNOWN_CLASS = "UnknownClass"
    FALLBACK_IS_ITSELF = "FallbackIsItself"
    FALLBACK_NOT_FOUND = "FallbackNotFound"
    FALLBACK_LOOP = "FallbackLoop"
    FALLBACK_OTHER_API = "FallbackOtherAPI"
    FALLBACK_NOT_ROUTED = "FallbackNotRouted"
    FALLBACK_UNCHECKED = "FallbackUnchecked"  # its model names have not been asked for yet
    MODEL_NOT_SERVED = "ModelNotServed"


class RolloutReason(StrEnum):
    """Why a canary stands where it does; beside these, the reasons of its verdict."""

    NO_CANARY = "NoCanary"  # spec.canary is not set
    NOTHING_TO_TRY = "NothingToTry"  # the stable revision is the wanted one
    OBSERVING = "Observing"
    PAUSED = "Paused"
    WARMING = "Warming"
    TESTING = "Testing"
    WAITING_FOR_GATEWAYS = "WaitingForGateways"  # the weight moves when all of them have the endpoints
    WAITING_FOR_REPLICAS = "WaitingForReplicas"  # fewer are ready than the step needs
    NO_TRAFFIC = "NoTraffic"  # not one request to judge by
    NOT_MEASURED = "NotMeasured"  # no verdict yet: the counters have not been read
    INCONCLUSIVE = "Inconclusive"
    PROMOTING = "Promoting"
    PROMOTED = "Promoted"
    PROMOTED_BY_HAND = "PromotedByHand"  # by annotation: the evidence did not decide
    HAND_OVER = "HandOver"  # an adopted canary passed: the target is its owner's to change
    ABORTED = "Aborted"  # by annotation
    SUPERSEDED = "Superseded"  # another revision is wanted meanwhile
    WITHDRAWN = "Withdrawn"  # the stable revision is wanted again, or spec.canary is gone
    CANARY_NOT_READY = "CanaryNotReady"  # its pods do not start
    REJECTED_REVISION = "RejectedRevision"  # it was rolled back before: not retried
    FIRST_REVISION = "FirstRevision"  # nothing to compare with: it is stable at once
    NO_GATEWAY = "NoGateway"  # nothing in the request path can split requests
    STABLE_MISSING = "StableMissing"  # nothing to compare with, and nothing to size it by
    CANARY_IS_STABLE = "CanaryIsStable"
    CANARY_NOT_FOUND = "CanaryNotFound"
    CANARY_NOT_ROUTED = "CanaryNotRouted"  # no Service or port for its arm
    STICKY_SPLIT_NOT_POSSIBLE = "StickySplitNotPossible"  # an HTTPRoute draws an arm for each request
    CANARY_CONFLICT = "CanaryConflict"  # another autoscaler or rollout controller has its workload


AnyReason = Reason | TrafficReason | RolloutReason | CanaryReason


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    """`value` with its reason, one sentence with its numbers, the inputs that mattered, what bound it.

    `value` is None where nothing may be decided (no data, no target): hold, never zero.
    """

    value: T | None
    reason: AnyReason
    message: str
    inputs: Mapping[str, float] = field(default_factory=dict)
    binding: str = ""
