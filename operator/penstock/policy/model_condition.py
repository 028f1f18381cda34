"""The condition ModelTrusted: which engine the decisions are computed for, and whether it is believed."""

from __future__ import annotations

from functools import lru_cache

from penstock.model.conditions import ConditionType, Finding, Status
from penstock.policy import wording
from penstock.policy.calibration import (
    DISTRUST_AFTER_SECONDS,
    TRUST_AFTER_SECONDS,
    CalibrationMemory,
    Contradiction,
    Stage,
)

MODEL_TRUSTED = ConditionType.MODEL_TRUSTED.value
NO_MODEL = Finding(
    MODEL_TRUSTED,
    Status.UNKNOWN,
    "NotCalibrated",
    "nothing is measured, or engine.serviceTime is given",
)


def model_finding(memory: CalibrationMemory) -> Finding:
    """Return the condition of a service whose engine has a profile."""
    if memory.distrusted and memory.contradiction is not None:
        return _distrusted(memory.contradiction)
    factors = memory.in_force
    return _trusted(memory.stage, factors.overhead, factors.compute, factors.memory)


@lru_cache(maxsize=4096)
def _trusted(stage: Stage, overhead: float, compute: float, memory: float) -> Finding:
    messages = {
        Stage.PROFILE: "the profile's numbers as they are: too little was measured to correct them",
        Stage.SCALAR: f"every step takes {compute:.3g} x as long as the profile says",
        Stage.FITTED: f"of the profile's times, overhead x {overhead:.3g}, "
        f"compute x {compute:.3g}, memory x {memory:.3g}",
    }
    return Finding(MODEL_TRUSTED, Status.TRUE, stage.value, messages[stage])


def _distrusted(found: Contradiction) -> Finding:
    what = f"TPOT is {found.tpot_ratio:.3g} x what the model gives"
    if found.ttft_ratio is not None:
        what += f", TTFT {found.ttft_ratio:.3g} x"
    message = (
        f"{what}, for {wording.span(DISTRUST_AFTER_SECONDS)} and more: replicas follow the measured "
        f"concurrency and latencies until it agrees for {wording.span(TRUST_AFTER_SECONDS)}"
        "; check engine.profile"
    )
    return Finding(MODEL_TRUSTED, Status.FALSE, "Contradicted", message)
