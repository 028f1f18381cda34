"""A profile that is replaced: what was learned of the old one does not correct the new one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fakes.world import chat
from penstock.controller.cache import FleetCache
from penstock.controller.service_state import ServiceState
from penstock.controller.step import StepContext, prepare
from penstock.controller.tables import CapacityTables
from penstock.model.spec import ServiceKey
from penstock.policy.beliefs import LoopTimes
from penstock.policy.calibration import CalibrationMemory
from penstock.policy.memory import NO_CALIBRATION, NO_SPEED, ServiceMemory
from penstock.policy.speed import SpeedMemory

LEARNED = ServiceMemory(speed=SpeedMemory.restored(3.0), calibration=CalibrationMemory.restored(3.0))
CONTEXT = StepContext(FleetCache(), CapacityTables(lambda: ThreadPoolExecutor(1)), LoopTimes())


def prepared(state: ServiceState, generation: int, profile: str, **replicas: Any) -> None:
    """Let a generation of the spec become the one in force."""
    spec = chat(**replicas)
    spec["engine"]["profile"]["name"] = profile
    about = {"namespace": "prod", "name": "chat", "uid": "u", "resourceVersion": str(generation)}
    CONTEXT.cache.see_service({"metadata": about | {"generation": generation}, "spec": spec})
    known = CONTEXT.cache.services[ServiceKey("prod", "chat")]
    prepare(CONTEXT, known, state)


def test_factors_of_one_profile_do_not_correct_another() -> None:
    state = ServiceState(uid="u", memory=LEARNED)
    prepared(state, 1, "llama-3.1-8b-h100")
    assert state.memory is LEARNED, "a restart begins with what status says of this profile"
    prepared(state, 2, "llama-3.1-8b-h100", max=20)
    assert state.memory is LEARNED
    prepared(state, 3, "llama-3.1-8b-a100")
    assert (state.memory.speed, state.memory.calibration) == (NO_SPEED, NO_CALIBRATION)


@pytest.mark.parametrize("after", ["llama-3.1-8b-h100", "llama-3.1-8b-a100"])
def test_a_profile_that_is_not_found_in_between_forgets_too(after: str) -> None:
    state = ServiceState(uid="u", memory=LEARNED)
    for generation, profile in enumerate(("llama-3.1-8b-h100", "no-such-profile", after), start=1):
        prepared(state, generation, profile)
    assert state.memory.speed is NO_SPEED
