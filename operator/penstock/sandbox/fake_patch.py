"""The patches of the API server on dicts: merge (RFC 7386), JSON (RFC 6902) and server-side apply.

Apply knows who applied which fields, by path through objects; every list counts as atomic, and only
appliers own fields. Strategic merge, which kubectl sends for built-in types, is taken as a plain merge:
lists are replaced whole.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.sandbox.fake_errors import ApiFailure, bad_request

Path = tuple[str, ...]
Owners = dict[str, frozenset[Path]]  # field manager -> paths of the leaves it applied
# Never owned by anybody: they name the object.
_IDENTITY = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}


def merge(target: object, patch: object) -> Any:
    """Return `target` with a merge patch applied; null removes."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def json_patch(target: Mapping[str, Any], operations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return `target` with JSON Patch operations applied.

    A failed ``test`` or a missing path is the 422 that the API server answers; malformed operations 400.
    """
    document: Any = copy.deepcopy(dict(target))
    for operation in operations:
        try:
            document = _operate(document, operation)
        except KeyError as error:
            raise bad_request(f"the patch lacks {error}") from None
    result: dict[str, Any] = document
    return result


def apply(
    current: Mapping[str, Any] | None,
    applied: Mapping[str, Any],
    owners: Owners,
    *,
    manager: str,
    force: bool,
) -> tuple[dict[str, Any], Owners]:
    """Return the object after `manager` applied its fields, and who owns what then.

    Fields that the manager applied before and no longer does are removed. A field of another manager
    with another value is a conflict (409) unless `force` takes it over.
    """
    merged: dict[str, Any] = copy.deepcopy(dict(current or {}))
    leaves = {path: value for path, value in _leaves(applied) if path not in _IDENTITY}
    conflicts = [
        (other, path)
        for other, paths in owners.items()
        if other != manager
        for path in paths & leaves.keys()
        if _look_up(merged, path) != leaves[path]
    ]
    if conflicts and not force:
        other, path = min(conflicts)
        count = "1 conflict" if len(conflicts) == 1 else f"{len(conflicts)} conflicts"
        message = f'Apply failed with {count}: conflict with "{other}": .{".".join(path)}'
        raise ApiFailure(409, "Conflict", message)
    taken = {path for _, path in conflicts}
    kept: Owners = {other: frozenset(paths - taken) for other, paths in owners.items() if other != manager}
    for path in owners.get(manager, frozenset()) - leaves.keys():
        if not any(path in paths for paths in kept.values()):
            _remove(merged, path)
    for path, value in leaves.items():
        _set(merged, path, copy.deepcopy(value))
    return merged, kept | {manager: frozenset(leaves)}


def _operate(document: Any, operation: Mapping[str, Any]) -> Any:
    name = operation["op"]
    if name in ("move", "copy"):
        value = copy.deepcopy(_resolve(document, _pointer(operation["from"])))
        if name == "move":
            document = _operate(document, {"op": "remove", "path": operation["from"]})
        return _operate(document, {"op": "add", "path": operation["path"], "value": value})
    if name not in ("add", "remove", "replace", "test"):
        raise bad_request(f'Unexpected kind: "{name}"')
    parts = _pointer(operation["path"])
    if name == "test":
        expected = operation.get("value")
        try:
            found = _resolve(document, parts)
        except ApiFailure:
            found = None
        if found != expected:
            raise _refused(f"testing value {operation['path']} failed: test failed")
        return document
    if not parts:
        return copy.deepcopy(operation["value"])
    parent, last = _resolve(document, parts[:-1]), parts[-1]
    if isinstance(parent, list):
        index = _index(parent, last, adding=name == "add")
        if name == "add":
            parent.insert(index, copy.deepcopy(operation["value"]))
        elif name == "replace":
            parent[index] = copy.deepcopy(operation["value"])
        else:
            del parent[index]
    elif isinstance(parent, dict):
        # The API server's library lets "replace" add a member, against RFC 6902.
        if name == "remove" and last not in parent:
            raise _refused(f"{name} operation does not apply: doc is missing key: {operation['path']}")
        if name == "remove":
            del parent[last]
        else:
            parent[last] = copy.deepcopy(operation["value"])
    else:
        raise _refused(f"{name} operation does not apply: doc is missing path: {operation['path']}")
    return document


def _refused(message: str) -> ApiFailure:
    return ApiFailure(
        422, "Invalid", f"the server rejected our request due to an error in our request: {message}"
    )


def _pointer(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise bad_request(f"{path!r} is not a JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _resolve(document: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        if isinstance(document, list):
            document = document[_index(document, part, adding=False)]
        elif isinstance(document, Mapping) and part in document:
            document = document[part]
        else:
            raise _refused(f"doc is missing path: /{'/'.join(parts)}")
    return document


def _index(items: Sequence[Any], part: str, *, adding: bool) -> int:
    if adding and part == "-":
        return len(items)
    if not part.isdigit() or int(part) > len(items) - (not adding):
        raise _refused(f"invalid index referenced: {part}")
    return int(part)


def _leaves(body: Mapping[str, Any], at: Path = ()) -> list[tuple[Path, Any]]:
    found: list[tuple[Path, Any]] = []
    for name, value in body.items():
        if isinstance(value, Mapping) and value:
            found += _leaves(value, (*at, name))
        else:
            found.append(((*at, name), value))
    return found


def _look_up(body: Any, path: Path) -> Any:
    for part in path:
        if not isinstance(body, Mapping) or part not in body:
            return None
        body = body[part]
    return body


def _set(body: dict[str, Any], path: Path, value: Any) -> None:
    for part in path[:-1]:
        inner = body.get(part)
        if not isinstance(inner, dict):
            inner = body[part] = {}
        body = inner
    body[path[-1]] = value


def _remove(body: dict[str, Any], path: Path) -> None:
    for part in path[:-1]:
        inner = body.get(part)
        if not isinstance(inner, dict):
            return
        body = inner
    body.pop(path[-1], None)
