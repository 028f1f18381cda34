"""Our quantiles against Prometheus's rules (promql/quantile.go), case by case and as properties.

Agreement with a real server on real data: test_real_engines.py.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.metrics_source.histogram import histogram_quantile, length_histogram

INF = math.inf


@pytest.mark.parametrize(
    ("quantile", "cumulative", "expected"),
    [
        (0.5, {1.0: 10.0, 2.0: 20.0, INF: 20.0}, 1.0),
        (0.75, {1.0: 10.0, 2.0: 20.0, INF: 20.0}, 1.5),
        (0.25, {1.0: 10.0, 2.0: 20.0, INF: 20.0}, 0.5),  # from 0 in the first bucket
        (0.95, {1.0: 10.0, 2.0: 20.0, INF: 100.0}, 2.0),  # beyond the last finite bound
        (0.5, {1.0: 0.0, INF: 5.0}, 1.0),  # all in +Inf
        (0.5, {-1.0: 5.0, 1.0: 10.0, INF: 10.0}, -1.0),  # a first bound that is not positive
        (1.0, {1.0: 10.0, 2.0: 20.0, INF: 20.0}, 2.0),
        (-0.1, {1.0: 1.0, INF: 1.0}, -INF),
        (1.1, {1.0: 1.0, INF: 1.0}, INF),
        # Buckets of different scrapes: counts that fall are lifted.
        (0.5, {1.0: 10.0, 2.0: 8.0, 4.0: 20.0, INF: 20.0}, 1.0),
        (0.75, {1.0: 10.0, 2.0: 8.0, 4.0: 20.0, INF: 20.0}, 3.0),
        # A difference in the last digits is none.
        (0.9, {1.0: 10.0, 2.0: 10.0 * (1 + 1e-15), INF: 10.0}, 0.9),
    ],
)
def test_quantiles_follow_the_rules_of_prometheus(
    quantile: float, cumulative: dict[float, float], expected: float
) -> None:
    assert histogram_quantile(quantile, cumulative) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("quantile", "cumulative"),
    [
        (0.5, {}),
        (0.5, {INF: 5.0}),
        (0.5, {1.0: 5.0}),  # no +Inf
        (0.5, {1.0: 0.0, INF: 0.0}),  # no observations
        (math.nan, {1.0: 5.0, INF: 5.0}),
        (0.0, {1.0: 0.0, 2.0: 5.0, INF: 5.0}),
    ],
)
def test_what_has_no_quantile_is_not_a_number(quantile: float, cumulative: dict[float, float]) -> None:
    assert math.isnan(histogram_quantile(quantile, cumulative))


BUCKETS = st.lists(st.floats(0, 1e6), min_size=2, max_size=20).map(
    lambda counts: dict(zip([2.0**i for i in range(len(counts) - 1)] + [INF], sorted(counts), strict=True))
)


@given(cumulative=BUCKETS, low=st.floats(0.01, 0.99), high=st.floats(0.01, 0.99))
def test_higher_quantiles_are_not_lower(cumulative: dict[float, float], low: float, high: float) -> None:
    low, high = sorted((low, high))
    first, second = histogram_quantile(low, cumulative), histogram_quantile(high, cumulative)
    assert math.isnan(first) == math.isnan(second)
    assert math.isnan(first) or first <= second * (1 + 1e-9)


@given(cumulative=BUCKETS, quantile=st.floats(0.01, 0.99), factor=st.floats(0.001, 1000))
def test_the_pace_of_counting_does_not_change_a_quantile(
    cumulative: dict[float, float], quantile: float, factor: float
) -> None:
    # Counters that were reset, or scraped over another window, are scaled alike in all buckets.
    if max(cumulative.values()) < 1e-3:
        return
    scaled = {bound: count * factor for bound, count in cumulative.items()}
    assert histogram_quantile(quantile, scaled) == pytest.approx(
        histogram_quantile(quantile, cumulative), rel=1e-6, abs=1e-6
    )


def test_lengths_are_counted_per_bucket() -> None:
    found = length_histogram({100.0: 1.0, 200.0: 3.0, INF: 4.0}, 600.0)
    assert found is not None
    assert found.upper_bounds == (100.0, 200.0, INF)
    assert found.counts == (1.0, 2.0, 1.0)
    assert found.mean == 150.0


@pytest.mark.parametrize("cumulative", [{}, {100.0: 0.0, INF: 0.0}])
def test_no_requests_have_no_lengths(cumulative: dict[float, float]) -> None:
    assert length_histogram(cumulative, 0.0) is None


@pytest.mark.parametrize("total", [None, math.nan])
def test_a_missing_sum_leaves_the_mean_out(total: float | None) -> None:
    found = length_histogram({100.0: 1.0, INF: 1.0}, total)
    assert found is not None
    assert found.mean is None
