"""All that is remembered of one service from tick to tick; a value that goes in and comes out.

It survives a restart by being rebuilt: rates from a Prometheus range query, learned times and an
emergency floor from status, the rest from a few ticks.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.policy.demand import DemandMemory
from penstock.policy.lead_time import LeadTimeMemory
from penstock.policy.lengths import LengthMemory
from penstock.policy.replicas import ReplicaMemory
from penstock.policy.speed import SpeedMemory

NO_DEMAND, NO_LEAD, NO_SPEED, NO_LENGTHS, NO_REPLICAS = (
    DemandMemory(),
    LeadTimeMemory(),
    SpeedMemory(),
    LengthMemory(),
    ReplicaMemory(),
)


@dataclass(frozen=True, slots=True)
class ServiceMemory:
    """Memory of the estimators and of the replica decision."""

    demand: DemandMemory = NO_DEMAND
    lead: LeadTimeMemory = NO_LEAD
    speed: SpeedMemory = NO_SPEED
    lengths: LengthMemory = NO_LENGTHS
    replicas: ReplicaMemory = NO_REPLICAS
    partial_since: float | None = None  # since when fewer pods report than are ready, Unix seconds

    def with_replicas(self, replicas: ReplicaMemory) -> ServiceMemory:
        """Return the memory after a replica decision."""
        return ServiceMemory(self.demand, self.lead, self.speed, self.lengths, replicas, self.partial_since)
