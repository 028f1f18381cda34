"""Sizing without a model: what replicas carry, from what they are seen to carry.

    rate per replica = measured rate per replica / usage
    usage = max(running/(0.8 c), each measured percentile/its objective), at least 0.2

c is how many sequences a replica can run (slots, or KV room at the measured lengths). In proportion, as
the usual autoscalers do: it knows neither pooling nor how latency bends near saturation, so it serves only
while the model is contradicted by measurements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from penstock.model.observation import Load, Pool
from penstock.model.spec import Metric, Objective, Slo
from penstock.policy.admission_law import AdmissionLaw
from penstock.policy.lengths import ShapeCell
from penstock.queueing.engine_profile import EngineProfile

FULL = 0.8
LEAST_USAGE = 0.2  # nobody is scaled down to a fifth from one look


@dataclass(frozen=True, slots=True)
class SaturationRule:
    """Capacity in proportion to what was measured. Rates per second; `admission` is the last believed one."""

    rate_per_replica: float
    admission: AdmissionLaw | None
    queue_limit: float
    unreachable: tuple[str, ...] = ()

    @property
    def saturation_rate_per_second(self) -> float:
        """Return the rate at which one replica would be full."""
        return self.rate_per_replica / FULL

    def replicas_for(self, rate_per_second: float) -> int:
        """Return the fewest replicas that keep usage within bounds."""
        return max(1, math.ceil(rate_per_second / self.rate_per_replica - 1e-9))

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
    admission: AdmissionLaw | None,
    queue_limit: float,
) -> SaturationRule | None:
    """Return the rule; None where nothing is served or measured."""
    arrival, running = load.arrival_rate.value, load.running.value
    if not arrival or running is None or pool.ready < 1:
        return None
    context = cell.input.mean + cell.output.mean * (1 + cell.output.scv) / 2
    most = min(float(profile.max_sequences), profile.kv_capacity_tokens / context)
    usage = max(LEAST_USAGE, running / pool.ready / (FULL * most))
    for objective in slo.objectives:
        family = {Metric.TTFT: load.ttft, Metric.TPOT: load.tpot, Metric.LATENCY: load.latency}
        reading = family[objective.metric].get(objective.percentile)
        if reading is not None and reading.value is not None:
            usage = max(usage, reading.value / objective.seconds)
    return SaturationRule(arrival / pool.ready / usage, admission, queue_limit)
