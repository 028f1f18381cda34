"""Canaries walked through tick by tick: shares, replicas, sentences, and how fast a bad one is gone."""

from __future__ import annotations

from fakes.canary import (
    BAD,
    BEGAN,
    GATHERING,
    GOOD,
    NEW,
    OLD,
    TICK,
    CanaryWorld,
    missing,
    owned,
    said,
)
from penstock.model.canary import CanaryPhase
from penstock.model.canary_spec import OnInsufficientEvidence
from penstock.model.canary_verdict import VerdictKind
from penstock.model.conditions import Status
from penstock.policy.canary_conditions import canary_finding
from penstock.policy.canary_sizing import bearable_percent

P = CanaryPhase


def message(world: CanaryWorld) -> str:
    """What was said last, with its reason."""
    assert world.decision is not None
    return f"{world.decision.reason}: {world.decision.message}"


def status(world: CanaryWorld) -> Status:
    """The status of CanaryHealthy."""
    assert world.decision is not None
    return canary_finding(world.decision).status


def test_a_good_revision_goes_through_all_steps_and_becomes_the_stable_one() -> None:
    world = CanaryWorld(verdict=GOOD, stable_in_flight=3.0)
    told: list[tuple[str, int, int | None, str]] = []
    for _ in range(60):
        plan = world.tick()
        line = (plan.phase.value, plan.weight_percent, plan.canary_replicas, message(world))
        if not told or told[-1] != line:
            told.append(line)
        if plan.phase is P.PROMOTING and world.now > BEGAN + 420:
            world.stable_in_flight = 0.0
    b, c = NEW, OLD
    assert told == [
        ("Warming", 0, 1, f"Warming: revision {b} gets no requests yet: 0 of 1 replica ready"),
        ("Testing", 5, 1, f"Testing: revision {b} has 5 % (step 1 of 3): no worse than 15 %"),
        ("Testing", 20, 1, f"Testing: revision {b} has 20 % (step 2 of 3): no worse than 15 %"),
        (
            "Testing",
            20,
            4,
            f"WaitingForReplicas: revision {b} has 20 % of 50 % (step 3 of 3): 1 of 4 replicas ready",
        ),
        ("Testing", 50, 4, f"Testing: revision {b} has 50 % (step 3 of 3): no worse than 15 %"),
        (
            "Promoting",
            100,
            4,
            f"Promoting: revision {b} has 100 % of the requests; 3 requests in flight on revision {c}",
        ),
        ("Promoting", 100, 4, f"Promoting: revision {b} becomes the stable one"),
        ("Promoted", 0, None, f"Promoted: revision {b} is the stable one, by the evidence"),
    ]
    assert world.stable == NEW
    assert status(world) is Status.TRUE


def test_the_old_arm_is_kept_until_its_streams_have_ended_or_had_ten_minutes() -> None:
    for left, seconds in ((3.0, 600.0), (None, 600.0), (0.0, TICK)):
        world = CanaryWorld(verdict=GOOD, stable_in_flight=left)
        while world.tick().weight_percent < 100:
            assert world.plans[-1] is not None
            assert not world.plans[-1].promote
        shifted = world.now
        while not world.tick().promote:
            assert world.plans[-1] is not None
            assert (world.plans[-1].phase, world.plans[-1].weight_percent) == (P.PROMOTING, 100)
        assert world.now - shifted == seconds


