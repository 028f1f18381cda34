"""Sizing without a model: what replicas carry, from what they are seen to carry.

    rate per replica = measured rate per replica / usage
    usage = max(running/(0.8 c), each measured percentile/its objective where that is above 1)

c is how many sequences a replica can run (slots, or KV room at the measured lengths). In proportion, as
the usual autoscalers do: it knows neither pooling nor how latency bends near saturation, so it serves only
while the model is contradicted by measurements.

A latency inside its objective is no usage: more replicas do not lower the idle part of it, so at a low load
each tick asked for more than was ready (1/s at 0.66 of an objective: 100 replicas). For the same reason a
fall is bounded by what is ready and not by a least usage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from penstock.model.observation import Load, Pool
from penstock.model.spec import Objective, Slo
from penstock.policy.admission_law import AdmissionLaw
from penstock.policy.estimate import Capacity
from penstock.policy.lengths import ShapeCell
from penstock.policy.objectives_condition import measured
from penstock.queueing.engine_profile import EngineProfile

FULL = 0.8
LEAST_SHARE = 0.2  # of the ready replicas: nobody is scaled down further than to a fifth from one look


@dataclass(frozen=True, slots=True)
class SaturationRule:
    """Capacity in proportion to what was measured. Rates per second; `admission` is the last believed one.

    `fewest` is how far one look may scale down.
    """

    rate_per_replica: float
    admission: AdmissionLaw | None
    queue_limit: float
    fewest: int = 1
    unreachable: tuple[str, ...] = ()

    @property
    def saturation_rate_per_second(self) -> float:
        """Return the rate at which one replica would be full."""
        return self.rate_per_replica / FULL

    def replicas_for(self, rate_per_second: float) -> int:
        """Return the fewest replicas that keep usage within bounds."""
        return max(1, self.fewest, math.ceil(rate_per_second / self.rate_per_replica - 1e-9))

    def binding(self, replicas: int, rate_per_second: float) -> str:
        """Return that throughput binds, or that nothing does."""
        return "saturation" if replicas > 1 else "minimum"

    def predict(self, objective: Objective, replicas: int, rate_per_second: float) -> float:
        """Return that latencies are not predicted."""
        return math.nan

    def max_rate(self, replicas: int) -> float:
        """Return the highest rate that is known to be carried, in proportion."""
        return replicas * self.rate_per_replica


def saturation_rule(
    load: Load,
    pool: Pool,
    slo: Slo,
    profile: EngineProfile,
    cell: ShapeCell,
    *,
    solved: Capacity,
) -> SaturationRule | None:
    """Return the rule; None where no replica is ready or nothing is measured.

    `solved` is the model that is contradicted: its limits stay in force, and where nothing is used there is
    no other rate.
    """
    arrival, running, ready = load.arrival_rate.value, load.running.value, pool.ready
    if arrival is None or running is None or ready < 1:
        return None
    context = cell.input.mean + cell.output.mean * (1 + cell.output.scv) / 2
    most = min(float(profile.max_sequences), profile.kv_capacity_tokens / context)
    usage = running / ready / (FULL * most)
    for objective in slo.objectives:
        reading = measured(load, objective)
        if reading is not None and reading.value is not None and reading.value > objective.seconds:
            usage = max(usage, reading.value / objective.seconds)
    in_use = arrival > 0 and usage > 0
    rate = arrival / ready / usage if in_use else FULL * solved.saturation_rate_per_second
    # What waits where nothing is served says no proportion: keep what is ready.
    fewest = ready if arrival <= 0 and load.waiting.value else math.ceil(LEAST_SHARE * ready - 1e-9)
    return SaturationRule(rate, solved.admission, solved.queue_limit, fewest)
