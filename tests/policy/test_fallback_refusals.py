"""A fallback that cannot be used: each with its cause and the fix."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.traffic import BATCH, INTERACTIVE, routed, to
from penstock.model.spec import (
    AdmissionSpec,
    BackendKind,
    EngineSpec,
    RoutingType,
    ServiceKey,
    ServiceSpec,
    ServiceTime,
)
from penstock.policy.fallback_refusal import FallbackFacts, fallback_refusal, find_loops

SMALL = routed(name="chat-small")
SERVES_M = FallbackFacts(found=True, spec=SMALL, served_models=("m", "small"))
CLASSES = AdmissionSpec(default_class="batch", classes=(INTERACTIVE, BATCH))


@pytest.mark.parametrize(
    ("spec", "facts", "reason", "message"),
    [
        (
            routed(fallback=to("chat")),
            FallbackFacts(found=True, spec=routed()),
            "FallbackIsItself",
            "fallback.backendRef names chat itself: name another service, or remove spec.fallback",
        ),
        (
            routed(fallback=to()),
            FallbackFacts(found=False),
            "FallbackNotFound",
            "InferenceService chat-small does not exist in namespace prod: create it, or correct "
            "fallback.backendRef",
        ),
        (
            routed(fallback=to("external", kind=BackendKind.SERVICE)),
            FallbackFacts(found=False),
            "FallbackNotFound",
            "Service external does not exist in namespace prod: create it, or correct fallback.backendRef",
        ),
        (
            routed(fallback=to(classes=("bulk",)), admission=CLASSES),
            SERVES_M,
            "UnknownClass",
            "fallback.classes bulk is not among admission.classes: name some of batch, interactive, or leave "
            "the list out for all",
        ),
        (
            routed(fallback=to()),
            replace(SERVES_M, spec=replace(SMALL, engine=EngineSpec(service_time=ServiceTime(0.005)))),
            "FallbackOtherAPI",
            "chat generates tokens and chat-small answers whole requests: name a fallback that speaks the "
            "same API",
        ),
        (
            replace(routed(fallback=to()), engine=EngineSpec(service_time=ServiceTime(0.005))),
            SERVES_M,
            "FallbackOtherAPI",
            "chat answers whole requests and chat-small generates tokens: name a fallback that speaks the "
            "same API",
        ),
        (
            routed(fallback=to()),
            replace(SERVES_M, spec=routed(name="chat-small", routing=RoutingType.NONE)),
            "FallbackNotRouted",
            "chat-small has routing.type: None, nothing enforces its own limit and overload would move "
            "there: set routing.type: Envoy on chat-small, or name it as kind: Service with maxInFlight",
        ),
        (
            routed(fallback=to()),
            replace(SERVES_M, served_models=None, unanswered="connection refused"),
            "FallbackUnchecked",
            "the models of chat-small are not known yet, nothing is sent there until its /v1/models answers: "
            "connection refused",
        ),
        (
            routed(fallback=to()),
            replace(SERVES_M, served_models=("small",)),
            "ModelNotServed",
            "chat-small does not serve m (it serves small): start it with --served-model-name small m, or "
            "correct workload.modelNames",
        ),
    ],
)
def test_refusals(spec: ServiceSpec, facts: FallbackFacts, reason: str, message: str) -> None:
    refusal = fallback_refusal(spec, facts, {})
    assert refusal is not None
    assert (refusal[0].value, refusal[1]) == (reason, message)


@pytest.mark.parametrize(
    ("spec", "facts"),
    [
        (routed(), FallbackFacts(found=False)),
        (routed(fallback=to()), SERVES_M),
        (routed(fallback=to(classes=("batch",)), admission=CLASSES), SERVES_M),
        (
            routed(fallback=to("external", kind=BackendKind.SERVICE)),
            FallbackFacts(found=True, served_models=("m",)),
        ),
        # A Service that has our name is another thing: the engine's own, say.
        (
            routed(fallback=to("chat", kind=BackendKind.SERVICE)),
            FallbackFacts(found=True, served_models=("m",)),
        ),
        # Weights of an HTTPRoute need no gateway of ours at the other end.
        (
            routed(fallback=to(), routing=RoutingType.GATEWAY_API),
            replace(SERVES_M, spec=routed(name="chat-small", routing=RoutingType.NONE)),
        ),
        # Where no model name is promised to clients, none can be refused.
        (replace(routed(fallback=to()), model_names=()), replace(SERVES_M, served_models=None)),
    ],
)
def test_what_may_be_used(spec: ServiceSpec, facts: FallbackFacts) -> None:
    assert fallback_refusal(spec, facts, {}) is None


def chain(*ways: str) -> list[ServiceSpec]:
    """Services from ``a>b``; ``a`` alone has no fallback."""
    return [
        routed(name=at, fallback=to(onto) if onto else None)
        for at, _, onto in (way.partition(">") for way in ways)
    ]


def test_a_loop_is_told_to_everyone_in_it_and_to_nobody_else() -> None:
    loops = find_loops(chain("c>a", "a>b", "b>a", "d>e", "e"))
    assert loops == {
        ServiceKey("prod", "a"): "the fallbacks go round, a to b to a: remove spec.fallback of one of them",
        ServiceKey("prod", "b"): "the fallbacks go round, b to a to b: remove spec.fallback of one of them",
    }
    refusal = fallback_refusal(chain("a>b")[0], replace(SERVES_M, spec=routed(name="b")), loops)
    assert refusal is not None
    assert refusal[0].value == "FallbackLoop"


def test_names_are_of_a_namespace() -> None:
    a, b = chain("a>b", "b>a")
    assert find_loops([a, replace(b, key=ServiceKey("test", "b"))]) == {}


def test_a_service_that_names_itself_is_no_loop_of_several() -> None:
    assert find_loops(chain("a>a")) == {}


def test_plain_services_end_a_chain() -> None:
    a = routed(name="a", fallback=to("b", kind=BackendKind.SERVICE))
    assert find_loops([a, *chain("b>a")]) == {}


@given(st.lists(st.integers(-1, 7), min_size=8, max_size=8))
def test_a_service_is_in_a_loop_when_walking_on_comes_back_to_it(onwards: list[int]) -> None:
    specs = chain(*(f"s{k}>s{to}" if to >= 0 else f"s{k}" for k, to in enumerate(onwards)))
    expected = set()
    for k in range(8):
        at, seen = onwards[k], 0
        while at not in (-1, k) and seen < 8:
            at, seen = onwards[at], seen + 1
        if at == k and onwards[k] != k:
            expected.add(ServiceKey("prod", f"s{k}"))
    assert find_loops(specs).keys() == expected
