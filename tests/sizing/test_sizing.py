import math
import pickle
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.model.profiles import profile_named
from penstock.model.spec import Metric, Objective, Slo
from penstock.policy.admission_law import queue_per_endpoint
from penstock.policy.capacity_table import capacity_table
from penstock.policy.feasibility import (
    Limits,
    ObjectiveUnreachable,
    admission_limits,
    enforced_limits,
    percentile,
)
from penstock.policy.sizing import evaluate, size, size_trace
from penstock.queueing.balancer import Arrivals, Balancer
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.service_time_model import RequestModel
from penstock.queueing.traffic import TrafficShape

TTFT_500 = Objective(Metric.TTFT, 0.95, 0.5)
TPOT_30 = Objective(Metric.TPOT, 0.95, 0.03)
LEAST = Balancer.LEAST_REQUESTS


@cache
def chat() -> ReplicaModel:
    return ReplicaModel(profile_named("llama-3.1-8b-h100"), TrafficShape.lognormal(1155, 211))


def test_admission_and_sizing_share_their_limits() -> None:
    limits = admission_limits(chat(), Slo((TTFT_500, TPOT_30)))
    assert limits.running == chat().running_limit(0.03)
    assert limits.queue == chat().queue_limit(limits.running, 0.5)
    sizing = size(chat(), Slo((TTFT_500, TPOT_30)), 20.0, balancer=LEAST)
    assert Limits(sizing.running_limit, sizing.queue_limit) == enforced_limits(limits)
    assert enforced_limits(limits) == Limits(limits.running, queue_per_endpoint(limits.queue))


@pytest.mark.parametrize(
    ("prompt", "output", "scv", "objective"),
    [
        (1155, 211, 1.0, Objective(Metric.LATENCY, 0.95, 15.0)),
        (1155, 211, 1.0, Objective(Metric.LATENCY, 0.99, 25.0)),
        (2000, 300, 3.0, Objective(Metric.LATENCY, 0.95, 40.0)),
    ],
)
def test_a_latency_objective_alone_is_kept_in_an_overload(
    prompt: float, output: float, scv: float, objective: Objective
) -> None:
    model = ReplicaModel(profile_named("llama-3.1-8b-h100"), TrafficShape.lognormal(prompt, output, scv))
    limits = enforced_limits(admission_limits(model, Slo((objective,))))
    assert limits.running < model.running_limit(None)
    rate = 1.2 * 4 * model.completion_rate(limits.running)
    pool = model.pool(4, rate, balancer=LEAST, running_limit=limits.running, queue_limit=limits.queue)
    assert pool.shed_fraction == pytest.approx(1 - 1 / 1.2, abs=0.01)
    assert 0.8 * objective.seconds < pool.latency.quantile(objective.percentile) <= objective.seconds


def test_the_tightest_of_latency_and_tpot_limits_what_runs() -> None:
    latency = Objective(Metric.LATENCY, 0.95, 15.0)
    alone = admission_limits(chat(), Slo((latency,)))
    assert admission_limits(chat(), Slo((TPOT_30, latency))).running == alone.running
    assert admission_limits(chat(), Slo((TTFT_500, latency))).queue <= alone.queue
    loose = Objective(Metric.LATENCY, 0.95, 600.0)
    assert admission_limits(chat(), Slo((TTFT_500, TPOT_30, loose))) == admission_limits(
        chat(), Slo((TTFT_500, TPOT_30))
    )


@pytest.mark.parametrize(
    ("static", "enforced"), [(16, Limits(16, 0)), (92, Limits(92, 0)), (100, Limits(92, 8))]
)
def test_a_static_limit_takes_the_place_of_both(static: int, enforced: Limits) -> None:
    assert enforced_limits(Limits(92, 3), static) == enforced


