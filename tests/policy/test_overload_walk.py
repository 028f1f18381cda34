"""An overload that replicas cannot follow in time, second by second, with every decider in its place.

Requests are a fluid: each replica ends 18.86 a second whatever it holds, the fallback 12; new replicas
are ready a minute after they were ordered. What the limit leaves over spills, then is shed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from fakes.builders import pool, seen
from fakes.traffic import LimitedCapacity, law, routed, to
from penstock.model.spec import ServiceSpec
from penstock.model.traffic import ClassCount, FleetLimit, GatewayReading
from penstock.policy.admission import AdmissionMemory, decide_admission
from penstock.policy.demand import Demand
from penstock.policy.estimate import Estimate
from penstock.policy.fallback import FallbackMemory, decide_fallback
from penstock.policy.fallback_room import room_beside
from penstock.policy.gateway_load import GatewayMemory, gateway_rates, observe_gateway
from penstock.policy.ramp import ramp
from penstock.policy.replicas import ReplicaMemory, acknowledge, decide_replicas

BEGAN = 1_000_000.0
START_UP, TICK, WINDOW = 60, 15, 60.0
OURS, THEIRS = LimitedCapacity(), LimitedCapacity(per_replica=11.4, admission=law(40, 2, 12.0))
THEIR_OWN = 6.0  # requests a second of the fallback's own clients, on one replica


@dataclass(frozen=True)
class Second:
    """What was so in one second."""

    at: int
    target: int
    ready: int
    limit: FleetLimit
    in_flight: float
    spilled_in_flight: float
    room: int
    planned: float
    admission: str
    fallback: str
    admitted: float
    spilled: float
    shed: float


def walk(spec: ServiceSpec, offered: Callable[[int], float], seconds: int) -> Iterator[Second]:
    target = ready = 4
    orders: list[tuple[int, int]] = []
    admissions, fallbacks, replicas = AdmissionMemory(), FallbackMemory(), ReplicaMemory(in_force=4)
    gateway, limit = GatewayMemory(), None
    in_flight = spilled_in_flight = 0.0
    counts = [0.0, 0.0, 0.0]
    for second in range(seconds):
        at = BEGAN + second
        ready = min([target, *(count for due, count in orders if due > second)])
        waiting = max(0.0, in_flight - 95.0 * ready)
        classes = {"": ClassCount(*counts)}
        reading = GatewayReading(at, 2, in_flight, waiting, spilled_in_flight, classes=classes)
        gateway = observe_gateway(gateway, reading, window_seconds=WINDOW)
        if second % TICK == 0:
            rates = gateway_rates(gateway, at)
            demand = Demand(rates.offered if rates else offered(second), 0.0, float(START_UP))
            believing = Estimate(demand, OURS)
            observed = seen(at, pool(target, ready=ready))
            decision, replicas = decide_replicas(spec, observed, believing, replicas, at)
            admission, admissions = decide_admission(spec, observed, believing, admissions, at, rates=rates)
            room = room_beside(
                "chat-small",
                capacity=THEIRS,
                demand=Demand(THEIR_OWN, 0.0, 60.0),
                serving=1,
                limit=FleetLimit(40, 2),
            )
            share, fallbacks = decide_fallback(
                spec, observed, believing, fallbacks, at, admission=admission, room=room, rates=rates
            )
            if decision.value is not None and decision.value != target:
                replicas = acknowledge(replicas, written=decision.value, before=target, now=at)
                if decision.value > target:
                    orders.append((second + START_UP, target))
                target = decision.value
        assert admission.value is not None
        assert share.value is not None
        limit = ramp(limit, admission.value.with_serving(ready).limit, 1.0)
        assert limit is not None
        arriving = offered(second)
        planned = share.value.planned_ratio * arriving
        own = arriving - planned
        served = min(in_flight + own, 18.86 * ready)
        admitted = min(own, max(0.0, limit.in_flight - in_flight + served))
        spilled = min(
            arriving - admitted,
            max(0.0, share.value.in_flight_limit - spilled_in_flight + min(spilled_in_flight, 6.0)),
        )
        in_flight += admitted - served
        spilled_in_flight += spilled - min(spilled_in_flight, 6.0)
        shed = arriving - admitted - spilled
        counts = [counts[0] + arriving, counts[1] + shed, counts[2] + spilled]
        yield Second(
            at=second,
            target=target,
            ready=ready,
            limit=limit,
            in_flight=in_flight,
            spilled_in_flight=spilled_in_flight,
            room=share.value.in_flight_limit,
            planned=share.value.planned_ratio,
            admission=admission.reason.value,
            fallback=share.reason.value,
            admitted=admitted,
            spilled=spilled,
            shed=shed,
        )


def flood(second: int) -> float:
    """60 requests a second, 150 for seven minutes, then 40."""
    return 60.0 if second < 120 else 150.0 if second < 540 else 40.0


def test_limit_spill_scale_and_recovery() -> None:
    seconds = list(walk(routed(fallback=to(), max=8, max_added_per_minute=None), flood, 1500))
    before, flooded, after = seconds[:120], seconds[120:540], seconds[540:]

    assert all(each.shed == each.spilled == 0 for each in before)
    assert {(each.admission, each.fallback) for each in before[30:]} == {("WithinLimit", "Idle")}

    for each in seconds:
        assert each.in_flight <= each.limit.in_flight + 1e-9
        assert each.spilled_in_flight <= each.room + 1e-9
        assert each.limit.running <= 95 * each.ready
        assert each.limit.queued <= 3.6 * each.ready  # trimmed by a fifth at most
    for each, following in pairwise(seconds):
        assert following.limit.in_flight <= 1.1 * each.limit.in_flight + 1

    # Scaling counts what is offered, so it does not wait for shedding to end, nor is it misled by it.
    ordered = next(each.at for each in flooded if each.target == 8)
    assert ordered <= 120 + 90  # the rate is counted over a minute
    alone = [each for each in flooded if each.ready == 4 and each.at >= ordered]
    assert {(each.admission, each.fallback) for each in alone} == {("AdmissionLimited", "FallbackActive")}
    assert all(each.admitted >= 0.999 * 4 * 18.86 for each in alone)  # the engines are never idle
    assert all(each.spilled > 0 for each in alone)

    settled = [each for each in flooded if each.ready == 8][60:]
    assert settled
    assert all(each.shed == 0 for each in settled)
    # 8 replicas carry 144 of 150 within the objectives: of the 4 % over, the fallback has room for 3.
    assert {each.planned for each in settled} == {0.03}

    end = after[-1]
    assert (end.admission, end.fallback) == ("WithinLimit", "Idle")
    assert end.planned == end.spilled == end.shed == 0
    assert end.target < 8  # down after the window of agreement
    told = [each.fallback for each in after]
    assert told.index("Idle") <= 150  # a minute to count, a minute of agreement, a tick
    assert "FallbackActive" not in told[told.index("Idle") :]


def test_when_no_more_replicas_may_come_the_excess_is_bounded_for_as_long_as_it_lasts() -> None:
    seconds = list(walk(routed(fallback=to(), max=4), flood, 700))
    lasting = seconds[300:540]
    assert all(each.limit.running == 380 for each in lasting)
    assert all(each.limit.queued <= 14 for each in lasting)
    assert all(each.in_flight <= 394 for each in lasting)
    assert all(each.spilled_in_flight <= 19 for each in lasting)  # 42 x (11.4 - 6) / 11.4
    assert all(each.admission == "AdmissionLimited" for each in lasting)
    carried = sum(each.admitted + each.spilled for each in lasting) / len(lasting)
    assert carried >= 0.99 * (4 * 18.86 + 6.0)
