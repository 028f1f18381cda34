"""What turns a canary from its way: pauses, new templates, owners, warm-ups, mistakes."""

from __future__ import annotations

from dataclasses import replace

from fakes.canary import (
    BAD,
    BEGAN,
    GATHERING,
    GOOD,
    NEW,
    OLD,
    OTHER,
    TICK,
    CanaryWorld,
    adopted,
    looked_at,
    owned,
)
from fakes.canary_cases import FOUR, HOUR, LAST, NOW, at
from penstock.model.canary import CanaryCommand, CanaryMemory, CanaryPhase
from penstock.model.canary_spec import OnInsufficientEvidence
from penstock.model.conditions import Status
from penstock.model.decision import RolloutReason
from penstock.policy.canary import decide_canary
from penstock.policy.canary_conditions import canary_finding

P = CanaryPhase


def message(world: CanaryWorld) -> str:
    """What was said last, with its reason."""
    assert world.decision is not None
    return f"{world.decision.reason}: {world.decision.message}"


def status(world: CanaryWorld) -> Status:
    """The status of CanaryHealthy."""
    assert world.decision is not None
    return canary_finding(world.decision).status


def test_a_pause_stops_the_clock_and_not_the_rollback() -> None:
    world = CanaryWorld(verdict=GATHERING)
    world.ticks(10)
    left = world.memory.testing_since
    assert left is not None
    world.command = CanaryCommand.PAUSE
    plan = world.ticks(400)
    assert (plan.phase, plan.weight_percent, plan.judged) == (P.PAUSED, 5, True)
    assert message(world) == (
        f"Paused: revision {NEW} held at 5 %: remove annotation serving.penstock.dev/canary: pause, "
        "or write resume"
    )
    world.command = None
    assert world.tick().phase is P.TESTING
    assert world.memory.testing_since == left + 400 * TICK
    world.command = CanaryCommand.PAUSE
    world.tick()
    world.verdict = BAD
    assert world.tick().phase is P.ROLLING_BACK


def test_a_new_template_during_a_canary_drains_the_old_one_and_begins_anew() -> None:
    world = CanaryWorld(verdict=GATHERING, canary_in_flight=2.0)
    world.ticks(10)
    world.wanted = "eeeeeeeeee"
    plan = world.tick()
    assert (plan.phase, plan.revision, plan.weight_percent) == (P.ROLLING_BACK, NEW, 0)
    assert message(world) == (
        f"Superseded: revision {NEW} gets no new requests, 2 requests in flight end first: revision "
        "eeeeeeeeee is "
        "wanted meanwhile"
    )
    assert status(world) is Status.UNKNOWN
    world.canary_in_flight = 0.0
    world.ticks(2)
    plan = world.tick()
    assert (plan.phase, plan.revision, plan.step) == (P.WARMING, "eeeeeeeeee", 0)
    assert world.memory.rejected is None


def test_between_two_revisions_nothing_is_wrong() -> None:
    """Four stable replicas were said to be missing in the tick after the streams had ended."""
    world = CanaryWorld(verdict=GATHERING)
    world.ticks(10)
    world.wanted = OTHER
    told = []
    while world.tick().phase is not P.WARMING:
        told.append((message(world), status(world)))
    assert told[-1] == (f"Warming: revision {OTHER} is tried from the next tick on", Status.UNKNOWN)
    assert {each for _, each in told} == {Status.UNKNOWN}


def test_a_canary_that_is_ready_at_once_waits_for_nobody() -> None:
    decision, memory = decide_canary(owned(), looked_at(), CanaryMemory(), BEGAN)
    assert decision.message == (
        f"revision {NEW} gets no requests yet: 1 of 1 replica ready; the first come with the next tick"
    )
    decision, _ = decide_canary(owned(), looked_at(), memory, BEGAN + TICK)
    assert decision.value is not None
    assert decision.value.weight_percent == 5


def test_an_adopted_canary_that_passed_keeps_its_share_until_its_owner_has_handed_over() -> None:
    world = CanaryWorld(spec=adopted(), verdict=GOOD)
    world.until("Promoted")
    plan = world.ticks(100)
    assert (plan.phase, plan.weight_percent, plan.canary_replicas, plan.judged) == (P.PROMOTED, 50, 4, True)
    assert message(world) == (
        f"HandOver: revision {NEW} of Deployment/chat-canary passed and keeps 50 %: give "
        "Deployment/chat its pod template; or, if the Service selects the pods of both, set "
        "workload.targetRef.name: chat-canary and remove spec.canary"
    )
    assert status(world) is Status.TRUE
    world.stable = NEW
    assert world.tick().weight_percent == 0
    world.ticks(3)
    assert world.memory.phase is P.IDLE
    world.stable = "eeeeeeeeee"
    assert world.ticks(20).phase is P.IDLE, "it is not tested against its own successor"
    assert message(world) == (
        f"Promoted: revision {NEW} was promoted before; change the pod template of Deployment/chat-canary "
        "to try another"
    )


