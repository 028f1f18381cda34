import pickle
import time
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.model.profiles import profile_named
from penstock.model.spec import Metric, Objective, Slo
from penstock.policy.capacity_table import CapacityTable, capacity_table
from penstock.policy.feasibility import ObjectiveUnreachable
from penstock.policy.sizing import size
from penstock.queueing.balancer import Balancer
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.service_time_model import RequestModel
from penstock.queueing.traffic import TrafficShape

TTFT_500 = Objective(Metric.TTFT, 0.95, 0.5)
TPOT_30 = Objective(Metric.TPOT, 0.95, 0.03)
SLO = Slo((TTFT_500, TPOT_30))


@cache
def chat() -> ReplicaModel:
    return ReplicaModel(profile_named("llama-3.1-8b-h100"), TrafficShape.lognormal(1155, 211))


@cache
def table(balancer: Balancer = Balancer.LEAST_REQUESTS, most: int = 64) -> CapacityTable:
    return capacity_table(chat(), SLO, balancer=balancer, max_replicas=most)


@pytest.mark.parametrize("rate", [3.0, 30.0, 110.0])
@pytest.mark.parametrize("balancer", [Balancer.RANDOM, Balancer.LEAST_REQUESTS])
def test_the_table_sizes_like_the_model(rate: float, balancer: Balancer) -> None:
    exact = size(chat(), SLO, rate, balancer=balancer)
    assert abs(table(balancer).replicas_for(rate) - exact.replicas) <= max(0, exact.replicas // 8)
    predicted = table(balancer).predict(TTFT_500, exact.replicas, rate)
    assert exact.prediction.ttft is not None
    assert predicted == pytest.approx(exact.prediction.ttft.p95, rel=0.12)
    predicted = table(balancer).predict(TPOT_30, exact.replicas, rate)
    assert exact.prediction.tpot is not None
    assert predicted == pytest.approx(exact.prediction.tpot.p95, rel=0.12)


@given(rate=st.floats(0.1, 2000), factor=st.floats(1, 3), balancer=st.sampled_from(list(Balancer)))
@settings(max_examples=200, deadline=None)
def test_more_load_never_needs_fewer(rate: float, factor: float, balancer: Balancer) -> None:
    assert table(balancer).replicas_for(rate) <= table(balancer).replicas_for(factor * rate)


@given(rate=st.floats(0.1, 900))
@settings(max_examples=200, deadline=None)
def test_the_count_carries_the_rate_and_one_fewer_does_not(rate: float) -> None:
    count = table().replicas_for(rate)
    assert table().max_rate(count) >= rate
    assert count == 1 or table().max_rate(count - 1) < rate


@given(
    replicas=st.integers(1, 80),
    load=st.floats(0.01, 0.97),
    objective=st.sampled_from(SLO.objectives),
    balancer=st.sampled_from(list(Balancer)),
)
@example(replicas=16, load=0.015625, objective=SLO.objectives[1], balancer=Balancer.POWER_OF_TWO)
@settings(max_examples=200, deadline=None)
def test_more_load_is_never_faster_and_more_replicas_never_slower(
    replicas: int, load: float, objective: Objective, balancer: Balancer
) -> None:
    solved = table(balancer)
    rate = load * replicas * solved.saturation_rate_per_second
    now = solved.predict(objective, replicas, rate)
    assert now > 0
    assert solved.predict(objective, replicas, 1.02 * rate) >= now
    assert solved.predict(objective, replicas + 1, rate) <= now


def test_what_holds_is_below_the_objective_and_what_breaks_above() -> None:
    rate = 100.0
    count = table().replicas_for(rate)
    assert table().broken(count, rate) is None
    assert all(table().predict(each, count, rate) <= each.seconds for each in SLO.objectives)
    binding = table().binding(count, rate)
    assert binding == table().broken(count - 1, rate)
    assert binding in {"tpot.p95", "ttft.p95", "availability", "saturation"}


@pytest.mark.parametrize(
    ("replicas", "rate", "binding"), [(1, 2.0, "minimum"), (2, 60.0, "saturation"), (2, 30.0, "saturation")]
)
def test_what_binds_is_named(replicas: int, rate: float, binding: str) -> None:
    assert table().binding(replicas, rate) == binding


def test_beyond_the_largest_pool_the_rate_per_replica_stays() -> None:
    most = table().max_rate(64) / 64
    assert table().max_rate(640) == pytest.approx(640 * most)
    assert table().replicas_for(1000 * most) == 1000


def test_saturated_replicas_are_infinitely_late() -> None:
    assert table().predict(TTFT_500, 2, 42.0) == float("inf")
    assert table().predict(TTFT_500, 0, 1.0) == float("inf")
    assert table().max_rate(0) == 0.0


def test_an_objective_the_table_was_not_solved_for_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"latency\.p99"):
        table().predict(Objective(Metric.LATENCY, 0.99, 1.0), 1, 1.0)


def test_an_unreachable_objective_is_raised_and_can_be_left_out() -> None:
    wish = Objective(Metric.TTFT, 0.95, 0.02)
    with pytest.raises(ObjectiveUnreachable) as raised:
        capacity_table(chat(), Slo((wish, TPOT_30)), balancer=Balancer.RANDOM, max_replicas=8)
    assert raised.value.objective == "ttft.p95"
    rest = capacity_table(chat(), Slo((TPOT_30,)), balancer=Balancer.RANDOM, max_replicas=8)
    assert rest.without((str(raised.value),)).unreachable == (str(raised.value),)


def test_a_table_is_small_and_crosses_a_process_boundary() -> None:
    content = pickle.dumps(table())
    assert len(content) < 10_000
    assert pickle.loads(content) == table()


def test_a_table_answers_in_microseconds() -> None:
    solved = table()
    best = min(_seconds_for(lambda: solved.replicas_for(87.0), 2000) for _ in range(5))
    assert best < 50e-6  # about 3 on an idle core


def test_a_table_for_64_replicas_is_solved_in_seconds() -> None:
    started = time.process_time()
    capacity_table(chat(), SLO, balancer=Balancer.LEAST_REQUESTS, max_replicas=64)
    assert time.process_time() - started < 4.0  # 1 s on an idle core


def test_an_slo_of_availability_alone_is_solved() -> None:
    solved = capacity_table(chat(), Slo((), 0.999), balancer=Balancer.RANDOM, max_replicas=4)
    # Without a latency objective a whole batch may wait, so nothing is shed below saturation.
    assert solved.max_rate(1) == pytest.approx(solved.saturation_rate_per_second, rel=0.01)
    assert solved.binding(2, 1.01 * solved.saturation_rate_per_second) == "saturation"


def test_a_request_service_has_a_table_too() -> None:
    objective = Objective(Metric.LATENCY, 0.99, 0.050)
    model = RequestModel(0.005, 0.1)
    solved = capacity_table(model, Slo((objective,), 0.99), balancer=Balancer.LEAST_REQUESTS, max_replicas=16)
    assert (
        solved.replicas_for(500.0)
        == size(model, Slo((objective,), 0.99), 500.0, balancer=Balancer.LEAST_REQUESTS).replicas
    )


def _seconds_for(call: object, times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        call()  # type: ignore[operator]
    return (time.perf_counter() - started) / times
