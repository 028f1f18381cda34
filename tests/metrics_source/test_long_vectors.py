"""Long answers are parsed piece by piece and must read as if they were parsed at once."""

from __future__ import annotations

import math

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.metrics_source.answer import read_instant
from penstock.metrics_source.base import DEFAULT_LIMITS, ErrorKind, QueryError, QueryLimits, QueryResult
from penstock.metrics_source.vector import BEGIN, LONG_BYTES, LongVector

# Whatever could be mistaken for the text that samples are told apart by.
TEXTS = st.sampled_from(
    ["chat", '{"metric":{', ',{"metric":{"a":"b"},"value":[0,"1"]}', "}]}", '"', "\\", "\n", "é", "[{,:"]
)
LABELS = st.dictionaries(st.sampled_from(["metric", "value", "service", "le"]), TEXTS)


def body(samples: list[tuple[dict[str, str], str]], **more: object) -> bytes:
    """Return an answer as Prometheus writes it, without blanks."""
    result = [{"metric": labels, "value": [1_700_000_000.123, value]} for labels, value in samples]
    return orjson.dumps({"status": "success", "data": {"resultType": "vector", "result": result}} | more)


def many(count: int = 4000) -> list[tuple[dict[str, str], str]]:
    """Return samples enough for a long answer."""
    return [({"namespace": "prod", "service": f"chat-{index}"}, str(index / 7)) for index in range(count)]


def read(answer: bytes) -> QueryResult:
    return read_instant(answer, "up", DEFAULT_LIMITS)


def test_a_long_answer_holds_every_sample_once_and_in_order() -> None:
    result = read(body(many()))
    assert isinstance(result.samples, LongVector)
    assert len(result.samples) == 4000
    expected = [(labels, float(value)) for labels, value in many()]
    assert list(result.samples) == expected
    assert list(result.samples) == expected, "it can be gone through again"


@settings(max_examples=60, deadline=None)
@given(st.lists(LABELS, min_size=1, max_size=12), st.integers(min_value=0, max_value=11))
def test_no_label_is_mistaken_for_the_beginning_of_a_sample(odd: list[dict[str, str]], shift: int) -> None:
    filling = [({"pad": "x" * (500 + shift)}, "1")] * (2 * LONG_BYTES // 500)
    samples = [*filling, *((labels, "2") for labels in odd), *filling, (odd[0], "3")]
    assert list(read(body(samples)).samples) == [(labels, float(value)) for labels, value in samples]


def test_a_short_answer_and_one_with_blanks_are_read_at_once() -> None:
    assert isinstance(read(body(many(3))).samples, list)
    spaced = body(many()).replace(b'{"metric":', b'{ "metric": ')
    assert isinstance(read(spaced).samples, list)
    assert len(read(spaced).samples) == 4000


def test_who_asks_for_a_few_series_gets_a_list() -> None:
    assert isinstance(read_instant(body(many()), "up", QueryLimits(series=2)).samples, list)


def test_numbers_that_are_none_and_warnings_come_through() -> None:
    odd = [({"a": "1"}, "NaN"), ({"a": "2"}, "+Inf")]
    result = read(body([*odd, *many(), *odd], warnings=["partial response"]))
    assert result.warnings == ("partial response",)
    values = [value for _, value in result.samples]
    assert math.isnan(values[0])
    assert values[-1] == math.inf


@pytest.mark.parametrize("cut", [1, 3, 40, 20_000])
def test_a_truncated_answer_is_refused_before_any_sample_is_used(cut: int) -> None:
    whole = body(many())
    with pytest.raises(QueryError) as caught:
        read(whole[:-cut])
    assert caught.value.kind is ErrorKind.BAD_RESPONSE
    assert caught.value.message.startswith(
        f"the answer is {len(whole) - cut} bytes that are not whole JSON; "
    )


@pytest.mark.parametrize(
    ("found", "instead", "message"),
    [
        (b'"value":[', b'"number":[', "the answer is JSON, but not that of a Prometheus API; "),
        (b'"value":[', b'"histogram":[', "the query gives native histograms; "),
        (b'"prod"', b'"pr"od"', "the answer is "),
    ],
    ids=["other shape", "native histogram", "not JSON"],
)
def test_a_broken_sample_in_the_midst_raises_when_it_is_reached(
    found: bytes, instead: bytes, message: str
) -> None:
    whole = body(many())
    middle = len(whole) // 2
    broken = whole[:middle] + whole[middle:].replace(found, instead, 1)
    result = read(broken)
    with pytest.raises(QueryError) as caught:
        list(result.samples)
    assert caught.value.message.startswith(message)


def test_the_mark_of_a_sample_is_what_prometheus_writes() -> None:
    assert body(many(1)).count(BEGIN) == 1
