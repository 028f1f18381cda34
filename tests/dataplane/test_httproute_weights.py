"""Weights of one rule: what is patched, and what is refused with which words."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.gateway_api import a_route, a_rule
from penstock.dataplane.gatewayapi.ownership import last_writer
from penstock.dataplane.gatewayapi.weights import (
    CanaryWeight,
    Refusal,
    WeightPatch,
    split,
    sticky_shortfall,
    weight_patch,
)
from penstock.sandbox.fake_patch import json_patch

PLACE = {"namespace": "prod", "resourceVersion": "7"}


def patched(route: dict[str, Any], **weights: int) -> WeightPatch | Refusal:
    wanted = {service.replace("_", "-"): weight for service, weight in weights.items()}
    return weight_patch(route, "main", wanted, primary="chat")


def refusal(route: dict[str, Any], **weights: int) -> Refusal:
    found = patched(route, **(weights or {"chat": 90, "chat_small": 10}))
    assert isinstance(found, Refusal)
    return found


def test_only_the_weights_of_the_named_rule_are_touched_behind_tests() -> None:
    route = a_route(a_rule("other", chat=1), a_rule("main", chat=None, chat_small=0), **PLACE)
    assert patched(route, chat=70, chat_small=30) == WeightPatch(
        (
            {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "test", "path": "/spec/rules/1/name", "value": "main"},
            {"op": "add", "path": "/spec/rules/1/backendRefs/0/weight", "value": 70},
            {"op": "add", "path": "/spec/rules/1/backendRefs/1/weight", "value": 30},
        ),
        before={"chat": 1, "chat-small": 0},
    )


SMALL = st.integers(0, 1000)


@given(
    st.lists(st.sampled_from(["a", "b", None]), max_size=4),
    SMALL,
    SMALL,
    st.integers(0, 100),
    st.integers(0, 4),
)
def test_a_patch_changes_nothing_but_those_weights(
    names: list[str | None], first: int, second: int, share: int, position: int
) -> None:
    rules = [a_rule(name, chat=first, chat_small=second) for name in names]
    position = min(position, len(rules))
    rules.insert(position, a_rule("main", chat=first, chat_small=second))
    route = a_route(*rules, **PLACE)
    patch = patched(route, chat=100 - share, chat_small=share)
    assert isinstance(patch, WeightPatch)
    after = json_patch(route, list(patch.operations))
    refs = after["spec"]["rules"][position]["backendRefs"]
    total = sum(each["weight"] for each in refs)
    assert refs[1]["weight"] * 100 == share * total, "the rule splits as asked"
    for ref, old in zip(refs, route["spec"]["rules"][position]["backendRefs"], strict=True):
        ref["weight"] = old["weight"]
    assert after == route


@pytest.mark.parametrize(
    "refs", [{"chat": 1, "chat_small": 0}, {"chat": 100, "chat_small": 0}, {"chat": None}]
)
def test_what_splits_alike_is_not_written(refs: dict[str, Any]) -> None:
    patch = patched(a_route(a_rule("main", **refs), **PLACE), chat=100, chat_small=0)
    assert isinstance(patch, WeightPatch)
    assert not patch.changed


def test_a_rule_whose_weights_are_all_zero_is_set() -> None:
    patch = patched(a_route(a_rule("main", chat=0, chat_small=0), **PLACE), chat=100, chat_small=0)
    assert isinstance(patch, WeightPatch)
    assert patch.operations[-1]["value"] == 100


def test_a_pool_stands_in_the_place_of_the_services_own_service() -> None:
    pool = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "chat-pool", "weight": 1}
    rule = a_rule("main", chat_small=0)
    rule["backendRefs"].insert(0, pool)
    patch = patched(a_route(rule, **PLACE), chat=80, chat_small=20)
    assert isinstance(patch, WeightPatch)
    assert patch.before == {"chat": 1, "chat-small": 0}
    assert [each["value"] for each in patch.operations[2:]] == [80, 20]


def test_an_arm_of_the_users_that_gets_nothing_does_not_matter() -> None:
    route = a_route(a_rule("main", chat=1, chat_small=0, experiment=0), **PLACE)
    patch = patched(route, chat=80, chat_small=20)
    assert isinstance(patch, WeightPatch)
    assert len(patch.operations) == 4


OWNED_BY_ANOTHER = (
    "HTTPRoute prod/chat is steered by {0}: give Penstock a route of its own, or take it from {0}"
)
FIELDS = {"f:spec": {"f:rules": {}}}


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        ({"ownerReferences": [{"kind": "LLMInferenceService", "name": "chat", "controller": True}]},
         "LLMInferenceService chat"),
        ({"labels": {"rollouts.argoproj.io/gatewayapi-canary": "in-progress"}}, "Argo Rollouts"),
        ({"annotations": {"rollouts.argoproj.io/gatewayapi-active-rollouts": "prod/chat"}}, "Argo Rollouts"),
        ({"managedFields": [{"manager": "flagger", "fieldsV1": FIELDS}]}, "Flagger"),
    ],
)  # fmt: skip
def test_a_route_that_another_controller_steers_is_left_to_it(metadata: dict[str, Any], owner: str) -> None:
    route = a_route(a_rule("main", chat=1, chat_small=0), **PLACE | metadata)
    assert refusal(route) == Refusal("RouteOwnedByAnother", OWNED_BY_ANOTHER.format(owner))


@pytest.mark.parametrize(
    "metadata",
    [
        {"ownerReferences": [{"kind": "Application", "name": "chat"}]},
        {"managedFields": [{"manager": "argocd-controller", "fieldsV1": FIELDS}]},
        {"managedFields": [{"manager": "flagger", "fieldsV1": {"f:metadata": {}}}]},
        {"managedFields": [{"manager": "penstock", "fieldsV1": FIELDS}]},
    ],
)
def test_whoever_only_deploys_the_route_is_no_other_controller(metadata: dict[str, Any]) -> None:
    route = a_route(a_rule("main", chat=1, chat_small=0), **PLACE | metadata)
    assert isinstance(patched(route, chat=90, chat_small=10), WeightPatch)


def foreign(**ref: Any) -> dict[str, Any]:
    rule = a_rule("main", chat=1, chat_small=0)
    rule["backendRefs"].append(ref)
    return rule


@pytest.mark.parametrize(
    ("rules", "reason", "message"),
    [
        ([a_rule("a", chat=1), a_rule("b", chat=1)], "RuleNotFound",
         "HTTPRoute prod/chat has no rule 'main': its rules are a, b"),
        ([a_rule(None, chat=1)], "RuleNotFound",
         "HTTPRoute prod/chat has 1 rules and no names: name the rule that serves this model 'main' "
         "(spec.rules[].name)"),
        ([a_rule("main", chat=1), a_rule("main", chat=1)], "AmbiguousRule",
         "HTTPRoute prod/chat has 2 rules called 'main': names must be unique"),
        ([a_rule("main", chat=1)], "UnexpectedBackends",
         "rule 'main' of HTTPRoute prod/chat has no backendRef to Service chat-small: add "
         '{"name": "chat-small", "port": ..., "weight": 0} to its backendRefs'),
        ([a_rule("main", other=1)], "UnexpectedBackends",
         "rule 'main' of HTTPRoute prod/chat has no backendRef to Service chat: add "
         '{"name": "chat", "port": ..., "weight": 0} to its backendRefs'),
        ([a_rule("main", chat=1, chat_small=0, other=5)], "UnexpectedBackends",
         "rule 'main' of HTTPRoute prod/chat also sends to other: set its weight to 0, or remove it"),
        ([foreign(name="chat", port=9000)], "UnexpectedBackends",
         "rule 'main' of HTTPRoute prod/chat names Service chat 2 times: keep one"),
        ([foreign(name="chat", namespace="dev", port=80)], "UnexpectedBackends",
         "rule 'main' of HTTPRoute prod/chat has a backendRef to Service chat, which Penstock does not know: "
         "remove it"),
        ([foreign(group="example.com", kind="Bucket", name="b")], "UnexpectedBackends",
         "rule 'main' of HTTPRoute prod/chat has a backendRef to Bucket b, which Penstock does not know: "
         "remove it"),
    ],
)  # fmt: skip
def test_a_route_that_is_not_as_expected_is_refused(
    rules: list[dict[str, Any]], reason: str, message: str
) -> None:
    route = a_route(*rules, **PLACE)
    before = copy.deepcopy(route)
    assert refusal(route) == Refusal(reason, message)
    assert route == before


def test_a_fallback_that_gets_nothing_yet_need_not_be_in_the_rule() -> None:
    patch = patched(a_route(a_rule("main", chat=1), **PLACE), chat=100, chat_small=0)
    assert isinstance(patch, WeightPatch)


@pytest.mark.parametrize(
    ("ratio", "expected"), [(0.0, 0), (0.004, 0), (0.25, 25), (0.996, 100), (1.5, 100), (-0.1, 0)]
)
def test_a_fraction_becomes_whole_percent(ratio: float, expected: int) -> None:
    assert split("chat", "small", ratio) == {"chat": 100 - expected, "small": expected}
    assert split("chat", None, ratio) == {"chat": 100}


@pytest.mark.parametrize(
    ("ratio", "percent", "weights"),
    [
        (0.0, 0, (100, 0, 0)),
        (0.0, 5, (95, 0, 5)),
        (0.3, 20, (56, 30, 14)),
        (0.5, 5, (48, 50, 2)),  # never above its share of the rest
        (0.9, 5, (9, 90, 1)),  # but with one there is evidence
        (1.0, 50, (0, 100, 0)),
        (0.0, 100, (0, 0, 100)),
    ],
)
def test_three_backends_get_100_together(ratio: float, percent: int, weights: tuple[int, ...]) -> None:
    canary = CanaryWeight("tried", percent)
    assert tuple(split("chat", "small", ratio, canary).values()) == weights


@given(st.floats(-1, 2), st.integers(-5, 120), st.booleans())
def test_any_split_is_100_without_anything_below_0(ratio: float, percent: int, has_fallback: bool) -> None:
    found = split("chat", "small" if has_fallback else None, ratio, CanaryWeight("tried", percent))
    assert sum(found.values()) == 100
    assert min(found.values()) >= 0


def test_stable_canary_and_fallback_are_patched_together() -> None:
    rule = a_rule("main", chat=70, chat_small=30, chat_canary=0)
    weights = split("chat", "chat-small", 0.3, CanaryWeight("chat-canary", 20))
    patch = weight_patch(a_route(rule, **PLACE), "main", weights, primary="chat")
    assert isinstance(patch, WeightPatch)
    assert [(each["path"], each["value"]) for each in patch.operations[2:]] == [
        ("/spec/rules/0/backendRefs/0/weight", 56),
        ("/spec/rules/0/backendRefs/2/weight", 14),
    ]


def test_a_rule_without_the_canarys_service_says_what_to_add_once_it_has_a_share() -> None:
    route = a_route(a_rule("main", chat=1, chat_small=0), **PLACE)
    waiting = weight_patch(
        route, "main", split("chat", None, 0.0, CanaryWeight("chat-canary", 0)), primary="chat"
    )
    assert isinstance(waiting, WeightPatch)
    assert not waiting.changed
    asked = weight_patch(
        route, "main", split("chat", None, 0.0, CanaryWeight("chat-canary", 5)), primary="chat"
    )
    assert asked == Refusal(
        "UnexpectedBackends",
        "rule 'main' of HTTPRoute prod/chat has no backendRef to Service chat-canary: add "
        '{"name": "chat-canary", "port": ..., "weight": 0} to its backendRefs',
    )


def test_a_sticky_split_is_said_to_be_impossible() -> None:
    assert sticky_shortfall("") is None
    assert sticky_shortfall("x-session") == Refusal(
        "StickySplitNotPossible",
        "an HTTPRoute draws an arm for each request, so requests with the same x-session would meet both: "
        "set routing.type Envoy, or remove canary.stickyHeader",
    )


def test_the_last_writer_of_the_rules_is_known() -> None:
    fields = [
        {"manager": "kubectl", "time": "2026-01-01T00:00:00Z", "fieldsV1": FIELDS},
        {"manager": "argocd-controller", "time": "2026-01-02T00:00:00Z", "fieldsV1": FIELDS},
        {"manager": "gateway", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:status": {}}},
    ]
    assert last_writer({"metadata": {"managedFields": fields}}) == "argocd-controller"
    assert last_writer({"metadata": {}}) == ""
