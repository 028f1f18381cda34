"""What status shows of limits and fallback, and that it survives a restart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.builders import pool, seen
from fakes.gateway_world import GatewayWorld, routed_chat
from fakes.traffic import believed, measured, routed, to
from fakes.world import World, chat
from penstock.controller.service_state import Outcome
from penstock.controller.traffic_shown import admission_shown, fallback_shown, load_source, offered_shown
from penstock.model.decision import Decision, Reason, TrafficReason
from penstock.model.observation import Load
from penstock.model.reading import Absence, Reading
from penstock.model.resource_status import AdmissionShown, FallbackShown, LoadSource
from penstock.model.spec import AdmissionPolicy, AdmissionSpec, RoutingSpec, RoutingType
from penstock.model.traffic import FleetLimit
from penstock.policy.admission import Admission, AdmissionMemory
from penstock.policy.decisions import Surroundings
from penstock.policy.estimate import Estimate
from penstock.policy.fallback import FallbackShare
from penstock.policy.gateway_load import GatewayRates

PER_REPLICA = FleetLimit(95, 3)
ENFORCED = Admission(PER_REPLICA, serving=4, enforced=True, shed_ratio=0.08)
OBSERVED = replace(ENFORCED, enforced=False)
NOTHING_HELD = AdmissionMemory()


def outcome(
    admission: Admission | None = None,
    share: FallbackShare | None = None,
    *,
    rates: GatewayRates | None = None,
    policy: AdmissionPolicy = AdmissionPolicy.AUTO,
) -> Outcome:
    """A tick of a service with a fallback."""
    return Outcome(
        spec=routed(fallback=to("chat-small"), admission=AdmissionSpec(policy=policy)),
        seen=seen(0.0, pool(4)),
        around=Surroundings(rates),
        estimate=believed(70.0),
        decision=Decision(4, Reason.LATENCY_OBJECTIVE, "4 replicas"),
        admission=Decision(admission, TrafficReason.WITHIN_LIMIT, ""),
        fallback=Decision(share, TrafficReason.IDLE, ""),
    )


@pytest.mark.parametrize(
    ("admission", "rates", "shed_ratio"),
    [
        (ENFORCED, measured(70.0, shed=7.0), 0.1),
        (ENFORCED, measured(0.0), 0.0),
        (ENFORCED, None, 0.08),
        # Nothing is refused while observing: what would be is what tells something.
        (OBSERVED, measured(70.0), 0.08),
        (replace(ENFORCED, shed_ratio=None), None, None),
    ],
)
def test_what_is_shed_is_measured_where_it_is_enforced_else_expected(
    admission: Admission, rates: GatewayRates | None, shed_ratio: float | None
) -> None:
    shown = admission_shown(outcome(admission, rates=rates), NOTHING_HELD)
    assert shown == AdmissionShown(392, 95, 3, enforced=admission.enforced, shed_ratio=shed_ratio)


@pytest.mark.parametrize("routing", [RoutingType.NONE, RoutingType.GATEWAY_API])
def test_what_would_be_shed_is_no_share_of_requests_where_nothing_can_refuse(routing: RoutingType) -> None:
    seen_so = outcome(OBSERVED)
    seen_so = replace(seen_so, spec=replace(seen_so.spec, routing=RoutingSpec(routing)))
    assert admission_shown(seen_so, NOTHING_HELD) == AdmissionShown(392, 95, 3, enforced=False)


def test_a_limit_is_shown_while_the_replicas_are_not_known() -> None:
    held = AdmissionMemory(per_replica=PER_REPLICA, enforcing=True)
    assert admission_shown(outcome(None), held) == AdmissionShown(None, 95, 3, enforced=True)


@pytest.mark.parametrize(
    ("policy", "memory"),
    [
        (AdmissionPolicy.AUTO, NOTHING_HELD),
        (AdmissionPolicy.OFF, AdmissionMemory(per_replica=PER_REPLICA, enforcing=True)),
    ],
)
def test_no_limit_is_absent(policy: AdmissionPolicy, memory: AdmissionMemory) -> None:
    assert admission_shown(outcome(None, policy=policy), memory) is None


@pytest.mark.parametrize(
    ("share", "rates", "ratio"),
    [
        (FallbackShare(0.3, 40, enforced=True), measured(70.0, spilled=14.0), 0.2),
        (FallbackShare(0.3, 40, enforced=True), measured(0.0), 0.0),
        # Of a class that is a fifth of the requests: three tenths of it are 6 % of all.
        (FallbackShare(0.3, 40, enforced=True, offered_ratio=0.06), None, 0.06),
        (FallbackShare(0.3, 40, enforced=False, offered_ratio=0.06), measured(70.0), 0.06),
    ],
)
def test_the_share_of_the_fallback_is_measured_where_it_is_sent_else_planned(
    share: FallbackShare, rates: GatewayRates | None, ratio: float
) -> None:
    assert fallback_shown(outcome(share=share, rates=rates)) == FallbackShown("chat-small", ratio)


def test_a_fallback_that_may_not_be_used_is_absent() -> None:
    assert fallback_shown(outcome(share=None)) is None


GATEWAY, ENGINE = LoadSource.GATEWAY, LoadSource.ENGINE
COUNTED = Load(arrival_rate=Reading(49.0), offered_rate=Reading(70.0))


@pytest.mark.parametrize(
    ("rates", "load", "demand", "shown"),
    [
        (measured(70.0, shed=7.0, spilled=14.0), COUNTED, 70.0, (70.0, GATEWAY)),
        (
            measured(70.0),
            replace(COUNTED, arrival_rate=Reading.missing(Absence.STALE)),
            None,
            (70.0, GATEWAY),
        ),
        # Gateways that are not read for half a window yet decide nothing.
        (measured(70.0), Load(arrival_rate=Reading(49.0)), 52.0, (52.0, ENGINE)),
        # An overload without gateways: 49 are served, the queue takes the rest.
        (None, Load(arrival_rate=Reading(49.0), queue_growth=Reading(21.0)), 70.0, (70.0, ENGINE)),
        # A canary without gateways: its share is added to what the stable arm's engines count.
        (None, COUNTED, 70.0, (70.0, ENGINE)),
        (None, Load(), None, (None, ENGINE)),
    ],
)
def test_offered_load_is_what_decisions_go_by(
    rates: GatewayRates | None, load: Load, demand: float | None, shown: tuple[float | None, LoadSource]
) -> None:
    believes = Estimate(None, None) if demand is None else believed(demand)
    found = replace(outcome(rates=rates), seen=seen(0.0, pool(4), load=load), estimate=believes)
    assert (offered_shown(found), load_source(found)) == shown


async def test_status_shows_the_rate_that_an_overload_is_decided_at() -> None:
    world = World(rate=lambda at: 20.0 if at < 600 else 100.0, spec=chat(min=2, max=2), target=2)
    await world.run(900)
    served, offered = 2 * world.capacity_per_replica, 100.0
    assert served < 0.5 * offered
    assert float(world.status["load"]["arrivalRate"]) == pytest.approx(offered, rel=0.1)


async def test_an_overload_is_one_event_and_status_says_how_much() -> None:
    world = GatewayWorld(rate=lambda at: 20.0 if at < 300 else 80.0, spec=routed_chat(min=2, max=2), target=2)
    await world.seconds(600)
    assert world.condition("AdmissionLimited")["status"] == "True"
    assert world.status["load"]["source"] == "Gateway"
    shed = world.status["admission"]["shedPercent"]
    assert shed == pytest.approx(100 * (1 - 2 * world.capacity_per_replica / 80.0), abs=5)
    (note,) = [note for _, reason, note in world.events if reason == "AdmissionLimited"]
    assert "in flight allowed: 2 ready replicas x (" in note


async def test_a_restarted_operator_lifts_no_limit_and_writes_nothing() -> None:
    world = GatewayWorld(rate=lambda _: 30.0, spec=routed_chat(min=2, max=2), target=2)
    await world.seconds(300)
    limit, writes = world.gateways.route.plan.limit, len(world.status_writes)
    assert limit is not None
    world.gateways.published.clear()
    world.restart_operator()
    for _ in range(45):
        await world.seconds(1)
        assert world.gateways.route.plan.limit == limit
    assert len(world.status_writes) == writes


async def test_the_lengths_that_decisions_go_by_are_shown_once_they_are_learned() -> None:
    world = GatewayWorld(rate=lambda _: 30.0, spec=routed_chat(), target=2)
    world.prometheus_up = False
    await world.run(60)
    assert "learned" not in world.status
    world.prometheus_up = True
    await world.run(120)
    learned = world.status["learned"]
    # A cell of the grid is 10 % wide.
    assert learned["inputTokens"] == pytest.approx(world.input_tokens, rel=0.06)
    assert learned["outputTokens"] == pytest.approx(world.output_tokens, rel=0.06)
