"""What status shows as learned of an engine, and when a change of it is looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.world import World, chat
from penstock.controller.learned_shown import learned_shown
from penstock.model.resource_status import FactorsShown
from penstock.model.spec import ServiceKey
from penstock.policy.calibration import CalibrationMemory, Stage
from penstock.policy.memory import ServiceMemory
from penstock.policy.speed import SpeedMemory
from penstock.policy.step_factors import StepFactors

FITTED = StepFactors(overhead=1.26, compute=1.08, memory=1.73)


@pytest.mark.parametrize(
    ("stage", "factors"),
    [
        (Stage.PROFILE, None),
        (Stage.SCALAR, None),
        (Stage.FITTED, FactorsShown(1.26, 1.08, 1.73)),
    ],
)
def test_factors_are_shown_once_they_are_fitted(stage: Stage, factors: FactorsShown | None) -> None:
    memory = ServiceMemory(speed=SpeedMemory.restored(1.2), calibration=CalibrationMemory(FITTED, stage))
    shown = learned_shown(memory)
    assert (shown.speed_ratio, shown.factors) == (1.2, factors)


async def test_fitted_factors_are_written_when_they_move_though_nothing_else_does() -> None:
    world = World(rate=lambda _: 20.0, spec=chat(min=2, max=2), target=2)
    await world.run(600)
    state = world.loop.states[ServiceKey("prod", "chat")]

    async def decided_for(factors: StepFactors) -> dict[str, str]:
        state.memory = replace(state.memory, calibration=CalibrationMemory(factors, Stage.FITTED))
        await world.run(90)
        names = ("overheadRatio", "computeRatio", "memoryRatio")
        return {name: world.status["learned"][name] for name in names}

    before = await decided_for(FITTED)
    assert before == {"overheadRatio": "1.26", "computeRatio": "1.08", "memoryRatio": "1.73"}
    after = await decided_for(replace(FITTED, memory=1.44))
    assert after == before | {"memoryRatio": "1.44"}
