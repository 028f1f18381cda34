"""What status shows as learned of a workload: start-up times, the engine's speed, lengths of requests."""

from __future__ import annotations

from penstock.model.resource_status import FactorsShown, Learned, LengthsShown
from penstock.policy.calibration import CalibrationMemory, Stage
from penstock.policy.lead_time import measured_starts
from penstock.policy.lengths import ShapeCell
from penstock.policy.memory import ServiceMemory


def learned_shown(memory: ServiceMemory) -> Learned:
    """Return what was measured so far; None for what was not."""
    warm, new_node = measured_starts(memory.lead)
    return Learned(
        warm,
        new_node,
        memory.speed.in_force if memory.speed.believed else None,
        _lengths(memory.lengths.cell),
        _factors(memory.calibration),
    )


def engine_numbers(memory: CalibrationMemory) -> tuple[float, float, float]:
    """Return the factors that decisions are computed for: they sit on a grid and move seldom."""
    return memory.in_force.overhead, memory.in_force.compute, memory.in_force.memory


def _lengths(cell: ShapeCell | None) -> LengthsShown | None:
    """Return the lengths of requests that decisions are computed for; None until they are known."""
    if cell is None:
        return None
    return LengthsShown(cell.input.mean, cell.input.scv, cell.output.mean, cell.output.scv)


def _factors(memory: CalibrationMemory) -> FactorsShown | None:
    """Return the fitted factors; None while the one speed stands for all three."""
    if memory.stage is not Stage.FITTED:
        return None
    return FactorsShown(*engine_numbers(memory))
