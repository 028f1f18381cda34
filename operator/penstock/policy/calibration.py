"""Which engine the model is solved for: the profile, the profile at a measured speed, or fitted factors.

    PROFILE --half a minute of step times--> SCALAR --20 windows taken--> FITTED
                                               ^---10 refused, or out of sight---'
    any --contradicted for 15 min--> not trusted --agrees for 5 min--> trusted again

The scalar (``policy/speed.py``) is right at once when the engine is slower as a whole; the filter
(``policy/kalman.py``) when it is not, after a quarter of an hour. Factors in force sit on a grid, 8 % on
overhead and arithmetic, 20 % on memory, which is hardly seen, and move when the estimate has clearly left
their cell: each change costs a solved table. Contradicted: TPOT off by half, or TTFT by two. Behind a queue
TTFT is not measured: then nothing is learned of a contradiction by it, and old looks do not count as time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from penstock.model.value import value
from penstock.policy.kalman import FilterMemory, Predict, Verdict, observe_latency
from penstock.policy.mean_latency import MeanLatency
from penstock.policy.speed import SPEED_EVERY_SECONDS, SpeedMemory
from penstock.policy.step_factors import AS_PROFILED, StepFactors

FEWEST_TAKEN = 20
MOST_REFUSED = 10
# Looks without an observation, as behind a queue; after them the scalar, which still learns, may overrule.
MOST_BLIND = 10
FIT_OFF = math.log(1.2)
GRID = StepFactors(math.log(1.08), math.log(1.08), math.log(1.2))
LEAVE_CELL = 0.8  # in cells; 0.5 is the border, the rest is hysteresis
TPOT_OFF, TTFT_OFF = math.log(1.5), math.log(2.0)
AGREES = 0.8  # of those: to be trusted again the model must be closer than where it was lost
DISTRUST_AFTER_SECONDS = 900.0
TRUST_AFTER_SECONDS = 300.0
LONGEST_GAP_LOOKS = 4.0  # between comparisons: two that are 14 h apart are no quarter of an hour


class Stage(StrEnum):
    """What the numbers in force rest on."""

    PROFILE = "Profile"
    SCALAR = "Scalar"
    FITTED = "Fitted"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """How far the model is off: measured over predicted, and since when (Unix seconds).

    `ttft_ratio` is the last that was measured.
    """

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
    blind: int = 0  # looks in a row that taught the filter nothing
    compared_at: float = -math.inf  # when what is said of agreement was last compared

    @classmethod
    def restored(cls, ratio: float) -> CalibrationMemory:
        """Return the memory after a restart, from the ratio that was in force; the rest is learned anew."""
        return cls(StepFactors.even(ratio), Stage.SCALAR)


def observe_engine(
    memory: CalibrationMemory,
    speed: SpeedMemory,
    measured: Measured,
    predict: Predict,
    at: float,
    *,
    every_seconds: float = SPEED_EVERY_SECONDS,
) -> CalibrationMemory:
    """Take in one pair of measured means, of which there is one in `every_seconds`.

    `predict` answers what factors would show under the same load.
    """
    kalman, verdict, blind = memory.filter, memory.verdict, memory.blind + 1
    if kalman is None and speed.believed:
        kalman = FilterMemory.begun(math.exp(speed.log_ratio))
    if kalman is not None and measured.ttft is not None:
        kalman, verdict = observe_latency(kalman, MeanLatency(measured.ttft, measured.tpot), predict)
        blind = 0 if verdict is Verdict.TAKEN else blind
        if kalman.refused >= MOST_REFUSED:
            # Another engine than the one that was fitted: begin again from what is sure.
            kalman = FilterMemory.begun(math.exp(speed.log_ratio))
    if blind >= MOST_BLIND and memory.stage is Stage.FITTED and _is_overruled(memory, speed, predict):
        kalman = FilterMemory.begun(math.exp(speed.log_ratio))
    stage, in_force = memory.stage, memory.in_force
    if kalman is not None and kalman.taken >= FEWEST_TAKEN:
        stage, in_force = Stage.FITTED, _settled(in_force, kalman.factors)
    elif speed.believed:
        stage = Stage.SCALAR
        even = StepFactors.even(speed.in_force)
        in_force = in_force if in_force == even else even
    now = CalibrationMemory(
        in_force,
        stage,
        kalman,
        verdict,
        memory.contradiction,
        memory.agrees_since,
        memory.distrusted,
        blind,
        memory.compared_at,
    )
    longest_gap_seconds = LONGEST_GAP_LOOKS * every_seconds
    return _judged(now, measured, predict(in_force), at, longest_gap_seconds=longest_gap_seconds)


@value(frozen=True, slots=True)
class Measured:
    """Mean latencies in seconds; `ttft` without the front end, None where it says nothing about steps."""

    tpot: float
    ttft: float | None = None


def _is_overruled(memory: CalibrationMemory, speed: SpeedMemory, predict: Predict) -> bool:
    """Whether the factors in force give another TPOT than an engine at the scalar's speed."""
    fitted, scalar = predict(memory.in_force), predict(StepFactors.even(math.exp(speed.log_ratio)))
    return fitted is not None and scalar is not None and abs(math.log(scalar.tpot / fitted.tpot)) > FIT_OFF


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
    memory: CalibrationMemory,
    measured: Measured,
    predicted: MeanLatency | None,
    at: float,
    *,
    longest_gap_seconds: float,
) -> CalibrationMemory:
    """Compare what is in force with what was measured; what cannot be compared changes nothing."""
    if predicted is None or not 0 < measured.tpot < math.inf:
        return memory
    tpot = measured.tpot / predicted.tpot
    ttft = None if measured.ttft is None or measured.ttft <= 0 else measured.ttft / predicted.ttft
    most, standing = AGREES if memory.distrusted else 1.0, memory.contradiction
    off = abs(math.log(tpot)) / TPOT_OFF
    if ttft is not None:
        off = max(off, _ttft_off(ttft))
    elif off <= most and standing is not None and _ttft_off(standing.ttft_ratio) > most:
        return memory
    goes_on = at - memory.compared_at <= longest_gap_seconds
    if off > most:
        since = standing.since if standing is not None and goes_on else at
        if ttft is None and standing is not None:
            ttft = standing.ttft_ratio
        distrusted = memory.distrusted or at - since >= DISTRUST_AFTER_SECONDS
        return replace(
            memory,
            contradiction=Contradiction(tpot, ttft, since),
            agrees_since=None,
            distrusted=distrusted,
            compared_at=at,
        )
    if not memory.distrusted:
        return memory if standing is None else replace(memory, contradiction=None)
    agrees_since = memory.agrees_since if memory.agrees_since is not None and goes_on else at
    if at - agrees_since >= TRUST_AFTER_SECONDS:
        return replace(memory, contradiction=None, agrees_since=None, distrusted=False)
    return replace(memory, agrees_since=agrees_since, compared_at=at)


def _ttft_off(ratio: float | None) -> float:
    """Return how far TTFT is off, 1 where that is too far; 0 where none was measured."""
    return 0.0 if ratio is None else abs(math.log(ratio)) / TTFT_OFF
