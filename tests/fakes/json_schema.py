"""As much of JSON Schema 2020-12 as our schemas use; a keyword that is not known here fails the test."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "number": (int, float),
    "integer": int,
}
_SAYS_NOTHING = {"$schema", "$id", "$defs", "title", "description", "properties", "patternProperties"}
_KNOWN = _SAYS_NOTHING | {
    "$ref", "type", "required", "additionalProperties", "items", "enum", "const", "anyOf", "minimum",
    "minItems", "maxItems",
}  # fmt: skip


def faults(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], at: str = "$") -> Iterator[str]:
    """Every way in which a value differs from what a schema allows."""
    assert set(schema) <= _KNOWN, set(schema) - _KNOWN
    if "$ref" in schema:
        yield from faults(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, at)
    if "type" in schema and not _is(value, schema["type"]):
        yield f"{at}: {value!r} is no {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is not among {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{at}: {value!r} is not {schema['const']!r}"
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{at}: {value!r} is below {schema['minimum']}"
    if "anyOf" in schema and all(any(True for _ in faults(value, one, root)) for one in schema["anyOf"]):
        yield f"{at}: {value!r} is none of what is allowed"
    if isinstance(value, dict):
        yield from _object_faults(value, schema, root, at)
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{at}: {len(value)} entries"
        for index, each in enumerate(value):
            yield from faults(each, schema.get("items", {}), root, f"{at}[{index}]")


def _object_faults(
    value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], at: str
) -> Iterator[str]:
    yield from (f"{at}: {name} is missing" for name in schema.get("required", ()) if name not in value)
    for name, each in value.items():
        inner = schema.get("properties", {}).get(name)
        for pattern, matched in schema.get("patternProperties", {}).items():
            inner = matched if inner is None and re.search(pattern, name) else inner
        if inner is None:
            inner = schema.get("additionalProperties", True)
        if inner is False:
            yield f"{at}: {name} is unknown"
        elif inner is not True:
            yield from faults(each, inner, root, f"{at}.{name}")


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
