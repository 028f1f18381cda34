"""Demand, lead time, speed, stabilisation window: seeded, time walked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fakes.builders import pool
from penstock.policy.demand import DemandMemory, expected_demand, observe_rate
from penstock.policy.lead_time import LeadTimeMemory, lead_seconds, observe_starts
from penstock.policy.speed import SpeedMemory, observe_speed
from penstock.policy.stabilization import WindowMemory, forget, highest, recommend

TICK, WINDOW = 15.0, 60.0


def measured_rates(rate_at, seconds: float, seed: int) -> list[tuple[float, float]]:  # type: ignore[no-untyped-def]
    """Rates over the last minute as Prometheus would show them for a Poisson stream."""
    rng = np.random.default_rng(seed)
    counts = [rng.poisson(rate_at(at) * TICK) for at in np.arange(0, seconds, TICK)]
    per_window = int(WINDOW / TICK)
    return [
        ((index + 1) * TICK, sum(counts[index + 1 - per_window : index + 1]) / WINDOW)
        for index in range(per_window - 1, len(counts))
    ]


@pytest.mark.parametrize("rate", [2.0, 20.0])
def test_on_steady_load_the_bound_covers_the_next_minutes_without_much_to_spare(rate: float) -> None:
    lead = 120.0
    memory, covered, bounds = DemandMemory(), [], []
    stream = measured_rates(lambda _: rate, 4 * 3600, seed=7)
    pending: list[tuple[float, float]] = []
    for at, measured in stream:
        for due, bound in [each for each in pending if each[0] <= at]:
            covered.append(measured <= bound)
            pending.remove((due, bound))
        memory = observe_rate(memory, measured, at, lead_seconds=lead, window_seconds=WINDOW)
        bound = expected_demand(memory, lead_seconds=lead, window_seconds=WINDOW).bound_per_second
        bounds.append(bound)
        pending.append((at + lead, bound))
    assert np.mean(covered) >= 0.90
    assert np.mean(bounds) <= rate + 3.0 * math.sqrt(rate / WINDOW)


def test_a_steady_ramp_is_extrapolated_over_the_lead_time() -> None:
    lead, slope = 300.0, 0.02
    memory = DemandMemory()
    for at in np.arange(0, 1800, TICK):
        memory = observe_rate(memory, 10 + slope * at, at, lead_seconds=lead, window_seconds=WINDOW)
    demand = expected_demand(memory, lead_seconds=lead, window_seconds=WINDOW)
    assert demand.bound_per_second >= 10 + slope * (at + lead) * 0.97
    assert demand.bound_per_second <= 10 + slope * (at + 2 * lead)


def test_a_falling_load_adds_nothing_to_the_bound() -> None:
    memory = DemandMemory()
    for at in np.arange(0, 1800, TICK):
        memory = observe_rate(memory, 50 - 0.02 * at, at, lead_seconds=120.0, window_seconds=WINDOW)
    demand = expected_demand(memory, lead_seconds=120.0, window_seconds=WINDOW)
    assert demand.rise_per_second == pytest.approx(1.645 * math.sqrt(demand.offered_per_second / WINDOW))


def test_a_jump_is_believed_in_one_tick() -> None:
    memory = DemandMemory()
    for at in np.arange(0, 600, TICK):
        memory = observe_rate(memory, 10.0, at, lead_seconds=60.0, window_seconds=WINDOW)
    memory = observe_rate(memory, 30.0, 600.0, lead_seconds=60.0, window_seconds=WINDOW)
    assert expected_demand(memory, lead_seconds=60.0, window_seconds=WINDOW).bound_per_second >= 30.0


def test_memory_stays_small_and_time_never_runs_backwards() -> None:
    memory = DemandMemory()
    for at in np.arange(0, 86_400, TICK):
        memory = observe_rate(memory, 10.0, at, lead_seconds=120.0, window_seconds=WINDOW)
    assert len(memory.samples) <= 16
    assert observe_rate(memory, 99.0, 10.0, lead_seconds=120.0, window_seconds=WINDOW) is memory


def starts(
    durations: list[float], *, unschedulable: bool = False, memory: LeadTimeMemory | None = None
) -> LeadTimeMemory:
    """Walk through one scale-up per duration."""
    memory = memory or observe_starts(LeadTimeMemory(), pool(1), 0.0)
    now, count = 10_000.0 * (1 + len(memory.new_node_seconds)), memory.target or 1
    for seconds in durations:
        count += 1
        memory = observe_starts(memory, pool(count, ready=count - 1), now)
        if unschedulable:
            memory = observe_starts(memory, pool(count, ready=count - 1, stuck=1, unschedulable=1), now + 20)
        memory = observe_starts(memory, pool(count), now + seconds)
        now += seconds + 100
    return memory


def test_until_measured_the_users_initial_startup_counts() -> None:
    assert lead_seconds(LeadTimeMemory(), initial_seconds=120, now=0, tick_seconds=15) == 135


def test_the_lead_time_is_the_p90_of_measured_starts() -> None:
    memory = starts([30, 31, 32, 33, 34, 35, 36, 37, 80, 90])
    memory = starts([200.0], unschedulable=True, memory=memory)
    assert memory.warm_seconds[-2:] == (80, 90)
    assert memory.new_node_seconds == (200.0,)
    assert lead_seconds(memory, initial_seconds=10, now=1e6, tick_seconds=0) == 200


def test_ten_warm_starts_do_not_hide_that_a_new_node_takes_six_minutes() -> None:
    memory = starts([360.0], unschedulable=True, memory=starts([30.0] * 10))
    assert lead_seconds(memory, initial_seconds=60, now=1e6, tick_seconds=0) == 360
    memory = starts([30.0] * 10, memory=memory)
    assert lead_seconds(memory, initial_seconds=60, now=1e6, tick_seconds=0) == 360


def test_a_start_that_is_late_is_believed_before_it_ends() -> None:
    memory = observe_starts(starts([30.0] * 10), pool(12, ready=11), 50_000.0)
    assert lead_seconds(memory, initial_seconds=30, now=50_090.0, tick_seconds=0) == 90


def test_a_rollouts_surge_pods_are_not_scale_ups() -> None:
    memory = observe_starts(LeadTimeMemory(), pool(3), 0.0)
    memory = observe_starts(memory, pool(3, ready=4, rolling_out=True), 10.0)
    memory = observe_starts(memory, pool(3, ready=3, rolling_out=True), 20.0)
    assert memory.warm_seconds == ()


def test_a_uniformly_slower_engine_is_found_and_noise_does_not_move_the_ratio() -> None:
    rng = np.random.default_rng(3)
    memory, in_force = SpeedMemory(), []
    for tick in range(200):
        noise = math.exp(rng.normal(0, 0.03))
        memory = observe_speed(memory, measured_seconds=0.013 * noise, expected_seconds=0.010, at=tick * TICK)
        in_force.append(memory.in_force)
    assert in_force[-1] == pytest.approx(1.3, rel=0.05)
    assert len(set(in_force[20:])) <= 2


@pytest.mark.parametrize(
    ("measured", "expected"), [(0.0, 0.01), (float("nan"), 0.01), (5.0, 0.01), (0.01, 0.0)]
)
def test_nonsense_never_moves_the_speed(measured: float, expected: float) -> None:
    memory = SpeedMemory()
    assert observe_speed(memory, measured_seconds=measured, expected_seconds=expected, at=1.0) is memory


def test_the_window_answers_its_highest_recommendation_once_it_is_full() -> None:
    memory = WindowMemory()
    for tick, count in enumerate([5, 3, 4, 2, 2, 2]):
        memory = recommend(memory, count, tick * 10.0, 30.0)
    assert highest(memory, 50.0, 30.0) == 4
    assert highest(recommend(WindowMemory(), 3, 0.0, 30.0), 10.0, 30.0) is None
    assert highest(forget(memory), 50.0, 30.0) is None
