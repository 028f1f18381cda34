"""Which pods are made and which are taken away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.sandbox.local_pod import LocalPod
from penstock.sandbox.rollout import PodPlan, Strategy, plan_pods, strategy_of, victims


def pod(name: str = "p", *, ready: float | None = 100.0, **changes: object) -> LocalPod:
    made = LocalPod(
        name=name,
        deployment="chat",
        template_hash="h",
        labels={},
        created_at=0.0,
        node="n-" + name,
        started_at=50.0,
        ready_at=ready,
    )
    for field, value in changes.items():
        setattr(made, field, value)
    return made


@pytest.mark.parametrize(
    ("goes", "stays", "why"),
    [
        (pod(node="", ready=None, started_at=None), pod(ready=None), "not scheduled"),
        (pod(ready=None, started_at=None), pod(ready=None), "not running"),
        (pod(ready=None, deletion_cost=1000), pod(deletion_cost=-1000), "not ready, whatever its cost"),
        (pod(deletion_cost=-1), pod(ready=500.0), "the lower cost, even if ready for longer"),
        (pod(ready=200.0), pod(ready=100.0), "ready later"),
        (pod(restarts=2), pod(restarts=1, created_at=5.0), "more restarts"),
        (pod(created_at=5.0), pod(created_at=1.0), "created later"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_replicaset_order_of_victims(goes: LocalPod, stays: LocalPod, why: str):
    goes.name, stays.name = "goes", "stays"
    assert [p.name for p in victims([stays, goes])] == ["goes", "stays"], why
    assert [p.name for p in victims([goes, stays])] == ["goes", "stays"], why


def test_a_pod_that_shares_its_node_goes_before_one_that_is_alone():
    pods = [pod("alone", node="a"), pod("one", node="b"), pod("two", node="b")]
    assert victims(pods)[-1].name == "alone"


@pytest.mark.parametrize(
    ("strategy", "replicas", "expected"),
    [
        ({}, 4, Strategy(1, 1)),
        ({}, 1, Strategy(1, 0)),
        ({}, 10, Strategy(3, 2)),
        ({"rollingUpdate": {"maxSurge": "7%", "maxUnavailable": 0}}, 100, Strategy(7, 0)),
        ({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}, 4, Strategy(0, 1)),
        ({"type": "Recreate"}, 4, Strategy(0, 4, recreate=True)),
    ],
)
def test_surge_rounds_up_and_unavailable_down(strategy: dict[str, object], replicas: int, expected: Strategy):
    assert strategy_of({"strategy": strategy}, replicas) == expected


def test_without_old_pods_the_difference_is_made_or_taken():
    pods = [pod("a", deletion_cost=5), pod("b", deletion_cost=-5), pod("c")]
    assert plan_pods(5, Strategy(1, 0), pods, []) == PodPlan(2, [])
    assert [p.name for p in plan_pods(1, Strategy(1, 0), pods, []).delete] == ["b", "c"]


def test_recreate_ends_the_old_before_it_makes_the_new():
    old = [pod("a"), pod("b")]
    assert plan_pods(2, Strategy(0, 2, recreate=True), [], old) == PodPlan(0, old)


def test_a_rollout_surges_first_and_takes_an_old_pod_only_when_a_new_one_is_ready():
    old = [pod("a"), pod("b")]
    assert plan_pods(2, Strategy(1, 0), [], old) == PodPlan(1, [])
    assert plan_pods(2, Strategy(1, 0), [pod("n", ready=None)], old) == PodPlan(0, [])
    assert len(plan_pods(2, Strategy(1, 0), [pod("n")], old).delete) == 1


def test_broken_old_pods_go_first_in_a_rollout():
    old = [pod("good"), pod("broken", ready=None)]
    assert [p.name for p in plan_pods(2, Strategy(1, 1), [], old).delete] == ["broken"]


@given(
    replicas=st.integers(1, 8),
    surge=st.integers(0, 3),
    unavailable=st.integers(0, 3),
    readiness=st.lists(st.booleans(), min_size=60, max_size=60),
)
def test_a_rollout_ends_and_keeps_within_surge_and_availability(
    replicas: int, surge: int, unavailable: int, readiness: list[bool]
):
    strategy = Strategy(surge, unavailable if surge or unavailable else 1)
    old = [pod(f"old-{i}") for i in range(replicas)]
    current: list[LocalPod] = []
    for step, becomes_ready in enumerate(readiness):
        plan = plan_pods(replicas, strategy, current, old)
        current += [pod(f"new-{step}-{i}", ready=None) for i in range(plan.create)]
        assert len(current) + len(old) <= replicas + strategy.surge
        old = [p for p in old if p not in plan.delete]
        current = [p for p in current if p not in plan.delete]
        assert sum(p.ready for p in (*current, *old)) >= replicas - strategy.unavailable
        starting = [p for p in current if not p.ready]
        if starting and (becomes_ready or step > 30):
            starting[0].ready_at = 1.0
    assert (len(old), len(current)) == (0, replicas)
    assert all(p.ready for p in current)
