"""Requests that were answered, as gateways count them: 429 and 5xx count against the offered ones.

5xx are not counted by class: where `slo.classes` names some, all of them count against these.
"""

from __future__ import annotations

from penstock.model.objective_counts import Counted
from penstock.model.spec import Slo
from penstock.model.traffic import ClassCount, GatewayReading
from penstock.policy.gateway_load import GatewayMemory


def since(before: GatewayReading | None, now: GatewayReading, slo: Slo) -> Counted:
    """Return what came since a reading, of the classes that `slo` is about now; None: all that was counted.

    Class by class: sums over different classes cannot be compared. With 1e6 requests of a class that
    `slo.classes` names only now, their difference would book them all on one interval. A class that is new
    in the readings counts from `now` on.
    """
    offered, missed = 0.0, now.server_errors
    if before is not None and missed >= before.server_errors:
        missed -= before.server_errors
    for name, count in now.classes.items():
        if not slo.classes or name in slo.classes:
            more = count if before is None else _rise(before.classes.get(name, count), count)
            offered += more.offered
            missed += more.shed
    return Counted(offered, min(offered, missed))


def measured_availability(memory: GatewayMemory, slo: Slo) -> float | None:
    """Return the share that was answered over the readings kept; None without requests."""
    if len(memory.readings) < 2:
        return None
    window = since(memory.readings[0], memory.readings[-1], slo)
    return 1.0 - window.missed / window.requests if window.requests > 0 else None


def _rise(before: ClassCount, now: ClassCount) -> ClassCount:
    """Return what a class's counters rose by; counters that fell began anew."""
    if now.offered < before.offered or now.shed < before.shed:
        return now
    return ClassCount(now.offered - before.offered, now.shed - before.shed)
