"""Refreshing numbers of a large fleet: bounded a tick, and everybody's turn comes."""

from __future__ import annotations

from penstock.controller.status_pace import LONGEST_SECONDS, StatusPace

TICK = 15.0


def looked_at(pace: StatusPace, shown: dict[int, float], now: float) -> list[int]:
    """One tick in which every number has moved."""
    found = []
    for each, at in shown.items():
        if pace.is_due(at, now):
            pace.spend()
            shown[each] = now
            found.append(each)
    return found


def test_a_small_fleet_is_looked_at_once_a_minute() -> None:
    pace, shown = StatusPace(), dict.fromkeys(range(50), 0.0)
    assert [len(looked_at(pace, shown, at * TICK)) for at in range(1, 9)] == [0, 0, 0, 50, 0, 0, 0, 50]


def test_a_tick_writes_a_bounded_number_and_nobody_is_forgotten() -> None:
    pace, shown = StatusPace(most_per_tick=100), dict.fromkeys(range(2000), 0.0)
    counts = [len(looked_at(pace, shown, at * TICK)) for at in range(1, 400)]
    assert max(counts) == 100
    # 2,000 at 100 a tick are 20 ticks; twice that is allowed to whoever is unlucky.
    assert min(shown.values()) > 399 * TICK - 40 * TICK


def test_a_fleet_that_calms_down_is_looked_at_every_minute_again() -> None:
    pace, shown = StatusPace(most_per_tick=10), dict.fromkeys(range(1000), 0.0)
    for at in range(1, 100):
        looked_at(pace, shown, at * TICK)
    assert pace.every_seconds == LONGEST_SECONDS
    for at in range(100, 160):
        pace.is_due(at * TICK, at * TICK)
    assert pace.every_seconds == 60.0
