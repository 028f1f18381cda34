"""What a CRD's schema does to an object on its way in: drop unknown fields and nulls, fill in defaults.

Bounds and CEL rules are not evaluated here: a type's own check (`FakeApi.check`) may refuse instead.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


def admitted(body: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return `body` pruned and defaulted; apiVersion, kind and metadata pass as they are."""
    kept = {name: body[name] for name in ("apiVersion", "kind", "metadata") if name in body}
    rest = {name: value for name, value in body.items() if name not in kept}
    shaped = _shaped(rest, schema)
    return kept | {name: value for name, value in shaped.items() if name not in kept}


def _shaped(value: Any, schema: Mapping[str, Any]) -> Any:
    if schema.get("type") == "array" and isinstance(value, list):
        return [_shaped(item, schema.get("items") or {}) for item in value]
    if not isinstance(value, Mapping):
        return value
    properties: Mapping[str, Any] = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    free = schema.get("x-kubernetes-preserve-unknown-fields") or (not properties and not additional)
    shaped: dict[str, Any] = {}
    for name, inner in value.items():
        known = properties.get(name, additional if isinstance(additional, Mapping) else None)
        if known is not None:
            # A null is dropped, and then defaulted, unless the field may be null.
            if inner is not None or known.get("nullable"):
                shaped[name] = _shaped(inner, known)
        elif free or additional is True:
            shaped[name] = inner
    for name, known in properties.items():
        if name not in shaped and "default" in known:
            shaped[name] = _shaped(copy.deepcopy(known["default"]), known)
    return shaped
