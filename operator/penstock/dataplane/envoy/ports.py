"""Which port of the gateways each service gets: a listener of its own, so that a change touches it alone.

Nothing is stored: after a restart the ports are read back from the Services that point to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from penstock.model.spec import ServiceKey

FIRST_PORT: Final = 10_000
LAST_PORT: Final = 17_999  # the operator's and the agent's xDS ports come next


class NoPortError(Exception):
    """All ports of a group are taken."""


def allocate_ports(
    existing: Mapping[ServiceKey, int], services: Iterable[ServiceKey]
) -> dict[ServiceKey, int]:
    """Return a port for each of `services`, those of `existing` unchanged. Raises `NoPortError`.

    New ones come after the highest in use, and only then fill gaps: a port that was just given up may
    still get requests that were meant for its former service. Two services with one port, after
    somebody edited a Service: the first by name keeps it.
    """
    wanted = sorted(services, key=str)
    taken: dict[int, ServiceKey] = {}
    for key in sorted(existing, key=str):
        port = existing[key]
        if FIRST_PORT <= port <= LAST_PORT:
            taken.setdefault(port, key)
    kept = {key: port for port, key in taken.items()}
    allocated: dict[ServiceKey, int] = {}
    following = max(taken, default=FIRST_PORT - 1) + 1
    free = (port for port in range(FIRST_PORT, LAST_PORT + 1) if port not in taken)
    for key in wanted:
        if key in kept:
            allocated[key] = kept[key]
            continue
        if following <= LAST_PORT:
            port, following = following, following + 1
        else:
            found = next(free, None)
            if found is None:
                raise NoPortError(
                    f"{key} gets no port: a gateway group has {LAST_PORT - FIRST_PORT + 1}; "
                    "use one group per namespace (gateway.scope=namespace)"
                )
            port = found
        taken[port] = key
        allocated[key] = port
    return allocated


def repaired_ports(found: Mapping[ServiceKey, int]) -> dict[ServiceKey, int]:
    """Return a port of its own for each service, as its Service says where that can be.

    Two on one port are one listener: requests of one service at the engines of the other. Left out is who
    gets none: it is told so when it asks.
    """
    try:
        return allocate_ports(found, found)
    except NoPortError:
        first: dict[int, ServiceKey] = {}
        for key in sorted(found, key=str):
            first.setdefault(found[key], key)
        return {key: port for port, key in first.items() if FIRST_PORT <= port <= LAST_PORT}