@pytest.mark.parametrize("static", [16, 40])
def test_a_static_limit_is_sized_for(static: int) -> None:
    """By the model's own limits two carried 30/s; with 16 in flight each they turned away half."""
    slo = Slo((TTFT_500, TPOT_30))
    sizing = size(chat(), slo, 30.0, balancer=LEAST, static_in_flight=static)
    assert sizing.running_limit + sizing.queue_limit == static
    assert sizing.replicas > size(chat(), slo, 30.0, balancer=LEAST).replicas
    assert sizing.binding == "availability"
    assert sizing.shed_fraction <= 0.005
    table = capacity_table(chat(), slo, balancer=LEAST, max_replicas=16, static_in_flight=static)
    assert abs(table.replicas_for(30.0) - sizing.replicas) <= 1
    assert table.admission.running + table.admission.queued == static
    assert table.admission.shed_ratio(table.replicas_for(30.0), 30.0) <= 0.005 + 0.002


def test_the_tightest_objective_of_a_metric_sets_the_limit() -> None:
    loose = Objective(Metric.TPOT, 0.5, 0.050)
    assert admission_limits(chat(), Slo((loose, TPOT_30))) == admission_limits(chat(), Slo((TPOT_30,)))


@pytest.mark.parametrize("balancer", [Balancer.RANDOM, Balancer.LEAST_REQUESTS])
@pytest.mark.parametrize("rate", [6.0, 55.0])
def test_the_count_holds_and_one_fewer_does_not(rate: float, balancer: Balancer) -> None:
    slo = Slo((TTFT_500, TPOT_30))
    sizing = size(chat(), slo, rate, balancer=balancer)
    assert sizing.feasible
    for objective in slo.objectives:
        assert percentile(sizing.prediction, objective) <= objective.seconds  # type: ignore[operator]
    assert sizing.shed_fraction <= 1 - slo.availability_ratio
    if sizing.replicas > 1:
        fewer = evaluate(chat(), slo, rate, sizing.replicas - 1, balancer=balancer)
        assert not fewer.feasible
        assert sizing.binding == fewer.binding
    else:
        assert sizing.binding == "minimum"


@pytest.mark.parametrize(
    ("objectives", "availability", "replicas", "rate", "binding"),
    [
        ((TTFT_500, TPOT_30), 0.995, 1, 5.0, "minimum"),
        ((TTFT_500, TPOT_30), 0.995, 2, 60.0, "saturation"),
        ((TTFT_500, TPOT_30), 0.995, 2, 38.0, "tpot.p95"),
        ((Objective(Metric.TTFT, 0.95, 0.15),), 0.995, 2, 34.0, "ttft.p95"),
        ((Objective(Metric.LATENCY, 0.99, 12.0),), 0.995, 2, 34.0, "latency.p99"),
        ((TTFT_500, Objective(Metric.TPOT, 0.5, 0.030)), 0.999999, 2, 34.0, "availability"),
    ],
)
def test_what_binds_is_named(
    objectives: tuple[Objective, ...], availability: float, replicas: int, rate: float, binding: str
) -> None:
    sizing = evaluate(chat(), Slo(objectives, availability), rate, replicas, balancer=LEAST)
    assert sizing.binding == binding


def test_spare_replicas_are_added_and_not_counted_on() -> None:
    slo = Slo((TTFT_500,))
    sizing, with_spare = (size(chat(), slo, 30.0, balancer=LEAST, spare=spare) for spare in (0, 2))
    assert with_spare.replicas_with_spare == sizing.replicas + 2
    assert with_spare.prediction == sizing.prediction


def test_the_highest_rate_per_replica_holds_the_objectives() -> None:
    slo = Slo((TTFT_500, TPOT_30))
    sizing = size(chat(), slo, 30.0, balancer=LEAST)
    top = sizing.max_rate_per_replica * sizing.replicas
    assert top >= 30.0
    at_top = evaluate(chat(), slo, 0.97 * top, sizing.replicas, balancer=LEAST)
    assert at_top.feasible
    beyond = evaluate(chat(), slo, 1.05 * top, sizing.replicas, balancer=LEAST)
    assert not beyond.feasible


