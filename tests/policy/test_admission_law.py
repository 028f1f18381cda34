"""The chain behind the limit, against the theory's table and against chains solved one by one."""

from __future__ import annotations

import gzip
import pickle
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.model.profiles import profile_named
from penstock.policy.admission_law import AdmissionLaw, admission_law, queue_per_endpoint
from penstock.queueing.balancer import Balancer
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.service_time_model import RequestModel
from penstock.queueing.traffic import TrafficShape

COUNTS = (1, 2, 4, 8, 16, 64, 256)


@cache
def conversations() -> ReplicaModel:
    """The reference replica under the lengths of a real hour."""
    path = Path(__file__).parents[1] / "data" / "azure23_conv.csv.gz"
    with gzip.open(path, "rt") as lines:
        rows = np.loadtxt(lines, delimiter=",", skiprows=1)
    return ReplicaModel(profile_named("llama-3.1-8b-h100"), TrafficShape.from_lengths(rows[:, 1], rows[:, 2]))


@cache
def law(balancer: Balancer = Balancer.LEAST_REQUESTS) -> AdmissionLaw:
    return admission_law(conversations(), running=95, queued=3, counts=COUNTS, balancer=balancer)


@pytest.mark.parametrize(("load", "shed"), [(1.15, 0.245), (1.60, 0.457), (2.00, 0.566)])
def test_four_replicas_shed_what_the_theory_says(load: float, shed: float) -> None:
    rate = load * 4 * conversations().saturation_rate_per_second
    assert law().shed_ratio(4, rate) == pytest.approx(shed, abs=0.002)


@given(
    replicas=st.integers(1, 400),
    load=st.floats(0.2, 6.0),
    balancer=st.sampled_from([Balancer.LEAST_REQUESTS, Balancer.RANDOM]),
)
@settings(max_examples=60, deadline=None)
def test_the_table_is_within_a_quarter_point_of_the_chain(
    replicas: int, load: float, balancer: Balancer
) -> None:
    solved, model = law(balancer), conversations()
    rate = load * replicas * solved.completion_rate_per_second
    exact = model.shed_fraction(replicas, rate, running_limit=95, queue_limit=3, balancer=balancer)
    assert solved.shed_ratio(replicas, rate) == pytest.approx(exact, abs=0.0025)


@given(replicas=st.integers(0, 400), rate=st.floats(0.0, 20_000), more=st.floats(1.0, 3.0))
def test_more_load_sheds_more_and_more_replicas_shed_less(replicas: int, rate: float, more: float) -> None:
    shed = law().shed_ratio(replicas, rate)
    assert 0 <= shed < 1
    assert law().shed_ratio(replicas, more * rate) >= shed - 1e-12
    assert law().shed_ratio(replicas + 1, rate) <= shed + 1e-12


def test_a_random_split_sheds_more_than_one_queue_and_alike_for_every_count() -> None:
    rate = 17.0  # a replica, where it completes 17.9
    random = law(Balancer.RANDOM)
    assert random.shed_ratio(4, 4 * rate) == pytest.approx(random.shed_ratio(40, 40 * rate))
    assert random.shed_ratio(4, 4 * rate) > 3 * law().shed_ratio(4, 4 * rate) > 0


@cache
def few_places() -> AdmissionLaw:
    model = RequestModel(mean_seconds=0.1, scv=1.0, concurrency=1)
    return admission_law(model, running=1, queued=1, counts=(1, 2, 4), balancer=Balancer.LEAST_REQUESTS)


@pytest.mark.parametrize(("load", "shed"), [(0.1, 0.009), (0.3, 0.0647), (0.5, 1 / 7)])
def test_a_replica_of_few_places_sheds_at_light_load_too(load: float, shed: float) -> None:
    assert few_places().shed_ratio(1, load * 10) == pytest.approx(shed, abs=0.0025)
    assert few_places().shed_ratio(1, 0.0) == 0.0


@given(load=st.floats(0.0, 1.2), more=st.floats(1.0, 3.0), replicas=st.integers(1, 3))
def test_few_places_shed_more_under_more_load_and_less_with_more_replicas(
    load: float, more: float, replicas: int
) -> None:
    small, rate = few_places(), 10 * load * replicas
    shed = small.shed_ratio(replicas, rate)
    assert small.shed_ratio(replicas, more * rate) >= shed - 1e-12
    assert small.shed_ratio(replicas + 1, rate) <= shed + 1e-12


def test_the_law_travels_between_processes() -> None:
    assert pickle.loads(pickle.dumps(law())) == law()


@pytest.mark.parametrize(("allowed", "kept"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (9, 5), (40, 30)])
def test_queues_of_single_endpoints_are_kept_shorter_than_what_may_wait(allowed: int, kept: int) -> None:
    assert queue_per_endpoint(allowed) == kept
