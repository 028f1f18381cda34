"""When garbage is collected: in the gap between ticks, and in the midst of events only in a storm of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from penstock.controller import garbage
from penstock.controller.garbage import (
    FULL_EVERY_TICKS,
    LOOK_EVERY_EVENTS,
    STORM_OBJECTS,
    YOUNG_OBJECTS,
    GarbageCollection,
    collect_after,
)


@dataclass
class Collector:
    """Stands for the module `gc`: `young` objects are there; notes what was done."""

    young: int = 0
    done: list[str] = field(default_factory=list)

    def get_count(self) -> tuple[int, int, int]:
        return self.young, 0, 0

    def disable(self) -> None:
        self.done.append("disable")

    def collect(self, generation: int = 2) -> None:
        self.done.append(f"collect {generation}")

    def freeze(self) -> None:
        self.done.append("freeze")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    played = Collector()
    monkeypatch.setattr(garbage, "gc", played)
    return played


def test_what_lives_when_the_first_statuses_are_written_is_frozen_once(collector: Collector) -> None:
    collection = GarbageCollection()
    for backlog in (10_000, 300, 0, 0):
        collection.between_ticks(backlog=backlog)
    assert collector.done == ["disable", "collect 2", "freeze"]


def test_a_quiet_tick_leaves_nothing_to_collect_and_a_busy_one_does(collector: Collector) -> None:
    collection = GarbageCollection()
    for young in (0, 0, YOUNG_OBJECTS, YOUNG_OBJECTS + 1):
        collector.young = young
        collection.between_ticks(backlog=0)
    assert collector.done == ["disable", "collect 2", "freeze", "collect 0"]


def test_everything_is_looked_at_once_an_hour(collector: Collector) -> None:
    collection = GarbageCollection()
    for _ in range(2 * FULL_EVERY_TICKS):
        collection.between_ticks(backlog=0)
    assert collector.done.count("collect 2") == 3, "one of them before freezing"


@pytest.mark.parametrize(
    ("events", "young", "collected"),
    [
        (LOOK_EVERY_EVENTS, STORM_OBJECTS + 1, True),
        (LOOK_EVERY_EVENTS + 1, STORM_OBJECTS + 1, False),
        (LOOK_EVERY_EVENTS, STORM_OBJECTS, False),
        (LOOK_EVERY_EVENTS, YOUNG_OBJECTS + 1, False),
    ],
)
def test_events_wait_for_the_gap_unless_they_are_a_storm(
    collector: Collector, events: int, young: int, collected: bool
) -> None:
    collector.young = young
    collect_after(events)
    assert collector.done == (["collect 0"] if collected else [])
