"""An owned workload's spec as everything but its own objects goes by it: the stable revision's target."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.kube_bodies import a_service
from penstock.controller.cache import FleetCache
from penstock.model.spec import ServiceKey, ServiceRef, ServiceSpec, TargetRef

CHAT = ServiceKey("prod", "chat")
FIRST, SECOND = (TargetRef("apps", "Deployment", f"chat-{each}") for each in ("first", "second"))
STABLE = ServiceRef("chat", None)


def body(*, generation: int = 1, version: int = 1, uid: str = "u-1", **metadata: Any) -> dict[str, Any]:
    given = {"namespace": "prod", "uid": uid, "generation": generation, "resourceVersion": str(version)}
    found = a_service("chat")
    found["metadata"] |= given | metadata
    return found


def spec_of(cache: FleetCache) -> ServiceSpec:
    spec = cache.services[CHAT].spec
    assert spec is not None
    return spec


@pytest.fixture
def cache() -> FleetCache:
    found = FleetCache()
    found.see_service(body())
    found.serve_by(CHAT, "first")
    return found


def test_a_revision_is_target_and_service_of_the_spec(cache: FleetCache) -> None:
    assert (spec_of(cache).target, spec_of(cache).service) == (FIRST, STABLE)
    assert cache.services_in_front(spec_of(cache)) == ["chat"]


def test_another_revision_takes_its_place(cache: FleetCache) -> None:
    cache.serve_by(CHAT, "second")
    assert (spec_of(cache).target, spec_of(cache).service) == (SECOND, STABLE)


def test_the_same_revision_keeps_the_very_same_spec(cache: FleetCache) -> None:
    before = spec_of(cache)
    cache.serve_by(CHAT, "first")
    cache.see_service(body(version=2) | {"status": {"replicas": {"ready": 1}}})
    assert spec_of(cache) is before


def test_a_changed_spec_is_served_by_the_same_revision(cache: FleetCache) -> None:
    cache.see_service(
        body(generation=2, version=2) | {"spec": a_service("chat", replicas={"min": 3})["spec"]}
    )
    assert (spec_of(cache).target, spec_of(cache).replicas.min) == (FIRST, 3)


@pytest.mark.parametrize("seen", [True, False], ids=["its deletion was seen", "it was missed"])
def test_a_service_made_anew_is_not_served_by_what_was_of_the_former(cache: FleetCache, seen: bool) -> None:
    if seen:
        cache.see_service(body(version=2, deletionTimestamp="2026-11-21T13:00:00Z"))
        cache.forget_service("prod", "chat")
    cache.see_service(body(version=3, uid="u-2"))
    assert spec_of(cache).target == TargetRef("apps", "Deployment", "chat")


def test_an_unreadable_spec_is_served_by_nothing_until_it_is_mended(cache: FleetCache) -> None:
    cache.see_service(body(generation=2, version=2) | {"spec": {}})
    assert cache.services[CHAT].spec is None
    cache.serve_by(CHAT, "second")
    assert cache.services[CHAT].spec is None
    cache.see_service(body(generation=3, version=3))
    assert spec_of(cache).target == SECOND


def test_a_service_that_is_not_known_is_served_by_nothing() -> None:
    cache = FleetCache()
    cache.serve_by(CHAT, "first")
    cache.see_service(body())
    assert spec_of(cache).target == TargetRef("apps", "Deployment", "chat")


def test_services_of_arms_are_known_as_ours_and_stand_in_front_of_nothing(cache: FleetCache) -> None:
    labels = {"app.kubernetes.io/managed-by": "penstock", "serving.penstock.dev/arm": "stable"}
    arm = {"metadata": {"namespace": "prod", "name": "chat-stable", "labels": labels}}
    cache.see_cluster_service(arm | {"spec": {"selector": {"app": "chat"}}})
    assert cache.own_services == {("prod", "chat-stable")}
    assert cache.services_selecting("prod", {"app": "chat"}) == []
    cache.forget_cluster_service("prod", "chat-stable")
    assert cache.own_services == set()
