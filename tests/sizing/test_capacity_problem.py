from dataclasses import replace

import pytest

from fakes.builders import service
from penstock.model.profiles import profile_named
from penstock.model.spec import (
    AdmissionPolicy,
    AdmissionSpec,
    Balancer,
    Metric,
    Mode,
    Objective,
    RoutingSpec,
    RoutingType,
)
from penstock.policy import beliefs
from penstock.policy.capacity_problem import Engine, solve
from penstock.policy.lengths import LengthMemory, LengthMoments, ShapeCell
from penstock.policy.memory import ServiceMemory

FEW_PLACES = Engine(replace(profile_named("llama-3.1-70b-h100-x2-fp8"), max_sequences=8))
SHORT = LengthMemory(cell=ShapeCell(LengthMoments(400, 1.0), LengthMoments(60, 1.0)))


@pytest.mark.parametrize(
    ("routing", "admission", "replicas"),
    [
        (RoutingType.ENVOY, AdmissionSpec(), 4),
        (RoutingType.ENVOY, AdmissionSpec(mode=Mode.OBSERVE), 4),
        (RoutingType.ENVOY, AdmissionSpec(policy=AdmissionPolicy.OFF), 3),
        (RoutingType.GATEWAY_API, AdmissionSpec(), 3),
        (RoutingType.NONE, AdmissionSpec(), 3),
    ],
)
def test_availability_sizes_a_pool_only_where_requests_are_refused(
    routing: RoutingType, admission: AdmissionSpec, replicas: int
) -> None:
    spec = replace(service(), balancer=Balancer.RANDOM, routing=RoutingSpec(routing), admission=admission)
    problem = beliefs.problem(spec, FEW_PLACES, ServiceMemory(lengths=SHORT))
    assert problem is not None
    assert solve(problem).replicas_for(10.0) == replicas


OUT_OF_REACH = Objective(Metric.TTFT, 0.95, 0.001)


@pytest.mark.parametrize("others", [(), (OUT_OF_REACH,)])
def test_without_an_objective_that_bounds_the_wait_availability_binds_everywhere(
    others: tuple[Objective, ...],
) -> None:
    spec = replace(
        service(objectives=(Objective(Metric.TPOT, 0.95, 0.06), *others)), balancer=Balancer.RANDOM
    )
    problem = beliefs.problem(spec, FEW_PLACES, ServiceMemory(lengths=SHORT))
    assert problem is not None
    table = solve(problem)
    assert len(table.unreachable) == len(others)
    # Else two, nearly saturated: their queue would have no end.
    assert table.saturation_rate_per_second > 6.0
    assert table.replicas_for(12.0) == 3
