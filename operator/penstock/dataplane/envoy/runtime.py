"""RTDS: how many requests run and wait at each cluster, as runtime keys.

A circuit breaker changed by CDS re-creates the cluster and counts from 0 again: 7 were in flight under a
limit of 3, for as long as the old streams lasted. A runtime key changes it in place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from penstock.dataplane.envoy.names import RTDS

#: Retries under way at once, of requests under way; and how many are always allowed.
RETRY_BUDGET_PERCENT: Final = 20
RETRY_BUDGET_MINIMUM: Final = 3


def breaker_keys(cluster: str, **limits: int) -> dict[str, int]:
    """Return the runtime keys of a cluster's circuit breakers, e.g. ``max_connections=24``."""
    return {f"circuit_breakers.{cluster}.default.{name}": value for name, value in limits.items()}


def pool_keys(cluster: str, *, running: int, queued: int) -> dict[str, int]:
    """Return the keys of a pool that runs and queues so many; the rest of the queue is room to connect.

    A request waits in the same queue while its connection is made: with room for `queued` only, a cold burst
    of 12 at 4 running + 3 queued was cut to 4.
    """
    return breaker_keys(cluster, max_connections=running, max_pending_requests=running + queued)


def rescue_keys(composite: str, *, in_flight: int) -> dict[str, int]:
    """Return the keys of what may be retried at a fallback at once.

    The composite itself counts no requests, so that its budget in percent would stay at the minimum.
    """
    allowed = max(RETRY_BUDGET_MINIMUM, math.ceil(in_flight * RETRY_BUDGET_PERCENT / 100))
    return breaker_keys(composite, **{"retry_budget.min_retry_concurrency": allowed})


def runtime(name: str, services: Iterable[Mapping[str, int]]) -> dict[str, Any]:
    """Return the runtime layer of that name with the keys of some services."""
    merged: dict[str, int] = {}
    for keys in services:
        merged.update(keys)
    return {"@type": RTDS, "name": name, "layer": merged}
