"""Decide what share goes to the fallback, and how much of it at once: planned, spilled, or nothing.

    planned = 1 - max_rate(replicas that can be up within the lead time) / offered

is diverted ahead of any queue, because no scaling will help in time. What exceeds the limit for
moments spills at the gateway, request by request. Both stay inside the fallback's own spare capacity
and `maxPercent`. The planned share goes up at once; down after a minute of agreement, or when the load is
clearly gone.

    Idle --wanted and room--> FallbackActive --nothing wanted for a minute--> Idle
      +---wanted, no room---> NoRoom <--room gone--+
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from penstock.model.decision import Decision, TrafficReason
from penstock.model.observation import Observation, Pool
from penstock.model.spec import BackendRef, FallbackSpec, Mode, RoutingType, ServiceSpec
from penstock.policy import fallback_explanation as explanation
from penstock.policy.admission import Admission
from penstock.policy.estimate import Estimate
from penstock.policy.fallback_room import FallbackRoom
from penstock.policy.gateway_load import GatewayRates
from penstock.policy.modes import weaker
from penstock.policy.request_classes import Refusal
from penstock.policy.stabilization import EMPTY_WINDOW, WindowMemory, recommend

HOLD_SECONDS = 60.0
CLEAR_MARGIN = 1.08  # replicas that carry so much more than is offered need no minute of agreement
LEAST_PERCENT = 2  # less is within what the offered rate wanders by itself; spilling takes care of it
_LARGEST_TIME_RATIO = 10.0
SAID_PERCENT = 5  # the sentence is said anew when the planned share moved by this much


@dataclass(frozen=True, slots=True)
class FallbackShare:
    """What the gateways are to send elsewhere: a ratio (0..1) of those that may go, and how many at once."""

    planned_ratio: float
    in_flight_limit: int
    enforced: bool  # else only published
    offered_ratio: float = 0.0  # the same requests as a share of all that are offered, to be shown

    @property
    def active_ratio(self) -> float:
        """Return the planned share in force."""
        return self.planned_ratio if self.enforced else 0.0


@dataclass(frozen=True, slots=True)
class FallbackMemory:
    """Planned percentages of the last minute, what was last said and decided, response times there over ours.

    `value` outlives a room or a mode that says nothing new: it is what is held.
    """

    window: WindowMemory = EMPTY_WINDOW
    said: Decision[FallbackShare] | None = None
    value: FallbackShare | None = None
    time_ratio: float = 1.0
    backend: BackendRef | None = None  # what all this is about


NOTHING_REMEMBERED = FallbackMemory()


@dataclass(frozen=True, slots=True)
class Need:
    """Why a share is planned: `offered` against what `replicas` carry, requests per second."""

    offered: float
    carried: float
    replicas: int
    percent: int  # of all offered requests; 0: the replicas will do


def decide_fallback(
    spec: ServiceSpec,
    seen: Observation,
    estimate: Estimate,
    memory: FallbackMemory,
    now: float,
    *,
    admission: Decision[Admission],
    room: FallbackRoom | None,
    refusal: Refusal | None = None,
    rates: GatewayRates | None = None,
) -> tuple[Decision[FallbackShare], FallbackMemory]:
    """Return the share to send to the fallback and the memory to keep. `value` None: nothing goes there.

    `room` is what the fallback can take (None: not known), `refusal` why it cannot be used at all.
    """
    fallback = spec.fallback
    if fallback is None:
        return explanation.NONE_SET, NOTHING_REMEMBERED
    if refusal is not None:
        return Decision(None, *refusal), NOTHING_REMEMBERED
    if memory.backend != fallback.backend:
        memory = FallbackMemory(backend=fallback.backend)
    before = memory.value
    mode = weaker(spec.mode, fallback.mode)
    if mode is Mode.PAUSED:
        return explanation.paused(before), memory
    if room is None:
        # Its load is missing, which is not full: its gateways still keep its own limit.
        return explanation.unknown_room(fallback, before), memory

    need = needed(spec, seen, estimate, rates)
    percent = need.percent if need is not None else 0
    window = EMPTY_WINDOW
    if percent or memory.window is not EMPTY_WINDOW:
        window = recommend(memory.window, percent, now, HOLD_SECONDS)
    held = window.falling[0][1] if window.falling else 0
    if not held or (need is not None and need.offered * CLEAR_MARGIN <= need.carried):
        held, window = 0, EMPTY_WINDOW
    planned = _bounded(held, fallback, room, need, rates)
    time_ratio = _time_ratio(memory.time_ratio, rates)
    planned_ratio, offered_ratio = _planned(planned, fallback, rates)
    value = FallbackShare(
        planned_ratio=planned_ratio,
        in_flight_limit=_at_once(fallback, room, admission.value, time_ratio),
        enforced=mode is Mode.ENFORCE and spec.routing.type is not RoutingType.NONE,
        offered_ratio=offered_ratio,
    )
    wanted = held > 0 or (rates is not None and rates.shed > 0)
    spilling = rates is not None and rates.spilled > 0
    reason = _reason(spec, mode, value, wanted=wanted, active=value.planned_ratio > 0 or spilling)
    said = _said(memory.said, value, reason)
    if said is None:
        said = Decision(
            value,
            reason,
            explanation.share(spec, fallback, value, reason, need=need, room=room, rates=rates),
            explanation.share_inputs(need, room),
        )
    kept = FallbackMemory(window, said, value, time_ratio, fallback.backend)
    if said.value == value:
        return said, kept
    return Decision(value, reason, said.message, said.inputs), kept


def needed(
    spec: ServiceSpec, seen: Observation, estimate: Estimate, rates: GatewayRates | None
) -> Need | None:
    """Return what the replicas that can be up within the lead time leave over; None where unknown.

    Against what is offered now, not against the forecast's bound: that is 95 % sure to be too high,
    and a request answered by the smaller model for nothing is a cost too. Spilling covers the rest.
    """
    pool, demand, capacity = seen.pool, estimate.demand, estimate.capacity
    if pool is None or demand is None or capacity is None or capacity.admission is None:
        return None
    offered = rates.offered if rates is not None else demand.offered_per_second
    replicas = reachable(spec, seen, pool, demand.lead_seconds)
    carried = capacity.max_rate(replicas) if replicas else 0.0
    excess = 0.0 if offered <= carried else 1 - carried / offered
    percent = math.ceil(100 * excess - 1e-9)
    return Need(offered, carried, replicas, percent if percent >= LEAST_PERCENT else 0)


def reachable(spec: ServiceSpec, seen: Observation, pool: Pool, lead_seconds: float) -> int:
    """Return how many replicas can be up within the lead time.

    Stuck ones say that no more will come by ordering more; where scaling is not ours only what was
    ordered comes; `maxAddedPerMinute` bounds what can be ordered.
    """
    coming = pool.ready + pool.starting
    if pool.stuck or spec.mode is not Mode.ENFORCE or seen.conflict or pool.target == 0:
        return coming
    most = spec.replicas.max
    pace = spec.replicas.max_added_per_minute
    if pace is not None:
        most = min(most, pool.target + math.floor(pace * lead_seconds / 60.0))
    return max(coming, most)


def _bounded(
    held: int, fallback: FallbackSpec, room: FallbackRoom, need: Need | None, rates: GatewayRates | None
) -> int:
    """Return the planned percentage of all offered requests inside `maxPercent` and the room."""
    percent = min(held, fallback.max_percent) if room.in_flight > 0 else 0
    offered = need.offered if need is not None else rates.offered if rates is not None else 0.0
    if room.rate_per_second is not None and percent * offered > 100 * room.rate_per_second:
        percent = math.floor(100 * room.rate_per_second / offered)
    return percent


def _planned(percent: int, fallback: FallbackSpec, rates: GatewayRates | None) -> tuple[float, float]:
    """Return the ratio to draw among the requests whose class may go, and what that is of all of them.

    So that `percent` of all go, or all that may where those are fewer.
    """
    if not percent or not fallback.classes or rates is None or rates.offered <= 0:
        return percent / 100, percent / 100
    eligible = sum(rates.classes[name].offered for name in fallback.classes if name in rates.classes)
    of_all = round(min(percent / 100, eligible / rates.offered), 2)
    if not of_all:
        return 0.0, 0.0
    return round(min(1.0, of_all * rates.offered / eligible), 2), of_all


def _at_once(
    fallback: FallbackSpec, room: FallbackRoom, admission: Admission | None, time_ratio: float
) -> int:
    """Return how many of ours may be in flight there: its room, and `maxPercent` of the requests.

    s in flight there and the whole limit here are requests in proportion s/t : limit (Little's law).
    """
    if admission is None or fallback.max_percent >= 100:
        return room.in_flight
    share = fallback.max_percent / 100
    return min(room.in_flight, math.floor(admission.limit.in_flight * share / (1 - share) * time_ratio))


def _time_ratio(before: float, rates: GatewayRates | None) -> float:
    """Return the mean response time at the fallback over that of our own, as far as it was measured.

    A smaller model answers faster: with a third of the time, half of what is in flight would be three
    quarters of the requests.
    """
    if rates is None:
        return before
    admitted, latest = rates.offered - rates.shed - rates.spilled, rates.latest
    if admitted <= 0 or rates.spilled <= 0 or latest.in_flight <= 0 or latest.spilled_in_flight <= 0:
        return before
    now = (latest.spilled_in_flight / rates.spilled) / (latest.in_flight / admitted)
    return min(_LARGEST_TIME_RATIO, max(1 / _LARGEST_TIME_RATIO, (before + now) / 2))


def _reason(
    spec: ServiceSpec, mode: Mode, value: FallbackShare, *, wanted: bool, active: bool
) -> TrafficReason:
    if spec.routing.type is RoutingType.NONE:
        return TrafficReason.NO_GATEWAY
    if mode is Mode.OBSERVE:
        return TrafficReason.OBSERVING
    if active:
        return TrafficReason.FALLBACK_ACTIVE
    return TrafficReason.NO_ROOM if wanted and value.in_flight_limit == 0 else TrafficReason.IDLE


def _said(
    said: Decision[FallbackShare] | None, value: FallbackShare, reason: TrafficReason
) -> Decision[FallbackShare] | None:
    """Return what was last said while it still holds: same reason, about the same share and room."""
    before = None if said is None else said.value
    if said is None or before is None or said.reason is not reason or before.enforced != value.enforced:
        return None
    if 100 * abs(before.planned_ratio - value.planned_ratio) >= SAID_PERCENT:
        return None
    near = abs(before.in_flight_limit - value.in_flight_limit) <= 0.25 * before.in_flight_limit
    return said if near else None
