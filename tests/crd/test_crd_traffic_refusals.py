"""What is wrong with admission, fallback and routing, in the words of the API server and in the parser's."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.refusal import SERVICES, Refusal
from fakes.schema_walk import least
from penstock.model.parse import parse_service
from penstock.model.spec import Balancer, RequestClass
from penstock.sandbox.apiserver import ApiServer

pytestmark = pytest.mark.api

INTERACTIVE = {"name": "interactive", "priority": 100}
BATCH = {"name": "batch", "priority": 0}


def classes(*entries: object, **fields: object) -> dict[str, Any]:
    """A resource with request classes, the default class being batch."""
    return least(admission={"defaultClass": "batch", "classes": list(entries)} | fields)


def falling_back(**ref: object) -> dict[str, Any]:
    """A resource with a fallback."""
    return least(fallback={"backendRef": ref})


def refused(
    body: dict[str, Any], where: str, cause: str, fix: str, *, value: str = "object", parser: str = ""
) -> Refusal:
    """A refusal whose cause and fix both say alike; `parser` replaces them where it can tell more."""
    said = parser or f"{cause}: {fix}"
    return Refusal(body, where, value, f"{cause}: {fix}", f"{where}: {said}")


ADMISSION = {
    "a static limit without a number": refused(
        least(admission={"policy": "Static"}),
        "spec.admission.static",
        "policy Static needs static",
        "for example static: {maxInFlightPerReplica: 64}",
    ),
    "a number without a static limit": refused(
        least(admission={"static": {"maxInFlightPerReplica": 64}}),
        "spec.admission.static",
        "static applies with policy Static only",
        "set policy: Static or remove static",
    ),
    "equal priorities": refused(
        classes(INTERACTIVE, BATCH, {"name": "evaluation", "priority": 0}),
        "spec.admission.classes",
        "equal priorities",
        "give each class its own, the highest is shed last",
        parser="equal priorities (batch and evaluation have 0): give each class its own, the highest is "
        "shed last",
    ),
    "an unknown default class": refused(
        classes(INTERACTIVE, BATCH, defaultClass="evaluation"),
        "spec.admission.defaultClass",
        "defaultClass is not among classes",
        "write the name of one of the classes",
        parser='defaultClass "evaluation" is not among classes: write the name of one of the classes: '
        "interactive, batch",
    ),
    "no default class": refused(
        least(admission={"classes": [INTERACTIVE, BATCH]}),
        "spec.admission.defaultClass",
        "classes need a defaultClass, for requests that name none",
        "write the name of one of the classes",
        parser="classes need a defaultClass, for requests that name none: write the name of one of the "
        "classes: interactive, batch",
    ),
    "a default class without classes": refused(
        least(admission={"defaultClass": "batch"}),
        "spec.admission.classes",
        "classHeader and defaultClass apply with classes only",
        "list classes, or remove them",
    ),
    "a class header without classes": refused(
        least(admission={"classHeader": "x-request-class", "classes": []}),
        "spec.admission.classes",
        "classHeader and defaultClass apply with classes only",
        "list classes, or remove them",
    ),
    "objectives of an unknown class": refused(
        classes(BATCH) | least(slo={"ttft": {"p95": "1s"}, "classes": ["chat"]}),
        "spec.slo.classes",
        "slo.classes are not all among admission.classes",
        "list them there, or leave slo.classes out to mean all requests",
        parser='"chat" is not among admission.classes: list it there, or leave slo.classes out to mean all '
        "requests",
    ),
    "a fallback of an unknown class": refused(
        least(
            admission={"defaultClass": "batch", "classes": [BATCH]},
            fallback={"backendRef": {"name": "chat-small"}, "classes": ["batch", "chat"]},
        ),
        "spec.fallback.classes",
        "fallback.classes are not all among admission.classes",
        "list them there, or leave fallback.classes out to mean all requests",
        parser='"chat" is not among admission.classes: list it there, or leave fallback.classes out to mean '
        "all requests",
    ),
}
FALLBACK = {
    "a fallback to itself": refused(
        falling_back(name="chat"),
        "spec.fallback.backendRef.name",
        "a service cannot be its own fallback",
        "name another service, or remove fallback",
    ),
    "a Service without a limit": refused(
        falling_back(kind="Service", name="chat-small", port=8000),
        "spec.fallback.backendRef",
        "kind Service needs port and maxInFlight, for nobody else limits what is sent there",
        "for example port: 8000, maxInFlight: 64",
    ),
    "an InferenceService with a limit": refused(
        falling_back(name="chat-small", maxInFlight=64),
        "spec.fallback.backendRef",
        "port and maxInFlight apply with kind Service only, an InferenceService has its own",
        "set kind: Service or remove them",
    ),
}
ROUTING = {
    "a rule that is not named": refused(
        least(routing={"type": "GatewayAPI"}),
        "spec.routing.gatewayAPI",
        "type GatewayAPI needs gatewayAPI",
        "name the rule, for example gatewayAPI: {httpRouteRef: {name: chat, rule: main}}",
    ),
    "a rule of a route that is not used": refused(
        least(routing={"type": "Envoy", "gatewayAPI": {"httpRouteRef": {"name": "chat", "rule": "main"}}}),
        "spec.routing.gatewayAPI",
        "gatewayAPI applies with type GatewayAPI only",
        "set type: GatewayAPI or remove gatewayAPI",
    ),
    "a certificate without gateways": refused(
        least(routing={"envoy": {"tls": {"secretName": "chat-tls"}}}),
        "spec.routing.envoy",
        "envoy applies with type Envoy only",
        "set type: Envoy or remove envoy",
    ),
    "a balancer that the gateways lack": refused(
        least(routing={"type": "Envoy", "balancer": "RoundRobin"}),
        "spec.routing.balancer",
        "type Envoy balances by LeastRequests (default) or Random",
        "write one of them",
    ),
}
REFUSALS = ADMISSION | FALLBACK | ROUTING


@pytest.mark.parametrize("bad", REFUSALS.values(), ids=REFUSALS.keys())
def test_bad_traffic_is_refused_with_advice(apiserver: ApiServer, bad: Refusal) -> None:
    assert bad.by_api_server(apiserver) == bad.expected
    assert bad.by_parser() == bad.parser


@pytest.mark.parametrize("header", ["X-Class", "x-envoy-class", "x-penstock-fallback", "x class", "x-class:"])
def test_a_class_header_is_a_token_in_lower_case_and_not_the_gateways(
    apiserver: ApiServer, header: str
) -> None:
    advice = (
        "write a header in lower case, for example x-request-class; x-envoy-* and x-penstock-* are the "
        "gateway's own"
    )
    where = "spec.admission.classHeader"
    bad = Refusal(
        classes(BATCH, classHeader=header),
        where,
        "string",
        advice,
        f'{where}: "{header}" does not fit: {advice}',
    )
    assert bad.by_api_server(apiserver) == bad.expected
    assert bad.by_parser() == bad.parser


def test_a_class_is_there_once(apiserver: ApiServer) -> None:
    bad = Refusal(
        classes(BATCH, BATCH | {"priority": 1}),
        "",
        "",
        "",
        'spec.admission.classes[1].name: "batch" is there twice: write each name once',
    )
    assert "spec.admission.classes[1]: Duplicate value" in bad.by_api_server(apiserver)
    assert bad.by_parser() == bad.parser


def test_nine_classes_are_too_many(apiserver: ApiServer) -> None:
    entries = [{"name": f"c{index}", "priority": index} for index in range(9)]
    bad = Refusal(
        classes(*entries, defaultClass="c0"),
        "",
        "",
        "",
        "spec.admission.classes: 9 entries: write at most 8",
    )
    assert "spec.admission.classes: Too many: 9: must have at most 8 items" in bad.by_api_server(apiserver)
    assert bad.by_parser() == bad.parser


@pytest.mark.parametrize(
    ("routing", "balancer"),
    [
        ({}, Balancer.RANDOM),
        ({"type": "None"}, Balancer.RANDOM),
        ({"type": "None", "balancer": "PowerOfTwo"}, Balancer.POWER_OF_TWO),
        ({"type": "Envoy"}, Balancer.LEAST_REQUESTS),
        ({"type": "Envoy", "balancer": "Random"}, Balancer.RANDOM),
        (
            {"type": "GatewayAPI", "gatewayAPI": {"httpRouteRef": {"name": "chat", "rule": "main"}}},
            Balancer.RANDOM,
        ),
    ],
)
def test_the_balancer_is_that_of_what_is_in_front(
    apiserver: ApiServer, routing: dict[str, Any], balancer: Balancer
) -> None:
    status, stored = apiserver.request("POST", f"{SERVICES}?dryRun=All", least(routing=routing))
    assert status == 201, stored
    assert parse_service(stored).balancer is balancer
    assert stored["spec"]["routing"].get("balancer") == routing.get("balancer"), "no drift for GitOps"


def test_the_classes_of_a_resource_are_read_in_its_order() -> None:
    parsed = parse_service(classes(INTERACTIVE, BATCH | {"maxPercent": 70})).admission
    assert parsed.classes == (RequestClass("interactive", 100, 100), RequestClass("batch", 0, 70))