@pytest.mark.parametrize(
    ("objective", "best_milliseconds"),
    [
        (Objective(Metric.TTFT, 0.95, 0.050), (85, 95)),  # a prompt of the 95 % quantile takes longer
        (Objective(Metric.TPOT, 0.50, 0.005), (7.0, 7.6)),  # T(1)
        (Objective(Metric.LATENCY, 0.99, 1.0), (7_000, 9_000)),
    ],
)
def test_an_objective_no_count_can_meet_says_what_the_best_is(
    objective: Objective, best_milliseconds: tuple[float, float]
) -> None:
    with pytest.raises(ObjectiveUnreachable) as raised:
        size(chat(), Slo((objective,)), 10.0, balancer=LEAST)
    error = raised.value
    assert error.objective == objective.name
    low, high = best_milliseconds
    assert low <= 1e3 * error.best_seconds <= high
    assert str(error).startswith(f"no replica count meets {objective.name} <= {objective.seconds * 1e3:g} ms")
    assert str(error).endswith("of a replica with nothing else to do")
    again = pickle.loads(pickle.dumps(error))
    assert (again.objective, again.best_seconds, str(again)) == (
        error.objective,
        error.best_seconds,
        str(error),
    )


def test_too_few_replicas_allowed_is_not_an_answer() -> None:
    with pytest.raises(ObjectiveUnreachable, match="with 3 replicas, the most allowed"):
        size(chat(), Slo((TTFT_500,)), 100.0, balancer=LEAST, max_replicas=3)


def test_ten_thousand_replicas_are_sized() -> None:
    sizing = size(chat(), Slo((TTFT_500, TPOT_30)), 100_000.0, balancer=Balancer.RANDOM)
    assert 100_000 / chat().saturation_rate_per_second < sizing.replicas < 10_000


def test_even_arrivals_need_no_more_than_poisson() -> None:
    slo = Slo((Objective(Metric.TTFT, 0.95, 0.2),))
    even, poisson = (
        size(chat(), slo, 60.0, balancer=Balancer.ROUND_ROBIN, arrivals=each).replicas
        for each in (Arrivals.CONSTANT, Arrivals.POISSON)
    )
    assert even <= poisson


@given(rate=st.floats(1, 400), factor=st.floats(1.02, 3), balancer=st.sampled_from(list(Balancer)))
@settings(max_examples=15, deadline=None)
def test_more_load_never_needs_fewer(rate: float, factor: float, balancer: Balancer) -> None:
    model, slo = RequestModel(0.02, 0.5, 4), Slo((Objective(Metric.LATENCY, 0.95, 0.08),))
    less, more = (size(model, slo, each, balancer=balancer).replicas for each in (rate, factor * rate))
    assert less <= more


def test_a_request_service_is_sized_by_its_latency() -> None:
    slo = Slo((Objective(Metric.LATENCY, 0.99, 0.050),), 0.99)
    sizing = size(RequestModel(0.005, 0.1), slo, 500.0, balancer=LEAST)
    assert sizing.prediction.ttft is None
    assert sizing.kv_concurrency is None
    assert sizing.prediction.latency.p99 <= 0.050
    assert 3 <= sizing.replicas <= 4  # 2.5 busy servers


def test_a_traces_busiest_minute_is_what_is_sized(conversations: np.ndarray) -> None:
    arrivals, inputs, outputs = conversations.T
    sizing = size_trace(
        profile_named("llama-3.1-8b-h100"), Slo((TTFT_500,)), arrivals, inputs, outputs, balancer=LEAST
    )
    busiest = max(np.searchsorted(arrivals, arrivals + 60) - np.arange(arrivals.size)) / 60
    rate = sizing.prediction.utilization * sizing.replicas * sizing.saturation_rate_per_replica
    assert rate == pytest.approx(busiest)
    assert sizing.replicas == 1


def test_bursts_need_replicas_that_their_mean_rate_does_not() -> None:
    """Mean load 10 %, but 60 prompts at once, twice a minute."""
    random = np.random.default_rng(1)
    bursts = np.repeat(np.arange(0, 120, 30.0), 60) + random.uniform(0, 0.2, 240)
    arrivals = np.sort(bursts)
    inputs, outputs = np.full(240, 1500.0), np.full(240, 50.0)
    profile, slo = profile_named("llama-3.1-8b-h100"), Slo((TTFT_500,))
    bursty = size_trace(profile, slo, arrivals, inputs, outputs, balancer=LEAST)
    smooth = size(ReplicaModel(profile, TrafficShape.constant(1500, 50)), slo, 2.0, balancer=LEAST)
    assert bursty.prediction.utilization < 0.2
    assert smooth.replicas == 1
    assert bursty.replicas >= 3
    assert math.isfinite(bursty.prediction.latency.p99)
