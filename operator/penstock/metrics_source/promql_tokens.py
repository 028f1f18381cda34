"""PromQL cut into tokens, as promql/parser/lex.go cuts it; what it would not accept is refused.

Strings keep their text as written: a backslash takes the next character along, so that a quote, a brace
or a comment sign inside a string ends nothing. Comments are dropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class PromqlRefusedError(Exception):
    """A query that is not let through; the message says where and what to write instead."""


class Kind(Enum):
    """What a token is."""

    IDENTIFIER = "a name"
    NUMBER = "a number"
    DURATION = "a duration"
    STRING = "a string"
    RANGE = "a range"
    SYMBOL = "a symbol"
    END = "the end"


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its kind, its text as written and where it begins (0-based)."""

    kind: Kind
    text: str
    at: int


# No two repetitions of the same characters may meet, also not around something optional: where the match then
# fails, every split between them is tried (4,000 digits: 0.6 s).
_DURATION = r"(?:[0-9]+(?:ms|[smhdwy]))+"
_STRING = r'"(?:[^"\\\n]|\\[^\n])*"|' + r"'(?:[^'\\\n]|\\[^\n])*'|`[^`]*`"
_TOKEN = re.compile(
    rf"""
      (?P<space>[ \t\r\n]+|\#[^\n]*)
    | (?P<DURATION>{_DURATION})(?![0-9A-Za-z_:.])
    | (?P<NUMBER>(?:0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?))(?![0-9A-Za-z_:.])
    | (?P<IDENTIFIER>[A-Za-z_:][A-Za-z0-9_:]*)
    | (?P<STRING>{_STRING})
    | (?P<RANGE>\[[ \t\r\n]*{_DURATION}[ \t\r\n]*(?::[ \t\r\n]*(?:{_DURATION}[ \t\r\n]*)?)?\])
    | (?P<SYMBOL>==|!=|<=|>=|=~|!~|[-+*/%^<>=@(){{}},])
    """,
    re.VERBOSE,
)
_MOST_DIGITS = 10  # of one part of a duration: more is no time, and from 309 on not even a float
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}


def tokens_of(promql: str) -> list[Token]:
    """Cut `promql` into tokens, with END as the last. Raises `PromqlRefusedError`."""
    found = []
    at = 0
    while at < len(promql):
        match = _TOKEN.match(promql, at)
        if match is None:
            raise PromqlRefusedError(f"{promql[at : at + 20]!r} at character {at + 1} is not PromQL")
        name = str(match.lastgroup)
        if name != "space":
            found.append(Token(Kind[name], match.group(), at))
        at = match.end()
    return [*found, Token(Kind.END, "", at)]


def duration_seconds(text: str) -> float:
    """Return the seconds of a duration such as ``1h30m``; raises `PromqlRefusedError` for absurd ones."""
    parts = re.findall(r"([0-9]+)(ms|[smhdwy])", text)
    for count, _ in parts:
        if len(count) > _MOST_DIGITS:
            raise PromqlRefusedError(
                f"a duration has more than {_MOST_DIGITS} digits: {count[:_MOST_DIGITS]}..."
            )
    return sum(int(count) * _UNITS[unit] for count, unit in parts)
