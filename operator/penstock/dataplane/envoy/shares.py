"""How proxies that do not know of each other share one limit K, by what is in flight at each: u_1 .. u_N.

* Much is free: share_i = u_i + w (K - sum u), w = min(3/4, 2/N). More is given than there is, because a
  single keep-alive client at 60 % of K meets one proxy alone and must see no 429. Only a burst at all proxies
  within the second between two looks could use that, at most to 2 K.
* Little is free (10 % of K), or somebody lacks room: max-min fair parts of K (water-filling), of which each
  gets what others have left: sum max(u_i, share_i) <= max(K, sum u) + N. Who holds more than its part gives
  it back stream by stream.
* A proxy whose load is not known has an equal part: 0 would be a guess. So has one that is lost, should it
  serve on, but the others share all of K: that is K/2 more at most, because where most are lost it may be us
  who are, and nobody gets more.

Source: max-min fairness, Bertsekas and Gallager, Data Networks, 6.5.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.model.traffic import FleetLimit

TIGHT_RATIO = 0.1  # of the limit is free, or less
ROOMY_RATIO = 0.3
LARGEST_GIFT = 0.75  # of what is free, to each proxy
LARGEST_SUM = 2.0  # of the limit, handed out to an idle fleet
RESERVE_RATIO = 0.1  # of an equal part, kept for a proxy without requests
# A share is raised by no less than this part of the limit: each move is a new route for the proxy.
SMALLEST_RAISE_RATIO = 0.02


@dataclass(frozen=True, slots=True)
class Use:
    """Requests in flight at one proxy (None: not known), and whether it turned some away for lack of room.

    `lost`: it gives no sign of life.
    """

    in_flight: float | None
    pressed: bool = False
    lost: bool = False


def divide(limit: int, uses: Mapping[str, Use]) -> dict[str, int]:
    """Return what each proxy (by id) may have in flight of `limit` requests; at least one each."""
    if limit <= 0 or not uses:
        return dict.fromkeys(uses, 0)
    if len(uses) == 1:
        return dict.fromkeys(uses, limit)
    equal = limit / len(uses)
    here = {name: use for name, use in uses.items() if not use.lost}
    if len(uses) / 2 <= len(here) < len(uses):
        return dict.fromkeys(uses, max(1, math.floor(equal))) | divide(limit, here)
    held = [equal if use.in_flight is None else use.in_flight for use in uses.values()]
    found = _with_rest(_max_min_fair(limit, [_claim(use, limit, equal) for use in uses.values()]), limit)
    free_ratio = 1 - sum(held) / limit
    if free_ratio <= TIGHT_RATIO or any(use.pressed for use in uses.values()):
        found = _as_others_leave(held, found)
    if free_ratio > TIGHT_RATIO:
        gift = free_ratio * limit * _gift_ratio(free_ratio, list(uses.values()))
        found = [
            part if use.pressed or use.in_flight is None else max(part, use.in_flight + gift)
            for use, part in zip(uses.values(), found, strict=True)
        ]
    return {name: max(1, math.floor(part + 1e-9)) for name, part in zip(uses, found, strict=True)}


def settle(before: Mapping[str, int], wanted: Mapping[str, int], limit: int) -> dict[str, int]:
    """Return the shares to put in force: `wanted`, without raises that are not worth a new route.

    Less is always worth it, or the limit would be passed; so is the way out of a share of a few.
    """
    least = SMALLEST_RAISE_RATIO * limit
    return {
        name: before[name] if 0 < share - before.get(name, 0) < least and name in before else share
        for name, share in wanted.items()
    }


def part_of(limit: FleetLimit, share: int) -> FleetLimit:
    """Return the running and queued parts of one proxy's share of a limit."""
    if share <= 0:
        return FleetLimit(0, 0)
    running = max(1, min(share, math.ceil(share * limit.running / max(1, limit.in_flight) - 1e-9)))
    return FleetLimit(running, share - running)


def _claim(use: Use, limit: int, equal: float) -> float:
    if use.in_flight is None:
        return equal
    return float(limit) if use.pressed else max(use.in_flight, RESERVE_RATIO * equal)


def _max_min_fair(limit: float, claims: Sequence[float]) -> list[float]:
    """Fill all claims evenly until the limit is used up."""
    found = [0.0] * len(claims)
    rest, open_claims = limit, sorted(range(len(claims)), key=lambda index: claims[index])
    while open_claims:
        index = open_claims.pop(0)
        found[index] = min(claims[index], rest / (len(open_claims) + 1))
        rest -= found[index]
    return found


def _with_rest(parts: Sequence[float], limit: float) -> list[float]:
    rest = max(0.0, limit - sum(parts)) / len(parts)
    return [part + rest for part in parts]


def _as_others_leave(held: Sequence[float], target: Sequence[float]) -> list[float]:
    """Lower at once, raise by what those above their target have given back."""
    above = sum(max(0.0, load - part) for load, part in zip(held, target, strict=True))
    room = [max(0.0, part - load) for load, part in zip(held, target, strict=True)]
    given = max(0.0, 1 - above / sum(room)) if sum(room) > 0 else 0.0
    return [min(load, part) + more * given for load, part, more in zip(held, target, room, strict=True)]


def _gift_ratio(free_ratio: float, uses: Sequence[Use]) -> float:
    """Return which part of what is free each proxy may take beyond what it has."""
    equal = 1 / len(uses)
    rise = min(1.0, (free_ratio - TIGHT_RATIO) / (ROOMY_RATIO - TIGHT_RATIO))
    if any(use.pressed for use in uses):
        return equal * rise  # where the load is, is known: little has to be given twice
    return equal + (max(equal, min(LARGEST_GIFT, LARGEST_SUM * equal)) - equal) * rise
