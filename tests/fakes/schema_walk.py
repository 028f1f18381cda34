"""Walking the CRD's schema: properties by path, an example of each, and what defaulting does."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
CRD_FILE = REPOSITORY / "crds" / "serving.penstock.dev_inferenceservices.yaml"
SAMPLES = REPOSITORY / "tests" / "crd" / "samples"

Schema = Mapping[str, Any]
At = tuple[str, ...]  # property names; "[]" stands for the entries of a list


@cache
def root() -> Schema:
    """The schema of the whole resource; nobody changes it."""
    schema: Schema = yaml.safe_load(CRD_FILE.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def properties(schema: Schema, at: At = ()) -> Iterator[tuple[At, Schema]]:
    """Every property below `schema`, with its path."""
    for name, inner in (schema.get("properties") or {}).items():
        yield (*at, name), inner
        yield from properties(inner, (*at, name))
    if isinstance(schema.get("items"), Mapping):
        yield (*at, "[]"), schema["items"]
        yield from properties(schema["items"], (*at, "[]"))


def spec_leaves() -> list[tuple[At, Schema]]:
    """Properties of the spec that hold a value, not an object or a list of objects."""
    spec = root()["properties"]["spec"]
    return [(at, schema) for at, schema in properties(spec) if schema["type"] not in ("object", "array")]


def defaulted(value: Any, schema: Schema) -> Any:
    """`value` with the schema's defaults filled in, as the API server does it (KEP-1929)."""
    if isinstance(value, list):
        return [defaulted(item, schema["items"]) for item in value]
    if not isinstance(value, Mapping):
        return value
    filled = dict(value)
    for name, inner in (schema.get("properties") or {}).items():
        if name not in filled and "default" in inner:
            filled[name] = copy.deepcopy(inner["default"])
        if name in filled:
            filled[name] = defaulted(filled[name], inner)
    return filled


def sample(name: str) -> dict[str, Any]:
    """One of the samples, each of which writes out every field of its kind."""
    body: dict[str, Any] = yaml.safe_load((SAMPLES / f"{name}.yaml").read_text())
    return body


def get(body: Any, at: At) -> Any:
    """The value at a path; the first entry of a list."""
    for part in at:
        body = body[0] if part == "[]" else body[part]
    return body


def has(body: Any, at: At) -> bool:
    """Whether there is something at a path."""
    try:
        get(body, at)
    except (KeyError, IndexError):
        return False
    return True


def replaced(body: dict[str, Any], at: At, value: object) -> dict[str, Any]:
    """A copy of `body` with another value at a path."""
    changed = copy.deepcopy(body)
    parent = get(changed, at[:-1])
    parent[0 if at[-1] == "[]" else at[-1]] = value
    return changed


def least(**spec: object) -> dict[str, Any]:
    """The least resource, with parts of its spec replaced."""
    wanted: dict[str, object] = {
        "workload": {"targetRef": {"name": "chat"}},
        "slo": {"ttft": {"p95": "500ms"}},
    }
    return {
        "apiVersion": "serving.penstock.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "chat"},
        "spec": wanted | spec,
    }
