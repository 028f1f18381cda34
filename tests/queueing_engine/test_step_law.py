from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.errors import InvalidParameter
from penstock.queueing.step_law import StepLaw

LAW = StepLaw(
    base_seconds=5.298e-3,
    weights_seconds=1.79e-3,
    per_token_seconds=2.109e-5,
    per_token_pair_seconds=1.15e-9,
    per_kv_token_seconds=4.85e-8,
    per_sequence_seconds=7.08e-6,
)


@pytest.mark.parametrize(
    ("prefill", "decoding", "pairs", "kv", "milliseconds"),
    [
        (0, 1, 0, 0, 5.298 + 1.79 + 0.00708),  # the weights hide one token
        (0, 64, 0, 65_536, 5.298 + 1.79 + 0.00708 * 64 + 4.85e-5 * 65_536),
        (0, 256, 0, 0, 5.298 + 0.02109 * 256 + 0.00708 * 256),  # tokens outweigh the weights
        (1024, 0, 1024**2 / 2, 0, 5.298 + 0.02109 * 1024 + 1.15e-6 * 1024**2 / 2),
        (100, 28, 5000, 30_000, 5.298 + 0.02109 * 128 + 1.15e-6 * 5000 + 4.85e-5 * 30_000 + 0.00708 * 28),
    ],
)
def test_a_step_lasts_what_the_formula_says(
    prefill: int, decoding: int, pairs: float, kv: float, milliseconds: float
) -> None:
    assert LAW.step_seconds(prefill, decoding, pairs, kv) == pytest.approx(milliseconds * 1e-3, rel=1e-12)


def test_arrays_broadcast_and_agree_with_scalars() -> None:
    decoding = np.arange(0, 300, 25)
    together = LAW.step_seconds(512.0, decoding, 512.0**2 / 2, decoding * 1000.0)
    one_by_one = [LAW.step_seconds(512.0, float(b), 512.0**2 / 2, b * 1000.0) for b in decoding]
    np.testing.assert_allclose(together, one_by_one, rtol=1e-14)


@given(
    prefill=st.floats(0, 1e5), decoding=st.floats(0, 1e4), kv=st.floats(0, 1e8), experts=st.floats(0, 1e-2)
)
def test_one_step_in_plain_floats_lasts_as_long_as_in_arrays(
    prefill: float, decoding: float, kv: float, experts: float
) -> None:
    law = replace(LAW, experts_seconds=experts, experts_tokens=60.0)
    pairs = prefill * prefill / 2
    alone = law.seconds_of_one(
        prefill_tokens=prefill, decode_sequences=decoding, attention_token_pairs=pairs, kv_tokens=kv
    )
    assert alone == pytest.approx(float(law.step_seconds(prefill, decoding, pairs, kv)), rel=1e-12)


def test_experts_cost_more_the_more_tokens_touch_them_and_saturate() -> None:
    law = StepLaw(base_seconds=2.2e-3, experts_seconds=13.22e-3, experts_tokens=47.2)
    one, many, all_of_them = law.step_seconds(0, np.array([1.0, 64.0, 10_000.0]), 0, 0)
    assert one == pytest.approx(2.2e-3 + 13.22e-3 * (1 - np.exp(-1 / 47.2)))
    assert many == pytest.approx(2.2e-3 + 13.22e-3 * (1 - np.exp(-64 / 47.2)))
    assert all_of_them == pytest.approx(15.42e-3)


def test_a_scaled_law_is_slower_by_its_factor_for_any_work() -> None:
    law = StepLaw(3e-3, 1e-3, 2e-5, 1e-9, 5e-8, 7e-6, 4e-3, 30.0)
    work = (np.array([0.0, 700.0]), np.array([5.0, 90.0]), np.array([0.0, 2e5]), np.array([3e3, 9e4]))
    np.testing.assert_allclose(law.scaled(1.7).step_seconds(*work), 1.7 * law.step_seconds(*work), rtol=1e-13)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base_seconds": -1e-3}, "base_seconds must be a finite number >= 0, got -0.001"),
        ({"base_seconds": 1e-3, "per_token_seconds": float("nan")}, "per_token_seconds must be a finite"),
        ({"base_seconds": 0.0}, "base_seconds and weights_seconds are both zero: a step takes time"),
        ({"base_seconds": 1e-3, "experts_tokens": 0.0}, "experts_tokens must be > 0"),
    ],
)
def test_a_law_no_engine_can_have_is_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        StepLaw(**fields)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("inf"), float("nan")])
def test_a_speed_must_be_positive_and_finite(factor: float) -> None:
    with pytest.raises(InvalidParameter, match="factor must be a finite number > 0"):
        LAW.scaled(factor)


def test_a_profile_without_slots_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="max_sequences must be at least 1, got 0"):
        EngineProfile("x", LAW, 1000.0, max_sequences=0)
