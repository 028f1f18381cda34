"""No field, default, bound or enumeration of the CRD can drift from the Python model."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import pytest

from fakes.schema_walk import (
    REPOSITORY,
    At,
    Schema,
    defaulted,
    get,
    has,
    properties,
    replaced,
    root,
    sample,
    spec_leaves,
)
from penstock.model import spec as values
from penstock.model.canary_spec import CheckType, OnInsufficientEvidence
from penstock.model.parse import InvalidSpec, parse_service
from penstock.model.spec import ServiceSpec

SAMPLE_NAMES = ("named", "inline", "request-response")
LEAVES = spec_leaves()
# Another value that fits, for the strings whose form only their rule tells.
OTHER: dict[str, str] = {"kind": "Other", "currency": "CHF", "signal": "MeanTPOT"}

_OBSERVE_OR_ENFORCE = (values.Mode.OBSERVE, values.Mode.ENFORCE)
ENUMS: dict[str, Iterable[StrEnum]] = {
    "mode": values.Mode,
    "workload.type": values.WorkloadType,
    "engine.type": values.EngineType,
    "engine.profile.type": values.ProfileType,
    "engine.queries.[].signal": values.Signal,
    "admission.mode": _OBSERVE_OR_ENFORCE,
    "admission.policy": values.AdmissionPolicy,
    "fallback.mode": _OBSERVE_OR_ENFORCE,
    "fallback.backendRef.kind": values.BackendKind,
    "canary.mode": _OBSERVE_OR_ENFORCE,
    "canary.onInsufficientEvidence": OnInsufficientEvidence,
    "canary.checks.[].type": CheckType,
    "routing.type": values.RoutingType,
    "routing.balancer": values.Balancer,
}


def path_of(at: At) -> str:
    return ".".join(at)


def sample_with(at: At) -> dict[str, Any]:
    for name in SAMPLE_NAMES:
        body = sample(name)
        if has(body["spec"], at):
            return body
    raise AssertionError(f"no sample writes {path_of(at)}")


def outcome(body: dict[str, Any]) -> ServiceSpec | str:
    """What the parser makes of `body`: the service, or its words."""
    try:
        return parse_service(body)
    except InvalidSpec as error:
        return str(error)


def other_value(at: At, schema: Schema, present: Any) -> Any:
    """A value of the right type other than the present one."""
    if "enum" in schema:
        return next((value for value in schema["enum"] if value != present), "Unheard")
    if schema["type"] == "integer":
        return present - 1 if present == schema["maximum"] else present + 1
    if at[-1] in OTHER:
        return OTHER[at[-1]]
    digits = [index for index, character in enumerate(present) if character.isdigit()]
    if not digits:
        return present + "x"
    # One digit more or less keeps durations, decimals and names in form.
    at_index = digits[0]
    changed = "2" if present[at_index] == "1" else str(int(present[at_index]) - 1 or 9)
    return present[:at_index] + changed + present[at_index + 1 :]


@pytest.mark.parametrize(("at", "schema"), LEAVES, ids=[path_of(at) for at, _ in LEAVES])
def test_every_property_is_read(at: At, schema: Schema) -> None:
    body = sample_with(("spec", *at)[1:])
    at_spec = ("spec", *at)
    present = get(body, at_spec)
    assert isinstance(outcome(body), ServiceSpec)
    assert outcome(replaced(body, at_spec, other_value(at, schema, present))) != outcome(body)


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_a_sample_writes_out_all_defaults(name: str) -> None:
    body = sample(name)
    assert defaulted(body, root()) == body


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_the_parser_has_the_defaults_of_the_schema(name: str) -> None:
    """Each default is left out in turn; what the API server would fill in must parse the same."""
    body = sample(name)
    for at, schema in properties(root()["properties"]["spec"]):
        at_spec = ("spec", *at)
        if "default" not in schema or not has(body, at_spec):
            continue
        without = replaced(body, at_spec, None)
        del get(without, at_spec[:-1])[at_spec[-1]]
        assert outcome(without) == outcome(defaulted(without, root())), path_of(at)


def test_a_service_needs_a_target_and_an_objective() -> None:
    least = {
        "metadata": {"name": "chat"},
        "spec": {"workload": {"targetRef": {"name": "chat"}}, "slo": {"latency": {"p99": "1s"}}},
    }
    parsed = parse_service(least)
    assert parsed == parse_service(defaulted(least, root()))
    assert parsed.engine == values.EngineSpec()
    assert parsed.replicas == values.ReplicaSpec()
    assert parsed.slo == values.Slo(parsed.slo.objectives)


def test_enumerations_are_those_of_the_schema() -> None:
    in_schema = {path_of(at): schema["enum"] for at, schema in LEAVES if "enum" in schema}
    assert in_schema.keys() == ENUMS.keys()
    for path, names in in_schema.items():
        assert sorted(names) == sorted(each.value for each in ENUMS[path]), path


@pytest.mark.parametrize(
    ("at", "schema"),
    [(at, schema) for at, schema in LEAVES if schema["type"] == "integer"],
    ids=lambda each: path_of(each) if isinstance(each, tuple) else "",
)
def test_integers_have_the_bounds_of_the_schema(at: At, schema: Schema) -> None:
    body, at_spec = sample_with(at), ("spec", *at)
    lowest, highest = schema["minimum"], schema["maximum"]
    fix = f"write an integer from {lowest} to {highest}"
    for value, cause in ((lowest - 1, f"below {lowest}"), (highest + 1, f"above {highest}")):
        with pytest.raises(InvalidSpec) as refused:
            parse_service(replaced(body, at_spec, value))
        assert (refused.value.cause, refused.value.fix) == (f"{value} is {cause}", fix)
        assert refused.value.path.replace("[0]", ".[]") == path_of(at_spec)
    for value in (lowest, highest):
        found = outcome(replaced(body, at_spec, value))
        assert isinstance(found, ServiceSpec) or fix not in found


@pytest.mark.parametrize(
    ("at", "schema"),
    [(at, schema) for at, schema in LEAVES if schema["type"] == "string" and "enum" not in schema],
    ids=lambda each: path_of(each) if isinstance(each, tuple) else "",
)
def test_strings_are_refused_with_the_advice_of_the_schema(at: At, schema: Schema) -> None:
    body, at_spec = sample_with(at), ("spec", *at)
    assert "maxLength" in schema
    too_long = "a" * (schema["maxLength"] + 1)
    assert isinstance(outcome(replaced(body, at_spec, too_long)), str)
    rules = schema.get("x-kubernetes-validations")
    if rules is None:
        assert schema["minLength"] == 1, "a string without a form is at least not empty"
        assert isinstance(outcome(replaced(body, at_spec, "")), str)
        return
    (rule,) = rules
    with pytest.raises(InvalidSpec) as refused:
        parse_service(replaced(body, at_spec, "§"))
    assert refused.value.fix == rule["message"]
    assert refused.value.path.replace("[0]", ".[]") == path_of(at_spec)


def test_every_rule_says_what_to_write() -> None:
    schemas = [((), root()), *properties(root())]
    rules = [rule for _, schema in schemas for rule in schema.get("x-kubernetes-validations", ())]
    assert len(rules) > 30
    for rule in rules:
        assert len(rule["message"]) > 20, rule
        assert "messageExpression" not in rule, "its estimated cost is above the API server's limit"


def test_every_property_is_described_and_bounded() -> None:
    for at, schema in properties(root()):
        path = path_of(at)
        if path == "metadata":
            continue
        name = at[-1]
        assert schema["description"].rstrip().endswith("."), path
        if name != "[]":
            assert schema["description"].split()[0] == name, f"{path}: a description starts with its name"
        kind = schema["type"]
        if kind == "integer":
            assert "minimum" in schema, path
            assert "maximum" in schema or schema.get("format") == "int64", path
        elif kind == "array":
            assert "maxItems" in schema, path
            assert schema["x-kubernetes-list-type"] in ("map", "set"), path
        elif kind == "string" and at[0] in ("spec", "status"):
            assert "maxLength" in schema or "enum" in schema, path
        else:
            assert kind in ("object", "string"), f"{path}: {kind}"


def test_there_are_no_floats() -> None:
    kinds = {schema["type"] for _, schema in properties(root())}
    assert kinds == {"object", "array", "string", "integer"}


@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "manifests" / "samples").glob("*.yaml")), ids=lambda file: file.name
)
def test_shipped_samples_are_valid(file: Any) -> None:
    import yaml

    for body in yaml.safe_load_all(file.read_text()):
        if body and body["kind"] == "InferenceService":
            assert isinstance(outcome(body), ServiceSpec)
