"""What must hold for every queue whatever its numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from penstock.queueing import (
    MD1,
    MG1,
    MM1,
    ErlangA,
    MMc,
    MMcK,
    allen_cunneen_wait,
    erlang_b,
    hayward_wait,
    kingman_wait,
    square_root_staffing,
    whitt_wait,
)

rho = st.floats(0.02, 0.98)
service_rate = st.floats(0.01, 1000)
servers = st.integers(1, 60)
probability = st.floats(0.0, 0.9999)


@st.composite
def queues(draw: st.DrawFn) -> Any:
    """Draw one of the queues with a full wait distribution."""
    mu, count, load = draw(service_rate), draw(servers), draw(rho)
    kind = draw(st.sampled_from(["MM1", "MD1", "MMc", "MMcK", "ErlangA"]))
    if kind == "MM1":
        return MM1(load * mu, mu)
    if kind == "MD1":
        return MD1(load * mu, mu)
    if kind == "MMc":
        return MMc(load * mu * count, mu, count)
    if kind == "MMcK":
        return MMcK(2 * load * mu * count, mu, count, count + draw(st.integers(0, 40)))
    return ErlangA(2 * load * mu * count, mu, count, mu * draw(st.floats(0.05, 5)))


def rate_in(queue: Any) -> float:
    return queue.accepted_rate if isinstance(queue, MMcK) else queue.arrival_rate


@given(queues())
def test_littles_law_holds(queue: Any) -> None:
    assert queue.mean_queue_length == pytest.approx(rate_in(queue) * queue.mean_wait, rel=1e-9, abs=1e-300)


@given(queues())
def test_the_tail_starts_at_the_wait_probability_and_falls(queue: Any) -> None:
    times = np.linspace(0, 10 * (queue.mean_wait + 1 / queue.service_rate), 50)
    tail = queue.wait_tail(times)
    assert tail[0] == pytest.approx(queue.wait_probability, rel=1e-9, abs=1e-15)
    assert (np.diff(tail) <= 1e-12).all()
    assert ((tail >= 0) & (tail <= 1)).all()
    assert [queue.wait_tail(float(t)) for t in times[:5]] == pytest.approx(tail[:5].tolist(), rel=1e-12)


@given(queues())
def test_the_mean_wait_is_the_integral_of_the_tail(queue: Any) -> None:
    # 400 stretches to where one in 10^9 waits longer; whole services for M/D/1, which has kinks there.
    longest = float(queue.wait_quantile(1 - 1e-9)) + 1e-12 / queue.service_rate
    edges = np.linspace(0, longest, 401)
    if isinstance(queue, MD1):
        edges = np.arange(math.ceil(longest * queue.service_rate) + 1) / queue.service_rate
    nodes, weights = np.polynomial.legendre.leggauss(6)
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    times = middle[:, np.newaxis] + half[:, np.newaxis] * nodes
    integral = float((queue.wait_tail(times) @ weights) @ half)
    assert integral == pytest.approx(queue.mean_wait, rel=1e-6, abs=1e-9 / queue.service_rate)


@given(queues(), probability)
def test_the_quantile_inverts_the_tail(queue: Any, p: float) -> None:
    t = queue.wait_quantile(p)
    if p <= 1 - queue.wait_probability:
        assert t == pytest.approx(0, abs=1e-9 / queue.service_rate)
    else:
        assert queue.wait_tail(t) == pytest.approx(1 - p, rel=1e-6)


@given(queues().filter(lambda queue: hasattr(queue, "response_quantile")), probability)
def test_a_response_is_a_wait_and_a_service(queue: Any, p: float) -> None:
    assert queue.mean_response == pytest.approx(queue.mean_wait + 1 / queue.service_rate)
    assert queue.response_quantile(p) >= queue.wait_quantile(p)
    if hasattr(queue, "response_tail"):
        assert queue.response_tail(queue.response_quantile(p)) == pytest.approx(1 - p, rel=1e-6)


@settings(max_examples=40)
@given(queues().filter(lambda queue: hasattr(queue, "response_tail")))
def test_the_mean_response_is_the_integral_of_its_tail(queue: Any) -> None:
    longest = float(queue.response_quantile(1 - 1e-9))
    times = np.linspace(0, longest, 1001)
    integral = integrate.simpson(queue.response_tail(times), x=times)
    assert integral == pytest.approx(queue.mean_response, rel=1e-3)


@given(rho, service_rate)
def test_one_server_of_many_is_the_single_server(load: float, mu: float) -> None:
    many, single = MMc(load * mu, mu, 1), MM1(load * mu, mu)
    for name in ("utilization", "wait_probability", "mean_wait", "mean_response", "mean_queue_length"):
        assert getattr(many, name) == pytest.approx(getattr(single, name), rel=1e-9)
    for p in (0.1, 0.5, 0.95, 0.999):
        assert many.wait_quantile(p) == pytest.approx(single.wait_quantile(p), rel=1e-9, abs=1e-12 / mu)
        assert many.response_quantile(p) == pytest.approx(single.response_quantile(p), rel=1e-7)


@given(rho, service_rate)
def test_general_service_contains_the_exponential_and_the_constant(load: float, mu: float) -> None:
    assert MG1(load * mu, mu, scv=1).mean_wait == pytest.approx(MM1(load * mu, mu).mean_wait)
    assert MG1(load * mu, mu, scv=0).mean_wait == pytest.approx(MD1(load * mu, mu).mean_wait)


@given(servers, rho)
def test_a_large_waiting_room_is_an_unlimited_one(count: int, load: float) -> None:
    unlimited = MMc(load * count, 1, count)
    waits = [MMcK(load * count, 1, count, count + room).mean_wait for room in (1, 10, 100, 2000)]
    assert waits == pytest.approx(sorted(waits), rel=1e-12)  # rounding aside, they rise to the limit
    assert waits[-1] == pytest.approx(unlimited.mean_wait, rel=1e-9)


@given(servers, st.floats(0.1, 3))
def test_no_waiting_room_is_erlang_b(count: int, load: float) -> None:
    loss = MMcK(load * count, 1, count, capacity=count)
    assert loss.blocking_probability == pytest.approx(erlang_b(count, load * count), rel=1e-11)
    assert loss.mean_wait == 0
    assert loss.wait_quantile(0.99) == 0


@given(st.integers(1, 300), st.floats(0.1, 2))
def test_patience_like_service_is_a_poisson_number_present(count: int, load: float) -> None:
    queue = ErlangA(load * count, 1, count, patience_rate=1)
    assert queue.wait_probability == pytest.approx(stats.poisson.sf(count - 1, load * count), rel=1e-8)


@given(servers, st.floats(0.1, 0.9))
def test_endless_patience_is_an_unlimited_queue(count: int, load: float) -> None:
    patient, unlimited = ErlangA(load * count, 1, count, 1e-9), MMc(load * count, 1, count)
    assert patient.mean_wait == pytest.approx(unlimited.mean_wait, rel=1e-5, abs=1e-12)
    assert patient.wait_tail(0.7) == pytest.approx(unlimited.wait_tail(0.7), rel=1e-5, abs=1e-12)


@given(servers, st.floats(0.1, 0.95), st.floats(1.001, 1.05))
def test_waits_rise_with_load_and_fall_with_servers(count: int, load: float, more: float) -> None:
    arrival = load * count
    for wait in (
        lambda rate, c: MMc(rate, 1, c).mean_wait,
        lambda rate, c: MMc(rate, 1, c).response_quantile(0.95),
        lambda rate, c: MMcK(rate, 1, c, 100).mean_wait,
        lambda rate, c: MMcK(rate, 1, c, 100).response_quantile(0.95),
        lambda rate, c: ErlangA(rate, 1, c, 0.5).mean_wait,
        lambda rate, c: hayward_wait(rate, 1, c, 3.0),
    ):
        assert wait(arrival, count) <= wait(arrival * more, count) * (1 + 1e-9)
        assert wait(arrival, count + 1) <= wait(arrival, count) * (1 + 1e-9)


@given(servers, rho, st.floats(0, 4), st.floats(0, 4), st.floats(0.01, 2))
def test_waits_rise_with_variance(count: int, load: float, ca2: float, cs2: float, more: float) -> None:
    arrival = load * count
    assert allen_cunneen_wait(arrival, 1, count, ca2, cs2) < allen_cunneen_wait(
        arrival, 1, count, ca2 + more, cs2
    )
    assert allen_cunneen_wait(arrival, 1, count, ca2, cs2) < allen_cunneen_wait(
        arrival, 1, count, ca2, cs2 + more
    )
    assert kingman_wait(load, 1, ca2, cs2) < kingman_wait(load, 1, ca2, cs2 + more)
    assert MG1(load, 1, cs2).mean_wait < MG1(load, 1, cs2 + more).mean_wait
    assert hayward_wait(arrival, 1, count, 1) <= hayward_wait(arrival, 1, count, 1 + more) * (1 + 1e-9)


@given(servers, rho)
def test_the_approximations_are_exact_for_exponential_times(count: int, load: float) -> None:
    exact = MMc(load * count, 1, count).mean_wait
    assert allen_cunneen_wait(load * count, 1, count, 1, 1) == pytest.approx(exact)
    assert whitt_wait(load * count, 1, count, 1, 1) == pytest.approx(exact)
    assert hayward_wait(load * count, 1, count, 1) == pytest.approx(exact)


def test_whitt_has_no_seam_and_no_wait_without_any_variance() -> None:
    below, above = (whitt_wait(3.2, 1, 4, 0.5, 0.5 + e) for e in (-1e-9, 1e-9))
    assert below == pytest.approx(above, rel=1e-6)
    assert whitt_wait(3.2, 1, 4, 0, 0) == 0


@given(st.floats(1, 10_000), st.floats(0.05, 0.9))
def test_square_root_staffing_is_erlang_c_to_a_server(load: float, alpha: float) -> None:
    count = square_root_staffing(load, alpha)
    assert count > load
    assert MMc(load, 1, count + 1).wait_probability <= alpha
    if count - 2 > load:
        assert MMc(load, 1, count - 2).wait_probability > alpha


@given(st.floats(0.05, 0.99), st.floats(0.1, 5000))
def test_constant_service_keeps_its_precision_however_far_out(load: float, services: float) -> None:
    queue = MD1(load, 1)
    near, far = queue.wait_tail(services), queue.wait_tail(services + 1)
    assert 0 <= far <= near
    if near > 1e-290 and services > 30:
        # The decay per service is the root of z = exp(load (z - 1)).
        z = math.exp(-math.log(far / near) / 1) if far else math.inf
        if math.isfinite(z):
            decay = math.log(z)
            root = 1 + decay / load
            assert math.log(root) == pytest.approx(decay, rel=1e-8)


def test_constant_service_agrees_with_the_alternating_sum_where_that_still_works() -> None:
    def alternating(t: float, load: float) -> float:
        terms = [
            (-load * (t - j)) ** j / math.factorial(j) * math.exp(load * (t - j)) for j in range(int(t) + 1)
        ]
        return 1 - (1 - load) * math.fsum(terms)

    for load in (0.1, 0.5, 0.9):
        for t in (0.0, 0.3, 1.0, 2.5, 4.0, 7.9):
            assert MD1(load, 1).wait_tail(t) == pytest.approx(alternating(t, load), abs=1e-12)


def test_the_quantiles_of_one_fleet_come_in_one_call() -> None:
    fleet = MMc(np.array([8.0, 32.0, 9_900.0]), 1.0, np.array([10, 40, 10_000]))
    singles = [MMc(8, 1, 10), MMc(32, 1, 40), MMc(9_900, 1, 10_000)]
    for name in ("utilization", "wait_probability", "mean_wait", "mean_response", "mean_queue_length"):
        assert getattr(fleet, name).tolist() == pytest.approx([getattr(q, name) for q in singles])
    assert fleet.wait_quantile(0.95).tolist() == pytest.approx([q.wait_quantile(0.95) for q in singles])
    assert fleet.response_quantile(0.95).tolist() == pytest.approx(
        [q.response_quantile(0.95) for q in singles]
    )
    assert fleet.wait_tail(0.1).tolist() == pytest.approx([q.wait_tail(0.1) for q in singles])
    assert MM1(np.array([1.0, 2.0]), 4.0).mean_wait.tolist() == [MM1(1, 4).mean_wait, MM1(2, 4).mean_wait]
    assert MM1(0, 1).wait_quantile([0.0, 0.5]).tolist() == [0.0, 0.0]


def test_ten_thousand_servers_and_fifty_thousand_places() -> None:
    loss = MMcK(10_500, 1, 10_000, capacity=50_000)
    # Far overloaded and never empty: what is not served is lost.
    assert loss.blocking_probability == pytest.approx(500 / 10_500, rel=1e-9)
    assert loss.utilization == pytest.approx(1, rel=1e-12)
    assert ErlangA(10_500, 1, 10_000, 0.1).abandonment_probability == pytest.approx(500 / 10_500, rel=1e-6)
