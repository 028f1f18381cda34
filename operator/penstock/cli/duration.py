"""Durations on the command line: ``500ms``, ``1m30s``, ``0.5s``, or a bare number of seconds.

More lenient than a resource's (GEP-2257, `penstock.model.duration`): nobody stores what is typed here.
"""

from __future__ import annotations

import re

import click

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(value: str | float) -> float:
    """Return seconds; use it as a click type. What is no duration fails with how to write one."""
    if isinstance(value, int | float):
        return float(value)
    text = value.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not text or _PART.sub("", text):
        raise click.BadParameter(f"{text!r} is not a duration: write 500ms, 30s, 1m30s or 2h")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


DURATION = duration
