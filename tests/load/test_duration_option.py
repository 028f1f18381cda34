"""Durations as they are typed."""

from __future__ import annotations

import click
import pytest

from penstock.cli.duration import duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("1m30s", 90.0),
        ("2h", 7200.0),
        ("0.5s", 0.5),
        ("45", 45.0),
        (" 5s ", 5.0),
        (7, 7.0),
    ],
)
def test_a_duration_is_read_in_seconds(text: str | float, seconds: float):
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-5s", "1y", "5 s x", "1e3", "nan"])
def test_anything_else_says_how_to_write_one(text: str):
    with pytest.raises(click.BadParameter, match="is not a duration: write 500ms, 30s, 1m30s or 2h"):
        duration(text)
