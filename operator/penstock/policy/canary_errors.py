"""Errors of a canary: a Bayes factor against the stable arm, a stop-loss, and the case for promotion.

Against: the beta-binomial Bayes factor of "two shares" over "one share" with priors Beta(0.5, 50),

    BF = B(a+k_s, b+n_s-k_s) B(a+k_c, b+n_c-k_c) / (B(a, b) B(a+k_s+k_c, b+n_s+n_c-k_s-k_c)),

counted only where the canary's share is the larger by the margin; averaged over the minutes at which a
regression may have begun (`canary_bets.start_weight`): a canary that turns bad after 10 good minutes is
not diluted by them. Stop-loss: bets that the canary's share is above a bound, without the stable arm.
For: bets that the canary is as good as the stable arm, against p_c >= p_s + increase.
Arrays with any leading axes, as in `canary_latency`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import betaln

from penstock.policy.canary_bets import SMALLEST, Block, inside, log_bet, nearest_with_difference
from penstock.queueing.domain import FloatArray

PRIOR_ERRORS, PRIOR_SUCCESSES = 0.5, 50.0
LEVEL_SUCCESSES = 500.0  # prior of the stable share that promotion bets on: 0.1 %
STOP_LOSS_BETS = np.array([2.0, 5.0, 19.0])  # times the bound, at most 0.95
LEAST_ERRORS = 3.0  # one client with one bad request is not a regression
# Promotion must exclude that the canary spends half of the error budget more than the stable arm; the
# stop-loss is a burn rate of 10: at 99.5 %, 0.25 % and 5 %.
INCREASE_OF_BUDGET, STOP_LOSS_OF_BUDGET = 0.5, 10.0
# To exclude 0.05 points more errors takes 10,000 canary requests where 0.1 % fail: no canary sees these.
LEAST_INCREASE, LEAST_STOP_LOSS = 0.001, 0.01
KEPT_MINUTES = 4


@dataclass(frozen=True, slots=True, eq=False)
class ErrorStart:
    """A minute at which a regression may have begun, and the counts until then (..., 4)."""

    minute: int
    weight: float
    counts: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class ErrorState:
    """Counts since the test began (..., 4: stable total, failures, canary total, failures) and evidence."""

    counts: FloatArray
    starts: tuple[ErrorStart, ...]
    log_for: FloatArray  # (...)
    log_stop: FloatArray  # (..., STOP_LOSS_BETS)
    stop_counts: FloatArray  # (..., 2): canary requests and failures, with or without a stable reading
    begun: float = 0.0  # weight of the evidence that has begun


def error_limits(availability_ratio: float) -> tuple[float, float]:
    """Return (error_increase, error_stop_loss) of `JudgeLimits` for an availability objective, 0..1."""
    budget = 1.0 - availability_ratio
    increase, stop_loss = INCREASE_OF_BUDGET * budget, STOP_LOSS_OF_BUDGET * budget
    return max(increase, LEAST_INCREASE), min(0.5, max(stop_loss, LEAST_STOP_LOSS))


def empty_errors(batch: tuple[int, ...] = ()) -> ErrorState:
    """Return the state before any block."""
    stops = np.full((*batch, STOP_LOSS_BETS.size), -np.inf)
    return ErrorState(np.zeros((*batch, 4)), (), np.full(batch, -np.inf), stops, np.zeros((*batch, 2)))


def begin_errors(state: ErrorState, minute: int, new_weight: float) -> ErrorState:
    """Return the state with evidence of weight `new_weight` that begins now, at a whole `minute`."""
    starts = (*state.starts, ErrorStart(minute, new_weight, state.counts))
    shares = new_weight / STOP_LOSS_BETS.size
    return replace(
        state,
        starts=tuple(start for start in starts if _kept(start.minute, minute)),
        log_for=np.logaddexp(state.log_for, np.log(new_weight)),
        log_stop=np.logaddexp(state.log_stop, np.log(shares)),
        begun=state.begun + new_weight,
    )


def _kept(start: int, now: int) -> bool:
    """Return whether a start is still counted: sparser with age, about two of every octave.

    The rule knows only time, so it may drop weight but not select evidence: the bound holds.
    """
    even = start & -start if start else now + 1  # the largest power of 2 that divides the minute
    return now - start <= KEPT_MINUTES * even


def advance_errors(state: ErrorState, added: FloatArray, increase: float) -> ErrorState:
    """Return the state after a block `added` (..., 4) that both arms counted at the same time."""
    block = Block(added[..., 0], added[..., 1], added[..., 2], added[..., 3])
    level = inside(
        (state.counts[..., 1] + PRIOR_ERRORS) / (state.counts[..., 0] + PRIOR_ERRORS + LEVEL_SUCCESSES)
    )
    bet = (level, level)
    null = nearest_with_difference(bet, (block.stable_total, block.canary_total), increase)
    both = (block.stable_total > 0) & (block.canary_total > 0) & (level + increase < 1)
    gain = np.where(both, log_bet(block, bet, null), 0.0)
    return replace(state, counts=state.counts + added, log_for=state.log_for + gain)


def advance_stop_loss(
    state: ErrorState, total: FloatArray, failures: FloatArray, stop_loss: float
) -> ErrorState:
    """Return the state after `failures` of `total` canary requests (...), whatever the stable arm did."""
    worse = np.minimum(STOP_LOSS_BETS * stop_loss, 0.95)
    bad, good = np.log(worse / stop_loss), np.log((1 - worse) / (1 - stop_loss))
    return replace(
        state,
        log_stop=state.log_stop + failures[..., None] * bad + (total - failures)[..., None] * good,
        stop_counts=state.stop_counts + np.stack([total, failures], axis=-1),
    )


def log_errors_against(state: ErrorState, margin: float) -> FloatArray:
    """Return ln of the evidence that the canary has more errors than the stable arm (...)."""
    evidence = np.full(state.counts.shape[:-1], _log_unspent(state))
    for start in state.starts:
        evidence = np.logaddexp(evidence, np.log(start.weight) + log_since(state, start, margin))
    return evidence


def log_since(state: ErrorState, start: ErrorStart, margin: float) -> FloatArray:
    """Return ln of the Bayes factor since `start`; -inf where the canary's share is not the larger."""
    since = state.counts - start.counts
    worse = since[..., 3] * since[..., 0] > margin * since[..., 1] * since[..., 2]
    worse &= since[..., 3] >= LEAST_ERRORS
    return np.where(worse, log_bayes_factor(since), -np.inf)


