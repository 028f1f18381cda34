"""The question behind a capacity table, as a value: equal questions are solved once for a fleet.

A problem is hashable and picklable, so that tables can be solved in another process and cached.
Objectives that no replica count can meet are left out of the solution and named in it: holding a
service at its present count because one objective is a wish would make the others worse.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from penstock.model.profiles import inline_profile, profile_named
from penstock.model.spec import (
    AdmissionPolicy,
    Balancer,
    EngineSpec,
    ProfileType,
    ServiceSpec,
    ServiceTime,
    Slo,
)
from penstock.policy.capacity_table import CapacityTable, capacity_table
from penstock.policy.feasibility import ObjectiveUnreachable, sized_slo
from penstock.policy.lengths import ShapeCell
from penstock.policy.step_factors import StepFactors, engine_with_factors
from penstock.policy.token_work import output_token_weight
from penstock.queueing.engine_model import EngineModel
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.service_time_model import RequestModel
from penstock.queueing.traffic import TrafficShape

REFERENCE_PROFILE = "llama-3.1-8b-h100"


@dataclass(frozen=True, slots=True)
class Engine:
    """How fast a replica is: a profile's step law, or a measured service time.

    `is_reference`: the profile is a stand-in for one that is to be learned; only its scaled form counts.
    """

    profile: EngineProfile | None
    service_time: ServiceTime | None = None
    is_reference: bool = False
    output_weight: float = field(init=False, compare=False)  # an output token's cost in prompt tokens

    def __post_init__(self) -> None:
        weight = 1.0 if self.profile is None else output_token_weight(self.profile)
        object.__setattr__(self, "output_weight", weight)


@dataclass(frozen=True, slots=True)
class CapacityProblem:
    """What a replica count has to carry within which objectives."""

    engine: Engine
    cell: ShapeCell | None
    factors: StepFactors
    slo: Slo
    balancer: Balancer
    max_replicas: int
    turns_away: bool  # whether requests beyond a limit are refused, see `ServiceSpec.turns_away`
    static_in_flight: int | None = None  # that limit per replica; None: the model's c* + q


def static_limit(spec: ServiceSpec) -> int | None:
    """Return the user's own limit of requests in flight per replica where gateways enforce it."""
    static = spec.turns_away and spec.admission.policy is AdmissionPolicy.STATIC
    return spec.admission.static_in_flight_per_replica if static else None


def resolve_engine(spec: EngineSpec) -> Engine:
    """Return the engine that the spec describes; raises `UnknownProfile` with the closest names."""
    if spec.service_time is not None:
        return Engine(None, spec.service_time)
    if spec.profile_type is ProfileType.INLINE and spec.inline is not None:
        profile = inline_profile(spec.inline)
    elif spec.profile_type is ProfileType.NAMED:
        profile = profile_named(spec.profile_name)
    else:
        profile = profile_named(REFERENCE_PROFILE)
    profile = replace(profile, max_sequences=min(profile.max_sequences, spec.max_concurrency))
    return Engine(profile, is_reference=spec.profile_type is ProfileType.LEARNED)


def engine_model(problem: CapacityProblem) -> EngineModel:
    """Return the model of one replica for the problem's engine, speed and traffic."""
    engine, cell = problem.engine, problem.cell
    if engine.service_time is not None:
        measured = engine.service_time
        return RequestModel(
            mean_seconds=measured.mean_seconds,
            scv=measured.scv,
            concurrency=measured.concurrency,
            max_batch=measured.max_batch,
            batch_scaling_ratio=measured.batch_scaling_ratio,
        )
    if engine.profile is None or cell is None:
        raise ValueError("a token engine needs a profile and a traffic shape")
    shape = TrafficShape.lognormal(
        cell.input.mean, cell.output.mean, input_scv=cell.input.scv, output_scv=cell.output.scv
    )
    return ReplicaModel(engine_with_factors(engine.profile, problem.factors), shape)


def solve(problem: CapacityProblem) -> CapacityTable:
    """Solve a problem; takes about a second of one core."""
    model, slo, unreachable = engine_model(problem), problem.slo, []
    while True:
        try:
            table = capacity_table(
                model,
                sized_slo(slo, turns_away=problem.turns_away),
                balancer=problem.balancer,
                max_replicas=problem.max_replicas,
                turns_away=problem.turns_away,
                static_in_flight=problem.static_in_flight,
            )
        except ObjectiveUnreachable as error:
            unreachable.append(str(error))
            rest = tuple(each for each in slo.objectives if each.name != error.objective)
            if len(rest) == len(slo.objectives):
                raise
            slo = replace(slo, objectives=rest)
        else:
            return table.without(tuple(unreachable))
