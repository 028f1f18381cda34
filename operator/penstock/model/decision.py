"""A decision and its explanation: one reason, one sentence, the same everywhere it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

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
    LEARNING = "Learning"  # not enough seen yet to size
    PAUSED = "Paused"


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    """`value` with its reason, one sentence with its numbers, the inputs that mattered, what bound it.

    `value` is None where nothing may be decided (no data, no target): hold, never zero.
    """

    value: T | None
    reason: Reason
    message: str
    inputs: Mapping[str, float] = field(default_factory=dict)
    binding: str = ""
