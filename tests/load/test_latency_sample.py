"""Percentiles of many gaps in little memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.latency_sample import LatencySample


def sample(values: list[float]) -> LatencySample:
    made = LatencySample()
    for value in values:
        made.add(value)
    return made


def test_nothing_measured_is_none_and_not_zero():
    empty = LatencySample()
    assert (empty.count, empty.mean, empty.max, empty.quantile(0.95)) == (0, None, None, None)


@given(
    st.lists(st.floats(1e-5, 1e3), min_size=1, max_size=200),
    st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 1.0]),
)
def test_a_quantile_is_within_half_a_bin_of_the_exact_one(values: list[float], probability: float):
    exact = np.quantile(values, probability, method="inverted_cdf")
    assert sample(values).quantile(probability) == pytest.approx(exact, rel=0.0051)
    assert sample(values).mean == pytest.approx(np.mean(values))
    assert sample(values).max == max(values)


@pytest.mark.parametrize("value", [0.0, -1.0, 1e9])
def test_what_lies_outside_is_counted(value: float):
    made = sample([value, value])
    assert made.count == 2
    assert made.quantile(0.5) is not None
