"""Durations as users write them: Go-style strings of h, m, s and ms, without decimals (GEP-2257).

``1m30s`` is 90 seconds. The smallest unit is the millisecond; exactly the strings that the pattern in
``crds/`` lets through are read here, so that API server and operator never disagree.
"""

from __future__ import annotations

import re

PATTERN = r"([0-9]{1,5}(h|m|s|ms)){1,4}"
_WHOLE = re.compile(PATTERN)
_PART = re.compile(r"([0-9]{1,5})(h|ms|m|s)")
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


class InvalidDuration(ValueError):  # noqa: N818 - reads as what it is, as in the conditions
    """A string that is not a duration."""


def parse_duration(text: str) -> float:
    """Return the seconds that `text` stands for: ``"1m30s"`` is 90.0, ``"50ms"`` is 0.05.

    Raises `InvalidDuration` for anything but GEP-2257: decimals, blanks, signs, other units.
    """
    if not _WHOLE.fullmatch(text):
        raise InvalidDuration(f"{text!r} is not a duration such as 500ms, 2s or 1m30s")
    # Whole milliseconds first: 0.1 + 0.2 seconds would not equal 300ms.
    return sum(int(count) * _MILLISECONDS[unit] for count, unit in _PART.findall(text)) / 1000


def format_duration(seconds: float) -> str:
    """Return the shortest duration string of `seconds`, rounded to the millisecond.

    Raises `InvalidDuration` for what the format cannot hold: negative, NaN, infinite, 100,000 hours.
    """
    if not 0 <= seconds < 100_000 * 3600 - 0.0005:
        raise InvalidDuration(f"{seconds} seconds cannot be written as a duration")
    rest = round(seconds * 1000)
    parts = []
    for unit in ("h", "m", "s", "ms"):
        count, rest = divmod(rest, _MILLISECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
