"""All that is remembered of one service from tick to tick; a value that goes in and comes out.

It survives a restart by being rebuilt: rates from a Prometheus range query, learned times and an
emergency floor from status, the rest from a few ticks.
"""

from __future__ import annotations

from penstock.model.value import value
from penstock.policy.admission import AdmissionMemory
from penstock.policy.calibration import CalibrationMemory
from penstock.policy.demand import DemandMemory
from penstock.policy.engine_look import EngineLook
from penstock.policy.fallback import FallbackMemory
from penstock.policy.lead_time import LeadTimeMemory
from penstock.policy.lengths import LengthMemory
from penstock.policy.replicas import ReplicaMemory
from penstock.policy.speed import SpeedMemory

NO_DEMAND, NO_LEAD, NO_SPEED, NO_LENGTHS, NO_REPLICAS, NO_ADMISSION, NO_FALLBACK = (
    DemandMemory(),
    LeadTimeMemory(),
    SpeedMemory(),
    LengthMemory(),
    ReplicaMemory(),
    AdmissionMemory(),
    FallbackMemory(),
)
NO_CALIBRATION = CalibrationMemory()


@value(frozen=True, slots=True)
class ServiceMemory:
    """Memory of the estimators and of the decisions."""

    demand: DemandMemory = NO_DEMAND
    lead: LeadTimeMemory = NO_LEAD
    speed: SpeedMemory = NO_SPEED
    lengths: LengthMemory = NO_LENGTHS
    replicas: ReplicaMemory = NO_REPLICAS
    partial_since: float | None = None  # since when fewer pods report than are ready, Unix seconds
    admission: AdmissionMemory = NO_ADMISSION
    fallback: FallbackMemory = NO_FALLBACK
    calibration: CalibrationMemory = NO_CALIBRATION
    look: EngineLook | None = None  # not compared with the profile yet

    def with_replicas(self, replicas: ReplicaMemory) -> ServiceMemory:
        """Return the memory after a replica decision."""
        return self.with_decisions(replicas, self.admission, self.fallback)

    def with_decisions(
        self, replicas: ReplicaMemory, admission: AdmissionMemory, fallback: FallbackMemory
    ) -> ServiceMemory:
        """Return the memory after all decisions; at every tick, where `replace` costs five times this."""
        return ServiceMemory(
            self.demand,
            self.lead,
            self.speed,
            self.lengths,
            replicas,
            self.partial_since,
            admission,
            fallback,
            self.calibration,
            self.look,
        )
