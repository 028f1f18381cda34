"""What two arms of a canary have counted: raw counters as Prometheus shows them, and what was added since.

Counters are monotone until their process restarts. A signal that was not read is None, never 0: a canary
without error counter is not a canary without errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Metric(StrEnum):
    """What is judged; the names of evidence rows, of status and of metric labels. User checks add theirs."""

    ERRORS = "errors"
    TTFT = "ttft"
    TPOT = "tpot"
    LATENCY = "latency"


LATENCY_METRICS = (Metric.TTFT, Metric.TPOT, Metric.LATENCY)


@dataclass(frozen=True, slots=True)
class Histogram:
    """A cumulative Prometheus histogram: `upper_edges` in seconds, ascending, the last is +Inf.

    `cumulative[i]` counts the observations <= `upper_edges[i]`: a total since the process started in
    `PodCounters`, what was added between two readings in `ArmIncrement`.
    """

    upper_edges: tuple[float, ...]
    cumulative: tuple[float, ...]

    @property
    def total(self) -> float:
        """Return the number of observations."""
        return self.cumulative[-1] if self.cumulative else 0.0


@dataclass(frozen=True, slots=True)
class PodCounters:
    """One pod's counters at one instant. `requests` counts finished ones, failed ones too."""

    pod: str
    requests: float | None = None
    errors: float | None = None
    ttft: Histogram | None = None
    tpot: Histogram | None = None
    latency: Histogram | None = None


@dataclass(frozen=True, slots=True)
class CheckCounters:
    """A user's counter pair, one series of it: `failures` out of `total`.

    `series` tells the series of one check apart (its labels, "" for a single one): each may restart alone.
    """

    check: str
    series: str
    failures: float | None
    total: float | None


@dataclass(frozen=True, slots=True)
class ArmReading:
    """One arm at `at` (Unix seconds, the evaluation instant of the queries).

    `thresholds` holds the value of every threshold query by the check's name; None: no value came back.
    `fresh_seconds`: no sample behind a count is older; two readings may still show them out of order.
    """

    at: float
    pods: tuple[PodCounters, ...]
    checks: tuple[CheckCounters, ...] = ()
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    fresh_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Trials:
    """`failures` of `total` requests, counted between two readings."""

    failures: float
    total: float


@dataclass(frozen=True, slots=True)
class ArmIncrement:
    """What one arm added between two readings, over the pods with a baseline; None: not measured."""

    requests: float | None = None
    errors: Trials | None = None
    latencies: Mapping[Metric, Histogram] = field(default_factory=dict)
    checks: Mapping[str, Trials] = field(default_factory=dict)
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    pods: int = 0  # that contributed


@dataclass(frozen=True, slots=True)
class Increments:
    """What both arms added until `at`; `seconds` since the canary's reading before, 0 for the first one."""

    at: float
    seconds: float
    stable: ArmIncrement | None
    canary: ArmIncrement | None
