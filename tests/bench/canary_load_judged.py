"""Our judge on many canaries whose steps differ: like `canary_ours.py`, with load told for each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bench.canary_ours import LIMITS
from bench.canary_streams import EDGES, SCRAPE_SECONDS
from penstock.policy import canary_errors, canary_latency
from penstock.policy.canary_bets import start_weight
from penstock.policy.canary_observe import USUAL_STABLE_PER_CANARY
from penstock.policy.canary_thresholds import may_promote, thresholds
from penstock.queueing.domain import FloatArray

BoolArray: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """Requests and errors of a scrape (runs,), and those slower than each edge (runs, edges)."""

    requests: FloatArray
    errors: FloatArray
    slow: FloatArray

    def where(self, heard: BoolArray) -> Counted:
        """Return the counts of these canaries, and none of the others."""
        return Counted(self.requests * heard, self.errors * heard, self.slow * heard[:, None])


@dataclass(slots=True)
class Judged:
    """The evidence on every canary."""

    latency: canary_latency.LatencyState
    errors: canary_errors.ErrorState
    counted: FloatArray  # requests of the stable arm and of the canary

    @classmethod
    def begin(cls, runs: int) -> Judged:
        """Return no evidence."""
        latency = canary_latency.empty_state(EDGES.size, (runs,))
        return cls(latency, canary_errors.empty_errors((runs,)), np.zeros((2, runs)))

    def advance(self, at: int, arms: tuple[Counted, Counted], alike: BoolArray, excused: FloatArray) -> None:
        """Take a scrape of both arms."""
        stable, canary = arms
        per_canary = self.counted[0] / np.maximum(self.counted[1], 1)
        bets = canary_latency.place_bets(
            self.latency,
            EDGES,
            margin=LIMITS.max_regression_ratio,
            expected_ratio=excused,
            stable_per_canary=np.where(self.counted[1] > 0, per_canary, USUAL_STABLE_PER_CANARY),
        )
        weight = start_weight(at // 4) if at % 4 == 0 else 0.0
        slow = canary_latency.SlowCounts(stable.slow, stable.requests, canary.slow, canary.requests, alike)
        self.latency = canary_latency.advance_latency(self.latency, bets, slow, weight, SCRAPE_SECONDS)
        both = canary.requests > 0
        self.counted = self.counted + both * np.stack([stable.requests, canary.requests])
        if weight:
            self.errors = canary_errors.begin_errors(self.errors, at // 4, weight)
        self.errors = canary_errors.advance_stop_loss(
            self.errors, canary.requests, canary.errors, LIMITS.error_stop_loss
        )
        added = np.stack([stable.requests, stable.errors, canary.requests, canary.errors], axis=-1)
        self.errors = canary_errors.advance_errors(self.errors, added * both[:, None], LIMITS.error_increase)

    def against(self) -> tuple[tuple[FloatArray, float], ...]:
        """Return ln evidence against, each with its threshold."""
        decides = thresholds(LIMITS)
        return (
            (canary_errors.log_stop_loss(self.errors), decides.stop_loss),
            (canary_errors.log_errors_against(self.errors, LIMITS.max_regression_ratio), decides.errors),
            (canary_latency.log_latency_against(self.latency), decides.latency),
        )

    def good(self, log_latency: FloatArray) -> BoolArray:
        """Return whether all is in favour, latencies by this evidence."""
        in_favour = (canary_errors.log_errors_for(self.errors), log_latency)
        return may_promote(in_favour, self.against(), thresholds(LIMITS).promotion)
