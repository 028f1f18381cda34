"""Numbers on the command line that are finite and have a lowest value."""

from __future__ import annotations

import math
from typing import Any

import click


class PositiveNumber(click.FloatRange):
    """A finite number with a lowest value; FloatRange alone lets nan pass, as every comparison is false."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number
