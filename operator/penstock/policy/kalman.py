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
from dataclasses import dataclass, replace
from enum import StrEnum

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


class Verdict(StrEnum):
    """What became of an observation."""

    TAKEN = "taken"
    NOT_MEASURED = "not measured"
    ILL_CONDITIONED = "ill-conditioned"
    BEYOND_BELIEF = "beyond belief"


def _prior() -> Matrix:
    own, both = SHARED_VARIANCE + OWN_VARIANCE, SHARED_VARIANCE
    return (own, both, both), (both, own, both), (both, both, own)


@dataclass(frozen=True, slots=True)
class FilterMemory:
    """Mean and covariance of the log factors, and how many observations they rest on."""

    mean: Vector = (0.0, 0.0, 0.0)
    covariance: Matrix = _prior()  # noqa: RUF009 - a constant
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
    # Gain = P H' S^-1 with the 2 x 2 inverse written out.
    moved = [
        (first[k] * (s22 * a - s12 * b) + second[k] * (s11 * b - s12 * a)) / determinant for k in range(3)
    ]
    share = min(1.0, LARGEST_STEP / max(*(abs(each) for each in moved), 1e-12))
    mean = [
        min(max(old + share * by, -LARGEST_FACTOR), LARGEST_FACTOR)
        for old, by in zip(memory.mean, moved, strict=True)
    ]
    rows_left = [
        [
            covariance[i][j]
            - (
                s22 * first[i] * first[j]
                - s12 * (first[i] * second[j] + second[i] * first[j])
                + s11 * second[i] * second[j]
            )
            / determinant
            for j in range(3)
        ]
        for i in range(3)
    ]
    reduced = (_vector(rows_left[0]), _vector(rows_left[1]), _vector(rows_left[2]))
    return FilterMemory(_vector(mean), reduced, memory.taken + 1), Verdict.TAKEN


def _gradient(mean: Vector, predict: Predict) -> tuple[MeanLatency, tuple[Vector, Vector]] | None:
    """Return the means at `mean` and how their logarithms move with it."""
    overhead, compute, memory = _vector([math.exp(each) for each in mean])
    here = predict(StepFactors(overhead, compute, memory))
    if here is None:
        return None
    ttft, tpot = [], []
    more = _vector([math.exp(each + _NUDGE) for each in mean])
    for factors in (
        StepFactors(more[0], compute, memory),
        StepFactors(overhead, more[1], memory),
        StepFactors(overhead, compute, more[2]),
    ):
        nudged = predict(factors)
        if nudged is None:
            return None
        ttft.append(math.log(nudged.ttft / here.ttft) / _NUDGE)
        tpot.append(math.log(nudged.tpot / here.tpot) / _NUDGE)
    return here, (_vector(ttft), _vector(tpot))


def _is_latency(measured: MeanLatency) -> bool:
    return 0 < measured.ttft < math.inf and 0 < measured.tpot < math.inf


def _widened(covariance: Matrix) -> Matrix:
    """Return the covariance a window later."""
    (a, b, c), (d, e, f), (g, h, i) = covariance
    return (a + RANDOM_WALK, b, c), (d, e + RANDOM_WALK, f), (g, h, i + RANDOM_WALK)


def _vector(values: list[float]) -> Vector:
    return values[0], values[1], values[2]


def _times(matrix: Matrix, vector: Vector) -> Vector:
    return _dot(matrix[0], vector), _dot(matrix[1], vector), _dot(matrix[2], vector)


def _dot(one: Vector, other: Vector) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]
