"""Margins that make bounds of point forecasts, learned from how wrong each forecast was.

    bound = f + Q s,   s = sqrt(max(f, mean/4)/W),   Q = 95 % quantile of (y - f)/s over the last outcomes

y is the highest rate that came, s the standard error of a count at the forecast rate, so that one score
serves at night and at noon (split conformal prediction: no law is assumed). Followed is the bound with
the least discounted pinball loss. Choosing the least favours bounds that were lucky: alone that covers
0.92 of a day, so the width of what is followed is steered (after adaptive conformal inference, Gibbs
and Candes, 2021).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from penstock.model.value import value
from penstock.policy.point_forecasts import METHODS, Rates

AIM = 0.95
OUTCOMES = 96  # scores kept of each method
FEWEST_OUTCOMES = 20  # the 95 % quantile of fewer is beyond the largest of them
LOSS_HALF_LIFE_OUTCOMES = 240.0  # 30 loses 5 % to it on the shipped traces: luck is chased
STEERING = 0.03  # of the width per outcome; 0.1 loses 7 %
NARROWEST, WIDEST = -0.5, 2.0
LARGEST_SCORE = 60_000.0  # of half a precision; a first burst after silence has no scale
_LOSS_GAIN = -math.expm1(-math.log(2) / LOSS_HALF_LIFE_OUTCOMES)


@value(frozen=True, slots=True)
class MarginMemory:
    """Scores of the methods, one row per series of rates; arrays are never changed, only replaced."""

    scores: NDArray[np.float16]  # (series, METHODS, OUTCOMES), a ring by `outcomes`
    quantiles: Rates  # (series, METHODS), the width's share included
    losses: Rates  # (series, METHODS)
    widths: tuple[float, ...]  # what is added to the margins, in units of Q95 - Q50
    outcomes: int = 0

    @classmethod
    def empty(cls, series: int) -> MarginMemory:
        """Return the memory before any outcome."""
        return cls(
            np.zeros((series, METHODS, OUTCOMES), dtype=np.float16),
            np.zeros((series, METHODS), dtype=np.float32),
            np.zeros((series, METHODS), dtype=np.float32),
            (0.0,) * series,
        )

    @property
    def settled(self) -> bool:
        """Whether enough outcomes are known for the margins to mean anything."""
        return self.outcomes >= FEWEST_OUTCOMES

    def with_experience_of(self, other: MarginMemory) -> MarginMemory:
        """Return the margins with losses and widths learned for another horizon."""
        return replace(self, losses=other.losses, widths=other.widths)


def observe_outcome(
    memory: MarginMemory, highest: Rates, forecasts: Rates, bounds: Rates | None, standard_error: Rates
) -> MarginMemory:
    """Take in the highest rate that came, (series,), where `forecasts` (series, METHODS) had been made.

    `bounds` (series, METHODS + 1) are those that had been issued, that of each method and the one that was
    followed (None: the memory was not settled then). Rates in 1/s.
    """
    losses, widths = memory.losses, memory.widths
    if bounds is not None:
        # As they were issued: today's quantiles know what has happened since.
        missed = highest[:, None] - bounds
        each = missed[:, :METHODS] / standard_error
        losses = losses + _LOSS_GAIN * (np.maximum(AIM * each, (AIM - 1.0) * each) - losses)
        widths = tuple(
            _steered(width, by > 0) for width, by in zip(widths, missed[:, METHODS].tolist(), strict=True)
        )
    scores = memory.scores.copy()
    score = (highest[:, None] - forecasts) / standard_error
    scores[:, :, memory.outcomes % OUTCOMES] = np.clip(score, -LARGEST_SCORE, LARGEST_SCORE)
    outcomes = memory.outcomes + 1
    return MarginMemory(scores, _quantiles(scores, outcomes, widths), losses, widths, outcomes)


def best_methods(memory: MarginMemory, candidates: int = METHODS) -> tuple[int, ...]:
    """Return the method to follow for each series, among the first `candidates` of NAMES."""
    return tuple(memory.losses[:, :candidates].argmin(axis=1).tolist())


def _quantiles(scores: NDArray[np.float16], outcomes: int, widths: tuple[float, ...]) -> Rates:
    known = min(outcomes, OUTCOMES)
    ordered = scores[:, :, :known].astype(np.float32)
    ordered.sort(axis=2)
    # Not (n + 1) AIM: of 28 outcomes that is half a jump of an hour ago. What is short is steered away.
    rank = (known - 1) * AIM
    low = int(rank)
    share = rank - low
    aimed = ordered[:, :, low] * (1.0 - share) + ordered[:, :, min(low + 1, known - 1)] * share
    width = np.array(widths, dtype=np.float32)[:, None]
    return np.asarray(aimed + width * (aimed - ordered[:, :, known // 2]))


def _steered(width: float, missed: bool) -> float:  # noqa: FBT001
    """Return the next width: a little less when covered, much more when missed, so that 95 % are covered."""
    return min(max(width + STEERING * (AIM if missed else AIM - 1.0), NARROWEST), WIDEST)
