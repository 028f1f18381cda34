"""Durations mean what GEP-2257 says, and survive being written and read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.model.duration import InvalidDuration, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0.0),
        ("50ms", 0.05),
        ("500ms", 0.5),
        ("1m30s", 90.0),
        ("2h", 7200.0),
        ("1h1m1s1ms", 3661.001),
        ("90s", 90.0),
        ("1s1s", 2.0),
        ("00300ms", 0.3),
        ("99999h", 359996400.0),
    ],
)
def test_a_duration_reads_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "1.5s",
        "-1s",
        "+1s",
        "1 s",
        " 1s",
        "1s ",
        "1us",
        "1d",
        "1S",
        "100000s",
        "1m1m1m1m1m",
        "1s\n",
        "٣s",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidDuration) as refused:
        parse_duration(text)
    assert str(refused.value) == f"{text!r} is not a duration such as 500ms, 2s or 1m30s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.0006, "1ms"),
        (0.05, "50ms"),
        (90, "1m30s"),
        (3600, "1h"),
        (1.5, "1s500ms"),
        (3661.001, "1h1m1s1ms"),
    ],
)
def test_seconds_are_written_in_the_shortest_way(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [-0.001, math.nan, math.inf, 100_000 * 3600.0])
def test_what_cannot_be_written_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidDuration):
        format_duration(seconds)


@given(st.integers(min_value=0, max_value=100_000 * 3_600_000 - 1))
def test_every_millisecond_survives(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.floats(min_value=0, max_value=1e6))
def test_writing_is_off_by_half_a_millisecond_at_most(seconds: float) -> None:
    assert abs(parse_duration(format_duration(seconds)) - seconds) <= 0.0005001
