"""The trim of the queue's limit: slow, bounded, frozen without data; time is walked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.traffic import measured
from penstock.model.observation import Load
from penstock.model.reading import Absence, Reading
from penstock.model.spec import Metric, Objective, Slo
from penstock.policy.queue_trim import UNTRIMMED, TrimMemory, queue_pressure, trim

TTFT = Slo((Objective(Metric.TTFT, 0.95, 0.5), Objective(Metric.TPOT, 0.95, 0.03)))
LATENCY = Slo((Objective(Metric.LATENCY, 0.99, 0.05),))
TPOT_ONLY = Slo((Objective(Metric.TPOT, 0.95, 0.03),))


def walk(pressures: list[float | None], *, every: float = 15.0) -> TrimMemory:
    memory, at = UNTRIMMED, 0.0
    for pressure in pressures:
        memory, at = trim(memory, pressure, at), at + every
    return memory


def test_twice_the_allowed_wait_takes_a_fifth_of_the_queue_in_a_minute() -> None:
    assert walk([2.0] * 3).ratio == pytest.approx(-0.1)
    assert walk([2.0] * 5).ratio == pytest.approx(-0.2)
    assert walk([2.0] * 50).ratio == -0.2


def test_waits_that_are_too_short_lengthen_it() -> None:
    assert walk([0.5] * 5).ratio == pytest.approx(0.1)
    assert walk([0.0] * 50).ratio == 0.2


def test_missing_data_freezes_it_and_its_duration_counts_for_nothing() -> None:
    memory = walk([2.0] * 3)
    memory = trim(memory, None, 60.0)
    memory = trim(memory, 2.0, 86_400.0)
    assert memory.ratio == pytest.approx(-0.1)


def test_one_wild_percentile_moves_it_no_further_than_twice_the_objective() -> None:
    assert walk([1.0, 1000.0]).ratio == walk([1.0, 2.0]).ratio == pytest.approx(-0.05)


@given(st.lists(st.one_of(st.none(), st.floats(0, 50)), max_size=60), st.floats(0.1, 5000))
def test_it_never_exceeds_a_fifth(pressures: list[float | None], every: float) -> None:
    assert abs(walk(pressures, every=every).ratio) <= 0.2


def test_it_settles_where_the_wait_is_what_is_allowed() -> None:
    # A pool whose waits are 10 % longer than the model's for the same queue, measured a minute late.
    memory, at, ratios = UNTRIMMED, 0.0, [0.0] * 5
    for _ in range(400):
        memory, at = trim(memory, 1.1 * (1 + ratios[-5]), at), at + 15.0
        ratios.append(memory.ratio)
    assert memory.ratio == pytest.approx(1 / 1.1 - 1, abs=1e-3)
    assert min(ratios) >= 1 / 1.1 - 1 - 0.005  # without swinging past


@pytest.mark.parametrize(
    ("case", "slo", "load", "rates", "pressure"),
    [
        ("no gateway", TTFT, {"ttft": {0.95: Reading(0.9)}}, None, None),
        (
            "nothing is shed, so the limit is not felt",
            TTFT,
            {"ttft": {0.95: Reading(0.9)}},
            measured(9.0),
            None,
        ),
        ("the gateways' mean wait", TTFT, {}, measured(100.0, shed=20.0, waiting=10.0), 0.5),
        (
            "spilling is feeling the limit too",
            TTFT,
            {},
            measured(100.0, spilled=20.0, waiting=40.0),
            2.0,
        ),
        (
            "the measured percentile where it is worse",
            TTFT,
            {"ttft": {0.95: Reading(0.6)}},
            measured(100.0, shed=20.0, waiting=10.0),
            1.2,
        ),
        (
            "a percentile that is missing is left out",
            TTFT,
            {"ttft": {0.95: Reading.missing(Absence.STALE, "old")}},
            measured(100.0, shed=20.0, waiting=10.0),
            0.5,
        ),
        ("everything is shed and nothing measured", TTFT, {}, measured(10.0, shed=10.0), None),
        ("a whole request's latency", LATENCY, {"latency": {0.99: Reading(0.06)}}, measured(9, shed=1), 1.2),
        ("a latency that is not measured", LATENCY, {}, measured(9, shed=1), None),
        ("no objective about waiting", TPOT_ONLY, {"ttft": {0.95: Reading(9.0)}}, measured(9, shed=1), None),
    ],
)
def test_pressure(case, slo, load, rates, pressure) -> None:  # type: ignore[no-untyped-def]
    found = queue_pressure(slo, Load(**load), rates)
    assert found == (None if pressure is None else pytest.approx(pressure)), case