HANDS_OVER = (
    "give Deployment/chat its pod template; or, if the Service selects the pods of both, set "
    "workload.targetRef.name: chat-canary and remove spec.canary"
)


def test_an_adopted_canary_that_was_promoted_by_hand_has_not_passed() -> None:
    world = CanaryWorld(spec=adopted(), verdict=GATHERING)
    world.until("Testing")
    world.command = CanaryCommand.PROMOTE
    world.tick()
    assert message(world) == (
        f"HandOver: revision {NEW} of Deployment/chat-canary was promoted without a verdict and keeps 5 %: "
        f"{HANDS_OVER}"
    )


def test_what_is_promoted_because_its_time_is_over_says_so() -> None:
    why = "without a verdict in 1h, as onInsufficientEvidence says"
    for tried, said in (
        (owned, f"Promoted: revision {NEW} is the stable one, {why}"),
        (
            adopted,
            f"HandOver: revision {NEW} of Deployment/chat-canary was promoted {why} and keeps 50 %: "
            f"{HANDS_OVER}",
        ),
    ):
        spec = tried(on_insufficient_evidence=OnInsufficientEvidence.PROMOTE, step_percents=(50,))
        world = CanaryWorld(spec=spec, verdict=GATHERING)
        world.until("Promoted")
        assert message(world) == said
        assert status(world) is Status.TRUE


def test_little_evidence_in_favour_is_no_excuse_for_evidence_against() -> None:
    spec, unheard = (
        owned(on_insufficient_evidence=OnInsufficientEvidence.PROMOTE),
        FOUR | {"acknowledged": None},
    )
    over = NOW + HOUR
    _, memory = decide_canary(spec, looked_at(**unheard, verdict=GATHERING), at(P.TESTING, **LAST), over)
    assert memory.phase is P.PROMOTING
    _, memory = decide_canary(spec, looked_at(**unheard, verdict=BAD), memory, over + TICK)
    assert memory.phase is P.ROLLING_BACK


def test_the_warm_up_of_every_new_replica_is_no_evidence() -> None:
    world = CanaryWorld(spec=owned(step_percents=(50,)), needed=4, verdict=GATHERING)
    world.most_canary_replicas = 4
    plan = world.until("Testing")
    assert plan.judged
    assert plan.evidence_from == world.now - TICK + 30.0
    world.needed = world.stable_ready = 8
    world.most_canary_replicas = 8
    plan = world.ticks(4)
    assert plan.evidence_from is not None
    assert plan.evidence_from > world.now - 2 * TICK
    before = plan.evidence_from
    world.most_canary_replicas = 6
    world.tick()
    world.most_canary_replicas = 8
    assert world.tick().evidence_from == before, "a pod that fell over has no second warm-up"


def test_the_canary_has_no_more_in_flight_than_the_stable_arm_would_let_it() -> None:
    world = CanaryWorld(spec=owned(step_percents=(50,)), verdict=GATHERING)
    world.until("Testing")
    look = world.look
    world.look = lambda: replace(look(), in_flight_per_replica=98)  # type: ignore[method-assign]
    assert world.tick().in_flight_limit == 4 * 98
    world.verdict = BAD
    assert world.tick().in_flight_limit is None


def test_what_is_wrong_is_said_with_its_fix() -> None:
    refusal = (
        RolloutReason.CANARY_IS_STABLE,
        "canary.targetRef names Deployment/chat: name another workload",
    )
    world = CanaryWorld(spec=adopted(), refusal=refusal)
    plan = world.tick()
    assert (plan.phase, plan.weight_percent, plan.canary_replicas) == (P.IDLE, 0, None)
    assert message(world) == f"{refusal[0]}: {refusal[1]}"
    assert status(world) is Status.FALSE


def test_going_back_past_a_bad_revision_does_not_try_an_older_bad_one_again() -> None:
    """GitOps: A, then B (bad), then C (bad), then back by one commit to B."""
    world = CanaryWorld(verdict=BAD)
    bad = [f"bad{index:07d}" for index in range(12)]
    for revision in bad:
        world.wanted = revision
        assert world.until("RolledBack").weight_percent == 0
    assert world.memory.rejected is not None
    assert (world.memory.rejected.revision, *world.memory.rejected_before) == tuple(bad[:1:-1])
    for revision in (bad[10], bad[2]):
        world.wanted = revision
        plan = world.ticks(20)
        assert (plan.phase, plan.weight_percent) == (P.ROLLED_BACK, 0)
    world.wanted = OLD
    world.ticks(2)
    world.wanted = bad[10]
    assert world.ticks(2).phase is P.IDLE
    assert message(world) == (
        f"RejectedRevision: revision {bad[10]} was rolled back and is not tried again until its template "
        "changes: others were since"
    )
    world.wanted = bad[1]  # forgotten: ten are kept
    assert world.tick().phase is P.WARMING
