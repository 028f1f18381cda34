"""How proxies that do not know of each other share one limit K: by what is in flight at the others.

    share_i = max(f, K - sum over j != i of max(u_j, f)),   f = K / (2 N)

u_j is what is in flight at proxy j. An idle fleet lets one proxy take 1 - (N-1)/(2N) of the limit (75 % with
two, 67 % with three): a single keep-alive client must not meet a 429 at 60 % because two other proxies idle.
Under steady overload the shares add up to K. Only a burst that hits all idle proxies within the second
between two looks gets past K, at most to (N + 1) K / 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from penstock.model.traffic import FleetLimit

# A share moves only by more than this part of the limit: each move is a new route for the proxy.
SMALLEST_MOVE = 0.05


def shares(limit: int, in_flight: Mapping[str, float]) -> dict[str, int]:
    """Return what each proxy (by id) may have in flight of `limit` requests; at least one each."""
    count = len(in_flight)
    if count == 1:
        return dict.fromkeys(in_flight, max(1, limit)) if limit > 0 else dict.fromkeys(in_flight, 0)
    if limit <= 0:
        return dict.fromkeys(in_flight, 0)
    reserve = limit / (2 * count)
    held = {proxy: max(load, reserve) for proxy, load in in_flight.items()}
    total = sum(held.values())
    return {
        proxy: max(1, math.floor(max(reserve, limit - (total - mine)) + 1e-9)) for proxy, mine in held.items()
    }


def steady(before: int | None, share: int, limit: int, in_flight: float) -> int:
    """Return the share to put in force: the one before it where the move is not worth a new route.

    Less is always worth it when what is in flight is above it: the limit would be passed.
    """
    if before is None or (share < before and in_flight > share):
        return share
    return share if abs(share - before) > SMALLEST_MOVE * limit else before


def part_of(limit: FleetLimit, share: int) -> FleetLimit:
    """Return the running and queued parts of one proxy's share of a limit."""
    running = max(1, min(share, round(share * limit.running / max(1, limit.in_flight))))
    return FleetLimit(running, share - running)
