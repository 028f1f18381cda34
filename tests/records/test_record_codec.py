"""Values come back from JSON as they went, bit by bit; what is no such value is refused by its field."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from penstock.model.decision import Decision, Reason, TrafficReason
from penstock.model.observation import Histogram, Load
from penstock.model.reading import Absence, Reading
from penstock.policy.memory import NO_DEMAND, ServiceMemory
from penstock.records.codec import decoder, encoder
from penstock.records.fault import RecordFault

Floats = NDArray[np.float32]


def there_and_back(kind: Any, value: Any) -> Any:
    return decoder(kind)(orjson.loads(orjson.dumps(encoder(kind)(value))), "value")


@given(st.floats())
def test_every_number_comes_back_bit_by_bit(number: float) -> None:
    back = there_and_back(float, number)
    assert math.copysign(1, back) == math.copysign(1, number) or math.isnan(number)
    assert back == number or (math.isnan(back) and math.isnan(number))


@given(
    st.one_of(
        st.floats(allow_nan=False, allow_infinity=False).map(Reading),
        st.builds(Reading.missing, st.sampled_from(Absence), st.text(max_size=20)),
    )
)
def test_a_signal_comes_back_with_why_it_is_missing(reading: Reading) -> None:
    assert there_and_back(Reading, reading) == reading


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_array_comes_back_with_its_type_and_shape(dtype: Any) -> None:
    values = np.random.default_rng(1).standard_normal((2, 8, 5)).astype(dtype)[:, ::2]
    back = there_and_back(NDArray[Any], values)
    assert (back.dtype, back.shape) == (values.dtype, values.shape)
    assert np.array_equal(back, values)


def test_a_default_is_left_out_and_comes_back_as_the_very_same_object() -> None:
    assert encoder(ServiceMemory)(ServiceMemory()) == {}
    assert there_and_back(ServiceMemory, ServiceMemory()).demand is NO_DEMAND


def test_equal_words_of_different_reasons_are_told_apart() -> None:
    for reason in (Reason.LEARNING, TrafficReason.LEARNING):
        back = there_and_back(Decision[int], Decision(3, reason, "learning"))
        assert back.reason is reason
        assert back.value == 3


def test_the_last_bucket_may_be_infinite() -> None:
    load = Load(input_lengths=Histogram((1.0, math.inf), (2.0, 0.5), 1.5))
    assert encoder(Load)(load)["input_lengths"]["upper_bounds"] == [1.0, "+Inf"]
    assert there_and_back(Load, load) == load


@pytest.mark.parametrize(
    ("plain", "cause"),
    [
        ({"dtype": "<f4", "shape": [2], "zlib": "!"}, "not an array: "),
        ({"dtype": "<f4", "shape": [3], "zlib": "eJxjYIAAAAAIAAE="}, "its bytes do not fill"),
        ({"dtype": "O", "shape": [1], "zlib": "eJxjYIAAAAAIAAE="}, "its bytes do not fill"),
        ({"shape": [1]}, "not an array: 'dtype'"),
        ([1.0], "[1.0] instead of an object"),
    ],
)
def test_what_is_no_array_is_refused(plain: object, cause: str) -> None:
    with pytest.raises(RecordFault) as refused:
        decoder(Floats)(plain, "begin.memory")
    assert refused.value.path == "begin.memory"
    assert refused.value.cause.startswith(cause)


def test_an_array_that_would_fill_the_memory_is_refused_unread() -> None:
    huge = encoder(Floats)(np.zeros(10_000_000, np.float32))
    assert len(huge["zlib"]) < 400_000
    with pytest.raises(RecordFault, match="its bytes do not fill its shape"):
        decoder(Floats)(huge, "begin.memory")
