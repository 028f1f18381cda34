"""What a fallback can take of others' requests beside its own load: so that overload does not move on.

    room = max_rate(ready) - own offered rate,   in flight: its limit x room / max_rate(ready)

The same solved model as its own replica count; a plain Service has only the number its user gave. A
fallback of unknown capacity gets one request a replica: from these its lengths and speed are learned,
and no engine is overloaded by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from penstock.model.spec import BackendRef
from penstock.model.traffic import FleetLimit
from penstock.policy.demand import Demand
from penstock.policy.estimate import Capacity


@dataclass(frozen=True, slots=True)
class FallbackRoom:
    """Room for requests of ours; `rate_per_second` None: only the number in flight is known.

    `learning`: what it can take is not known yet, a few requests are to find out.
    """

    name: str
    in_flight: int
    rate_per_second: float | None = None
    learning: bool = False


def room_beside(
    name: str,
    *,
    capacity: Capacity | None,
    demand: Demand | None,
    serving: int,
    limit: FleetLimit | None,
    ours_per_second: float = 0.0,
) -> FallbackRoom | None:
    """Return the room of an InferenceService; None while its load is not known.

    `serving` are its ready, non-draining replicas, `limit` what is allowed in flight there, and
    `ours_per_second` what of `demand` was ours already (0 where its gateway counts its own clients only).
    """
    if demand is None:
        return None
    if capacity is None or capacity.admission is None:
        return FallbackRoom(name, serving, rate_per_second=0.0, learning=True)
    carried = capacity.max_rate(serving) if serving >= 1 else 0.0
    own = max(0.0, demand.offered_per_second - ours_per_second)
    spare = max(0.0, carried - own)
    if limit is None:
        law = capacity.admission
        limit = FleetLimit(serving * law.running, serving * law.queued)
    share = spare / carried if carried > 0 else 0.0
    return FallbackRoom(name, math.floor(limit.in_flight * share), spare)


def room_of_service(backend: BackendRef) -> FallbackRoom | None:
    """Return the room of a plain Service: what its user says it takes; None without a number."""
    if backend.max_in_flight is None:
        return None
    return FallbackRoom(backend.name, backend.max_in_flight)
