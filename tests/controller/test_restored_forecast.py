"""What a restarted operator reads back of the past: rates of the last hour and a half, the day before."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fakes.builders import pool, seen, service
from penstock.controller.restore import DAY_SECONDS, HISTORY_SECONDS, restored_memory, with_history
from penstock.model.observation import Load
from penstock.model.reading import Reading
from penstock.model.spec import EngineSpec, ProfileType
from penstock.policy import beliefs
from penstock.policy.beliefs import LoopTimes
from penstock.policy.calibration import Stage
from penstock.policy.capacity_problem import resolve_engine
from penstock.policy.demand import expected_demand
from penstock.policy.lengths import LengthMemory, LengthMoments
from penstock.policy.memory import ServiceMemory
from penstock.policy.season import BIN_SECONDS, season_ratio

TIMES = LoopTimes()
NOW = 1_700_000_000.0
NAMED = EngineSpec(profile_type=ProfileType.NAMED, profile_name="llama-3.1-8b-h100")


def daily(at: float) -> float:
    return 10 + 5 * math.sin(2 * math.pi * at / 86_400)


def restored() -> ServiceMemory:
    random = np.random.default_rng(4)
    cells = np.arange(NOW - HISTORY_SECONDS, NOW, TIMES.cell_seconds)
    quarters = np.arange(NOW - DAY_SECONDS, NOW - HISTORY_SECONDS - BIN_SECONDS, BIN_SECONDS)
    recent = [(float(at), daily(at) * float(random.normal(1, 0.05))) for at in cells]
    day = [(float(at), daily(at)) for at in quarters]
    return with_history(ServiceMemory(), service(initial_startup_seconds=120.0), recent, TIMES, day)


def test_a_restart_knows_its_margins_at_once() -> None:
    memory = restored()
    demand = expected_demand(memory.demand, lead_seconds=135.0, window_seconds=TIMES.rate_window_seconds)
    assert memory.demand.forecast.bounds is not None
    assert demand.method
    assert daily(NOW) < demand.bound_per_second < 1.3 * daily(NOW)


def test_a_restart_knows_how_the_day_goes_on() -> None:
    season = restored().demand.forecast.season
    found = season_ratio(season, NOW, 900.0)
    assert found == pytest.approx(daily(NOW + 900) / daily(NOW), abs=0.05)


def test_tokens_that_are_counted_after_a_restart_are_judged_anew_against_the_usual_request() -> None:
    lengths = LengthMemory(LengthMoments(1000.0, 1.0), LengthMoments(200.0, 1.0), 2000.0, NOW - 300.0)
    memory, engine, rate = replace(restored(), lengths=lengths), resolve_engine(NAMED), daily(NOW)
    load = Load(
        arrival_rate=Reading(rate),
        queue_growth=Reading(0.0),
        input_token_rate=Reading(2 * 1000.0 * rate),
        output_token_rate=Reading(2 * 200.0 * rate),
    )
    memory = beliefs.observe(service(), engine, seen(NOW + 60.0, pool(2), load=load), memory, TIMES)
    assert memory.demand.reference_tokens == pytest.approx(1000 + 200 * engine.output_weight)
    assert memory.demand.heaviness == pytest.approx(2.0)
    assert memory.demand.forecast.bounds is None


def test_without_a_history_a_service_begins_as_a_new_one() -> None:
    memory = with_history(ServiceMemory(), service(), (), TIMES)
    assert memory.demand.at == -math.inf
    assert memory.demand.offset_seconds == pytest.approx(
        with_history(ServiceMemory(), service(), (), TIMES).demand.offset_seconds
    )


def test_the_learned_speed_is_the_scalar_in_force() -> None:
    memory = restored_memory({"learned": {"speedRatio": "1.34"}}, NOW)
    assert memory.calibration.stage is Stage.SCALAR
    assert memory.calibration.in_force.compute == 1.34
    assert restored_memory({}, NOW).calibration.stage is Stage.PROFILE
