"""Lead time, speed, stabilisation window: seeded, time walked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fakes.builders import pool, seen, service
from penstock.model.observation import Load, Pool
from penstock.model.reading import Reading
from penstock.model.spec import EngineSpec, ProfileType
from penstock.policy import beliefs
from penstock.policy.beliefs import LoopTimes
from penstock.policy.capacity_problem import resolve_engine
from penstock.policy.lead_time import LeadTimeMemory, lead_seconds, observe_starts
from penstock.policy.lengths import LengthMemory, LengthMoments, ShapeCell
from penstock.policy.memory import ServiceMemory
from penstock.policy.speed import SpeedMemory, is_due, observe_speed
from penstock.policy.stabilization import WindowMemory, forget, highest, recommend

TICK = 15.0


def looked(memory: LeadTimeMemory, pool: Pool, now: float) -> LeadTimeMemory:
    return observe_starts(memory, pool, now, initial_seconds=60.0)


def starts(
    durations: list[float], *, unschedulable: bool = False, memory: LeadTimeMemory | None = None
) -> LeadTimeMemory:
    """Walk through one scale-up per duration."""
    memory = memory or looked(LeadTimeMemory(), pool(1), 0.0)
    now, count = 10_000.0 * (1 + len(memory.new_node_seconds)), memory.target or 1
    for seconds in durations:
        count += 1
        memory = looked(memory, pool(count, ready=count - 1), now)
        if unschedulable:
            memory = looked(memory, pool(count, ready=count - 1, stuck=1, unschedulable=1), now + 20)
        memory = looked(memory, pool(count), now + seconds)
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
    memory = looked(starts([30.0] * 10), pool(12, ready=11), 50_000.0)
    assert lead_seconds(memory, initial_seconds=30, now=50_090.0, tick_seconds=0) == 90


@pytest.mark.parametrize(
    ("before", "seconds", "recorded"),
    [
        ([], 360.0, 360.0),
        ([], 900.0, 900.0),  # a new node and a large model
        ([], 6 * 3600.0, 900.0),  # Pending until somebody gave a node back
        ([30.0] * 9, 6 * 3600.0, 900.0),
        ([900.0], 6 * 3600.0, 3600.0),  # four times what is known already
        ([900.0], 1800.0, 1800.0),
        ([30.0] * 9, -3600.0, 0.0),  # the clock was set back
    ],
)
def test_what_is_recorded_of_a_start_has_bounds(before: list[float], seconds: float, recorded: float) -> None:
    memory = starts([seconds], memory=starts(before))
    assert memory.warm_seconds == (*before, recorded)


def test_a_day_without_nodes_is_not_the_lead_time_from_then_on() -> None:
    memory = starts([86_400.0], unschedulable=True, memory=starts([60.0] * 3))
    assert lead_seconds(memory, initial_seconds=60, now=1e6, tick_seconds=15) == 915


def test_a_rollouts_surge_pods_are_not_scale_ups() -> None:
    memory = looked(LeadTimeMemory(), pool(3), 0.0)
    memory = looked(memory, pool(3, ready=4, rolling_out=True), 10.0)
    memory = looked(memory, pool(3, ready=3, rolling_out=True), 20.0)
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


def test_services_that_began_together_compare_their_speed_a_share_at_each_tick() -> None:
    """100 services, one tick in 15 s, each compared once a minute: a quarter of them at a tick."""
    last = dict.fromkeys(range(100), -math.inf)
    due_at: list[int] = []
    for tick in range(13):
        at = 1_000_000.0 + 15 * tick
        due = [
            each
            for each, before in last.items()
            if is_due(SpeedMemory(at=before), at, every_seconds=60.0, turn_seconds=0.6 * each)
        ]
        last |= dict.fromkeys(due, at)
        due_at.append(len(due))
    assert due_at == [100] + [25] * 12


@pytest.mark.parametrize(("measured", "expected"), [(0.0, 0.01), (float("nan"), 0.01), (0.01, 0.0)])
def test_nonsense_never_moves_the_speed(measured: float, expected: float) -> None:
    memory = SpeedMemory()
    assert observe_speed(memory, measured_seconds=measured, expected_seconds=expected, at=1.0) is memory


@pytest.mark.parametrize(("ratio", "text"), [(12.0, "12"), (0.08, "0.08")])
def test_a_speed_beyond_what_is_believed_is_never_learned_and_said_so(ratio: float, text: str) -> None:
    memory, said = SpeedMemory(), []
    for minute in range(8):
        memory = observe_speed(memory, measured_seconds=0.01 * ratio, expected_seconds=0.01, at=60.0 * minute)
        said.append(memory.refusal)
    assert (memory.believed, memory.log_ratio, memory.in_force) == (False, 0.0, 1.0)
    message = f"step time is {text} x the reference's, beyond 0.1 to 10: give an inline profile"
    assert said == [""] * 4 + [message] * 4
    memory = observe_speed(memory, measured_seconds=0.02, expected_seconds=0.01, at=600.0)
    assert memory.refusal == ""


def test_a_learned_profile_that_cannot_be_learned_says_so_instead_of_learning() -> None:
    engine, memory = resolve_engine(EngineSpec(profile_type=ProfileType.LEARNED)), ServiceMemory()
    moments = LengthMoments(1000.0, 1.0)
    memory = replace(memory, lengths=LengthMemory(moments, moments, cell=ShapeCell(moments, moments)))
    said = SpeedMemory(refused=5, refused_ratio=12.0)
    found = [
        beliefs.estimate(
            service(),
            engine,
            seen(1000.0, pool(2), load=Load(arrival_rate=Reading(5.0), waiting=Reading(3.0))),
            replace(memory, speed=speed),
            None,
            LoopTimes(),
        )
        for speed in (SpeedMemory(), said)
    ]
    assert [each.learning for each in found] == [True, False]
    assert found[1].missing == said.refusal


def test_the_window_answers_its_highest_recommendation_once_it_is_full() -> None:
    memory = WindowMemory()
    for tick, count in enumerate([5, 3, 4, 2, 2, 2]):
        memory = recommend(memory, count, tick * 10.0, 30.0)
    assert highest(memory, 50.0, 30.0) == 4
    assert highest(recommend(WindowMemory(), 3, 0.0, 30.0), 10.0, 30.0) is None
    assert highest(forget(memory), 50.0, 30.0) is None
