"""Requests that were answered, as gateways count them: 429 and 5xx count against the offered ones.

5xx are not counted by class: where `slo.classes` names some, all of them count against these.
"""

from __future__ import annotations

from penstock.model.objective_counts import Counted
from penstock.model.spec import Slo
from penstock.model.traffic import GatewayReading
from penstock.policy.gateway_load import GatewayMemory


def counted(reading: GatewayReading, slo: Slo) -> Counted:
    """Return all that were offered since the gateways are read, and those that were not answered."""
    classes = [each for name, each in reading.classes.items() if not slo.classes or name in slo.classes]
    offered = sum(each.offered for each in classes)
    missed = sum(each.shed for each in classes) + reading.server_errors
    return Counted(offered, min(offered, missed))


def since(before: Counted, now: Counted) -> Counted:
    """Return what came since; counters that fell began anew."""
    if now.requests < before.requests or now.missed < before.missed:
        return now
    requests = now.requests - before.requests
    return Counted(requests, min(requests, now.missed - before.missed))


def measured_availability(memory: GatewayMemory, slo: Slo) -> float | None:
    """Return the share that was answered over the readings kept; None without requests."""
    if len(memory.readings) < 2:
        return None
    window = since(counted(memory.readings[0], slo), counted(memory.readings[-1], slo))
    return 1.0 - window.missed / window.requests if window.requests > 0 else None
