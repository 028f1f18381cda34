"""What holds for a canary whatever happens: shares, capacity, no flapping, no second try, restarts."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.canary import BAD, GATHERING, GOOD, NEW, OLD, OTHER, CanaryWorld, adopted, missing, owned, said
from penstock.model.canary import CanaryCommand, CanaryPhase, CanaryPlan
from penstock.model.canary_spec import OnInsufficientEvidence
from penstock.model.canary_verdict import CanaryReason, VerdictKind
from penstock.model.decision import RolloutReason
from penstock.model.spec import ServiceSpec
from penstock.policy.canary import TRANSITIONS
from penstock.policy.canary_memory import memory_from_dict, memory_to_dict
from penstock.policy.canary_sizing import bearable_percent, replicas_for, shifted_percent

P = CanaryPhase
VERDICTS = (
    None,
    GATHERING,
    GOOD,
    BAD,
    missing(),
    missing(CanaryReason.STABLE_METRICS_MISSING),
    said(VerdictKind.INSUFFICIENT, requests=0),
    said(VerdictKind.CONTINUE, leaning=0.9),
)
CHANGES = st.one_of(
    st.tuples(st.just("verdict"), st.sampled_from(VERDICTS)),
    st.tuples(st.just("acknowledged"), st.sampled_from([True, True, False, None])),
    st.tuples(st.just("command"), st.sampled_from([None, None, *CanaryCommand])),
    st.tuples(st.just("wanted"), st.sampled_from([NEW, NEW, OLD, OTHER, ""])),
    st.tuples(st.just("needed"), st.integers(1, 12)),
    st.tuples(st.just("stable_ready"), st.integers(0, 12)),
    st.tuples(st.just("crashing"), st.booleans()),
    st.tuples(st.just("most_canary_replicas"), st.sampled_from([0, 1, 3, 1000])),
    st.tuples(st.just("canary_in_flight"), st.sampled_from([0.0, 3.0, None])),
    st.tuples(st.just("stable_in_flight"), st.sampled_from([0.0, 3.0, None])),
    st.tuples(st.just("refusal"), st.sampled_from([None, None, (RolloutReason.CANARY_NOT_FOUND, "gone")])),
    st.tuples(st.just("spec"), st.sampled_from([owned(), owned(), owned(tested=False)])),
)
Happening = tuple[tuple[str, Any], int]  # what becomes of a field of the world, and ticks after it
HAPPENINGS = st.lists(st.tuples(CHANGES, st.integers(1, 8)), max_size=12)
# How long a good canary goes undisturbed before something happens: 30 ticks see all of it.
STARTS = st.tuples(st.integers(1, 12), st.sampled_from([GOOD, GOOD, GATHERING, None]), st.integers(0, 30))
SPECS = st.sampled_from(
    [
        owned(),
        adopted(),
        owned(max_duration_seconds=900.0),
        owned(on_insufficient_evidence=OnInsufficientEvidence.PROMOTE, step_percents=(50,)),
        owned(on_insufficient_evidence=OnInsufficientEvidence.ROLLBACK, max_duration_seconds=900.0),
        adopted(step_percents=(1, 2, 3), warm_up_seconds=0.0),
    ]
)


def checked(world: CanaryWorld) -> CanaryPlan:
    """One tick, and all that must hold of it."""
    before, seen = world.memory, world.look()
    plan = world.tick()
    memory, decision = world.memory, world.decision
    assert decision is not None
    assert decision.message
    assert 0 <= plan.weight_percent <= 100
    assert plan.weight_percent + plan.stable_percent == 100

    # Never more than the ready replicas bear: the stable arm has the replicas of the whole load throughout.
    whole = max(seen.needed or 0, seen.stable.target if seen.stable else 0)
    if memory.shifted_at is None:
        assert plan.weight_percent <= bearable_percent(seen.canary_ready, seen.stable_ready)
    else:
        assert plan.weight_percent <= shifted_percent(seen.canary_ready, whole)
    if plan.weight_percent > before.weight_percent:
        assert seen.acknowledged is True, "a share rises only after the data plane acknowledged"
    if plan.promote:
        assert memory.shifted_at is not None or not world.spec.canary

    if memory.phase is not before.phase or memory.since != before.since:
        assert (before.phase, memory.phase) in {
            (phase, to) for phase, rows in TRANSITIONS.items() for _, to in rows
        }
    if memory.phase is P.ROLLING_BACK:
        assert plan.weight_percent == 0
        assert plan.canary_replicas == before.replicas, "nothing is scaled in while streams drain"
    if memory.phase not in (P.ROLLED_BACK, P.IDLE, P.PROMOTED) and before.revision == memory.revision:
        assert (plan.canary_replicas or 0) >= (before.replicas or 0)
    if before.rejects(memory.revision) and before.phase is not P.PROMOTED:
        assert plan.weight_percent == 0, "a rejected revision is not tried again"
    if seen.verdict is BAD and before.phase is P.TESTING and not before.by_command:
        assert plan.weight_percent == 0, "the fast path is the tick of the verdict"

    # A restart after any tick changes nothing.
    assert memory_from_dict(json.loads(json.dumps(memory_to_dict(memory)))) == memory
    return plan


def started(spec: ServiceSpec, start: tuple[int, Any, int]) -> CanaryWorld:
    """A world in which a canary has gone on undisturbed for a while."""
    needed, verdict, ticks = start
    world = CanaryWorld(spec=spec, needed=needed, stable_ready=needed, verdict=verdict)
    for _ in range(ticks):
        checked(world)
    return world


def happen(world: CanaryWorld, happenings: list[Happening]) -> None:
    """Let things happen, each followed by some ticks."""
    for (name, value), ticks in happenings:
        if name == "spec" and world.spec.canary is not None and world.spec.canary.target is not None:
            continue  # an adopted canary stays one
        setattr(world, name, value)
        for _ in range(ticks):
            checked(world)


@settings(max_examples=150, deadline=None)
@given(spec=SPECS, start=STARTS, happenings=HAPPENINGS)
def test_whatever_happens(
    spec: ServiceSpec, start: tuple[int, Any, int], happenings: list[Happening]
) -> None:
    happen(started(spec, start), happenings)


@settings(max_examples=25, deadline=None)
@given(spec=SPECS, start=STARTS, happenings=HAPPENINGS, end=st.sampled_from([GOOD, BAD, GATHERING]))
def test_every_state_leaves(
    spec: ServiceSpec, start: tuple[int, Any, int], happenings: list[Happening], end: Any
) -> None:
    """Once things are in order again a canary ends, or is held without a verdict: within twice its time."""
    world = started(spec, start)
    happen(world, happenings)
    world = replace(
        world,
        wanted=NEW,
        verdict=end,
        acknowledged=True,
        command=None,
        needed=4,
        stable_ready=max(4, world.stable_ready),
        crashing=False,
        most_canary_replicas=1000,
        canary_in_flight=0.0,
        stable_in_flight=0.0,
        refusal=None,
        spec=spec,
    )
    for _ in range(2 * 240 + 60):
        checked(world)
    ends = {P.IDLE, P.PROMOTED, P.ROLLED_BACK, P.INCONCLUSIVE}
    assert world.memory.phase in (ends if end is GATHERING else ends - {P.INCONCLUSIVE})
    assert world.memory.phase is not P.IDLE or NEW in (
        world.stable,
        world.memory.promoted,
        world.memory.rejected.revision if world.memory.rejected else "",
    )


@settings(max_examples=25, deadline=None)
@given(
    spec=SPECS,
    verdict=st.sampled_from(VERDICTS),
    acknowledged=st.sampled_from([True, False, None]),
    needed=st.integers(1, 40),
    crashing=st.booleans(),
    most=st.sampled_from([0, 1, 1000]),
)
def test_nothing_flaps_while_nothing_changes(
    spec: ServiceSpec, verdict: Any, acknowledged: bool | None, needed: int, crashing: bool, most: int
) -> None:
    world = CanaryWorld(spec=spec, verdict=verdict, acknowledged=acknowledged, crashing=crashing)
    world.needed = world.stable_ready = needed
    world.most_canary_replicas = most
    seen: list[tuple[CanaryPhase, int]] = []
    for _ in range(500):
        plan = checked(world)
        if not seen or seen[-1] != (plan.phase, plan.step):
            seen.append((plan.phase, plan.step))
    assert len(seen) == len(set(seen)), "a phase and step is never come back to"
    weights = [plan.weight_percent for plan in world.plans if plan is not None]
    rises = sum(after > before for before, after in pairwise(weights))
    assert rises <= 2 * len(spec.canary.step_percents if spec.canary else ()) + 1


@settings(max_examples=40, deadline=None)
@given(happenings=HAPPENINGS, restarts=st.sets(st.integers(0, 300), max_size=20))
def test_a_restart_at_any_point_gives_the_same_continuation(
    happenings: list[Happening], restarts: set[int]
) -> None:
    one, other = CanaryWorld(), CanaryWorld()
    tick = 0
    happenings = [(("verdict", GOOD), 20), *happenings]
    for (name, value), ticks in happenings:
        for world in (one, other):
            setattr(world, name, value)
        for _ in range(ticks):
            if tick in restarts:
                other.memory = memory_from_dict(json.loads(json.dumps(memory_to_dict(other.memory))))
            assert one.tick() == other.tick()
            assert one.decision == other.decision
            tick += 1


@given(stable=st.integers(1, 10_000), percent=st.integers(1, 50))
def test_a_canary_sized_for_a_step_bears_it_with_not_one_replica_to_spare(stable: int, percent: int) -> None:
    count = replicas_for(percent, stable)
    assert bearable_percent(count, stable) >= percent
    assert count <= max(1, stable), "a canary never costs more than the stable arm again"
    if count > 1:
        assert 100 * (count - 1) < percent * (count - 1 + stable)


@pytest.mark.parametrize(
    ("percent", "stable", "replicas"),
    [(5, 4, 1), (20, 4, 1), (50, 4, 4), (5, 19, 1), (5, 20, 2), (1, 500, 6)],
)
def test_replicas_of_a_step(percent: int, stable: int, replicas: int) -> None:
    assert replicas_for(percent, stable) == replicas


@pytest.mark.parametrize(
    ("ready", "stable_ready", "percent"),
    [(0, 4, 0), (1, 4, 20), (1, 19, 5), (4, 4, 50), (1, 0, 100), (0, 0, 0)],
)
def test_the_share_that_ready_replicas_bear(ready: int, stable_ready: int, percent: int) -> None:
    assert bearable_percent(ready, stable_ready) == percent
