"""Requests that an objective is about and those that missed it, by day; as status keeps them.

A day reads ``2026-11-21: 56.2 of 12034``: fractions, because counts come from rates.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

DAY_SECONDS = 86_400.0
_DAY = re.compile(r"(\d{4}-\d{2}-\d{2}): (\d+\.?\d*) of (\d+\.?\d*)")
_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Counted:
    """`requests` of some time, and how many of them `missed` the objective."""

    requests: float
    missed: float

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.requests + other.requests, self.missed + other.missed)


NONE_COUNTED = Counted(0.0, 0.0)
Days = Mapping[int, Counted]  # by days since the epoch (UTC)


def total(days: Days) -> Counted:
    """Return what was counted in all of the days."""
    return sum(days.values(), NONE_COUNTED)


def format_days(days: Days) -> tuple[str, ...]:
    """Return a line a day, oldest first."""
    return tuple(
        f"{date.fromordinal(day + _EPOCH)}: {_number(each.missed)} of {_number(each.requests)}"
        for day, each in sorted(days.items())
    )


def parse_days(lines: Iterable[object]) -> Days:
    """Read such lines back; what is none of them is left out: somebody else wrote it."""
    days = {}
    for line in lines:
        match = _DAY.fullmatch(str(line))
        try:
            if match is not None:
                day, missed, requests = date.fromisoformat(match[1]), float(match[2]), float(match[3])
                if math.isfinite(requests) and 0 <= missed <= requests:
                    days[day.toordinal() - _EPOCH] = Counted(requests, missed)
        except ValueError:
            continue
    return days


def format_percent(ratio: float) -> str:
    """Write a share as status shows it: 0.995 is ``99.5%``."""
    return f"{ratio * 100:.6g}%"


def _number(count: float) -> str:
    return f"{count:.2f}".rstrip("0").rstrip(".")
