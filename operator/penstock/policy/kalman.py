"""An extended Kalman filter on the logarithms of the step law's factors, observing mean TTFT and TPOT.

State: log of (overhead, compute, memory) over the profile. Prior covariance 0.15 shared + 0.05 own (engines
are mostly slower as a whole), observation noise 8 % on TTFT and 6 % on TPOT, random walk 2e-4 a window,
one step at most 0.4. An observation is refused when it is not one (NaN, zero), when both means say nearly
the same of the state (condition number), or when it is beyond belief (normalised innovation squared > 12:
1 in 400 of true ones). Linear least squares on step times alone is ill-conditioned on the flat traffic of
one service: 20 windows leave 40 % error where this leaves 6 %.
The observations are independent, so they are taken one after the other: no matrix is inverted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

from penstock.model.value import value
from penstock.policy.mean_latency import MeanLatency
from penstock.policy.step_factors import StepFactors

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]
Predict = Callable[[StepFactors], MeanLatency | None]

SHARED_VARIANCE, OWN_VARIANCE = 0.15, 0.05
RANDOM_WALK = 2e-4
TTFT_VARIANCE, TPOT_VARIANCE = 0.08**2, 0.06**2
LARGEST_INNOVATION = 12.0
LARGEST_STEP = 0.4
LARGEST_CONDITION = 1e4
LARGEST_FACTOR = math.log(10.0)
_NUDGE = 0.02
_NUDGED = math.exp(_NUDGE)


class Verdict(StrEnum):
    """What became of an observation."""

    TAKEN = "taken"
    NOT_MEASURED = "not measured"
    ILL_CONDITIONED = "ill-conditioned"
    BEYOND_BELIEF = "beyond belief"


def _prior() -> Matrix:
    own, both = SHARED_VARIANCE + OWN_VARIANCE, SHARED_VARIANCE
    return (own, both, both), (both, own, both), (both, both, own)


@value(frozen=True, slots=True)
class FilterMemory:
    """Mean and covariance of the log factors, and how many observations they rest on."""

    mean: Vector = (0.0, 0.0, 0.0)
    covariance: Matrix = _prior()
    taken: int = 0
    refused: int = 0  # in a row, as beyond belief: then it is another engine

    @classmethod
    def begun(cls, ratio: float) -> FilterMemory:
        """Return the filter of an engine known to be slower by `ratio` as a whole."""
        even = math.log(ratio)
        return cls((even, even, even))

    @property
    def factors(self) -> StepFactors:
        """Return the factors at the mean."""
        return StepFactors(*(math.exp(each) for each in self.mean))

    @property
    def deviations(self) -> StepFactors:
        """Return the standard deviations of the log factors."""
        return StepFactors(*(math.sqrt(self.covariance[each][each]) for each in range(3)))


def observe_latency(
    memory: FilterMemory, measured: MeanLatency, predict: Predict
) -> tuple[FilterMemory, Verdict]:
    """Take in one pair of measured means (seconds, `ttft` without the front end), or say why not.

    `predict` answers what given factors would show under the same load.
    """
    gradient = _gradient(memory.mean, predict)
    if gradient is None or not _is_latency(measured):
        return memory, Verdict.NOT_MEASURED
    expected, rows = gradient
    residual = (math.log(measured.ttft / expected.ttft), math.log(measured.tpot / expected.tpot))
    covariance = _widened(memory.covariance)
    first, second = (_times(covariance, row) for row in rows)
    s11 = _dot(rows[0], first) + TTFT_VARIANCE
    s22 = _dot(rows[1], second) + TPOT_VARIANCE
    s12 = _dot(rows[0], second)
    determinant = s11 * s22 - s12 * s12
    half = (s11 + s22) / 2
    root = math.sqrt(max(0.0, half * half - determinant))
    if not (determinant > 0 and half - root > 0 and (half + root) / (half - root) < LARGEST_CONDITION):
        return memory, Verdict.ILL_CONDITIONED
    a, b = residual
    innovation = (a * a * s22 - 2 * a * b * s12 + b * b * s11) / determinant
    if innovation > LARGEST_INNOVATION:
        return replace(memory, refused=memory.refused + 1), Verdict.BEYOND_BELIEF
    # Gain = P H' S^-1 with the 2 x 2 inverse written out: a column for TTFT, one for TPOT.
    by_ttft = _blend(first, s22 / determinant, second, -s12 / determinant)
    by_tpot = _blend(second, s11 / determinant, first, -s12 / determinant)
    moved = _blend(by_ttft, a, by_tpot, b)
    share = min(1.0, LARGEST_STEP / max(abs(moved[0]), abs(moved[1]), abs(moved[2]), 1e-12))
    mean = _blend(memory.mean, 1.0, moved, share)
    return FilterMemory(
        (_bounded(mean[0]), _bounded(mean[1]), _bounded(mean[2])),
        _reduced(covariance, (by_ttft, first), (by_tpot, second)),
        memory.taken + 1,
    ), Verdict.TAKEN


def _gradient(mean: Vector, predict: Predict) -> tuple[MeanLatency, tuple[Vector, Vector]] | None:
    """Return the means at `mean` and how their logarithms move with it."""
    overhead, compute, memory = math.exp(mean[0]), math.exp(mean[1]), math.exp(mean[2])
    here = predict(StepFactors(overhead, compute, memory))
    by_overhead = predict(StepFactors(overhead * _NUDGED, compute, memory))
    by_compute = predict(StepFactors(overhead, compute * _NUDGED, memory))
    by_memory = predict(StepFactors(overhead, compute, memory * _NUDGED))
    if here is None or by_overhead is None or by_compute is None or by_memory is None:
        return None
    nudged = by_overhead, by_compute, by_memory
    ttft, tpot = (
        [math.log(each.ttft / here.ttft) / _NUDGE for each in nudged],
        [math.log(each.tpot / here.tpot) / _NUDGE for each in nudged],
    )
    return here, ((ttft[0], ttft[1], ttft[2]), (tpot[0], tpot[1], tpot[2]))


def _is_latency(measured: MeanLatency) -> bool:
    return 0 < measured.ttft < math.inf and 0 < measured.tpot < math.inf


def _widened(covariance: Matrix) -> Matrix:
    """Return the covariance a window later."""
    (a, b, c), (d, e, f), (g, h, i) = covariance
    return (a + RANDOM_WALK, b, c), (d, e + RANDOM_WALK, f), (g, h, i + RANDOM_WALK)


def _reduced(covariance: Matrix, one: tuple[Vector, Vector], other: tuple[Vector, Vector]) -> Matrix:
    """Return P - K (H P), of which `one` and `other` are the columns of K with their rows of H P."""
    (gain, seen), (gain_2, seen_2) = one, other
    (a, b, c), (d, e, f), (g, h, i) = covariance
    (k, m, n), (k_2, m_2, n_2) = gain, gain_2
    (x, y, z), (x_2, y_2, z_2) = seen, seen_2
    return (
        (a - k * x - k_2 * x_2, b - k * y - k_2 * y_2, c - k * z - k_2 * z_2),
        (d - m * x - m_2 * x_2, e - m * y - m_2 * y_2, f - m * z - m_2 * z_2),
        (g - n * x - n_2 * x_2, h - n * y - n_2 * y_2, i - n * z - n_2 * z_2),
    )


def _blend(one: Vector, weight: float, other: Vector, other_weight: float) -> Vector:
    return (
        weight * one[0] + other_weight * other[0],
        weight * one[1] + other_weight * other[1],
        weight * one[2] + other_weight * other[2],
    )


def _bounded(log_factor: float) -> float:
    return min(max(log_factor, -LARGEST_FACTOR), LARGEST_FACTOR)


def _times(matrix: Matrix, vector: Vector) -> Vector:
    return _dot(matrix[0], vector), _dot(matrix[1], vector), _dot(matrix[2], vector)


def _dot(one: Vector, other: Vector) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]
