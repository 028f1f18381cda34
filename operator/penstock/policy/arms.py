"""What two arms may have in flight: the stable arm's limit L, and room R at the canary, at weight w.

    both = min(L / (1 - w), L + R)

The stable arm gets the share 1 - w of what is let in, and what exceeds R: of `both` requests it holds no more
than L, its own limit. At w = 0 that is L, at w = 1 both together. The canary's part is counted as `queued`:
nothing waits at a canary, and no more than L's `running` may run at the stable arm, whatever fails elsewhere.
"""

from __future__ import annotations

from penstock.model.traffic import CanaryRoute, FleetLimit


def canary_room(canary: CanaryRoute, per_replica: FleetLimit | None, serving: int) -> int | None:
    """Return how many requests may run at a canary of `serving` ready replicas; None: any number.

    No more than was decided, and no more than c* for each of them: pods leave between two decisions.
    """
    if per_replica is None:
        return canary.in_flight_limit
    carried = per_replica.running * serving
    return carried if canary.in_flight_limit is None else min(carried, canary.in_flight_limit)


def limit_of_both(stable: FleetLimit | None, weight_percent: int, room: int | None) -> FleetLimit | None:
    """Return the limit of both arms together from the stable arm's; None: everything passes."""
    if stable is None or not weight_percent or not room:
        return stable
    more = room
    if weight_percent < 100:
        more = min(room, stable.in_flight * weight_percent // (100 - weight_percent))
    return FleetLimit(stable.running, stable.queued + more)
