"""Weights of one named rule of an HTTPRoute, as a JSON Patch that fails rather than hit another rule.

The lists of an HTTPRoute are atomic: server-side apply would take all rules from their owner. So only
the ``weight`` of the rule's backendRefs is patched, by index, behind tests of the rule's name at that
index and of the resourceVersion that was looked at.
Source: RFC 6902; Gateway API v1.4.0 (rules have names in its standard channel).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from penstock.dataplane.gatewayapi.ownership import other_owner

#: Percent are fine enough: a finer step would write, and an operator's GitOps tool would compare, more often.
TOTAL: Final = 100
#: A pool behind an endpoint picker; it may stand where its service's own Service would.
POOL_GROUPS: Final = frozenset({"inference.networking.k8s.io", "inference.networking.x-k8s.io"})
_DEFAULT_WEIGHT: Final = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the weights are not set, and what the user can do."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class WeightPatch:
    """Operations that give the rule its weights; `changed` False: it has them already."""

    operations: tuple[dict[str, Any], ...]
    before: Mapping[str, int]

    @property
    def changed(self) -> bool:
        """Whether anything is to be written."""
        return bool(self.operations)


@dataclass(frozen=True, slots=True)
class CanaryWeight:
    """The Service of a canary's pods, and how many percent of what the fallback leaves go there."""

    service: str
    percent: int


def split(
    primary: str, fallback: str | None, fallback_ratio: float, canary: CanaryWeight | None = None
) -> dict[str, int]:
    """Return weights by Service, 100 in all; `fallback_ratio` (0..1) of the requests go to the fallback.

    A canary with a share gets at least 1 of what there is: 0 would never bring evidence.
    """
    weights = {primary: TOTAL}
    if fallback is not None:
        weights[fallback] = round(TOTAL * min(1.0, max(0.0, fallback_ratio)))
        weights[primary] -= weights[fallback]
    if canary is not None:
        rest = weights[primary]
        share = rest * min(100, max(0, canary.percent)) // 100
        weights[canary.service] = max(share, min(1, rest)) if canary.percent > 0 else 0
        weights[primary] -= weights[canary.service]
    return weights


def sticky_shortfall(header: str) -> Refusal | None:
    """Return that an HTTPRoute cannot keep a header's value on one arm; None where no header is named.

    Session persistence of the Gateway API (GEP-1619, experimental) keeps a session on a pod, not a value on
    one side of a split.
    """
    if not header:
        return None
    return Refusal(
        "StickySplitNotPossible",
        f"an HTTPRoute draws an arm for each request, so requests with the same {header} would meet both: "
        "set routing.type Envoy, or remove canary.stickyHeader",
    )


def weight_patch(
    route: Mapping[str, Any], rule: str, weights: Mapping[str, int], *, primary: str
) -> WeightPatch | Refusal:
    """Return what gives the rule called `rule` these weights, by Service, or why that must not be done.

    `primary` is the Service of the service itself, of its stable arm: an InferencePool may stand in its
    place. A rule with one backendRef needs no weights: then only the primary may be asked for more than 0.
    """
    name = f"HTTPRoute {_name(route)}"
    owner = other_owner(route)
    if owner is not None:
        return Refusal(
            "RouteOwnedByAnother",
            f"{name} is steered by {owner}: give Penstock a route of its own, or take it from {owner}",
        )
    rules = list((route.get("spec") or {}).get("rules") or ())
    found = [index for index, each in enumerate(rules) if each.get("name") == rule]
    if not found:
        return _no_such_rule(name, rule, rules)
    if len(found) > 1:
        return Refusal(
            "AmbiguousRule", f"{name} has {len(found)} rules called {rule!r}: names must be unique"
        )
    index = found[0]
    refs = list(rules[index].get("backendRefs") or ())
    places = _places(refs, weights, primary)
    if isinstance(places, str):
        return Refusal("UnexpectedBackends", f"rule {rule!r} of {name} {places}")
    wanted = {place: weights[service] for service, place in places.items()}
    before = {service: _weight(refs[place]) for service, place in places.items()}
    if len(refs) == 1 or _same_shares(before, weights):
        return WeightPatch((), before)
    tests = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": route["metadata"]["resourceVersion"]},
        {"op": "test", "path": f"/spec/rules/{index}/name", "value": rule},
    ]
    # "add" to an object's member replaces it where there is one.
    changes = [
        {"op": "add", "path": f"/spec/rules/{index}/backendRefs/{place}/weight", "value": weight}
        for place, weight in sorted(wanted.items())
        if _weight(refs[place]) != weight
    ]
    return WeightPatch((*tests, *changes), before)


def _no_such_rule(name: str, rule: str, rules: Sequence[Mapping[str, Any]]) -> Refusal:
    names = [str(each["name"]) for each in rules if each.get("name")]
    if names:
        return Refusal("RuleNotFound", f"{name} has no rule {rule!r}: its rules are {', '.join(names)}")
    advice = f"name the rule that serves this model {rule!r} (spec.rules[].name)"
    return Refusal("RuleNotFound", f"{name} has {len(rules)} rules and no names: {advice}")


def _places(
    refs: Sequence[Mapping[str, Any]], weights: Mapping[str, int], primary: str
) -> dict[str, int] | str:
    """Return the index of each Service's backendRef, or what is wrong with the list, as half a sentence."""
    services: dict[str, list[int]] = {}
    pools: list[int] = []
    for index, ref in enumerate(refs):
        kind, group = ref.get("kind", "Service"), ref.get("group", "")
        if kind == "Service" and not group and not ref.get("namespace"):
            services.setdefault(str(ref.get("name")), []).append(index)
        elif kind == "InferencePool" and group in POOL_GROUPS:
            pools.append(index)
        else:
            return f"has a backendRef to {kind} {ref.get('name')}, which Penstock does not know: remove it"
    if primary not in services and len(pools) == 1:
        services[primary] = [pools.pop()]
    places: dict[str, int] = {}
    for service, weight in weights.items():
        indexes = services.pop(service, [])
        if len(indexes) > 1:
            return f"names Service {service} {len(indexes)} times: keep one"
        if not indexes:
            if not weight and service != primary:
                continue  # nothing goes there now: the ref may come later
            listed = f'add {{"name": "{service}", "port": ..., "weight": 0}} to its backendRefs'
            return f"has no backendRef to Service {service}: {listed}"
        places[service] = indexes[0]
    unasked = [index for indexes in (*services.values(), pools) for index in indexes]
    others = [str(refs[index].get("name")) for index in unasked if _weight(refs[index])]
    if others:
        return f"also sends to {', '.join(others)}: set its weight to 0, or remove it"
    return places


def _same_shares(before: Mapping[str, int], wanted: Mapping[str, int]) -> bool:
    """Whether the weights mean the same as those wanted: a user's 1 and 0 are our 100 and 0."""
    present, total = sum(before.values()), sum(wanted[service] for service in before)
    return present > 0 and all(before[each] * total == wanted[each] * present for each in before)


def _weight(ref: Mapping[str, Any]) -> int:
    weight = ref.get("weight")
    return _DEFAULT_WEIGHT if weight is None else int(weight)


def _name(route: Mapping[str, Any]) -> str:
    metadata = route.get("metadata") or {}
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
