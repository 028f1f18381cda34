"""The share of the offered requests that was answered."""

from __future__ import annotations

import pytest

from penstock.model.objective_counts import Counted
from penstock.model.spec import Metric, Objective, Slo
from penstock.model.traffic import ClassCount, GatewayReading
from penstock.policy.availability import measured_availability, since
from penstock.policy.gateway_load import GatewayMemory

ALL = Slo((Objective(Metric.TTFT, 0.95, 0.5),))
INTERACTIVE = Slo(ALL.objectives, classes=("interactive",))


def reading(offered: float, shed: float, errors: float = 0.0, batch: float = 0.0) -> GatewayReading:
    """Batch requests were all shed."""
    classes = {"interactive": ClassCount(offered, shed), "batch": ClassCount(batch, batch)}
    return GatewayReading(0.0, 2, server_errors=errors, classes=classes)


def without_batch(offered: float, shed: float) -> GatewayReading:
    """A reading while `admission.classes` has the interactive class only."""
    return GatewayReading(0.0, 2, classes={"interactive": ClassCount(offered, shed)})


@pytest.mark.parametrize(
    ("slo", "expected"), [(ALL, Counted(150.0, 57.0)), (INTERACTIVE, Counted(100.0, 7.0))]
)
def test_429_and_5xx_count_against_the_classes_that_the_objective_is_about(
    slo: Slo, expected: Counted
) -> None:
    assert since(None, reading(100.0, 4.0, 3.0, batch=50.0), slo) == expected


def test_errors_of_other_classes_never_make_more_misses_than_requests() -> None:
    assert since(None, reading(2.0, 0.0, 5.0), INTERACTIVE) == Counted(2.0, 2.0)


def test_errors_of_other_classes_are_not_booked_again_on_the_requests_that_come_later() -> None:
    assert since(reading(2.0, 0.0, 500.0), reading(102.0, 0.0, 500.0), INTERACTIVE) == Counted(100.0, 0.0)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (None, reading(100.0, 5.0), Counted(100.0, 5.0)),
        (reading(100.0, 5.0), reading(150.0, 5.0), Counted(50.0, 0.0)),
        (reading(100.0, 5.0, 3.0), reading(10.0, 1.0, 1.0), Counted(10.0, 2.0)),
    ],
    ids=["first", "rose", "fell"],
)
def test_counters_that_fell_began_anew(
    before: GatewayReading | None, now: GatewayReading, expected: Counted
) -> None:
    assert since(before, now, ALL) == expected


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        # The sum falls by 700,000, which is no restart: 10 requests came.
        (reading(300_000.0, 50.0, batch=700_000.0), without_batch(300_010.0, 51.0), Counted(10.0, 1.0)),
        # The sum rises by all that a class has counted that was there before.
        (
            without_batch(300_000.0, 50.0),
            reading(300_010.0, 51.0, batch=700_000.0),
            Counted(10.0, 1.0),
        ),
    ],
    ids=["gone", "new"],
)
def test_classes_that_come_and_go_are_not_booked_with_all_they_had_counted(
    before: GatewayReading, now: GatewayReading, expected: Counted
) -> None:
    assert since(before, now, ALL) == expected


def test_what_is_measured_is_of_the_readings_that_are_kept() -> None:
    memory = GatewayMemory((reading(1000.0, 100.0), reading(1200.0, 110.0, 2.0)))
    assert measured_availability(memory, ALL) == pytest.approx(1 - 12 / 200)
    assert measured_availability(GatewayMemory((reading(10.0, 1.0),)), ALL) is None
    assert measured_availability(GatewayMemory((reading(10.0, 1.0), reading(10.0, 1.0))), ALL) is None
