"""Label and field selectors of the API: from the query string to a test of a stored object."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from penstock.sandbox.fake_errors import bad_request
from penstock.sandbox.fake_store import Entry, Matches

LabelTest = Callable[[Mapping[str, str]], bool]
_SET = re.compile(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)")
_EQUALITY = re.compile(r"([^=!\s]+)\s*(==|=|!=)\s*(\S*)")
_EXISTS = re.compile(r"(!?)\s*([^=!\s]+)")
_COMMA_OUTSIDE_PARENTHESES = re.compile(r",(?![^(]*\))")


def selects(label_selector: str = "", field_selector: str = "") -> Matches:
    """Return the test of both selectors; empty ones select everything. 400 for what cannot be read."""
    labels = [_label_test(part.strip()) for part in _parts(label_selector)]
    fields = [_field_test(part.strip()) for part in _parts(field_selector)]
    if not labels and not fields:
        return lambda _: True
    return lambda entry: all(test(entry.labels) for test in labels) and all(test(entry) for test in fields)


def selector_string(selector: object) -> str:
    """Return a label selector object as the string that ``/scale`` shows; a string is one already."""
    if isinstance(selector, str):
        return selector
    if not isinstance(selector, Mapping):
        return ""
    parts = [f"{name}={value}" for name, value in sorted((selector.get("matchLabels") or {}).items())]
    for each in selector.get("matchExpressions") or ():
        operator, values = each["operator"], ",".join(each.get("values") or ())
        written = {"In": f"{each['key']} in ({values})", "NotIn": f"{each['key']} notin ({values})"}
        written |= {"Exists": each["key"], "DoesNotExist": f"!{each['key']}"}
        parts.append(written[operator])
    return ",".join(parts)


def _parts(selector: str) -> list[str]:
    return _COMMA_OUTSIDE_PARENTHESES.split(selector) if selector else []


def _label_test(part: str) -> LabelTest:
    if found := _SET.fullmatch(part):
        name, operator, listed = found.groups()
        values = {value.strip() for value in listed.split(",")}
        if operator == "in":
            return lambda labels: labels.get(name) in values
        return lambda labels: labels.get(name) not in values
    if found := _EQUALITY.fullmatch(part):
        name, operator, value = found.groups()
        if operator == "!=":
            return lambda labels: labels.get(name) != value
        return lambda labels: labels.get(name) == value
    if found := _EXISTS.fullmatch(part):
        absent, name = found.groups()
        if absent:
            return lambda labels: name not in labels
        return lambda labels: name in labels
    raise bad_request(f'unable to parse requirement: found "{part}"')


def _field_test(part: str) -> Matches:
    found = _EQUALITY.fullmatch(part)
    if found is None:
        raise bad_request(f'invalid selector: "{part}"; can\'t understand it')
    path, operator, value = found.groups()
    if path == "metadata.name":
        equal: Matches = lambda entry: entry.key[1] == value  # noqa: E731
    elif path == "metadata.namespace":
        equal = lambda entry: entry.key[0] == value  # noqa: E731
    else:
        names = path.split(".")
        equal = lambda entry: _text_at(entry, names) == value  # noqa: E731
    return (lambda entry: not equal(entry)) if operator == "!=" else equal


def _text_at(entry: Entry, names: list[str]) -> str:
    value: Any = entry.body()
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return "" if value is None else str(value)
