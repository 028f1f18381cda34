"""Why a fallback cannot be used: each refusal with its cause and the fix; traffic stays where it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from penstock.model.decision import TrafficReason
from penstock.model.spec import BackendKind, RoutingType, ServiceKey, ServiceSpec
from penstock.policy.request_classes import Refusal

#: By these nothing goes to a fallback; other decisions without a value leave it what it has.
WITHHELD: Final = frozenset(
    {
        TrafficReason.NO_FALLBACK,
        TrafficReason.UNKNOWN_CLASS,
        TrafficReason.FALLBACK_IS_ITSELF,
        TrafficReason.FALLBACK_NOT_FOUND,
        TrafficReason.FALLBACK_LOOP,
        TrafficReason.FALLBACK_OTHER_API,
        TrafficReason.FALLBACK_NOT_ROUTED,
        TrafficReason.FALLBACK_UNCHECKED,
        TrafficReason.MODEL_NOT_SERVED,
    }
)


@dataclass(frozen=True, slots=True)
class FallbackFacts:
    """What was found out about a named fallback.

    `served_models` are the names its ``/v1/models`` lists: None while nobody asked, or nobody answered
    (`unanswered` says why).
    """

    found: bool
    spec: ServiceSpec | None = None  # of kind InferenceService
    served_models: tuple[str, ...] | None = None
    unanswered: str = ""


def fallback_refusal(
    spec: ServiceSpec, facts: FallbackFacts, loops: Mapping[ServiceKey, str]
) -> Refusal | None:
    """Return why the fallback of `spec` is not used; None where it may be, or where there is none."""
    fallback = spec.fallback
    if fallback is None:
        return None
    backend = fallback.backend
    service = backend.kind is BackendKind.INFERENCE_SERVICE
    if service and backend.name == spec.key.name:
        return (
            TrafficReason.FALLBACK_IS_ITSELF,
            f"fallback.backendRef names {backend.name} itself: name another service, or remove spec.fallback",
        )
    if not facts.found or (service and facts.spec is None):
        return (
            TrafficReason.FALLBACK_NOT_FOUND,
            f"{backend.kind} {backend.name} does not exist in namespace {spec.key.namespace}: "
            "create it, or correct fallback.backendRef",
        )
    if spec.key in loops:
        return TrafficReason.FALLBACK_LOOP, loops[spec.key]
    known = {each.name for each in spec.admission.classes}
    unknown = [name for name in fallback.classes if name not in known]
    if unknown:
        listed = f"name some of {', '.join(sorted(known))}" if known else "list it in admission.classes"
        return (
            TrafficReason.UNKNOWN_CLASS,
            f"fallback.classes {unknown[0]} is not among admission.classes: {listed}, "
            "or leave the list out for all",
        )
    return _unfit(spec, facts) or _unserved(spec, facts)


def find_loops(specs: Iterable[ServiceSpec]) -> Mapping[ServiceKey, str]:
    """Return the services whose fallbacks lead back to them, each with what to do; O(services)."""
    onwards = {
        spec.key: ServiceKey(spec.key.namespace, spec.fallback.backend.name)
        for spec in specs
        if spec.fallback is not None and spec.fallback.backend.kind is BackendKind.INFERENCE_SERVICE
    }
    found: dict[ServiceKey, str] = {}
    done: set[ServiceKey] = set()
    for start in onwards:
        path: list[ServiceKey] = []
        at: ServiceKey | None = start
        while at is not None and at not in done:
            done.add(at)
            path.append(at)
            at = onwards.get(at)
        if at is None or at not in path:
            continue  # the chain ends, or joins one that was walked before
        loop = path[path.index(at) :]
        if len(loop) > 1:  # a service that names itself is told so
            for place, key in enumerate(loop):
                found[key] = _loop_message([*loop[place:], *loop[: place + 1]])
    return found


def _loop_message(loop: list[ServiceKey]) -> str:
    way = " to ".join(key.name for key in loop)
    return f"the fallbacks go round, {way}: remove spec.fallback of one of them"


def _unfit(spec: ServiceSpec, facts: FallbackFacts) -> Refusal | None:
    """Return what sets the fallback apart: another kind of API, or a limit that nobody enforces."""
    other = facts.spec
    if other is None:
        return None
    name = other.key.name
    if (other.engine.service_time is None) != (spec.engine.service_time is None):
        kinds = ("generates tokens", "answers whole requests")
        ours, theirs = kinds if spec.engine.service_time is None else kinds[::-1]
        return (
            TrafficReason.FALLBACK_OTHER_API,
            f"{spec.key.name} {ours} and {name} {theirs}: name a fallback that speaks the same API",
        )
    if spec.routing.type is RoutingType.ENVOY and other.routing.type is not RoutingType.ENVOY:
        return (
            TrafficReason.FALLBACK_NOT_ROUTED,
            f"{name} has routing.type: {other.routing.type}, nothing enforces its own limit and overload "
            f"would move there: set routing.type: Envoy on {name}, or name it as kind: Service "
            "with maxInFlight",
        )
    return None


def _unserved(spec: ServiceSpec, facts: FallbackFacts) -> Refusal | None:
    """Return what of `workload.modelNames` the fallback would answer with 404."""
    assert spec.fallback is not None  # noqa: S101 - the caller has checked
    name = spec.fallback.backend.name
    if not spec.model_names:
        return None  # any model name is as good as another where none is promised
    if facts.served_models is None:
        why = f": {facts.unanswered}" if facts.unanswered else ""
        return (
            TrafficReason.FALLBACK_UNCHECKED,
            f"the models of {name} are not known yet, "
            f"nothing is sent there until its /v1/models answers{why}",
        )
    missing = [each for each in spec.model_names if each not in facts.served_models]
    if not missing:
        return None
    serves = ", ".join(facts.served_models) or "nothing"
    return (
        TrafficReason.MODEL_NOT_SERVED,
        f"{name} does not serve {', '.join(missing)} (it serves {serves}): start it with "
        f"--served-model-name {' '.join((*facts.served_models, *missing))}, or correct workload.modelNames",
    )
