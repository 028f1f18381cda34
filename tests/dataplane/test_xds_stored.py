"""Plans that are stored are the plans that are read; anything else is refused with a reason."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dataplane.envoy.stored import LARGEST_BYTES, StoredPlansError, read_plans, store_plans
from penstock.model.spec import ServiceKey
from penstock.model.traffic import Backend, CanaryRoute, ClassShare, FallbackPlan, FleetLimit, RoutePlan

pytestmark = pytest.mark.timed

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
COUNTS = st.integers(0, 10_000)
RATIOS = st.floats(0, 1)
KEYS = st.builds(ServiceKey, WORDS, WORDS)
BACKENDS = st.builds(Backend, WORDS, WORDS, COUNTS, WORDS, st.none() | WORDS)
LIMITS = st.builds(FleetLimit, COUNTS, COUNTS)
FALLBACKS = st.builds(
    FallbackPlan, BACKENDS, RATIOS, COUNTS, st.none() | KEYS, st.lists(WORDS, max_size=3).map(tuple)
)
CANARIES = st.builds(CanaryRoute, BACKENDS, st.integers(0, 100), WORDS, st.none() | COUNTS)
PLANS = st.builds(
    RoutePlan,
    key=KEYS,
    uid=WORDS,
    backend=BACKENDS,
    listen_port=COUNTS,
    per_replica=st.none() | LIMITS,
    limit=st.none(),
    class_header=WORDS,
    default_class=WORDS,
    classes=st.lists(st.builds(ClassShare, WORDS, COUNTS, RATIOS), max_size=3).map(tuple),
    fallback=st.none() | FALLBACKS,
    canary=st.none() | CANARIES,
    retry_after_seconds=COUNTS,
    balanced_fully=st.booleans(),
    tls_secret=WORDS,
)


@given(st.lists(PLANS, max_size=4, unique_by=lambda plan: str(plan.key)))
def test_what_is_read_is_what_was_stored(plans: list[RoutePlan]) -> None:
    assert set(read_plans(store_plans(plans))) == set(plans)


@given(st.lists(PLANS, max_size=4, unique_by=lambda plan: str(plan.key)))
def test_the_order_of_plans_changes_nothing(plans: list[RoutePlan]) -> None:
    assert store_plans(plans) == store_plans(plans[::-1])


def plan(**changes: object) -> RoutePlan:
    return replace(
        RoutePlan(ServiceKey("prod", "chat"), "uid", Backend("prod", "chat", 8000, "m"), 10_000),
        **changes,  # type: ignore[arg-type]
    )


def test_a_limit_that_is_on_its_way_rewrites_nothing() -> None:
    """The ramp moves the fleet's limit every second; the stored plans must not follow it."""
    assert store_plans([plan(limit=FleetLimit(4, 2))]) == store_plans([plan(limit=FleetLimit(40, 2))])


def test_every_field_of_a_plan_is_stored_but_the_limit_of_the_fleet() -> None:
    """A field that is added later and forgotten here would be lost for pods born without the operator."""
    stored = {"key", "uid", "backend", "listen_port", "per_replica", "class_header", "default_class"} | {
        *("classes", "fallback", "canary", "retry_after_seconds", "balanced_fully", "tls_secret")
    }
    assert {each.name for each in fields(RoutePlan)} == stored | {"limit"}
    assert {each.name for each in fields(FallbackPlan)} == {
        *("backend", "planned_ratio", "in_flight_limit", "service", "classes")
    }
    assert {each.name for each in fields(CanaryRoute)} == {
        *("backend", "weight_percent", "sticky_header", "in_flight_limit")
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "schema None: this version reads schema 1"),
        ('{"schema": 2, "routes": []}', "schema 2: this version reads schema 1"),
        ('{"schema": 1}', "not the plans of routes: KeyError: 'routes'"),
        ('{"schema": 1, "routes": [{}]}', "not the plans of routes: KeyError: 'key'"),
        ('{"schema": 1, "routes": [7]}', "not the plans of routes"),
        (" " * (LARGEST_BYTES + 1), "1000001 bytes are more than a ConfigMap holds"),
    ],
)
def test_what_is_no_plan_is_refused_with_a_reason(text: str, message: str) -> None:
    with pytest.raises(StoredPlansError, match=message.replace("'", ".")):
        read_plans(text)


def test_more_than_a_configmap_holds_is_refused_with_what_to_do() -> None:
    many = [plan(key=ServiceKey("prod", f"service-{number}")) for number in range(5000)]
    with pytest.raises(StoredPlansError, match=r"5000 services take .* use one gateway group per namespace"):
        store_plans(many)


def test_a_group_of_200_services_takes_an_eighth_of_a_configmap() -> None:
    fallback = FallbackPlan(Backend("prod", "chat-small", 8000, "small"), in_flight_limit=100)
    classes = (ClassShare("interactive", 100), ClassShare("batch", 0, 0.7))
    many = [
        plan(key=ServiceKey("prod", f"service-{number}"), fallback=fallback, classes=classes)
        for number in range(200)
    ]
    assert len(store_plans(many)) < LARGEST_BYTES / 8
