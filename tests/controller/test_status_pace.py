"""Refreshing numbers of a large fleet: bounded a tick, and everybody's turn comes."""

from __future__ import annotations

from penstock.controller.status_pace import StatusPace
from penstock.model.spec import ServiceKey

TICK = 15.0


def fleet(count: int) -> dict[ServiceKey, float]:
    """Services by when their numbers were last shown."""
    return {ServiceKey("prod", f"chat-{number}"): 0.0 for number in range(count)}


def looked_at(pace: StatusPace, shown: dict[ServiceKey, float], now: float) -> int:
    """One tick in which every number has moved; return how many are written."""
    count = 0
    for key, at in shown.items():
        if pace.is_due(key, at, now):
            pace.spend()
            shown[key] = now
            count += 1
    return count


def test_a_small_fleet_is_looked_at_once_a_minute() -> None:
    pace, shown = StatusPace(), fleet(50)
    assert [looked_at(pace, shown, at * TICK) for at in range(1, 9)] == [0, 0, 0, 50, 0, 0, 0, 50]


def test_a_tick_writes_a_bounded_number_and_nobody_is_forgotten() -> None:
    pace, shown = StatusPace(most_per_tick=100), fleet(2000)
    counts = [looked_at(pace, shown, at * TICK) for at in range(1, 401)]
    assert counts[:3] == [0, 0, 0]
    # A round of 20 ticks; where it ends within a tick that tick may write fewer.
    assert set(counts[3:]) == {100}
    assert min(shown.values()) > (400 - 21) * TICK


def test_a_service_that_is_gone_holds_up_one_tick_only() -> None:
    pace, shown = StatusPace(most_per_tick=10), fleet(100)
    assert looked_at(pace, shown, 60.0) == 10
    del shown[ServiceKey("prod", "chat-10")]  # it was to be the next
    assert looked_at(pace, shown, 75.0) == 0
    assert looked_at(pace, shown, 90.0) == 10


def test_numbers_that_have_not_moved_cost_nothing() -> None:
    pace, shown = StatusPace(most_per_tick=10), fleet(1000)
    assert all(pace.is_due(key, at, 60.0) for key, at in shown.items())
