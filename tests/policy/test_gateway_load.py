"""Offered load from the gateways' counters."""

from __future__ import annotations

import pytest

from penstock.model.reading import Absence, Reading
from penstock.model.spec import Slo
from penstock.model.traffic import ClassCount, GatewayReading
from penstock.policy.gateway_load import (
    GatewayMemory,
    bypassing,
    gateway_rates,
    observe_gateway,
    offered_reading,
)


def walked(seconds: int, **per_second: ClassCount) -> GatewayMemory:
    """Return the memory after a reading each second of constant rates."""
    memory = GatewayMemory()
    for at in range(seconds + 1):
        counts = {
            name: ClassCount(rate.offered * at, rate.shed * at, rate.spilled * at)
            for name, rate in per_second.items()
        }
        memory = observe_gateway(memory, GatewayReading(float(at), 2, classes=counts), window_seconds=60)
    return memory


def test_rates_are_per_class_over_the_window() -> None:
    rates = gateway_rates(walked(120, interactive=ClassCount(10, 1, 2), batch=ClassCount(5, 4, 0)), 120)
    assert rates is not None
    assert (rates.offered, rates.shed, rates.spilled) == pytest.approx((15, 5, 2))
    assert rates.classes["interactive"].admitted == pytest.approx(7)
    assert 60 <= rates.window_seconds <= 65


def test_memory_is_bounded_however_often_one_looks() -> None:
    assert len(walked(600, default=ClassCount(1)).readings) <= 22


@pytest.mark.parametrize(
    ("classes", "rate"),
    [
        ((), 15.0),  # everything buys replicas
        (("interactive",), 11.0),  # batch only as far as it was admitted
        (("batch",), 12.0),
    ],
)
def test_shed_work_outside_the_slo_buys_no_replicas(classes: tuple[str, ...], rate: float) -> None:
    rates = gateway_rates(walked(60, interactive=ClassCount(10, 1, 2), batch=ClassCount(5, 4, 0)), 60)
    assert rates is not None
    assert rates.to_size_for(Slo((), classes=classes)) == pytest.approx(rate)


def test_silent_gateways_are_missing_not_zero() -> None:
    memory = walked(60, default=ClassCount(10))
    assert gateway_rates(memory, 66) is None
    assert gateway_rates(GatewayMemory(), 0) is None


def test_a_true_zero_is_zero() -> None:
    rates = gateway_rates(walked(60, default=ClassCount()), 60)
    assert offered_reading(rates, Slo(()), window_seconds=60) == Reading(0.0)


def test_a_start_is_missing_until_half_a_window_was_seen() -> None:
    rates = gateway_rates(walked(20, default=ClassCount(10)), 20)
    reading = offered_reading(rates, Slo(()), window_seconds=60)
    assert reading.absence is Absence.TOO_FEW_SAMPLES


def test_counters_that_begin_anew_are_not_a_negative_rate() -> None:
    memory = walked(60, default=ClassCount(10))
    restarted = GatewayReading(61.0, 1, classes={"default": ClassCount(3)})
    memory = observe_gateway(memory, restarted, window_seconds=60)
    assert gateway_rates(memory, 61) is None
    later = GatewayReading(63.0, 1, classes={"default": ClassCount(23)})
    rates = gateway_rates(observe_gateway(memory, later, window_seconds=60), 63)
    assert rates is not None
    assert rates.offered == pytest.approx(10)


@pytest.mark.parametrize(
    ("engine_rate", "said"),
    [
        (Reading(9.0), ""),
        (Reading(11.0), ""),  # within what scrapes and rounding explain
        (
            Reading(20.0),
            "the engines serve 20 req/s, the gateways let 9 req/s in: the rest bypasses them, is not limited "
            "and not drained; let all clients use the gateways' Service",
        ),
        (Reading.missing(Absence.NO_SERIES), ""),
    ],
)
def test_load_past_the_gateways_is_told(engine_rate: Reading, said: str) -> None:
    rates = gateway_rates(walked(60, default=ClassCount(12, 2, 1)), 60)
    assert rates is not None
    assert bypassing(rates, engine_rate) == said
