"""The fallback: each replica carries 18 requests a second, 98 are its limit; time is walked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.builders import LinearCapacity, blind, pool, seen
from fakes.traffic import believed, measured, routed, to
from penstock.model.decision import Decision, TrafficReason
from penstock.model.observation import Pool
from penstock.model.spec import (
    BackendKind,
    BackendRef,
    EngineSpec,
    Mode,
    ProfileType,
    RoutingType,
    ServiceSpec,
)
from penstock.model.traffic import FleetLimit, GatewayReading
from penstock.policy.admission import Admission, AdmissionMemory, decide_admission
from penstock.policy.beliefs import borrowed_problem, problem
from penstock.policy.capacity_problem import resolve_engine
from penstock.policy.demand import Demand
from penstock.policy.estimate import Estimate, NothingToCarry
from penstock.policy.fallback import (
    NOTHING_REMEMBERED,
    FallbackMemory,
    FallbackShare,
    decide_fallback,
    reachable,
)
from penstock.policy.fallback_room import FallbackRoom, room_beside, room_of_service
from penstock.policy.gateway_load import ClassRate, GatewayRates
from penstock.policy.lengths import LengthMemory, observe_means
from penstock.policy.memory import ServiceMemory

START = 1_000_000.0
ROOM = FallbackRoom("chat-small", 120, 30.0)


def decided(  # type: ignore[no-untyped-def]
    spec: ServiceSpec,
    offered: float,
    *,
    of: Pool | None = None,
    room: FallbackRoom | None = ROOM,
    believing: Estimate | None = None,
    memory: FallbackMemory = NOTHING_REMEMBERED,
    at: float = START,
    **more,
) -> tuple[Decision[FallbackShare], FallbackMemory]:
    observed = seen(at, of or pool(4))
    believing = believing or believed(offered)
    admission, _ = decide_admission(spec, observed, believing, AdmissionMemory(), at)
    return decide_fallback(spec, observed, believing, memory, at, admission=admission, room=room, **more)


AT_MOST_4 = {"max": 4}


@pytest.mark.parametrize(
    ("case", "spec", "offered", "of", "room", "planned", "at_once", "reason", "message"),
    [
        (
            "more is offered than replicas.max carries",
            routed(fallback=to(), **AT_MOST_4),
            92.0,
            pool(4),
            ROOM,
            0.22,
            120,
            "FallbackActive",
            "22 % of 92 req/s are planned to chat-small, 4 replicas (replicas.max) that can be up in time "
            "carry 72 req/s; it has room for 30 req/s, 120 in flight",
        ),
        (
            "two more will be there within the lead time",
            routed(fallback=to(), max=10),
            92.0,
            pool(6, ready=4),
            ROOM,
            0.0,
            120,
            "Idle",
            "chat-small stands by with room for 30 req/s, 120 in flight",
        ),
        (
            "no node has room for more",
            routed(fallback=to(), max=10),
            92.0,
            pool(6, ready=4, stuck=2, unschedulable=2),
            ROOM,
            0.22,
            120,
            "FallbackActive",
            "22 % of 92 req/s are planned to chat-small, 4 replicas that can be up in time carry 72 req/s; "
            "it has room for 30 req/s, 120 in flight",
        ),
        (
            "no more than the fallback's spare rate",
            routed(fallback=to(), **AT_MOST_4),
            92.0,
            pool(4),
            FallbackRoom("chat-small", 33, 8.3),
            0.09,
            33,
            "FallbackActive",
            "9 % of 92 req/s are planned to chat-small, 4 replicas (replicas.max) that can be up in time "
            "carry 72 req/s; it has room for 8.3 req/s, 33 in flight",
        ),
        (
            "no more than maxPercent, planned or at once",
            routed(fallback=to(max_percent=10), **AT_MOST_4),
            92.0,
            pool(4),
            ROOM,
            0.1,
            43,
            "FallbackActive",
            "10 % of 92 req/s are planned to chat-small, 4 replicas (replicas.max) that can be up in time "
            "carry 72 req/s; it has room for 30 req/s, 43 in flight",
        ),
        (
            "a plain Service has a number in flight only",
            routed(fallback=to("external", kind=BackendKind.SERVICE), **AT_MOST_4),
            92.0,
            pool(4),
            FallbackRoom("external", 40),
            0.22,
            40,
            "FallbackActive",
            "22 % of 92 req/s are planned to external, 4 replicas (replicas.max) that can be up in time "
            "carry 72 req/s; it has room for 40 in flight",
        ),
        (
            "the fallback is full with its own load",
            routed(fallback=to(), **AT_MOST_4),
            92.0,
            pool(4),
            FallbackRoom("chat-small", 0, 0.0),
            0.0,
            0,
            "NoRoom",
            "chat-small has no room for requests of others, 4 replicas (replicas.max) that can be up in time "
            "carry 72 req/s: the excess is shed",
        ),
        (
            "one per cent over is noise",
            routed(fallback=to(), **AT_MOST_4),
            72.7,
            pool(4),
            ROOM,
            0.0,
            120,
            "Idle",
            "chat-small stands by with room for 30 req/s, 120 in flight",
        ),
        (
            "the fallback only observes",
            routed(fallback=to(mode=Mode.OBSERVE), **AT_MOST_4),
            92.0,
            pool(4),
            ROOM,
            0.22,
            120,
            "Observing",
            "22 % of 92 req/s would go to chat-small, 4 replicas (replicas.max) that can be up in time carry "
            "72 req/s; chat-small stands by with room for 30 req/s, 120 in flight; "
            "observing: nothing is sent there",
        ),
        (
            "nothing is in the request path",
            routed(fallback=to(), routing=RoutingType.NONE, **AT_MOST_4),
            40.0,
            pool(4),
            ROOM,
            0.0,
            120,
            "NoGateway",
            "chat-small stands by with room for 30 req/s, 120 in flight; "
            "nothing is in the request path to send it there: set routing.type: Envoy",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value and "chat" not in value else "",
)
def test_what_goes_to_the_fallback(  # type: ignore[no-untyped-def]
    case, spec, offered, of, room, planned, at_once, reason, message
) -> None:
    decision, _ = decided(spec, offered, of=of, room=room)
    assert decision.value is not None
    assert (decision.value.planned_ratio, decision.value.in_flight_limit) == (planned, at_once), case
    assert (decision.reason.value, decision.message) == (reason, message), case


@pytest.mark.parametrize(
    ("spec", "enforced"),
    [
        (routed(fallback=to()), True),
        (routed(fallback=to(), routing=RoutingType.GATEWAY_API), True),  # as weights
        (routed(fallback=to(), routing=RoutingType.NONE), False),
        (routed(fallback=to(mode=Mode.OBSERVE)), False),
        (routed(fallback=to(), mode=Mode.OBSERVE), False),
    ],
)
def test_only_what_is_enforced_is_sent(spec: ServiceSpec, enforced: bool) -> None:
    decision, _ = decided(spec, 92.0)
    assert decision.value is not None
    assert decision.value.enforced is enforced


def test_without_a_fallback_it_says_so() -> None:
    decision, _ = decided(routed(), 92.0)
    assert (decision.value, decision.reason.value, decision.message) == (
        None,
        "NoFallback",
        "spec.fallback is not set: there is nowhere else to send requests",
    )


def test_an_unknown_spare_capacity_is_not_taken_for_any() -> None:
    decision, _ = decided(routed(fallback=to()), 92.0, room=None)
    assert (decision.value, decision.reason.value, decision.message) == (
        None,
        "Learning",
        "the spare capacity of chat-small is not known yet: nothing is sent there",
    )


def test_when_the_load_of_the_fallback_is_not_known_any_more_what_may_go_there_is_held() -> None:
    spec = routed(fallback=to(), **AT_MOST_4)
    said, memory = decided(spec, 92.0)
    before, memory = decided(
        spec, 92.0, room=FallbackRoom("chat-small", 100, 30.0), memory=memory, at=START + 5
    )
    assert before.message == said.message  # near enough to be said alike, yet 100 is what is held
    held, memory = decided(spec, 92.0, room=None, memory=memory, at=START + 15.0)
    assert held.value == before.value == FallbackShare(0.22, 100, True, 0.22)
    assert (held.reason.value, held.message) == (
        "MetricsMissing",
        "the load of chat-small is not known now: what may go there is held",
    )
    again, _ = decided(spec, 92.0, memory=memory, at=START + 30.0)
    assert again.message == before.message


def test_another_fallback_inherits_nothing() -> None:
    _, memory = decided(routed(fallback=to(), **AT_MOST_4), 92.0)
    decision, _ = decided(
        routed(fallback=to("other"), **AT_MOST_4), 92.0, room=None, memory=memory, at=START + 15.0
    )
    assert (decision.value, decision.reason.value) == (None, "Learning")


def test_a_refused_fallback_gets_nothing_and_says_why() -> None:
    refusal = (TrafficReason.FALLBACK_NOT_FOUND, "it is not there: create it")
    decision, _ = decided(routed(fallback=to()), 92.0, refusal=refusal)
    assert (decision.value, decision.reason, decision.message) == (None, *refusal)


def test_the_planned_share_rises_at_once_and_falls_after_a_minute_of_agreement() -> None:
    spec, memory, walked = routed(fallback=to(), **AT_MOST_4), NOTHING_REMEMBERED, []
    for tick, offered in enumerate([60, 92, 100, 80, 80, 70, 70, 70, 70, 70]):
        decision, memory = decided(spec, float(offered), memory=memory, at=START + 15.0 * tick)
        assert decision.value is not None
        walked.append((decision.value.planned_ratio, decision.reason.value))
    assert walked == [
        (0.0, "Idle"),
        (0.22, "FallbackActive"),
        (0.28, "FallbackActive"),
        (0.28, "FallbackActive"),
        (0.28, "FallbackActive"),
        (0.28, "FallbackActive"),
        (0.28, "FallbackActive"),
        (0.1, "FallbackActive"),  # the 28 % are a minute ago, the 10 % of tick 4 are not
        (0.1, "FallbackActive"),
        (0.0, "Idle"),
    ]
    _, memory = decided(spec, 92.0)
    decision, _ = decided(spec, 66.0, memory=memory, at=START + 15.0)  # 72 are carried, 8 % more
    assert decision.value == FallbackShare(0.0, 120, True)


def test_room_that_is_gone_is_given_up_at_once() -> None:
    spec = routed(fallback=to(), **AT_MOST_4)
    _, memory = decided(spec, 92.0)
    decision, _ = decided(spec, 92.0, room=FallbackRoom("chat-small", 0, 0.0), memory=memory, at=START + 15)
    assert decision.value == FallbackShare(0.0, 0, True)
    assert decision.reason is TrafficReason.NO_ROOM


def test_requests_that_spill_are_told_without_a_plan() -> None:
    decision, _ = decided(
        routed(fallback=to(), max=10), 92.0, rates=measured(92.0, spilled=5.2), of=pool(6, ready=4)
    )
    assert (decision.reason.value, decision.message) == (
        "FallbackActive",
        "5.2 req/s go to chat-small now; it has room for 30 req/s, 120 in flight",
    )


def test_only_some_classes_may_go_so_more_of_those_are_drawn() -> None:
    classes = {"batch": ClassRate(40.0, 0.0, 0.0), "interactive": ClassRate(60.0, 0.0, 0.0)}
    rates = GatewayRates(GatewayReading(START, 2), 60.0, classes)
    spec = routed(fallback=to(classes=("batch",)), **AT_MOST_4)
    decision, _ = decided(spec, 100.0, rates=rates)
    assert decision.value is not None
    assert decision.value.planned_ratio == 0.7  # 28 of 100 are 70 % of the 40 that may go
    assert decision.value.offered_ratio == 0.28
    nobody = GatewayRates(GatewayReading(START, 2), 60.0, {"interactive": ClassRate(100.0, 0.0, 0.0)})
    decision, _ = decided(spec, 100.0, rates=nobody)
    assert decision.value is not None
    assert (decision.value.planned_ratio, decision.value.offered_ratio) == (0.0, 0.0)


def test_all_of_the_classes_that_may_go_are_told_as_the_share_they_are() -> None:
    classes = {"batch": ClassRate(10.0, 0.0, 0.0), "interactive": ClassRate(90.0, 0.0, 0.0)}
    rates = GatewayRates(GatewayReading(START, 2), 60.0, classes)
    decision, _ = decided(routed(fallback=to(classes=("batch",)), **AT_MOST_4), 100.0, rates=rates)
    assert decision.value is not None
    assert (decision.value.planned_ratio, decision.value.offered_ratio) == (1.0, 0.1)
    assert decision.message.startswith("10 % of 100 req/s are planned to chat-small, ")


def test_without_a_model_nothing_is_planned_and_spilling_stays_possible() -> None:
    decision, _ = decided(routed(fallback=to()), 92.0, believing=blind())
    assert decision.value == FallbackShare(0.0, 120, True)


def test_paused_keeps_what_was_in_force() -> None:
    spec = routed(fallback=to(), **AT_MOST_4)
    before, memory = decided(spec, 92.0)
    paused = routed(mode=Mode.PAUSED, fallback=to(), **AT_MOST_4)
    decision, kept = decided(paused, 200.0, memory=memory, room=None)
    assert decision.value == before.value
    assert (decision.reason.value, decision.message) == (
        "Paused",
        "paused: what goes to the fallback stays as it is",
    )
    assert kept is memory


def test_the_sentence_keeps_its_numbers_until_the_share_or_the_room_moves() -> None:
    spec = routed(fallback=to(), **AT_MOST_4)
    first, memory = decided(spec, 92.0)
    near, memory = decided(spec, 94.0, memory=memory)
    assert near.message == first.message
    assert near.value is not None
    assert near.value.planned_ratio == 0.24
    far, memory = decided(spec, 110.0, memory=memory, room=FallbackRoom("chat-small", 120, 60.0))
    assert far.message.startswith("35 % of 110 req/s")
    smaller, _ = decided(spec, 110.0, memory=memory, room=FallbackRoom("chat-small", 60, 60.0))
    assert smaller.message.endswith("60 in flight")


@pytest.mark.parametrize(
    ("case", "spec", "of", "conflict", "count"),
    [
        ("what may be ordered", routed(max=10), pool(4), "", 10),
        ("what was ordered in Observe", routed(max=10, mode=Mode.OBSERVE), pool(5, ready=4), "", 5),
        ("another autoscaler holds it", routed(max=10), pool(4), "HorizontalPodAutoscaler/chat", 4),
        ("two are stuck", routed(max=10), pool(6, ready=3, stuck=2), "", 4),
        ("one a minute, and two minutes of lead", routed(max=10, max_added_per_minute=1), pool(4), "", 6),
        ("more are there than replicas.max", routed(max=3), pool(5), "", 5),
        ("somebody switched it off", routed(max=10), pool(0), "", 0),
    ],
)
def test_what_can_be_up_within_the_lead_time(case, spec, of, conflict, count) -> None:  # type: ignore[no-untyped-def]
    assert reachable(spec, seen(START, of, conflict=conflict), of, 120.0) == count, case


@given(
    offered=st.floats(0.1, 5000),
    rate=st.floats(0, 1000),
    at_once=st.integers(0, 500),
    most=st.integers(1, 100),
    ready=st.integers(0, 4),
)
def test_the_fallback_is_never_given_more_than_its_room_or_maxpercent(
    offered: float, rate: float, at_once: int, most: int, ready: int
) -> None:
    spec = routed(fallback=to(max_percent=most), **AT_MOST_4)
    room = FallbackRoom("chat-small", at_once, rate)
    decision, _ = decided(spec, offered, of=pool(4, ready=ready), room=room)
    share = decision.value
    assert share is not None
    assert share.planned_ratio * offered <= rate + 1e-6
    assert share.planned_ratio <= most / 100
    assert 0 <= share.in_flight_limit <= at_once
    assert share.planned_ratio == 0 or share.in_flight_limit > 0 or most < 100


@pytest.mark.parametrize(
    ("case", "offered", "ours", "serving", "limit", "room"),
    [
        ("half of two replicas is free", 18.0, 0.0, 2, FleetLimit(190, 6), FallbackRoom("small", 98, 18.0)),
        ("ours do not count against it", 18.0, 9.0, 2, FleetLimit(190, 6), FallbackRoom("small", 147, 27.0)),
        ("full", 40.0, 0.0, 2, FleetLimit(190, 6), FallbackRoom("small", 0, 0.0)),
        ("none is ready", 0.0, 0.0, 0, FleetLimit(95, 3), FallbackRoom("small", 0, 0.0)),
        ("without a limit in force its model's", 18.0, 0.0, 2, None, FallbackRoom("small", 98, 18.0)),
    ],
)
def test_room_beside_its_own_load(case, offered, ours, serving, limit, room) -> None:  # type: ignore[no-untyped-def]
    capacity, demand = believed(0.0).capacity, Demand(offered, 0.0, 120.0)
    found = room_beside(
        "small", capacity=capacity, demand=demand, serving=serving, limit=limit, ours_per_second=ours
    )
    assert found == room, case


def test_an_unknown_load_is_not_taken_for_room() -> None:
    capacity = believed(0.0).capacity
    assert room_beside("small", capacity=capacity, demand=None, serving=2, limit=None) is None


@pytest.mark.parametrize("capacity", [None, NothingToCarry(), LinearCapacity()])
def test_a_fallback_of_unknown_capacity_gets_one_request_a_replica_to_learn_from(  # type: ignore[no-untyped-def]
    capacity,
) -> None:
    room = room_beside("small", capacity=capacity, demand=Demand(0.0, 0.0, 120.0), serving=2, limit=None)
    assert room == FallbackRoom("small", 2, 0.0, learning=True)
    decision, _ = decided(routed(fallback=to("small"), **AT_MOST_4), 92.0, room=room)
    assert decision.value == FallbackShare(0.0, 2, True)  # by spilling only, nothing is planned on it
    assert decision.message == (
        "small stands by with room for 2 in flight, one a replica until its capacity is learned"
    )


def test_a_plain_service_takes_what_its_user_says() -> None:
    assert room_of_service(BackendRef("x", BackendKind.SERVICE, 80, 40)) == FallbackRoom("x", 40)
    assert room_of_service(BackendRef("x", BackendKind.SERVICE, 80)) is None


def test_planned_and_limit_rest_on_the_same_estimate() -> None:
    spec, believing = routed(fallback=to(), **AT_MOST_4), believed(92.0)
    admission, _ = decide_admission(spec, seen(START, pool(4)), believing, AdmissionMemory(), START)
    assert isinstance(admission.value, Admission)
    decision, _ = decided(spec, 92.0, believing=believing)
    assert admission.inputs["offered_per_second"] == decision.inputs["offered_per_second"]


def test_a_fallback_that_has_seen_nothing_is_sized_for_the_lengths_of_the_service_it_helps() -> None:
    engine = resolve_engine(EngineSpec(profile_type=ProfileType.NAMED, profile_name="llama-3.1-8b-h100"))
    ours = observe_means(LengthMemory(), input_mean=1155.0, output_mean=211.0, requests=100.0)
    idle, spec = ServiceMemory(), routed(name="chat-small")
    assert problem(spec, engine, idle) is None
    borrowed = borrowed_problem(spec, engine, idle, ours)
    assert borrowed is not None
    assert borrowed.cell == ours.cell
    assert borrowed.engine is engine
    assert borrowed.slo == spec.slo
    assert borrowed_problem(spec, engine, idle, LengthMemory()) is None


def test_maxpercent_is_of_requests_also_where_the_fallback_answers_faster() -> None:
    spec = routed(fallback=to(max_percent=50), max=10)
    reading = GatewayReading(START, 2, in_flight=392.0, spilled_in_flight=20.0)
    # 20 in flight at 15 req/s take 1.33 s, 392 at 75 req/s take 5.2 s: a quarter.
    rates = GatewayRates(reading, 60.0, {"": ClassRate(90.0, 0.0, 15.0)})
    room, memory, walked = FallbackRoom("chat-small", 500, 100.0), NOTHING_REMEMBERED, []
    for tick in range(8):
        decision, memory = decided(spec, 90.0, room=room, memory=memory, rates=rates, at=START + 15.0 * tick)
        assert decision.value is not None
        walked.append(decision.value.in_flight_limit)
    assert walked[0] == 246
    assert walked[-1] == 101  # as many requests a second as 392 here
    quiet, _ = decided(spec, 40.0, room=room, memory=memory, rates=measured(40.0), at=START + 900.0)
    assert quiet.value is not None
    assert quiet.value.in_flight_limit == 101  # what was learned is kept for the next overload
