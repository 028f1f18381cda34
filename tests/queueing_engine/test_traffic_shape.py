import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.queueing.errors import InvalidParameter
from penstock.queueing.traffic import STRATA, TrafficShape


def test_moments_of_a_real_hour(conversation_shape: TrafficShape) -> None:
    assert conversation_shape.input_mean == pytest.approx(1154.7, abs=0.1)
    assert conversation_shape.output_mean == pytest.approx(211.1, abs=0.1)
    assert conversation_shape.kv_resident_tokens == pytest.approx(1227, abs=1)


def test_a_thinned_sample_keeps_both_marginals(
    conversation_shape: TrafficShape, conversations: np.ndarray
) -> None:
    for sample, whole in (
        (conversation_shape.input_lengths, conversations[:, 1]),
        (conversation_shape.output_lengths, conversations[:, 2]),
    ):
        assert sample.size == STRATA
        assert sample.mean() == pytest.approx(whole.mean(), rel=0.01)
        np.testing.assert_allclose(
            np.quantile(sample, [0.5, 0.9, 0.99]), np.quantile(whole, [0.5, 0.9, 0.99]), rtol=0.03
        )


@pytest.mark.parametrize("scv", [0.0, 0.3, 1.0, 3.0])
def test_log_normal_lengths_have_the_moments_asked_for(scv: float) -> None:
    shape = TrafficShape.lognormal(1155, 211, scv)
    assert shape.input_mean == pytest.approx(1155, rel=1e-9)
    assert shape.output_mean == pytest.approx(211, rel=1e-9)
    # Means of strata lose the spread inside the last one: 0.5 % of the second moment at SCV 1.
    assert 1 + shape.input_scv == pytest.approx(1 + scv, rel=0.03)
    independent = 1155 + (211**2 * (1 + scv) - 211) / (2 * 210)
    assert shape.kv_resident_tokens == pytest.approx(independent, rel=0.03)


def test_input_and_output_may_vary_differently() -> None:
    shape = TrafficShape.lognormal(1000, 100, input_scv=0.2, output_scv=2.0)
    assert shape.input_scv == pytest.approx(0.2, rel=0.02)
    assert shape.output_scv == pytest.approx(2.0, rel=0.05)


def test_short_outputs_are_at_least_one_token_and_keep_their_mean() -> None:
    shape = TrafficShape.lognormal(100, 3, 4.0)
    assert shape.output_lengths.min() >= 1
    assert shape.output_mean == pytest.approx(3, rel=1e-9)


def test_independent_lengths_are_not_correlated() -> None:
    shape = TrafficShape.lognormal(1155, 211)
    assert abs(np.corrcoef(shape.input_lengths, shape.output_lengths)[0, 1]) < 0.02


def test_uniform_lengths_span_half_to_one_and_a_half_means() -> None:
    shape = TrafficShape.uniform(1024, 256)
    assert shape.input_lengths.min() == pytest.approx(512, rel=1e-3)
    assert shape.input_lengths.max() == pytest.approx(1536, rel=1e-3)
    assert shape.input_scv == pytest.approx(1 / 12, rel=1e-3)


def test_a_histogram_gives_its_mean_and_stays_in_its_buckets() -> None:
    shape = TrafficShape.from_histograms(
        input_bounds=[100, 200, 500, math.inf],
        input_counts=[0, 3, 1, 0],
        output_bounds=[10, 20],
        output_counts=[1, 1],
    )
    assert shape.input_lengths.min() >= 100
    assert shape.input_lengths.max() <= 500
    log_uniform = 0.75 * 100 / math.log(2) + 0.25 * 300 / math.log(2.5)
    assert shape.input_mean == pytest.approx(log_uniform, rel=1e-3)


def test_a_known_mean_overrides_that_of_the_buckets() -> None:
    shape = TrafficShape.from_histograms(
        input_bounds=[100, 200],
        input_counts=[1, 1],
        output_bounds=[10, 20],
        output_counts=[1, 1],
        input_mean=120.0,
        output_mean=9.0,
    )
    assert shape.input_mean == pytest.approx(120)
    assert shape.output_mean == pytest.approx(9)


@given(
    mean=st.floats(50, 20_000), ratio=st.floats(0.98, 1.02), output=st.floats(30, 4000), scv=st.floats(0.1, 2)
)
@settings(max_examples=40, deadline=None)
def test_a_cell_is_near_its_shape_and_its_own_cell(
    mean: float, ratio: float, output: float, scv: float
) -> None:
    cell = TrafficShape.lognormal(mean * ratio, output, scv).cell()
    assert abs(math.log(cell.input_mean / (mean * ratio))) <= math.log(1.1) / 2 + 1e-6
    assert abs(math.log(cell.output_mean / output)) <= math.log(1.1) / 2 + 1e-6
    again = cell.cell()
    assert again == cell
    assert hash(again) == hash(cell)


def test_shapes_compare_by_value_also_after_a_process_boundary() -> None:
    shape = TrafficShape.lognormal(500, 100)
    assert pickle.loads(pickle.dumps(shape)) == shape == TrafficShape.lognormal(500, 100)
    assert shape != TrafficShape.lognormal(500, 101)
    assert shape != "a shape"


def test_a_sample_is_whole_rounds_so_that_its_mean_is_not_luck() -> None:
    shape = TrafficShape.lognormal(1155, 211)
    inputs, outputs = shape.sample(3 * STRATA, np.random.default_rng(1))
    assert inputs.mean() == pytest.approx(1155, rel=1e-9)
    assert outputs.mean() == pytest.approx(211, rel=1e-9)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([], [], "inputs must be a non-empty sequence of lengths"),
        ([10, 0], [1, 1], "inputs must all be finite and at least one token"),
        ([10, 20], [1], "outputs must have as many entries as inputs, got 1 for 2"),
        ([10], [float("nan")], "outputs must all be finite and at least one token"),
    ],
)
def test_lengths_that_no_request_has_are_refused(
    inputs: list[float], outputs: list[float], message: str
) -> None:
    with pytest.raises(InvalidParameter, match=message):
        TrafficShape.from_lengths(inputs, outputs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TrafficShape.lognormal(0.5, 10), "input_mean must be at least one token, got 0.5"),
        (lambda: TrafficShape.lognormal(10, 10, -1), "scv must be a finite number >= 0, got -1"),
        (
            lambda: TrafficShape.from_histograms(
                input_bounds=[10], input_counts=[0], output_bounds=[10], output_counts=[1]
            ),
            "input_counts must hold one count >= 0 per bound, not all zero",
        ),
    ],
)
def test_impossible_shapes_are_refused(call: object, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        call()  # type: ignore[operator]
