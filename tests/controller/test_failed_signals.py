"""While one of the queries behind the load fails and the others answer, nothing is scaled down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from fakes.world import World, chat
from penstock.metrics_source.identity import Watched
from penstock.model.observation import Load
from penstock.model.reading import Absence, Reading
from penstock.model.spec import ServiceKey

MINUTES_10 = 600.0
TIMED_OUT = "no answer within 5 s"


@dataclass
class OneQueryFails(World):
    """A world in which the signals of `missing` cannot be read, and all others can."""

    missing: dict[str, Reading] = field(default_factory=dict)

    async def collect(self, services: Sequence[Watched], *, at: float) -> dict[ServiceKey, Load]:
        loads = await super().collect(services, at=at)
        return {key: replace(load, **self.missing) for key, load in loads.items()}  # type: ignore[arg-type]


def failed(what: str) -> Reading:
    return Reading.missing(Absence.QUERY_FAILED, f"the query for {what} failed: {TIMED_OUT}")


PULSE = dict.fromkeys(("running", "reporting_pods", "sample_age_seconds"), failed("running"))
WAITING = {"waiting": failed("waiting")}
GROWTH = {"queue_growth": failed("queue_growth")}
PART = {"sample_age_seconds": Reading.missing(Absence.PARTIAL, "the answer may be incomplete")}


@pytest.mark.parametrize(
    ("missing", "reason", "told", "kept"),
    [
        (PULSE, "QueryFailed", failed("running").detail, failed("running").detail),
        (WAITING, "QueryFailed", failed("waiting").detail, failed("waiting").detail),
        (
            GROWTH,
            "QueryFailed",
            failed("queue_growth").detail,
            f"the growth of the queue is not known: {failed('queue_growth').detail}",
        ),
        (PART, "PartialReporting", "the answer may be incomplete", "the answer may be incomplete"),
    ],
    ids=["pulse", "waiting", "growth", "part"],
)
async def test_ten_minutes_of_falling_load_without_one_signal_scale_nothing_down_until_it_is_back(
    missing: dict[str, Reading], reason: str, told: str, kept: str
) -> None:
    world = OneQueryFails(rate=lambda t: 60.0 if t < 1200 else 2.0, spec=chat(), target=4)
    await world.run(1200)
    held = world.target
    world.missing = missing
    await world.run(MINUTES_10)
    assert world.target == held
    assert world.status["decision"]["reason"] == "PartialMetrics"
    assert world.status["decision"]["message"].endswith(f"would do: {kept}")
    metrics = world.condition("MetricsAvailable")
    assert (metrics["status"], metrics["reason"], metrics["message"]) == ("False", reason, told)
    world.missing = {}
    await world.run(60)
    assert world.target < held
    assert world.condition("MetricsAvailable")["reason"] == "Available"


@pytest.mark.parametrize(
    "missing", [PULSE, WAITING, GROWTH, PART], ids=["pulse", "waiting", "growth", "part"]
)
async def test_what_can_be_read_without_one_signal_still_scales_up(missing: dict[str, Reading]) -> None:
    world = OneQueryFails(rate=lambda t: 30.0 if t < 1200 else 70.0, spec=chat(), target=2)
    await world.run(1200)
    held = world.target
    world.missing = missing
    await world.run(MINUTES_10)
    assert world.target > held
