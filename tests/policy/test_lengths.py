"""Learned traffic shapes: histograms with the engines' own 1-2-5 buckets."""

from __future__ import annotations

import math

import numpy as np
import pytest

from penstock.model.observation import Histogram
from penstock.policy.lengths import (
    LengthMemory,
    LengthMoments,
    histogram_moments,
    observe_lengths,
    observe_means,
)

BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, math.inf)


def histogram(lengths: np.ndarray, seconds: float = 60.0) -> Histogram:
    counts, _ = np.histogram(lengths, bins=[0, *BOUNDS])
    return Histogram(BOUNDS, tuple(float(each) / seconds for each in counts), mean=float(lengths.mean()))


def lognormal(mean: float, scv: float, count: int, seed: int) -> np.ndarray:
    sigma = math.sqrt(math.log1p(scv))
    return np.random.default_rng(seed).lognormal(math.log(mean) - sigma**2 / 2, sigma, count)


@pytest.mark.parametrize(
    ("mean", "scv", "tolerance"), [(1155, 0.92, 0.1), (211, 0.6, 0.1), (98, 2.0, 0.1), (30, 4.6, 0.15)]
)
def test_moments_survive_the_engines_coarse_buckets(mean: float, scv: float, tolerance: float) -> None:
    lengths = lognormal(mean, scv, 200_000, seed=1)
    found = histogram_moments(histogram(lengths))
    assert found is not None
    moments, rate = found
    true_scv = lengths.var() / lengths.mean() ** 2
    assert moments.mean == pytest.approx(lengths.mean())
    assert 1 + moments.scv == pytest.approx(1 + true_scv, rel=tolerance)
    assert rate == pytest.approx(200_000 / 60)


def test_an_empty_histogram_teaches_nothing() -> None:
    empty = Histogram(BOUNDS, (0.0,) * len(BOUNDS))
    assert histogram_moments(empty) is None
    memory = LengthMemory()
    assert observe_lengths(memory, empty, empty, 10.0, window_seconds=60.0) is memory
    assert observe_lengths(memory, None, None, 10.0, window_seconds=60.0) is memory


def test_a_steady_shape_keeps_its_cell_and_a_changed_one_moves_it() -> None:
    memory, cells = LengthMemory(), []
    for turn in range(60):
        inputs = histogram(lognormal(1155, 0.92, 600, seed=turn))
        outputs = histogram(lognormal(211, 0.6, 600, seed=1000 + turn))
        memory = observe_lengths(memory, inputs, outputs, turn * 60.0, window_seconds=60.0)
        cells.append(memory.cell)
    assert len(set(cells)) <= 2
    assert memory.cell is not None
    assert memory.cell.input.mean == pytest.approx(1155, rel=0.12)
    assert memory.cell.output.mean == pytest.approx(211, rel=0.12)
    for turn in range(60, 120):
        inputs = histogram(lognormal(4000, 0.92, 600, seed=turn))
        memory = observe_lengths(memory, inputs, outputs, turn * 60.0, window_seconds=60.0)
    assert memory.cell.input.mean == pytest.approx(4000, rel=0.12)


def learned(gap_seconds: float) -> LengthMemory:
    """A shape that thousands of requests were seen of, the last at 0."""
    moments = LengthMoments(300.0, 1.0)
    return LengthMemory(moments, moments, 2000.0, 0.0, gap_seconds=gap_seconds)


def test_three_requests_after_a_night_of_silence_weigh_as_three() -> None:
    three = histogram(lognormal(3000, 0.1, 3, seed=9), seconds=300.0)
    found = observe_lengths(learned(15.0), three, three, 12 * 3600.0, window_seconds=300.0)
    assert found.output is not None
    assert found.output.mean == pytest.approx(300 + 3 / 2003 * 2700, rel=0.02)


def test_readings_in_turns_weigh_as_the_time_between_them() -> None:
    thirty = histogram(lognormal(3000, 0.1, 30, seed=9), seconds=300.0)
    often, seldom = (
        observe_lengths(learned(gap), thirty, thirty, 3600.0, window_seconds=300.0).output
        for gap in (15.0, 3600.0)
    )
    assert often is not None
    assert seldom is not None
    assert (seldom.mean - 300) / (often.mean - 300) == pytest.approx(360 / 2360 * 2030 / 30, rel=0.02)


def test_too_few_requests_choose_no_cell() -> None:
    few = histogram(lognormal(100, 1.0, 10, seed=5))
    assert observe_lengths(LengthMemory(), few, few, 1.0, window_seconds=60.0).cell is None


def test_token_totals_stand_in_until_a_histogram_was_read() -> None:
    memory = observe_means(LengthMemory(), input_mean=1000, output_mean=200, requests=100)
    assert memory.cell is not None
    assert memory.cell.output.mean == pytest.approx(200, rel=0.05)
    assert observe_means(LengthMemory(), input_mean=1000, output_mean=200, requests=5).cell is None
    assert observe_means(LengthMemory(), input_mean=float("nan"), output_mean=200, requests=99).cell is None


def test_a_young_service_is_known_by_all_requests_of_the_window_at_once() -> None:
    """Each reading of a 300 s window holds all 4, 8, 12 ... requests that ever were."""
    lengths = lognormal(2000, 0.3, 40, seed=7)
    memory = LengthMemory()
    for count in range(4, 41, 4):
        seen = histogram(lengths[:count], seconds=300.0)
        memory = observe_lengths(memory, seen, seen, count / 2.0, window_seconds=300.0)
        assert (memory.cell is not None) == (count >= 30)
    assert memory.input is not None
    assert memory.input.mean == pytest.approx(lengths.mean())
