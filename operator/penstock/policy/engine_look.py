"""One look at a service's engines, and what comparing it with their profile teaches.

Looking is cheap and done in the tick; comparing takes the filter a dozen times as long, and the decision of
that tick does not wait for it: it is done before the next one, in the gap between both where there is one.
"""

from __future__ import annotations

from penstock.model.observation import Load, Observation, Pool
from penstock.model.spec import Balancer
from penstock.model.value import value
from penstock.policy.calibration import CalibrationMemory, Measured, observe_engine
from penstock.policy.lengths import ShapeCell
from penstock.policy.mean_latency import (
    MeanLatency,
    ReplicaLoad,
    expected_step_seconds,
    mean_latency,
    replica_load,
)
from penstock.policy.speed import SpeedMemory, observe_speed
from penstock.policy.step_factors import StepFactors
from penstock.queueing.engine_profile import EngineProfile

MOST_WAITING = 0.5  # requests a replica, beyond which TTFT is that of the queue


@value(frozen=True, slots=True)
class EngineLook:
    """What was measured at `at` (Unix seconds) under which load; one of them in `every_seconds`."""

    at: float
    load: ReplicaLoad
    measured: Measured
    every_seconds: float


def look_at(
    profile: EngineProfile | None,
    seen: Observation,
    cell: ShapeCell,
    balancer: Balancer,
    *,
    every_seconds: float,
) -> EngineLook | None:
    """Return the measured means with the load they belong to; None where one of both is not known."""
    load, pool = seen.load, seen.pool
    tpot = load.tpot_mean.value
    if profile is None or pool is None or tpot is None or silent_pods(load, pool):
        return None
    replica = replica_load(load, cell, pool.ready, balancer)
    if replica is None:
        return None
    ttft, waiting = load.ttft_mean.value, load.waiting.value
    if ttft is not None and (waiting is None or waiting > MOST_WAITING * pool.ready):
        ttft = None  # it holds the queue, which is no property of the engine
    measured = Measured(tpot, None if ttft is None else ttft - profile.frontend_seconds)
    return EngineLook(seen.at, replica, measured, every_seconds)


def compare(
    profile: EngineProfile, look: EngineLook, speed: SpeedMemory, calibration: CalibrationMemory
) -> tuple[SpeedMemory, CalibrationMemory]:
    """Compare measured means with the profile's at the same batch; return what both estimators know then."""
    law, tpot = profile.step_law, look.measured.tpot

    def predict(factors: StepFactors) -> MeanLatency | None:
        return mean_latency(law, look.load, factors)

    expected = expected_step_seconds(law, look.load, tpot)
    speed = observe_speed(speed, measured_seconds=tpot, expected_seconds=expected, at=look.at)
    calibration = observe_engine(
        calibration, speed, look.measured, predict, look.at, every_seconds=look.every_seconds
    )
    return speed, calibration


def silent_pods(load: Load, pool: Pool) -> bool:
    """Whether fewer pods report than are ready."""
    reporting = load.reporting_pods.value
    return reporting is not None and reporting < pool.ready