def test_a_bad_revision_is_without_requests_in_the_tick_of_the_verdict() -> None:
    world = CanaryWorld(verdict=GATHERING, canary_in_flight=12.0)
    world.ticks(10)
    assert world.plans[-1] is not None
    assert world.plans[-1].weight_percent == 5
    world.verdict = BAD
    plan = world.tick()
    assert (plan.phase, plan.weight_percent, plan.canary_replicas, plan.routed) == (
        P.ROLLING_BACK,
        0,
        1,
        True,
    )
    because = "31 % more requests above 250 ms"
    assert message(world) == (
        f"TTFTRegressed: revision {NEW} gets no new requests, 12 requests in flight end first: {because}"
    )
    assert status(world) is Status.FALSE
    assert world.ticks(4).canary_replicas == 1, "its streams go on"
    world.canary_in_flight = 0.0
    plan = world.tick()
    assert (plan.phase, plan.canary_replicas, plan.routed) == (P.ROLLED_BACK, 0, False)
    assert message(world) == (
        f"TTFTRegressed: revision {NEW} was rolled back and is not tried again until its template changes: "
        f"{because}"
    )
    assert status(world) is Status.FALSE
    world.verdict = GOOD
    assert {world.tick().phase for _ in range(50)} == {P.ROLLED_BACK}
    assert world.plans[-1] is not None
    assert world.plans[-1].canary_replicas is None, "scaled in once: whoever looks into it may start a pod"
    world.wanted = OLD
    world.tick()
    assert message(world) == f"NothingToTry: nothing to try: revision {OLD} is the stable one"
    assert status(world) is Status.TRUE
    world.wanted = NEW
    world.tick()
    assert message(world).startswith(
        f"RejectedRevision: revision {NEW} was rolled back and is not tried again"
    )
    assert status(world) is Status.FALSE


def test_streams_that_never_end_are_cut_after_ten_minutes() -> None:
    world = CanaryWorld(verdict=GATHERING, canary_in_flight=None)
    world.ticks(10)
    world.verdict = BAD
    world.tick()
    assert world.ticks(39).phase is P.ROLLING_BACK
    assert world.tick().phase is P.ROLLED_BACK


def test_a_crash_looping_revision_never_gets_a_request() -> None:
    world = CanaryWorld(crashing=True, verdict=GOOD)
    world.ticks(3)
    assert message(world) == (
        f"CanaryNotReady: revision {NEW} gets no requests yet: 0 of 1 replica ready: engine: "
        "CrashLoopBackOff; "
        "rolled back after 5m"
    )
    assert status(world) is Status.FALSE
    world.until("RolledBack")
    assert all(plan is not None and plan.weight_percent == 0 for plan in world.plans)
    assert world.now - BEGAN <= 300 + 4 * TICK
    assert message(world) == (
        f"CanaryNotReady: revision {NEW} was rolled back and is not tried again until its template changes: "
        "0 of 1 replica ready for 5m: engine: CrashLoopBackOff"
    )


def test_a_share_waits_for_the_gateways_and_for_ready_replicas() -> None:
    """Flagger set the weight before the data plane was ready (PR 4753)."""
    world = CanaryWorld(verdict=GOOD)
    world.ticks(4)
    assert world.plans[-1] is not None
    assert world.plans[-1].weight_percent == 5
    world.acknowledged = False
    for _ in range(20):
        world.tick()
    assert world.plans[-1].step == 1
    assert world.plans[-1].weight_percent == 5
    assert message(world) == (
        f"WaitingForGateways: revision {NEW} has 5 % of 20 % (step 2 of 3): not all gateways know its "
        "endpoints "
        "yet"
    )
    assert status(world) is Status.UNKNOWN
    world.acknowledged = True
    assert world.tick().weight_percent == 20


def test_a_share_falls_with_the_replicas_at_once_and_comes_back() -> None:
    world = CanaryWorld(verdict=GATHERING, spec=owned(step_percents=(50,)))
    world.ticks(8)
    assert world.plans[-1] is not None
    assert world.plans[-1].weight_percent == 50
    world.most_canary_replicas = 1
    plan = world.tick()
    assert plan.weight_percent == bearable_percent(1, 4) == 20
    assert message(world) == (
        f"WaitingForReplicas: revision {NEW} has 20 % of 50 % (step 1 of 1): 1 of 4 replicas ready: "
        "0/3 nodes "
        "have room"
    )
    world.most_canary_replicas = 0
    assert world.tick().weight_percent == 0
    world.most_canary_replicas = 4
    assert world.tick().weight_percent == 50


def test_a_stable_arm_that_grows_lets_the_canary_grow_with_it() -> None:
    world = CanaryWorld(verdict=GATHERING, spec=owned(step_percents=(20,)))
    world.ticks(5)
    world.needed = world.stable_ready = 12
    plan = world.tick()
    assert (plan.weight_percent, plan.canary_replicas) == (7, 3)
    assert world.ticks(3).weight_percent == 20
    world.needed = world.stable_ready = 4
    assert world.tick().canary_replicas == 3, "no stream is cut for it"


