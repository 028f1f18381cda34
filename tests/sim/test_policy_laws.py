"""The peers' laws against examples worked out by hand from their sources."""

from __future__ import annotations

import pytest

from penstock.sim.policies.apa import apa_count
from penstock.sim.policies.hpa_law import Behavior, Pace, Stabilizer, average_value, pods_metric
from penstock.sim.policies.kthena import kthena_count
from penstock.sim.policies.ray_serve import ray_count
from penstock.sim.policies.slo_keda import BEHAVIOR, slo_count
from penstock.sim.policies.wva_saturation import saturation_step
from penstock.sim.policies.wva_tokens import token_count


@pytest.mark.parametrize(
    ("values", "target", "ready", "starting", "expected"),
    [
        ([2.2, 2.2], 2.0, 2, 0, 2),  # 1.1 is within the tolerance
        ([2.3, 2.3], 2.0, 2, 0, 3),  # 1.15 x 2
        ([8.0, 8.0], 2.0, 2, 0, 8),
        ([1.0, 1.0, 1.0, 1.0], 2.0, 4, 0, 2),
        ([8.0, 8.0], 2.0, 2, 2, 8),  # two that start count as idle: 16/4/2 = 2, x 4
        ([3.0, 3.0], 2.0, 2, 2, 4),  # 1.5 becomes 0.75: the direction flips, nothing is done
        ([0.0, 0.0], 2.0, 4, 0, 2),  # two are silent and count as full: 4/4/2 = 0.5, x 4
        ([1.0] * 4, 2.0, 4, 2, 4),  # two load their model: they run, have no metric, count as full: 8/6/2 x 6
        ([0.0], 2.0, 1, 0, 0),
    ],
)
def test_hpa_on_a_pods_metric(values, target, ready, starting, expected):
    assert pods_metric(values, target, ready=ready, starting=starting, current=ready + starting) == expected


@pytest.mark.parametrize(
    ("total", "target", "current", "expected"),
    [(22.0, 10.0, 2, 2), (23.0, 10.0, 2, 3), (101.0, 10.0, 2, 11), (0.0, 10.0, 5, 0), (5.0, 10.0, 5, 1)],
)
def test_an_external_average_value(total, target, current, expected):
    assert average_value(total, target, current) == expected


def test_hpa_goes_up_by_four_or_double_and_down_after_five_minutes():
    hpa = Stabilizer(Behavior())
    assert hpa.limited(0.0, 1, 50) == 5  # +4
    assert hpa.limited(15.0, 5, 50) == 10  # +100 %
    assert hpa.limited(30.0, 10, 20) == 20
    assert hpa.limited(45.0, 20, 2) == 20  # 50 was recommended a while ago
    for at in range(60, 315, 15):
        assert hpa.limited(float(at), 20, 2) == 20
    assert hpa.limited(330.0, 20, 2) == 2  # of the last 300 s only twos are left


def test_the_highest_of_the_window_bounds_the_way_down_not_up():
    hpa = Stabilizer(Behavior(down=Pace(None, 100.0, 15.0, 60.0)))
    assert hpa.limited(0.0, 4, 9) == 8
    assert hpa.limited(15.0, 8, 3) == 8
    assert hpa.limited(30.0, 8, 3) == 8
    assert hpa.limited(75.0, 8, 3) == 3


def test_the_guides_pace_is_a_doubling_a_minute_and_one_down_in_two():
    keda = Stabilizer(BEHAVIOR)
    assert keda.limited(0.0, 3, 8) == 7  # +4 is more than +100 % of 3
    assert keda.limited(15.0, 7, 8) == 7  # within the minute: 3 + 4
    assert keda.limited(60.0, 7, 8) == 8
    for at in range(75, 240, 15):
        assert keda.limited(float(at), 8, 3) == 8
    assert keda.limited(240.0, 8, 3) == 7
    assert keda.limited(255.0, 7, 3) == 7
    assert keda.limited(360.0, 7, 3) == 6


@pytest.mark.parametrize(
    ("share", "ready", "current", "expected"),
    [
        (0.55, 1.0, 4, 4),
        (0.66, 1.0, 5, 6),  # 5 (0.66/0.55 - 1) = 1
        (2.0, 1.0, 3, 11),  # 3 x 2.636 = 7.9
        (2.0, 0.5, 4, 8),  # half of them start: 4 (2 x 0.5/0.55 - 1) = 3.27
        (0.6, 0.75, 4, 4),  # 0.45/0.55 - 1 = -0.18, x 4, rounded up: nothing
        (0.30, 1.0, 8, 6),  # 8 x 0.25 = 2
        (0.39, 1.0, 8, 8),
    ],
)
def test_llm_ds_slo_aware_count(share, ready, current, expected):
    assert slo_count(share, ready, current) == expected


@pytest.mark.parametrize(
    ("usage", "current", "expected"),
    [(1.1, 4, 4), (1.2, 4, 5), (3.0, 4, 8), (0.9, 4, 4), (0.6, 4, 3), (0.1, 5, 2)],
)
def test_aibrix_apa(usage, current, expected):
    assert apa_count(usage, current) == expected


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        ([(0.9, 0.0), (0.85, 9.0)], 1),  # all saturated
        ([(0.72, 0.0), (0.72, 0.0)], 1),  # 0.08 spare
        ([(0.3, 3.0), (0.3, 3.0)], 1),  # 2 spare in the queue
        ([(0.3, 0.0)], 0),  # one alone stays
        ([(0.3, 0.0), (0.3, 0.0)], -1),  # 0.6 on the one that stays, 0.2 spare
        ([(0.4, 0.0), (0.4, 0.0)], 0),  # 0.8 on it, nothing spare
        ([(0.9, 0.0), (0.1, 0.0), (0.1, 0.0)], -1),  # the saturated one is not counted
    ],
)
def test_wva_v1(load, expected):
    assert saturation_step(load, kv=0.8, queue=5.0) == expected


@pytest.mark.parametrize(
    ("demand", "supplied", "anticipated", "current", "expected"),
    [
        (170.0, 2, 2, 2, 2),  # 170/0.85 = 200: just enough
        (171.0, 2, 2, 2, 3),
        (340.0, 2, 3, 3, 4),  # 400 - 300: one that starts is counted
        (140.0, 4, 4, 4, 2),  # 400 - 140/0.7 = 200
        (141.0, 4, 4, 4, 3),
        (0.0, 3, 3, 3, 1),
    ],
)
def test_wva_v2(demand, supplied, anticipated, current, expected):
    limits = (0.85, 0.70)
    assert (
        token_count(demand, 100.0, supplied=supplied, anticipated=anticipated, current=current, limits=limits)
        == expected
    )


@pytest.mark.parametrize(("ongoing", "expected"), [(0.0, 1), (4.0, 2), (4.1, 3), (20.0, 10)])
def test_ray_serve(ongoing, expected):
    assert ray_count(ongoing, 2.0) == expected


@pytest.mark.parametrize(
    ("ratio", "ready", "current", "expected"),
    [(1.1, 4, 4, 4), (1.2, 4, 4, 5), (0.5, 4, 4, 2), (0.0, 4, 4, 1)],
)
def test_kthena(ratio, ready, current, expected):
    assert kthena_count(ratio, ready, current) == expected
