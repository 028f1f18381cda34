"""What came out of a simulation: per request, and the pool over time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from penstock.model.traffic import FleetLimit
from penstock.queueing.domain import FloatArray
from penstock.sim.scenario import Objectives


class RequestStatus(IntEnum):
    """How a request ended."""

    SERVED = 0
    FELL_BACK = 1  # answered by the fallback pool
    SHED = 2  # refused by the admission limit (429)
    UNAVAILABLE = 3  # no replica was ready (503)


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """A change of the target."""

    at: float
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class PoolTimeline:
    """Step functions: from `at[k]` on there are these many replicas."""

    at: FloatArray
    paid: NDArray[np.int64]  # starting, ready and draining: what costs
    ready: NDArray[np.int64]
    target: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LimitChange:
    """The admission limit of the whole pool from `at` on; None: none."""

    at: float
    limit: FleetLimit | None


@dataclass(frozen=True, slots=True)
class Run:
    """One policy on one scenario. Per request, in order of arrival: seconds, NaN where it was refused.

    TPOT of a single token is NaN. TTFT and latency are the client's: with the front end.
    """

    scenario: str
    policy: str
    end_seconds: float
    ttft_seconds: FloatArray
    tpot_seconds: FloatArray
    latency_seconds: FloatArray
    status: NDArray[np.int8]
    timeline: PoolTimeline
    scale_events: tuple[ScaleEvent, ...]
    preemptions: int
    limit_changes: tuple[LimitChange, ...] = ()  # where the policy steers the gateways

    def replica_seconds(self, until: float | None = None) -> float:
        """Return what was paid for from the start to `until` (default the end): start-up and drain too."""
        end = self.end_seconds if until is None else until
        spans = np.diff(np.minimum(np.append(self.timeline.at, end), end))
        return float(spans @ self.timeline.paid)

    def average_replicas(self, until: float | None = None) -> float:
        """Return replica-seconds over seconds."""
        return self.replica_seconds(until) / (self.end_seconds if until is None else until)

    def good(
        self, slo: Objectives, counted: Collection[RequestStatus] = (RequestStatus.SERVED,)
    ) -> NDArray[np.bool_]:
        """Return which requests were answered within both objectives, in one of the `counted` ways."""
        with np.errstate(invalid="ignore"):
            tpot = np.isnan(self.tpot_seconds) | (self.tpot_seconds <= slo.tpot_seconds)
            in_time = (self.ttft_seconds <= slo.ttft_seconds) & tpot
        return np.asarray(in_time & np.isin(self.status, list(counted)))

    def attainment_ratio(
        self, slo: Objectives, counted: Collection[RequestStatus] = (RequestStatus.SERVED,)
    ) -> float:
        """Return the share of all requests, refused ones included, that were good."""
        return float(self.good(slo, counted).mean())
