import tracemalloc
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
    ServiceTime,
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


@pytest.mark.parametrize(
    ("routing", "policy", "static"),
    [
        (RoutingType.ENVOY, AdmissionPolicy.STATIC, 16),
        (RoutingType.ENVOY, AdmissionPolicy.AUTO, None),
        (RoutingType.NONE, AdmissionPolicy.STATIC, None),  # nothing enforces it
    ],
)
def test_a_static_limit_is_part_of_the_question_where_it_is_enforced(
    routing: RoutingType, policy: AdmissionPolicy, static: int | None
) -> None:
    admission = AdmissionSpec(policy=policy, static_in_flight_per_replica=16)
    spec = replace(service(), routing=RoutingSpec(routing), admission=admission)
    problem = beliefs.problem(spec, FEW_PLACES, ServiceMemory(lengths=SHORT))
    assert problem is not None
    assert problem.static_in_flight == static


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


@pytest.mark.parametrize(
    ("profile", "prompt", "output", "prompt_scv"),
    [
        ("llama-3.1-8b-h100", 4000, 100, 4.0),
        ("llama-3.1-8b-h100", 8000, 300, 2.0),
        ("llama-3.1-8b-h100", 16_000, 100, 1.0),
        ("llama-3.1-8b-h100", 30_000, 300, 1.0),
        ("llama-3.1-70b-h100-x4", 2000, 100, 4.0),
    ],
)
@pytest.mark.parametrize("balancer", [Balancer.RANDOM, Balancer.LEAST_REQUESTS])
def test_prompts_of_any_length_and_spread_can_be_sized(
    profile: str, prompt: float, output: float, prompt_scv: float, balancer: Balancer
) -> None:
    """Just below saturation the chain of such requests knows queues longer than what is replayed."""
    lengths = LengthMemory(cell=ShapeCell(LengthMoments(prompt, prompt_scv), LengthMoments(output, 1.0)))
    slo = service(objectives=(Objective(Metric.TTFT, 0.95, 30.0),))
    spec = replace(slo, balancer=balancer, replicas=replace(slo.replicas, max=4))
    problem = beliefs.problem(spec, Engine(profile_named(profile)), ServiceMemory(lengths=lengths))
    assert problem is not None
    table = solve(problem)
    assert 0 < table.rates[0] <= table.rates[-1] <= table.saturation_rate_per_second
    assert table.unreachable == ()
    assert table.replicas_for(table.max_rate(3)) == 3


@pytest.mark.parametrize("milliseconds", [90, 91, 92, 93, 94])
def test_an_objective_at_the_edge_of_what_is_possible_is_met_or_named(milliseconds: float) -> None:
    """An idle replica meets it at 91 ms; two requests at a time behind a random split do not."""
    tight = Objective(Metric.TTFT, 0.95, milliseconds / 1e3)
    shape = ShapeCell(LengthMoments(1155, 1.0), LengthMoments(211, 1.0))
    problem = beliefs.problem(
        replace(service(objectives=(tight, Objective(Metric.TPOT, 0.95, 0.05))), balancer=Balancer.RANDOM),
        Engine(profile_named("llama-3.1-8b-h100")),
        ServiceMemory(lengths=LengthMemory(cell=shape)),
    )
    assert problem is not None
    table = solve(problem)
    assert table.rates[0] > 0
    assert table.replicas_for(10.0) >= 1
    if milliseconds <= 91:
        (said,) = table.unreachable
        assert said.startswith(f"no replica count meets ttft.p95 <= {milliseconds} ms: the best is 9")


@pytest.mark.parametrize(
    ("mean", "concurrency", "latency", "most"),
    [(0.02, 16, 30.0, 1000), (0.001, 16, 3600.0, 1000), (0.02, 65_536, 30.0, 10_000)],
)
def test_no_legal_service_takes_all_memory(mean: float, concurrency: int, latency: float, most: int) -> None:
    """As chains these were 24 million, 58 thousand million and 10^12 states."""
    problem = beliefs.problem(
        replace(
            service(objectives=(Objective(Metric.LATENCY, 0.95, latency),)),
            replicas=replace(service().replicas, max=most),
            routing=RoutingSpec(RoutingType.ENVOY),
        ),
        Engine(None, ServiceTime(mean, 1.0, concurrency)),
        ServiceMemory(),
    )
    assert problem is not None
    tracemalloc.start()
    try:
        table = solve(problem)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100e6
    assert table.max_rate(1) == pytest.approx(table.saturation_rate_per_second, rel=0.02)


def test_a_service_time_at_the_edge_of_its_objective_is_named_too() -> None:
    spec = service(objectives=(Objective(Metric.LATENCY, 0.99, 0.190),))
    measured = ServiceTime(mean_seconds=0.1, scv=0.1)
    problem = beliefs.problem(
        replace(spec, balancer=Balancer.RANDOM), Engine(None, measured), ServiceMemory()
    )
    assert problem is not None
    table = solve(problem)
    assert len(table.unreachable) == 1
    assert table.replicas_for(3.0) >= 1
