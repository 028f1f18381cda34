"""When requests leave and how long they are."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.arrivals import (
    ArrivalProcess,
    Lengths,
    PlannedRequest,
    RateStep,
    from_trace,
    parse_rates,
    scheduled,
)
from penstock.traces.fault import TraceFault

POISSON, CONSTANT = ArrivalProcess.POISSON, ArrivalProcess.CONSTANT
LENGTHS = Lengths(500, 100)


def times(rates: str, process: ArrivalProcess, duration: float, seed: int = 1) -> np.ndarray:
    plan = scheduled(
        parse_rates(rates),
        LENGTHS,
        process=process,
        duration_seconds=duration,
        chance=np.random.default_rng(seed),
    )
    return np.array([request.at_seconds for request in plan])


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("5", (RateStep(5, math.inf),)),
        ("2:60,6:120", (RateStep(2, 60), RateStep(6, 120))),
        ("2:60,0.5", (RateStep(2, 60), RateStep(0.5, math.inf))),
    ],
)
def test_rates_are_read(text: str, steps: tuple[RateStep, ...]):
    assert parse_rates(text) == steps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fast", "'fast' is not a rate: write 5, or 2:60,6:120 (rate:seconds)"),
        ("5:", "'5:' is not a rate: write 5, or 2:60,6:120 (rate:seconds)"),
        ("-1", "'-1': rates are at least 0 and finite, durations above 0"),
        ("5:0", "'5:0': rates are at least 0 and finite, durations above 0"),
        ("nan", "'nan': rates are at least 0 and finite, durations above 0"),
        ("5,6:60", "'5,6:60': every rate but the last needs its seconds, as in 2:60,6:120"),
    ],
)
def test_a_rate_that_cannot_be_read_says_how_to_write_one(text: str, message: str):
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(").replace(")", r"\)") + "$"):
        parse_rates(text)


def test_constant_arrivals_are_evenly_spaced_through_a_change_of_rate():
    assert times("1:2,4", CONSTANT, 3.0) == pytest.approx([1.0, 2.0, 2.25, 2.5, 2.75])


def test_intensity_carries_over_a_change_of_rate():
    # half a gap passes at 1/s, the other half at 2/s
    assert times("1:0.5,2", CONSTANT, 1.6) == pytest.approx([0.75, 1.25])


def test_a_rate_of_zero_is_a_pause():
    assert times("1:2.5,0:10,1", CONSTANT, 14.0) == pytest.approx([1.0, 2.0, 13.0])


def test_poisson_counts_have_the_rate_as_mean_and_variance():
    at = times("50:100,10:400", POISSON, 500.0)
    for low, high, rate in ((0, 100, 50), (100, 500, 10)):
        counts = np.histogram(at, np.arange(low, high + 1))[0]
        assert counts.mean() == pytest.approx(rate, abs=4 * math.sqrt(rate / counts.size))
        assert counts.var() / counts.mean() == pytest.approx(1, abs=4 * math.sqrt(2 / counts.size))


@given(
    rates=st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 5)), min_size=1, max_size=4),
    process=st.sampled_from(ArrivalProcess),
    duration=st.floats(0.1, 10),
    seed=st.integers(0, 100),
)
def test_arrivals_are_ordered_within_the_period_and_repeatable(
    rates: list[tuple[float, float]], process: ArrivalProcess, duration: float, seed: int
):
    text = ",".join(f"{rate}:{seconds}" for rate, seconds in rates)
    at = times(text, process, duration, seed)
    assert np.all(np.diff(at) >= 0)
    assert np.all((at >= 0) & (at < duration))
    assert np.array_equal(at, times(text, process, duration, seed))


@pytest.mark.parametrize("scv", [0.0, 0.5, 1.0])
def test_lengths_have_the_mean_and_variability_asked_for(scv: float):
    chance = np.random.default_rng(3)
    drawn = np.array([Lengths(1155, 211, scv).draw(chance) for _ in range(40_000)])
    assert drawn.mean(axis=0) == pytest.approx([1155, 211], rel=0.02)
    assert drawn.var(axis=0) / drawn.mean(axis=0) ** 2 == pytest.approx([scv, scv], abs=0.05)


TRACE = "arrival_s,input_tokens,output_tokens\n10.0,374,44\n14.5,396,1\n14.5,879.0,55\n20.0,1,1\n"


@pytest.mark.parametrize("packed", [False, True], ids=["csv", "gz"])
def test_a_trace_counts_from_its_first_row_up_to_the_duration(tmp_path: Path, packed: bool):
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(TRACE.encode()) if packed else TRACE.encode())
    assert list(from_trace(path, duration_seconds=10.0)) == [
        PlannedRequest(0.0, 374, 44),
        PlannedRequest(4.5, 396, 1),
        PlannedRequest(4.5, 879, 55),
    ]


def test_a_broken_trace_is_refused_with_its_line(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text(TRACE + "19.0,1,1\n")
    with pytest.raises(TraceFault, match="line 6: arrival_s 19 is before line 5's 20"):
        list(from_trace(path, duration_seconds=math.inf))
