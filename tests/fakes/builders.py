"""One-line builders for the values that tests are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

from penstock.model.observation import Load, Observation, Pool
from penstock.model.reading import Reading
from penstock.model.spec import Metric, Mode, Objective, ReplicaSpec, ServiceKey, ServiceSpec, Slo, TargetRef
from penstock.policy.admission_law import AdmissionLaw
from penstock.policy.demand import Demand
from penstock.policy.estimate import Estimate

TTFT_500MS = Objective(Metric.TTFT, 0.95, 0.5)


def service(
    *, mode: Mode = Mode.ENFORCE, objectives: tuple[Objective, ...] = (TTFT_500MS,), **replicas: object
) -> ServiceSpec:
    """A service ``prod/chat``; keyword arguments are fields of ReplicaSpec."""
    fields: dict[str, object] = {"min": 1, "max": 20, "scale_down_window_seconds": 300.0} | replicas
    return ServiceSpec(
        key=ServiceKey("prod", "chat"),
        uid="u-1",
        generation=1,
        mode=mode,
        target=TargetRef("apps", "Deployment", "chat"),
        service=None,
        model_names=("m",),
        slo=Slo(objectives),
        replicas=ReplicaSpec(**fields),  # type: ignore[arg-type]
    )


def pool(target: int, *, ready: int | None = None, **fields: object) -> Pool:
    """A pool with `target` replicas, all ready unless said otherwise."""
    return Pool(target=target, current=target, ready=target if ready is None else ready, **fields)  # type: ignore[arg-type]


def seen(at: float, of: Pool | None, *, conflict: str = "", load: Load | None = None) -> Observation:
    """An observation at a time."""
    return Observation(at=at, load=load or Load(arrival_rate=Reading(1.0)), pool=of, conflict=conflict)


@dataclass(frozen=True)
class LinearCapacity:
    """Each replica carries `per_replica` requests a second; TTFT is 100 ms x load/capacity."""

    per_replica: float = 4.0
    admission: AdmissionLaw | None = None

    def replicas_for(self, rate_per_second: float) -> int:
        return max(1, math.ceil(rate_per_second / self.per_replica - 1e-9))

    def binding(self, replicas: int, rate_per_second: float) -> str:
        return "ttft.p95" if rate_per_second > self.per_replica else "minimum"

    def predict(self, objective: Objective, replicas: int, rate_per_second: float) -> float:
        return objective.seconds * rate_per_second / (self.per_replica * replicas)

    def max_rate(self, replicas: int) -> float:
        return self.per_replica * replicas


def estimate(offered: float, *, rise: float = 0.0, lead: float = 120.0, **fields: object) -> Estimate:
    """An estimate of a service whose replicas carry 4 requests a second each."""
    defaults: dict[str, object] = {"capacity": LinearCapacity()}
    return Estimate(demand=Demand(offered, rise, lead), **(defaults | fields))  # type: ignore[arg-type]


def blind(missing: str = "the query for arrival_rate matched no series") -> Estimate:
    """An estimate without data."""
    return Estimate(demand=None, capacity=None, missing=missing)
