"""What a restarted operator reads back of the past: rates of the last hour and a half, the day before."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fakes.builders import service
from penstock.controller.restore import DAY_SECONDS, HISTORY_SECONDS, restored_memory, with_history
from penstock.policy.beliefs import LoopTimes
from penstock.policy.calibration import Stage
from penstock.policy.demand import expected_demand
from penstock.policy.memory import ServiceMemory
from penstock.policy.season import BIN_SECONDS, season_ratio

TIMES = LoopTimes()
NOW = 1_700_000_000.0


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
