"""Small queues simulated customer by customer (seeded), against the formulas.

First come, first served on c servers: a customer starts when it has come and the earliest server is free.
"""

from __future__ import annotations

import heapq
from collections import deque

import numpy as np
import pytest

from penstock.queueing import MD1, MG1, ErlangA, MMc, MMcK

CUSTOMERS = 150_000


def waits_of(gaps: np.ndarray, services: np.ndarray, servers: int) -> np.ndarray:
    """Return every customer's wait, the first tenth (warm-up) left out."""
    free = [0.0] * servers
    now, waits = 0.0, np.empty(len(gaps))
    for i, (gap, service) in enumerate(zip(gaps.tolist(), services.tolist(), strict=True)):
        now += gap
        start = max(now, free[0])
        heapq.heapreplace(free, start + service)
        waits[i] = start - now
    return waits[len(waits) // 10 :]


def test_four_servers_wait_as_erlang_c_says() -> None:
    rng = np.random.default_rng(11)
    queue = MMc(3.2, 1, 4)
    waits = waits_of(rng.exponential(1 / 3.2, CUSTOMERS), rng.exponential(1, CUSTOMERS), 4)
    assert (waits > 0).mean() == pytest.approx(queue.wait_probability, rel=0.03)
    assert waits.mean() == pytest.approx(queue.mean_wait, rel=0.08)
    assert np.quantile(waits, 0.95) == pytest.approx(queue.wait_quantile(0.95), rel=0.08)


def test_responses_of_two_servers_follow_the_formula() -> None:
    rng = np.random.default_rng(12)
    queue = MMc(1.4, 1, 2)
    services = rng.exponential(1, CUSTOMERS)
    waits = waits_of(rng.exponential(1 / 1.4, CUSTOMERS), services, 2)
    responses = waits + services[-len(waits) :]
    for p in (0.5, 0.9, 0.99):
        assert np.quantile(responses, p) == pytest.approx(queue.response_quantile(p), rel=0.05)


@pytest.mark.parametrize("t", [0.5, 1.0, 2.2, 4.0])
def test_constant_service_waits_as_franx_says(t: float) -> None:
    rng = np.random.default_rng(13)
    waits = waits_of(rng.exponential(1 / 0.7, CUSTOMERS), np.ones(CUSTOMERS), 1)
    assert (waits > t).mean() == pytest.approx(MD1(0.7, 1).wait_tail(t), rel=0.08)


def test_a_log_normal_service_waits_as_pollaczek_khinchine_says() -> None:
    rng = np.random.default_rng(14)
    sigma2 = np.log(1 + 2.0)
    services = rng.lognormal(-sigma2 / 2, np.sqrt(sigma2), CUSTOMERS)
    waits = waits_of(rng.exponential(1 / 0.6, CUSTOMERS), services, 1)
    assert waits.mean() == pytest.approx(MG1(0.6, 1, scv=2.0).mean_wait, rel=0.1)


def test_a_limited_queue_loses_and_delays_as_the_chain_says() -> None:
    rng = np.random.default_rng(15)
    queue = MMcK(4.5, 1, 4, capacity=12)
    departures: list[float] = []
    free = [0.0] * 4
    now, lost = 0.0, 0
    waits, responses = [], []
    for gap, service in zip(
        rng.exponential(1 / 4.5, CUSTOMERS).tolist(), rng.exponential(1, CUSTOMERS).tolist(), strict=True
    ):
        now += gap
        while departures and departures[0] <= now:
            heapq.heappop(departures)
        if len(departures) == 12:
            lost += 1
            continue
        start = max(now, free[0])
        heapq.heapreplace(free, start + service)
        heapq.heappush(departures, start + service)
        waits.append(start - now)
        responses.append(start - now + service)
    assert lost / CUSTOMERS == pytest.approx(queue.blocking_probability, rel=0.05)
    assert np.mean(waits) == pytest.approx(queue.mean_wait, rel=0.04)
    for p in (0.5, 0.95):
        assert np.quantile(waits, p) == pytest.approx(queue.wait_quantile(p), rel=0.05)
        assert np.quantile(responses, p) == pytest.approx(queue.response_quantile(p), rel=0.05)


def test_impatient_customers_leave_as_erlang_a_says() -> None:
    rng = np.random.default_rng(16)
    queue = ErlangA(11, 1, 10, patience_rate=0.5)
    free = [0.0] * 10
    now, gone = 0.0, 0
    in_queue = deque[float]()
    draws = zip(
        rng.exponential(1 / 11, CUSTOMERS).tolist(),
        rng.exponential(1, CUSTOMERS).tolist(),
        rng.exponential(2, CUSTOMERS).tolist(),
        strict=True,
    )
    for gap, service, patience in draws:
        now += gap
        wait = max(0.0, free[0] - now)  # with patience without end: the offered wait
        if wait > patience:
            gone += 1
            in_queue.append(patience)
            continue
        heapq.heapreplace(free, now + wait + service)
        in_queue.append(wait)
    spent = np.asarray(in_queue)
    assert gone / CUSTOMERS == pytest.approx(queue.abandonment_probability, rel=0.05)
    assert (spent > 0).mean() == pytest.approx(queue.wait_probability, rel=0.04)
    assert spent.mean() == pytest.approx(queue.mean_wait, rel=0.05)
    assert (spent > 0.3).mean() == pytest.approx(queue.wait_tail(0.3), rel=0.06)
