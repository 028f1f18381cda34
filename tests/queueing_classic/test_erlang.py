"""Erlang's formulas against scipy's distributions, from one server to ten thousand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from penstock.queueing import erlang_b, erlang_c
from penstock.queueing.erlang import erlang_c_continuous

servers_up_to_10_000 = st.integers(1, 10_000)
servers = st.integers(1, 200)
utilization = st.floats(0.01, 0.999)


@given(servers_up_to_10_000, st.floats(0.8, 1.2))
def test_the_recursion_is_the_truncated_poisson_law(count: int, rho: float) -> None:
    load = count * rho
    poisson = stats.poisson.pmf(count, load) / stats.poisson.cdf(count, load)
    assert erlang_b(count, load) == pytest.approx(poisson, rel=1e-9)


@pytest.mark.parametrize("load", [1e-6, 1.0, 9_990.0, 10_000.0, 1e6])
def test_ten_thousand_servers_are_exact(load: float) -> None:
    # The reference in logarithms of the reciprocal sum: 1/B = sum over k of c!/(c-k)! a^-k.
    k = np.arange(10_001)
    log_terms = [math.lgamma(10_001) - math.lgamma(10_001 - i) - i * math.log(load) for i in k]
    reciprocal_log = np.logaddexp.reduce(np.asarray(log_terms))
    if reciprocal_log > 700:
        assert erlang_b(10_000, load) == 0.0
    else:
        assert erlang_b(10_000, load) == pytest.approx(math.exp(-reciprocal_log), rel=1e-9)


@given(servers, utilization)
def test_erlang_c_rises_with_load_and_falls_with_servers(count: int, rho: float) -> None:
    load = count * rho
    assert erlang_c(count, load * 0.99) < erlang_c(count, load)
    assert erlang_c(count + 1, load) < erlang_c(count, load)
    assert erlang_b(count, load) < erlang_c(count, load)


@given(st.lists(st.tuples(servers, utilization), min_size=1, max_size=20))
def test_arrays_give_what_scalars_give_whatever_their_order(queues: list[tuple[int, float]]) -> None:
    counts = np.array([count for count, _ in queues])
    loads = np.array([count * rho for count, rho in queues])
    assert erlang_b(counts, loads).tolist() == [
        erlang_b(int(c), float(a)) for c, a in zip(counts, loads, strict=True)
    ]
    assert erlang_c(counts, loads).tolist() == [
        erlang_c(int(c), float(a)) for c, a in zip(counts, loads, strict=True)
    ]


def test_servers_and_loads_broadcast() -> None:
    table = erlang_b(np.arange(1, 4)[:, np.newaxis], np.array([0.5, 1.0]))
    assert table.shape == (3, 2)
    assert table[2, 1] == erlang_b(3, 1.0)
    assert erlang_b(np.array([], dtype=int), 1.0).shape == (0,)
    assert erlang_c(5, np.array([1.0, 4.0])).tolist() == [erlang_c(5, 1.0), erlang_c(5, 4.0)]


@given(st.floats(0.05, 60), st.floats(0.05, 0.99))
def test_the_continuous_formula_is_the_integral(count: float, rho: float) -> None:
    load = count * rho
    inverse, _ = integrate.quad(lambda y: math.exp(-y + count * math.log1p(y / load)), 0, np.inf, limit=500)
    blocking = 1 / inverse
    expected = count * blocking / (count - load * (1 - blocking))
    assert erlang_c_continuous(count, load) == pytest.approx(expected, rel=1e-6)


@given(st.integers(1, 300), utilization)
def test_the_continuous_formula_meets_erlang_at_whole_servers(count: int, rho: float) -> None:
    assert erlang_c_continuous(count, count * rho) == pytest.approx(erlang_c(count, count * rho), rel=1e-11)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_the_continuous_formula_has_no_seam_where_its_two_methods_meet(fraction: float) -> None:
    below, above = (erlang_c_continuous(60 + fraction, load) for load in (50 - 1e-9, 50 + 1e-9))
    assert below == pytest.approx(above, rel=1e-8)


def test_no_load_means_no_wait() -> None:
    assert erlang_b(3, 0) == 0
    assert erlang_c(3, 0) == 0
    assert erlang_c_continuous(2.5, 0) == 0
