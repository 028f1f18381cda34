"""How much evidence decides, and the rule that turns evidence into a rollback or a promotion.

`alpha` is shared by what can roll back: 0.25 errors, 0.1 the stop-loss, 0.4 the latencies, 0.25 the user's
counter pairs; by Ville's inequality 1/share is crossed with at most that probability. At alpha = 0.08 the
Bayes factor of the errors decides at 50, one latency at 31, two at 62. Promotion needs 1/beta from every
metric (an intersection-union test needs no correction), and nothing that speaks against the canary now.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.model.canary_counts import LATENCY_METRICS, Metric
from penstock.model.canary_verdict import JudgeLimits
from penstock.queueing.domain import FloatOrArray

ERRORS_SHARE, STOP_LOSS_SHARE, LATENCY_SHARE, CHECK_SHARE = 0.25, 0.1, 0.4, 0.25
# Nothing speaks against: E <= 1.2. Evidence that has just begun wanders about 1.
NOTHING_AGAINST = math.log(1.2)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Natural logarithms of the evidence that decides."""

    errors: float
    stop_loss: float
    latency: float
    check: float
    promotion: float

    def against(self, metric: str) -> float:
        """Return the threshold of a metric or a user's counter check."""
        if metric == Metric.ERRORS:
            return self.errors
        return self.latency if metric in LATENCY_METRICS else self.check


def thresholds(limits: JudgeLimits) -> Thresholds:
    """Return what decides under these limits."""
    latencies = sum(metric in LATENCY_METRICS for metric in limits.metrics)
    return Thresholds(
        errors=-math.log(limits.alpha * ERRORS_SHARE),
        stop_loss=-math.log(limits.alpha * STOP_LOSS_SHARE),
        latency=-math.log(limits.alpha * LATENCY_SHARE / max(1, latencies)),
        check=-math.log(limits.alpha * CHECK_SHARE / max(1, len(limits.counter_checks))),
        promotion=-math.log(limits.beta),
    )


def may_roll_back(against: Sequence[tuple[FloatOrArray, float]]) -> NDArray[np.bool_]:
    """Return whether any evidence (ln, threshold) reached its threshold."""
    found = [np.asarray(value) >= threshold for value, threshold in against]
    return np.any(np.stack(found), axis=0)  # type: ignore[no-any-return]


def may_promote(
    in_favour: Sequence[FloatOrArray], against: Sequence[tuple[FloatOrArray, float]], threshold: float
) -> NDArray[np.bool_]:
    """Return whether every metric is shown to be good and nothing speaks against."""
    good = [np.asarray(value) >= threshold for value in in_favour]
    calm = [np.asarray(value) <= NOTHING_AGAINST for value, _ in against]
    return np.all(np.stack([*good, *calm]), axis=0)  # type: ignore[no-any-return]
