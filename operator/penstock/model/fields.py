"""Reading one object of a resource field by field, with the path for whoever has to correct it.

`null` reads as absent, as the API server drops it. A value that does not fit raises `InvalidSpec`
with the path, what is wrong with it and what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from penstock.model.duration import InvalidDuration, format_duration, parse_duration

E = TypeVar("E", bound=StrEnum)

NAME = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
DECIMAL_WITH_EXPONENT = r"[0-9]{1,6}([.][0-9]{1,8})?(e-[0-9]{1,2})?"


class InvalidSpec(ValueError):  # noqa: N818 - the name of the reason in the condition
    """A resource that cannot be acted upon: where (`path`), what is wrong (`cause`), what to do (`fix`)."""

    def __init__(self, path: str, cause: str, fix: str) -> None:
        super().__init__(f"{path}: {cause}: {fix}")
        self.path = path
        self.cause = cause
        self.fix = fix


class Fields:
    """One object of a resource and its path."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, Mapping):
            raise InvalidSpec(path, f"{_kind(value)} instead of an object", "write named fields below it")
        self._fields = value
        self.path = path

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._fields.get(name) is not None

    def value(self, name: str) -> object:
        """Return the raw value; None when it is absent."""
        return self._fields.get(name)

    def fault(self, name: str, cause: str, fix: str) -> InvalidSpec:
        """Return the error to raise about the field `name` ("" for the object itself)."""
        return InvalidSpec(f"{self.path}.{name}" if name else self.path, cause, fix)

    def section(self, name: str) -> Fields:
        """Return an object; an absent one has no fields."""
        return Fields(self._fields[name] if self.has(name) else {}, f"{self.path}.{name}")

    def required_section(self, name: str, fix: str) -> Fields:
        """Return an object that must be there."""
        self._demand(name, fix)
        return self.section(name)

    def items(self, name: str, *, largest: int) -> tuple[tuple[object, str], ...]:
        """Return the entries of a list with their paths; an absent list is empty."""
        entries = self._fields[name] if self.has(name) else []
        path = f"{self.path}.{name}"
        if not isinstance(entries, list | tuple):
            raise InvalidSpec(path, f"{_kind(entries)} instead of a list", "write a list")
        if len(entries) > largest:
            raise InvalidSpec(path, f"{len(entries)} entries", f"write at most {largest}")
        return tuple((entry, f"{path}[{index}]") for index, entry in enumerate(entries))

    def text(
        self, name: str, *, default: str | None = None, longest: int, fix: str, pattern: str = ""
    ) -> str:
        """Return a string of at most `longest` characters that matches `pattern` as a whole."""
        if not self.has(name):
            return self._default(name, default, fix)
        text = self._string(name, fix)
        if len(text) > longest:
            raise self.fault(name, f"{len(text)} characters are too many", f"write at most {longest}")
        if pattern and not re.fullmatch(pattern, text):
            raise self.fault(name, f'"{text}" does not fit', fix)
        return text

    def choice(self, name: str, options: Iterable[E], default: E | None = None) -> E:
        """Return one of the values of an enumeration, or of some of its members."""
        known = {each.value: each for each in options}
        fix = "write " + " or ".join(", ".join(known).rsplit(", ", 1))
        if not self.has(name):
            return self._default(name, default, fix)
        text = self._string(name, fix)
        if text not in known:
            raise self.fault(name, f'"{text}" is not known', fix)
        return known[text]

    def integer(self, name: str, *, default: int | None = None, lowest: int, highest: int) -> int:
        """Return an integer within bounds."""
        fix = f"write an integer from {lowest} to {highest}"
        if not self.has(name):
            return self._default(name, default, fix)
        value = self._fields[name]
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fault(name, f"{_kind(value)} instead of an integer", fix)
        if not lowest <= value <= highest:
            side = f"below {lowest}" if value < lowest else f"above {highest}"
            raise self.fault(name, f"{value} is {side}", fix)
        return value

    def optional_integer(self, name: str, *, lowest: int, highest: int) -> int | None:
        """Return an integer within bounds; None when it is absent."""
        return self.integer(name, lowest=lowest, highest=highest) if self.has(name) else None

    def decimal(self, name: str, *, default: float | None = None, pattern: str, fix: str) -> float:
        """Return the value of a decimal in quotes."""
        if not self.has(name):
            return self._default(name, default, fix)
        text = self._string(name, fix)
        if not re.fullmatch(pattern, text):
            raise self.fault(name, f'"{text}" does not fit', fix)
        return float(text)

    def duration(
        self, name: str, *, default: float | None = None, lowest: float, highest: float, examples: str
    ) -> float:
        """Return the seconds of a duration within bounds (seconds)."""
        span = f"from {format_duration(lowest)} to {format_duration(highest)}"
        fix = f"write a duration {span} without decimals, for example {examples}"
        if not self.has(name):
            return self._default(name, default, fix)
        text = self._string(name, fix)
        try:
            seconds = parse_duration(text)
        except InvalidDuration:
            raise self.fault(name, f'"{text}" is not a duration', fix) from None
        if not lowest <= seconds <= highest:
            raise self.fault(name, f"{text} is out of range", fix)
        return seconds

    def _string(self, name: str, fix: str) -> str:
        value = self._fields[name]
        if not isinstance(value, str):
            raise self.fault(name, f"{_kind(value)} instead of a string", fix)
        return value

    def _demand(self, name: str, fix: str) -> None:
        if not self.has(name):
            raise self.fault(name, "missing", fix)

    def _default(self, name: str, default: D | None, fix: str) -> D:
        if default is None:
            raise self.fault(name, "missing", fix)
        return default


D = TypeVar("D")


def _kind(value: object) -> str:
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return kinds.get(type(value), "an object" if isinstance(value, Mapping) else type(value).__name__)
