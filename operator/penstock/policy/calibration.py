"""Which engine the model is solved for: the profile, the profile at a measured speed, or fitted factors.

    PROFILE --half a minute of step times--> SCALAR --20 windows taken--> FITTED
                                               ^------10 refused in a row------'
    any --contradicted for 15 min--> not trusted --agrees for 5 min--> trusted again

The scalar (``policy/speed.py``) is right at once when the engine is slower as a whole; the filter
(``policy/kalman.py``) when it is not, after a quarter of an hour. Factors in force sit on a grid, 8 % on
overhead and arithmetic, 20 % on memory, which is hardly seen, and move when the estimate has clearly left
their cell: each change costs a solved table. Contradicted: TPOT off by half, or TTFT by two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from penstock.model.value import value
from penstock.policy.kalman import FilterMemory, Predict, Verdict, observe_latency
from penstock.policy.mean_latency import MeanLatency
from penstock.policy.speed import SpeedMemory
from penstock.policy.step_factors import AS_PROFILED, StepFactors

FEWEST_TAKEN = 20
MOST_REFUSED = 10
GRID = StepFactors(math.log(1.08), math.log(1.08), math.log(1.2))
LEAVE_CELL = 0.8  # in cells; 0.5 is the border, the rest is hysteresis
TPOT_OFF, TTFT_OFF = math.log(1.5), math.log(2.0)
AGREES = 0.8  # of those: to be trusted again the model must be closer than where it was lost
DISTRUST_AFTER_SECONDS = 900.0
TRUST_AFTER_SECONDS = 300.0


class Stage(StrEnum):
    """What the numbers in force rest on."""

    PROFILE = "Profile"
    SCALAR = "Scalar"
    FITTED = "Fitted"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """How far the model is off: measured over predicted, and since when (Unix seconds)."""

    tpot_ratio: float
    ttft_ratio: float | None
    since: float


@value(frozen=True, slots=True)
class CalibrationMemory:
    """The filter, the factors in force and whether they are believed."""

    in_force: StepFactors = AS_PROFILED
    stage: Stage = Stage.PROFILE
    filter: FilterMemory | None = None
    verdict: Verdict | None = None  # on the newest observation
    contradiction: Contradiction | None = None
    agrees_since: float | None = None
    distrusted: bool = False

    @classmethod
    def restored(cls, ratio: float) -> CalibrationMemory:
        """Return the memory after a restart, from the ratio that was in force; the rest is learned anew."""
        return cls(StepFactors.even(ratio), Stage.SCALAR)


def observe_engine(
    memory: CalibrationMemory, speed: SpeedMemory, measured: Measured, predict: Predict, at: float
) -> CalibrationMemory:
    """Take in one pair of measured means. `predict` answers what factors would show under the same load."""
    kalman, verdict = memory.filter, memory.verdict
    if kalman is None and speed.believed:
        kalman = FilterMemory.begun(math.exp(speed.log_ratio))
    if kalman is not None and measured.ttft is not None:
        kalman, verdict = observe_latency(kalman, MeanLatency(measured.ttft, measured.tpot), predict)
        if kalman.refused >= MOST_REFUSED:
            # Another engine than the one that was fitted: begin again from what is sure.
            kalman = FilterMemory.begun(math.exp(speed.log_ratio))
    stage, in_force = memory.stage, memory.in_force
    if kalman is not None and kalman.taken >= FEWEST_TAKEN:
        stage, in_force = Stage.FITTED, _settled(in_force, kalman.factors)
    elif speed.believed:
        stage = Stage.SCALAR
        even = StepFactors.even(speed.in_force)
        in_force = in_force if in_force == even else even
    now = CalibrationMemory(
        in_force, stage, kalman, verdict, memory.contradiction, memory.agrees_since, memory.distrusted
    )
    return _judged(now, measured, predict(in_force), at)


@value(frozen=True, slots=True)
class Measured:
    """Mean latencies in seconds; `ttft` without the front end, None where it says nothing about steps."""

    tpot: float
    ttft: float | None = None


def _settled(held: StepFactors, found: StepFactors) -> StepFactors:
    """Return the factors in force: those held while the estimate has not clearly left their cells."""
    moved = StepFactors(
        _cell(held.overhead, found.overhead, GRID.overhead),
        _cell(held.compute, found.compute, GRID.compute),
        _cell(held.memory, found.memory, GRID.memory),
    )
    return held if moved == held else moved


def _cell(held: float, found: float, grid: float) -> float:
    if abs(math.log(found / held)) <= LEAVE_CELL * grid:
        return held
    return math.exp(round(math.log(found) / grid) * grid)


def _judged(
    memory: CalibrationMemory, measured: Measured, predicted: MeanLatency | None, at: float
) -> CalibrationMemory:
    """Compare what is in force with what was measured; what cannot be compared changes nothing."""
    if predicted is None or not 0 < measured.tpot < math.inf:
        return memory
    tpot = measured.tpot / predicted.tpot
    ttft = None if measured.ttft is None or measured.ttft <= 0 else measured.ttft / predicted.ttft
    off = abs(math.log(tpot)) / TPOT_OFF
    if ttft is not None:
        off = max(off, abs(math.log(ttft)) / TTFT_OFF)
    if off > (AGREES if memory.distrusted else 1.0):
        since = at if memory.contradiction is None else memory.contradiction.since
        distrusted = memory.distrusted or at - since >= DISTRUST_AFTER_SECONDS
        return replace(
            memory,
            contradiction=Contradiction(tpot, ttft, since),
            agrees_since=None,
            distrusted=distrusted,
        )
    if not memory.distrusted:
        return memory if memory.contradiction is None else replace(memory, contradiction=None)
    agrees_since = at if memory.agrees_since is None else memory.agrees_since
    if at - agrees_since >= TRUST_AFTER_SECONDS:
        return replace(memory, contradiction=None, agrees_since=None, distrusted=False)
    return replace(memory, agrees_since=agrees_since)