def test_no_traffic_holds_the_share_and_says_what_to_do() -> None:
    """Flagger advanced later without traffic (#1011), and failed canaries for the lack of it (#1035)."""
    world = CanaryWorld(verdict=said(VerdictKind.INSUFFICIENT, requests=0))
    world.ticks(100)
    assert world.plans[-1] is not None
    assert (world.plans[-1].step, world.plans[-1].weight_percent) == (0, 5)
    assert message(world) == (
        f"NoTraffic: revision {NEW} has 5 % (step 1 of 3), held: not one request of it was counted; "
        "send requests "
        "through the gateway, and look whether the canary's pods are scraped"
    )
    world.until("Inconclusive")
    assert message(world) == (
        f"Inconclusive: no verdict on revision {NEW} after 1h, held at 5 %: not one request of the "
        "canary was "
        "counted; set annotation serving.penstock.dev/canary to promote, abort or resume (the same "
        "time again)"
    )
    assert world.ticks(1000).phase is P.INCONCLUSIVE
    assert status(world) is Status.UNKNOWN


def test_an_arm_that_is_not_measured_holds_the_share() -> None:
    """A wrong metric name passed silently elsewhere (Flagger #1581)."""
    spec = owned(on_insufficient_evidence=OnInsufficientEvidence.PROMOTE)
    world = CanaryWorld(spec=spec, verdict=missing())
    world.ticks(30)
    assert message(world) == (
        f"CanaryMetricsMissing: revision {NEW} has 5 % (step 1 of 3), held: no series of the canary's pods"
    )
    assert world.ticks(400).phase is P.INCONCLUSIVE, "what was not measured is not promoted"
    world.verdict = GOOD
    world.until("Promoted")


def test_an_arm_that_is_lost_in_the_tick_of_the_deadline_delays_the_promotion_and_is_no_end_of_it() -> None:
    spec = owned(on_insufficient_evidence=OnInsufficientEvidence.PROMOTE, step_percents=(50,))
    world = CanaryWorld(spec=spec, verdict=GATHERING)
    world.until("Testing")
    began = world.memory.testing_since
    assert began is not None
    assert spec.canary is not None
    while world.now < began + spec.canary.max_duration_seconds:
        world.tick()
    world.verdict = missing()
    assert world.tick().phase is P.INCONCLUSIVE
    world.verdict = GATHERING
    assert world.tick().phase is P.PROMOTING


def test_little_traffic_takes_each_step_for_its_time_and_is_never_promoted_by_guessing() -> None:
    world = CanaryWorld(spec=owned(warm_up_seconds=0.0))
    began: dict[int, float] = {}
    for tick in range(300):
        world.verdict = said(VerdictKind.INSUFFICIENT, requests=2.0 * tick)
        plan = world.tick()
        if plan.phase is P.TESTING:
            began.setdefault(plan.step, world.now)
    assert world.memory.phase is P.INCONCLUSIVE
    # The first one has a fifth of the load of a stable replica on its own: half of its share of the time.
    assert [began[1] - began[0], began[2] - began[1]] == [600.0, 1200.0]
    assert message(world).startswith(
        f"Inconclusive: no verdict on revision {NEW} after 1h, held at 50 %: 0.2 "
    )
    world.verdict = GOOD
    world.until("Promoted", most=10)


def test_every_step_is_seen_for_a_minute_after_its_warm_up_whatever_the_evidence() -> None:
    world = CanaryWorld(verdict=GOOD)
    in_force: dict[int, list[float]] = {}
    while world.memory.phase is not P.PROMOTING:
        plan = world.tick()
        if plan.phase is P.TESTING and plan.weight_percent == (5, 20, 50)[plan.step]:
            in_force.setdefault(plan.step, []).append(world.now)
    # The replicas of the last step are new, those of the second are those of the first.
    assert [times[-1] - times[0] for times in in_force.values()] == [75.0, 45.0, 75.0]