def log_errors_for(state: ErrorState) -> FloatArray:
    """Return ln of the evidence that the increase of the canary's error share is below what is allowed."""
    result: FloatArray = np.logaddexp(state.log_for, _log_unspent(state))
    return result


def _log_unspent(state: ErrorState) -> float:
    return float(np.log(max(1.0 - state.begun, SMALLEST)))


def log_bayes_factor(counts: FloatArray) -> FloatArray:
    """Return ln BF of two shares over one; `counts` (..., 4)."""
    stable_total, stable_failures = counts[..., 0], counts[..., 1]
    canary_total, canary_failures = counts[..., 2], counts[..., 3]
    failures, total = stable_failures + canary_failures, stable_total + canary_total
    result: FloatArray = (
        betaln(PRIOR_ERRORS + stable_failures, PRIOR_SUCCESSES + stable_total - stable_failures)
        + betaln(PRIOR_ERRORS + canary_failures, PRIOR_SUCCESSES + canary_total - canary_failures)
        - betaln(PRIOR_ERRORS + failures, PRIOR_SUCCESSES + total - failures)
        - betaln(PRIOR_ERRORS, PRIOR_SUCCESSES)
    )
    return result


def log_stop_loss(state: ErrorState) -> FloatArray:
    """Return ln of the evidence that the canary's error share is above the stop-loss (...)."""
    result: FloatArray = np.logaddexp(np.logaddexp.reduce(state.log_stop, axis=-1), _log_unspent(state))
    return result
