"""Values as Lua source: what a user wrote can end no string, and what is no number is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def lua_text(value: str) -> str:
    """Return a string literal; every byte but letters, digits and ``-_.`` is escaped."""
    kept = (
        chr(byte) if (byte < 128 and chr(byte).isalnum()) or byte in b"-_." else f"\\{byte:03d}"
        for byte in value.encode()
    )
    return '"' + "".join(kept) + '"'


def lua_number(value: float) -> str:
    """Return a number literal. Raises ValueError for infinity and NaN."""
    if not math.isfinite(value):
        raise ValueError(f"not a number for a route: {value}")
    return repr(value)


def lua_list(values: Sequence[str]) -> str:
    """Return a table of strings by position."""
    return "{" + ", ".join(map(lua_text, values)) + "}"


def lua_table(values: Mapping[str, str] | Mapping[str, int]) -> str:
    """Return a table of strings or numbers by name."""
    pairs = (
        f"[{lua_text(key)}] = {lua_text(value) if isinstance(value, str) else lua_number(value)}"
        for key, value in values.items()
    )
    return "{" + ", ".join(pairs) + "}"
