"""Parser and API server agree about resources that nobody thought of."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from fakes.schema_walk import Schema, get, has, least, replaced, sample, spec_leaves
from penstock.model.parse import InvalidSpec, parse_service
from penstock.sandbox.apiserver import ApiServer

pytestmark = pytest.mark.api

SERVICES = "/apis/serving.penstock.dev/v1alpha1/namespaces/default/inferenceservices"

WORDS = """
0s 0ms 1ms 999ms 1s 59s 1m 10m 10m1ms 1h 1h1ms 2h 90m 1m30s 1s500ms 1h1h 99999h
1.5s -1s +1s 1us 1d s 100000s 1m1m1m1m1m 1M ms1 1ms1
0 1 49 50 99.5 99.9999 99.55555 100 100.0 .5 5. 1e3 1.15e-06 5e-123 5e99
a -a a- A a.b a..b Deployment apps USD usd EURO ArrivalRate 0x1f ü
"""
LENGTHS = [length * "a" for length in (46, 63, 64, 253, 254)]
STRINGS = (*WORDS.split(), *LENGTHS, "", " ", "1 s", "1s\n")


def any_value(rng: random.Random, schema: Schema) -> object:
    """A value of the right type, at or beyond its bounds as often as within; now and then of another."""
    if rng.random() < 0.05:
        return rng.choice([7, "7", True, [], {}, 1.5])
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if schema["type"] == "integer":
        lowest, highest = schema["minimum"], schema["maximum"]
        return rng.choice([lowest - 1, lowest, highest, highest + 1, rng.randint(lowest, highest)])
    return rng.choice(STRINGS)


def mutated(rng: random.Random) -> dict[str, Any]:
    """A complete resource with one to three values replaced, or left out."""
    body = sample(rng.choice(["named", "inline", "request-response"]))
    leaves = [(("spec", *at), schema) for at, schema in spec_leaves()]
    leaves = [(at, schema) for at, schema in leaves if has(body, at)]
    for at, schema in rng.sample(leaves, rng.randint(1, 3)):
        if not has(body, at):
            continue  # an earlier one put something else in place of its parent
        if rng.random() < 0.2:
            parent = get(body, at[:-1])
            parent.pop(at[-1] if isinstance(parent, dict) else 0)
        else:
            body = replaced(body, at, any_value(rng, schema))
    return body


def test_parser_and_api_server_agree(apiserver: ApiServer) -> None:
    """300 resources, good and bad: one accepts exactly what the other does."""
    rng = random.Random(20260101)
    accepted = 0
    for _ in range(300):
        body = mutated(rng)
        status, answer = apiserver.request("POST", f"{SERVICES}?dryRun=All", body)
        assert status in (201, 400, 422), answer
        try:
            parse_service(body)
            parses = True
        except InvalidSpec as error:
            parses, answer = False, answer | {"parser": str(error)}
        assert parses == (status == 201), json.dumps([body, answer], indent=1)
        accepted += parses
    assert 45 < accepted < 255, "the cases are neither all good nor all bad"


ONE_CLASS = {"defaultClass": "a", "classes": [{"name": "a", "priority": 1}]}
# None, {} and [] in place of a section: what templates leave behind when a value is not set.
SECTIONS: dict[str, list[Any]] = {
    "admission": [
        None,
        {},
        {"classes": None},
        {"classes": []},
        {"defaultClass": None},
        {"static": {}},
        {"policy": "Static", "static": {}},
        {"policy": "Static", "static": None},
        {"policy": False},  # Off without quotes
        {"mode": "Paused"},
        ONE_CLASS,
        ONE_CLASS | {"classHeader": "x-class\n"},
        ONE_CLASS | {"classes": [None]},
        ONE_CLASS | {"classes": ["a"]},
        ONE_CLASS | {"classes": {}},
        ONE_CLASS | {"classes": [{"name": "a"}]},
    ],
    "fallback": [
        None,
        {},
        {"backendRef": None},
        {"backendRef": {}},
        {"backendRef": {"name": "chat-small"}, "classes": []},
        {"backendRef": {"name": "chat-small"}, "classes": None},
        {"backendRef": {"name": "chat-small"}, "classes": ["a"]},
        {"backendRef": {"name": "chat-small"}, "classes": ["a", "a"]},
        {"backendRef": {"name": "chat-small", "port": None}},
        {"backendRef": {"name": "chat"}, "mode": "Observe"},  # itself
        {"backendRef": {"kind": "Service", "name": "chat", "port": 1, "maxInFlight": 1}},  # behind it: fine
        {"backendRef": {"kind": "Service", "name": "chat", "port": 1, "maxInFlight": None}},
    ],
    "routing": [
        None,
        {},
        {"type": None},
        {"balancer": None},
        {"envoy": None},
        {"gatewayAPI": None},
        {"type": "Envoy", "envoy": {}},
        {"type": "Envoy", "envoy": None},
        {"type": "Envoy", "envoy": {"tls": None}},
        {"type": "Envoy", "envoy": {"tls": {}}},
        {"type": "GatewayAPI", "gatewayAPI": None},
        {"type": "GatewayAPI", "gatewayAPI": {}},
        {"type": "GatewayAPI", "gatewayAPI": {"httpRouteRef": None}},
        {"type": "GatewayAPI", "gatewayAPI": {"httpRouteRef": {}}},
    ],
}


@pytest.mark.parametrize(
    ("section", "value"),
    [(section, value) for section, values in SECTIONS.items() for value in values],
    ids=json.dumps,
)
def test_an_empty_section_means_the_same_to_both(apiserver: ApiServer, section: str, value: object) -> None:
    body = least(**{section: value})
    status, stored = apiserver.request("POST", f"{SERVICES}?dryRun=All", body)
    if status == 201:
        assert parse_service(stored) == parse_service(body | {"metadata": stored["metadata"]})
    else:
        assert status == 422, stored
        with pytest.raises(InvalidSpec):
            parse_service(body)
