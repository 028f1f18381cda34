"""The sentences of the fallback: what goes there and why, or what it stands by for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from penstock.model.decision import Decision, TrafficReason
from penstock.model.spec import FallbackSpec, RoutingType, ServiceSpec
from penstock.policy import wording
from penstock.policy.fallback_room import FallbackRoom
from penstock.policy.gateway_load import GatewayRates

if TYPE_CHECKING:
    from penstock.policy.fallback import FallbackShare, Need

NONE_SET: Decision[FallbackShare] = Decision(
    None, TrafficReason.NO_FALLBACK, "spec.fallback is not set: there is nowhere else to send requests"
)


def paused(value: FallbackShare | None) -> Decision[FallbackShare]:
    """Shares stay as they are while the mode is Paused."""
    return Decision(value, TrafficReason.PAUSED, "paused: what goes to the fallback stays as it is")


def unknown_room(fallback: FallbackSpec, before: FallbackShare | None) -> Decision[FallbackShare]:
    """Nobody knows now what the fallback can take: it gets what it got, or nothing if that is not known."""
    name = fallback.backend.name
    if before is None:
        message = f"the spare capacity of {name} is not known yet: nothing is sent there"
        return Decision(None, TrafficReason.LEARNING, message)
    message = f"the load of {name} is not known now: what may go there is held"
    return Decision(before, TrafficReason.METRICS_MISSING, message)


def share(
    spec: ServiceSpec,
    fallback: FallbackSpec,
    value: FallbackShare,
    reason: TrafficReason,
    *,
    need: Need | None,
    room: FallbackRoom,
    rates: GatewayRates | None,
) -> str:
    """Say the share with its numbers: ``12 % of 92 req/s are sent to chat-small: ...``."""
    name, percent = fallback.backend.name, round(100 * value.offered_ratio)
    stands = f"{name} stands by with room for {_room(value, room)}"
    if reason is TrafficReason.IDLE:
        return stands
    if reason is TrafficReason.NO_ROOM:
        return f"{name} has no room for requests of others{_cause(spec, need)}: the excess is shed"
    if reason is TrafficReason.FALLBACK_ACTIVE:
        parts = []
        if percent and need is not None:
            parts.append(
                f"{percent} % of {wording.rate(need.offered)} req/s are planned to {name}{_cause(spec, need)}"
            )
        if rates is not None and rates.spilled > 0:
            parts.append(f"{wording.rate(rates.spilled)} req/s go to {name} now")
        return f"{'; '.join(parts)}; it has room for {_room(value, room)}"
    planned = ""
    if percent and need is not None:
        planned = (
            f"{percent} % of {wording.rate(need.offered)} req/s would go to {name}{_cause(spec, need)}; "
        )
    why = "observing: nothing is sent there"
    if reason is TrafficReason.NO_GATEWAY:
        why = "nothing is in the request path to send it there: set routing.type: Envoy"
        if spec.routing.type is RoutingType.GATEWAY_API:
            why = "an HTTPRoute cannot spill by load"
    return f"{planned}{stands}; {why}"


def share_inputs(need: Need | None, room: FallbackRoom) -> Mapping[str, float]:
    """Return the inputs that mattered, by name with units."""
    inputs = {"room_in_flight": float(room.in_flight)}
    if room.rate_per_second is not None:
        inputs["room_per_second"] = room.rate_per_second
    if need is not None:
        inputs["offered_per_second"] = need.offered
        inputs["carried_per_second"] = need.carried
    return inputs


def _cause(spec: ServiceSpec, need: Need | None) -> str:
    if need is None or not need.percent:
        return ""
    most = " (replicas.max)" if need.replicas == spec.replicas.max else ""
    carry = "carries" if need.replicas == 1 else "carry"
    return (
        f", {wording.replicas(need.replicas)}{most} that can be up in time {carry} "
        f"{wording.rate(need.carried)} req/s"
    )


def _room(value: FallbackShare, room: FallbackRoom) -> str:
    text = f"{value.in_flight_limit} in flight"
    if room.learning:
        return f"{text}, one a replica until its capacity is learned"
    return text if room.rate_per_second is None else f"{wording.rate(room.rate_per_second)} req/s, {text}"
