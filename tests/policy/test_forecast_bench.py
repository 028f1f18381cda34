"""The benchmark of the demand bound: when a row misses its goal."""

from __future__ import annotations

import numpy as np
import pytest

from bench.forecast_report import Row, Series


@pytest.mark.parametrize(
    ("steady", "covered", "points"),
    [
        (True, 0.95, 0.0),
        (True, 0.935, 0.0),
        (True, 1.0, 3.0),
        (False, 1.0, 0.0),
        (False, 0.88, 1.0),
    ],
)
def test_a_bound_may_be_two_points_off_on_steady_load_and_six_on_drifting_one(
    steady: bool, covered: float, points: float
):
    row = Row(Series("load", np.ones(9), None, steady), 60.0, "Penstock", covered, 0.1, 1.0)
    assert 100 * row.beyond == pytest.approx(points, abs=1e-9)
    assert row.missed == row.beyond


def test_only_our_own_bounds_are_judged():
    row = Row(Series("load", np.ones(9), None), 60.0, "MA300", 0.3, 0.1, 1.0)
    assert (row.missed, row.beyond) == (0.0, pytest.approx(0.59))


@pytest.mark.parametrize(("seconds", "is_hour"), [(3502, True), (3600, True), (86_400, False)])
def test_an_hour_is_told_apart_from_a_day(seconds: int, is_hour: bool):
    assert Series("load", np.ones(seconds // 15), None).is_hour is is_hour
