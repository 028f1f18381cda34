"""Durations on the command line: ``500ms``, ``1m30s``, ``2h``, or a bare number of seconds."""

from __future__ import annotations

import re

import click

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class DurationType(click.ParamType):
    """Turns the text into seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds; what is no duration fails with how to write one."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        if not text or _PART.sub("", text):
            self.fail(f"{text!r} is not a duration: write 500ms, 30s, 1m30s or 2h", param, ctx)
        return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


DURATION = DurationType()
