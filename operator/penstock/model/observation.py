"""What was seen at one instant: load from Prometheus, the pool from Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.model.reading import Absence, Reading
from penstock.model.value import value

_NOT_READ = Reading.missing(Absence.NO_SERIES, "not read yet")


@dataclass(frozen=True, slots=True)
class Histogram:
    """Per-second increase of a cumulative histogram: `upper_bounds` ascending, the last may be inf.

    `counts` are per bucket (not cumulative), same length as `upper_bounds`, in events per second.
    `mean` is sum/count of the same window where known.
    """

    upper_bounds: tuple[float, ...]
    counts: tuple[float, ...]
    mean: float | None = None


@value(frozen=True, slots=True)
class Load:
    """Signals of one service at one evaluation instant. Rates are per second, times in seconds."""

    arrival_rate: Reading = _NOT_READ  # requests that got their first token, per second
    queue_growth: Reading = _NOT_READ  # d(waiting)/dt, requests per second: offered = arrival + growth
    waiting: Reading = _NOT_READ  # requests in the engines' queues, whole pool
    running: Reading = _NOT_READ  # requests being served, whole pool
    input_token_rate: Reading = _NOT_READ
    output_token_rate: Reading = _NOT_READ
    tpot_mean: Reading = _NOT_READ
    ttft: Mapping[float, Reading] = field(default_factory=dict)  # by percentile, 0..1
    tpot: Mapping[float, Reading] = field(default_factory=dict)
    latency: Mapping[float, Reading] = field(default_factory=dict)
    reporting_pods: Reading = _NOT_READ
    sample_age_seconds: Reading = _NOT_READ
    input_lengths: Histogram | None = None  # refreshed in turns, not at every tick
    output_lengths: Histogram | None = None
    warnings: tuple[str, ...] = ()
    ttft_mean: Reading = _NOT_READ  # of the requests that got their first token in the window
    offered_rate: Reading = _NOT_READ  # counted at a gateway: admitted, shed and spilled; else missing


@dataclass(frozen=True, slots=True)
class Pool:
    """Replicas of the target as Kubernetes reports them."""

    target: int  # spec.replicas in force
    current: int  # status.replicas
    ready: int
    stuck: int = 0  # unschedulable, crash looping, image missing: will not come by waiting
    unschedulable: int = 0  # of the stuck ones: no node has room
    stuck_cause: str = ""  # one clause: "2 Pods Unschedulable: 0/3 nodes are available: insufficient gpu"
    rolling_out: bool = False
    rollout_failed: bool = False  # ProgressDeadlineExceeded

    @property
    def starting(self) -> int:
        """Replicas that were asked for, are not ready and are not stuck: capacity to come."""
        return max(0, self.target - self.ready - self.stuck)


@value(frozen=True, slots=True)
class Observation:
    """Everything one decision may look at. `pool` is None while the target does not exist."""

    at: float  # evaluation instant, Unix seconds
    load: Load
    pool: Pool | None
    conflict: str = ""  # "HorizontalPodAutoscaler/chat" where another autoscaler or service holds the target
