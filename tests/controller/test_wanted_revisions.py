"""From a canary's plan to the Deployments of an owned workload."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.builders import service
from penstock.controller.found_revisions import FoundRevision
from penstock.controller.wanted_revisions import Revision, Step, WantedRevisions, steps_back, wanted_revisions
from penstock.model.canary import CanaryPhase, CanaryPlan
from penstock.model.revision import WorkloadTemplate

CHAT = service(min=2)
NEW = WorkloadTemplate("{}", "new")
OLD, OLDER = (FoundRevision(f"chat-{each}", each, "", "u-1", "", 2, 2) for each in ("old", "older"))
UNDER_WAY = (
    CanaryPhase.WARMING,
    CanaryPhase.TESTING,
    CanaryPhase.PROMOTING,
    CanaryPhase.PAUSED,
    CanaryPhase.INCONCLUSIVE,
    CanaryPhase.ROLLING_BACK,
)


def wanted(plan: CanaryPlan | None, stable: str = "old", **facts: Any) -> WantedRevisions:
    given = {"found": [OLDER, OLD], "target": 5, "switched_at": 0.0, "now": 1000.0} | facts
    return wanted_revisions(CHAT, NEW, plan, stable=stable, **given)


def plan(phase: CanaryPhase, **fields: Any) -> CanaryPlan:
    return CanaryPlan(phase, **({"revision": "new", "canary_replicas": 1} | fields))


def test_the_first_template_serves_with_the_minimum() -> None:
    first = CanaryPlan(CanaryPhase.IDLE, promote="new")
    for each in (first, None):  # in mode Observe nothing is planned, and it is said what is missing
        assert wanted(each, "", found=[], target=None) == WantedRevisions(CHAT, Revision("new", 2, NEW))


@pytest.mark.parametrize("phase", UNDER_WAY)
def test_a_canary_under_way_has_a_deployment_beside_the_stable_one(phase: CanaryPhase) -> None:
    assert wanted(plan(phase)) == WantedRevisions(
        CHAT, Revision("old", 5), Revision("new", 1, NEW), idle=frozenset({"older"})
    )


@pytest.mark.parametrize("phase", set(CanaryPhase) - set(UNDER_WAY))
def test_without_one_under_way_whatever_was_tried_is_idle(phase: CanaryPhase) -> None:
    tried = FoundRevision("chat-new", "new", "canary", "u-1", "", 1, 1)
    got = wanted(plan(phase), found=[OLDER, OLD, tried])
    assert got == WantedRevisions(CHAT, Revision("old", 5), idle=frozenset({"older", "new"}))


def test_a_template_that_has_changed_again_is_not_the_canarys() -> None:
    got = wanted(plan(CanaryPhase.ROLLING_BACK, revision="between"))
    assert got.canary == Revision("between", 1)


def test_a_promotion_leaves_the_old_arm_as_it_is() -> None:
    promoting = plan(CanaryPhase.PROMOTING, promote="new")
    assert wanted(promoting) == WantedRevisions(CHAT, Revision("new", 5, NEW))


@pytest.mark.parametrize(
    ("facts", "idle"),
    [
        ({"switched_at": 990.0}, set()),
        ({"switched_at": 985.0}, {"older"}),
        ({"switched_at": 0.0, "busy": ["older"]}, set()),
    ],
    ids=["nodes may not have followed", "they have", "it has streams"],
)
def test_an_earlier_revision_is_idle_when_nobody_sends_to_it(facts: dict[str, Any], idle: set[str]) -> None:
    assert wanted(None, **facts).idle == idle


def test_a_stable_arm_at_zero_is_created_with_the_minimum() -> None:
    assert wanted(None, target=0).stable.replicas == 2


RUNS, IDLE = (FoundRevision(f"chat-{each}", each, "canary", "u-1", "", 2, 2) for each in ("runs", "idle"))
EMPTY = [FoundRevision(f"chat-{each}", each, "retired", "u-1", str(each), 0, 0) for each in "1234"]
THEIRS = FoundRevision("chat-theirs", "theirs", "stable", "u-0", "", 0, 0)
NOW = WantedRevisions(CHAT, Revision("old", 2), Revision("new", 1), idle=frozenset({"idle", "4"}))


@pytest.mark.parametrize(
    ("found", "steps"),
    [
        pytest.param([OLD], [], id="what is wanted has none"),
        pytest.param([OLD, RUNS], [(Step.LABEL, RUNS)], id="one that may have streams runs on"),
        pytest.param([OLD, IDLE], [(Step.SCALE_IN, IDLE)], id="an idle one is scaled in"),
        pytest.param([*EMPTY[1:], OLD], [], id="three empty ones are kept"),
        pytest.param([*EMPTY, OLD], [(Step.DELETE, EMPTY[0])], id="the oldest beyond goes"),
        pytest.param([THEIRS, *EMPTY[1:], OLD], [], id="one of the service that had this name is not ours"),
    ],
)
def test_steps_back(found: list[FoundRevision], steps: list[tuple[Step, FoundRevision]]) -> None:
    assert steps_back(found, NOW) == steps
