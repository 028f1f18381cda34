"""What a tenant writes costs nobody else anything: refused at once, and never by an exception of Python's."""

from __future__ import annotations

import time

import pytest

from penstock.metrics_source.promql_scope import scope
from penstock.metrics_source.promql_tokens import PromqlRefusedError, duration_seconds, tokens_of

NINES = "9" * 310
LENGTH = 16_000  # four times the longest query, so that what is quadratic takes seconds


@pytest.mark.parametrize("promql", [f"rate(x[{NINES}s])", f"x offset {NINES}ms", f"rate(x[5m:{NINES}s])"])
def test_a_duration_that_is_no_float_is_refused_like_any_other_mistake(promql: str) -> None:
    with pytest.raises(PromqlRefusedError, match=r"^a duration has more than 10 digits: 9999999999\.\.\.$"):
        scope(promql, label="namespace", value="prod")


@pytest.mark.parametrize(
    ("text", "seconds"), [("1h30m", 5400.0), ("250ms", 0.25), ("9999999999s", 9_999_999_999.0)]
)
def test_a_duration_of_up_to_ten_digits_is_that_many_seconds(text: str, seconds: float) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize(
    "promql",
    [
        "x[5m:" + " " * LENGTH,
        "x[" + " " * LENGTH + "5m!",
        "9" * LENGTH + "z",
        "9" * LENGTH + "." + "9" * LENGTH + "z",
        "0x" + "f" * LENGTH + "z",
        "1m" * LENGTH + "z",
        "x[" + "1m" * LENGTH,
        '"' + "\\a" * LENGTH,
    ],
    ids=["blanks behind", "blanks before", "digits", "fraction", "hex", "duration", "range", "string"],
)
def test_what_does_not_match_is_refused_in_time_proportional_to_its_length(promql: str) -> None:
    began = time.process_time()
    with pytest.raises(PromqlRefusedError, match=r"is not PromQL$"):
        tokens_of(promql)
    assert time.process_time() - began < 1.0
