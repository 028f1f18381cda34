"""Scale-down without a cut stream: who is closed, who is reopened, when the target may fall."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.drain import (
    DRAIN_DEADLINE_SECONDS,
    SETTLE_SECONDS,
    DrainMemory,
    DrainStep,
    PodLoad,
    Removal,
    decide_drain,
)

BUSY = (PodLoad("a", True, 5), PodLoad("b", True, 1), PodLoad("c", True, 3))


def test_the_idlest_pod_is_closed_and_nothing_is_removed_while_it_streams() -> None:
    step, memory = decide_drain(3, 2, BUSY, DrainMemory(), 0.0)
    assert step == DrainStep(remove=False, replicas=3, waiting_for=1)
    assert memory.names == {"b"}


def test_the_victim_stays_the_same_while_others_become_idler() -> None:
    _, memory = decide_drain(3, 2, BUSY, DrainMemory(), 0.0)
    idler = (PodLoad("a", True, 0), PodLoad("b", True, 1), PodLoad("c", True, 0))
    step, memory = decide_drain(3, 2, idler, memory, 10.0)
    assert memory.names == {"b"}
    assert not step.remove


def test_the_target_falls_once_the_victim_is_empty() -> None:
    _, memory = decide_drain(3, 2, BUSY, DrainMemory(), 0.0)
    empty = (PodLoad("a", True, 5), PodLoad("b", True, 0), PodLoad("c", True, 3))
    step, _ = decide_drain(3, 2, empty, memory, 10.0)
    assert step == DrainStep(remove=True, replicas=2)


def test_an_idle_victim_is_kept_until_its_closing_has_reached_the_proxies() -> None:
    idle = (PodLoad("a", True, 0), PodLoad("b", True, 0))
    step, memory = decide_drain(2, 1, idle, DrainMemory(), 0.0)
    assert not step.remove
    step, _ = decide_drain(2, 1, idle, memory, SETTLE_SECONDS)
    assert step.remove


def test_a_pod_that_turns_unready_becomes_the_victim_and_the_first_choice_is_reopened() -> None:
    _, memory = decide_drain(3, 2, BUSY, DrainMemory(), 0.0)
    unready = (PodLoad("a", False, 5), PodLoad("b", True, 0), PodLoad("c", True, 3))
    step, memory = decide_drain(3, 2, unready, memory, 10.0)
    assert memory.names == {"a"}
    assert step == DrainStep(remove=False, replicas=3, waiting_for=5)


def test_a_pod_that_nobody_measures_is_not_idle() -> None:
    unknown = (PodLoad("a", True, None), PodLoad("b", True, None))
    _, memory = decide_drain(2, 1, unknown, DrainMemory(), 0.0)
    step, _ = decide_drain(2, 1, unknown, memory, 60.0)
    assert not step.remove


def test_a_stream_that_outlives_the_deadline_is_named_and_no_longer_waited_for() -> None:
    _, memory = decide_drain(3, 2, BUSY, DrainMemory(), 0.0)
    step, _ = decide_drain(3, 2, BUSY, memory, DRAIN_DEADLINE_SECONDS)
    assert step == DrainStep(remove=True, replicas=2, waiting_for=1, overdue=("b",))


def test_everything_is_reopened_when_as_many_are_wanted_again() -> None:
    _, memory = decide_drain(3, 1, BUSY, DrainMemory(), 0.0)
    assert len(memory.names) == 2
    step, memory = decide_drain(3, 3, BUSY, memory, 5.0)
    assert memory == DrainMemory()
    assert step == DrainStep(remove=False, replicas=3)


def test_one_of_two_victims_is_reopened_when_one_more_is_wanted() -> None:
    _, memory = decide_drain(3, 1, BUSY, DrainMemory(), 0.0)
    _, memory = decide_drain(3, 2, BUSY, memory, 5.0)
    assert len(memory.names) == 1


def test_a_stateful_set_loses_its_highest_ordinal_however_busy() -> None:
    pods = (PodLoad("chat-0", True, 0), PodLoad("chat-2", True, 9), PodLoad("chat-10", True, 5))
    _, memory = decide_drain(3, 2, pods, DrainMemory(), 0.0, removal=Removal.HIGHEST_ORDINAL)
    assert memory.names == {"chat-10"}


def test_a_victim_that_is_gone_is_not_replaced_when_the_count_fits_again() -> None:
    _, memory = decide_drain(3, 2, BUSY, DrainMemory(), 0.0)
    step, memory = decide_drain(2, 2, (BUSY[0], BUSY[2]), memory, 5.0)
    assert memory == DrainMemory()
    assert step.replicas == 2


PODS = st.lists(
    st.builds(
        PodLoad,
        st.sampled_from([f"pod-{n}" for n in range(9)]),
        st.booleans(),
        st.one_of(st.none(), st.integers(0, 50).map(float)),
    ),
    max_size=9,
    unique_by=lambda pod: pod.name,
)


@given(pods=PODS, wanted=st.integers(1, 9), now=st.floats(0, 599))
@pytest.mark.parametrize("removal", list(Removal))
def test_before_the_deadline_no_removal_while_a_victim_is_or_may_be_busy(
    removal: Removal, pods: list[PodLoad], wanted: int, now: float
) -> None:
    _, memory = decide_drain(len(pods), wanted, pods, DrainMemory(), 0.0, removal=removal)
    step, after = decide_drain(len(pods), wanted, pods, memory, now, removal=removal)
    assert len(after.names) == max(0, len(pods) - wanted)
    if step.remove:
        assert all(pod.in_flight == 0 for pod in pods if pod.name in after.names)
    if removal is Removal.BY_COST:
        unready = {pod.name for pod in pods if not pod.ready}
        assert len(unready & after.names) == min(len(unready), len(after.names))


FOUR_OF_EIGHT = tuple(PodLoad(f"chat-{n}", True, 5.0) for n in range(4))


@pytest.mark.parametrize("removal", list(Removal))
def test_a_target_above_the_pods_there_are_falls_at_once_and_closes_none_that_stays(removal: Removal) -> None:
    step, memory = decide_drain(8, 4, FOUR_OF_EIGHT, DrainMemory(), 0.0, removal=removal)
    assert (step, memory) == (DrainStep(remove=True, replicas=4), DrainMemory())


@pytest.mark.parametrize("removal", list(Removal))
def test_of_a_stateful_set_that_still_starts_only_the_pod_that_goes_is_closed(removal: Removal) -> None:
    pods = (*FOUR_OF_EIGHT, PodLoad("chat-4", False, 0.0))
    _, memory = decide_drain(8, 4, pods, DrainMemory(), 0.0, removal=removal)
    assert memory.names == {"chat-4"}


@given(pods=PODS, target=st.integers(1, 14), wanted=st.integers(1, 9))
@pytest.mark.parametrize("removal", list(Removal))
def test_whatever_the_target_only_pods_that_kubernetes_removes_are_closed(
    removal: Removal, pods: list[PodLoad], target: int, wanted: int
) -> None:
    step, memory = decide_drain(target, wanted, pods, DrainMemory(), 0.0, removal=removal)
    removed = max(0, len(pods) - wanted) if target > wanted else 0
    assert len(memory.names) == removed
    assert len(pods) - len(memory.names) >= min(len(pods), wanted)
    if target > wanted and not removed:
        assert step == DrainStep(remove=True, replicas=wanted)
    if removal is Removal.HIGHEST_ORDINAL:
        assert memory.names == {pod.name for pod in sorted(pods, key=lambda pod: pod.name)[::-1][:removed]}
