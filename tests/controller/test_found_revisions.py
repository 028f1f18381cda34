"""Which revisions are in the cluster, which of them is stable, and which may be deleted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.controller.cache import FleetCache
from penstock.controller.found_revisions import FoundRevision, stable_revision, surplus
from penstock.controller.revision_objects import Arm
from penstock.model.spec import ServiceKey

CHAT = ServiceKey("prod", "chat")


def revision(name: str, arm: str = "retired", *, created: int = 0, replicas: int = 0) -> FoundRevision:
    return FoundRevision(
        f"chat-{name}", name, arm, "u-1", f"2026-11-21T13:00:{created:02d}Z", replicas, replicas
    )


@pytest.mark.parametrize(
    ("remembered", "found", "kept", "stable"),
    [
        pytest.param("", [], [], "", id="the first template ever"),
        pytest.param("old", [revision("old", "stable")], [], "old", id="status says so"),
        pytest.param("old", [revision("old", "canary")], [], "old", id="status before label"),
        pytest.param("", [revision("old", "stable")], [], "old", id="status lost"),
        pytest.param("old", [], [], "", id="deleted by hand while nobody looked: its template is lost"),
        pytest.param("old", [], ["old"], "old", id="deleted by hand, its template at hand"),
        pytest.param(
            "", [revision("old", "stable"), revision("new", "stable")], [], "new", id="between two writes"
        ),
        pytest.param(
            "gone",
            [revision("a", "stable"), revision("b", "stable", created=1), revision("c", created=2)],
            [],
            "b",
            id="the newest that was",
        ),
        pytest.param("", [revision("old", "retired")], [], "", id="nothing serves"),
        pytest.param("new", [], [], "new", id="not created yet, or deleted: the spec has its template"),
        pytest.param("", [revision("new", "canary")], [], "", id="a canary of nothing"),
    ],
)
def test_which_revision_is_stable(
    remembered: str, found: list[FoundRevision], kept: list[str], stable: str
) -> None:
    assert stable_revision("new", remembered, found, kept=kept) == stable


@given(
    st.lists(
        st.tuples(st.sampled_from(list("abcdefgh")), st.integers(0, 2), st.integers(0, 59)),
        unique_by=lambda each: each[0],
    ),
    st.sets(st.sampled_from(list("abcdefgh"))),
    st.integers(0, 4),
)
def test_only_empty_revisions_that_are_not_in_use_are_deleted_and_the_newest_stay(
    drawn: list[tuple[str, int, int]], in_use: set[str], limit: int
) -> None:
    found = [revision(name, replicas=count, created=at) for name, count, at in drawn]
    found.sort(key=lambda each: (each.created, each.name))
    deleted = surplus(found, in_use, limit=limit)
    assert all(each.empty and each.revision not in in_use for each in deleted)
    kept = [each for each in found if each.empty and each.revision not in in_use and each not in deleted]
    assert len(kept) <= limit
    assert not deleted or len(kept) == limit
    assert all(one.created <= other.created for one in deleted for other in kept)


def deployment(name: str, revision: str, *, arm: Arm = Arm.STABLE, **metadata: Any) -> dict[str, Any]:
    labels = {
        "app.kubernetes.io/managed-by": "penstock",
        "serving.penstock.dev/service": "chat",
        "serving.penstock.dev/revision": revision,
        "serving.penstock.dev/arm": arm.value,
    }
    owner = {"kind": "InferenceService", "name": "chat", "uid": "u-1", "controller": True}
    return {
        "metadata": {
            "name": name,
            "namespace": "prod",
            "labels": labels,
            "ownerReferences": [owner],
            "creationTimestamp": "2026-11-21T13:00:00Z",
        }
        | metadata,
        "spec": {"replicas": 2},
        "status": {"replicas": 1},
    }


def test_the_watch_of_deployments_shows_revisions() -> None:
    cache = FleetCache()
    cache.see_workload("Deployment", deployment("chat-b", "b", creationTimestamp="2026-11-21T13:00:09Z"))
    cache.see_workload("Deployment", deployment("chat-a", "a", arm=Arm.RETIRED))
    assert cache.revisions.of(CHAT) == (
        FoundRevision("chat-a", "a", "retired", "u-1", "2026-11-21T13:00:00Z", 2, 1),
        FoundRevision("chat-b", "b", "stable", "u-1", "2026-11-21T13:00:09Z", 2, 1),
    )
    cache.forget_workload("Deployment", "prod", "chat-a")
    assert [each.revision for each in cache.revisions.of(CHAT)] == ["b"]
    cache.forget_workload("Deployment", "prod", "chat-b")
    assert cache.revisions.of(CHAT) == ()


@pytest.mark.parametrize(
    "other",
    [
        deployment("chat-a", "a", labels={"serving.penstock.dev/service": "chat"}),
        deployment("chat-a", "a", labels={"app.kubernetes.io/managed-by": "penstock"}),
        deployment("chat-a", "a", deletionTimestamp="2026-11-21T13:00:00Z"),
    ],
    ids=["not ours", "a gateway", "on its way out"],
)
def test_other_deployments_are_no_revisions(other: dict[str, Any]) -> None:
    cache = FleetCache()
    cache.see_workload("Deployment", deployment("chat-a", "a"))
    cache.see_workload("Deployment", other)
    assert cache.revisions.of(CHAT) == ()
