"""Pods that get no new requests, and the routes that must say so before one is removed.

Its own service's route leads to a pod, and so do those of services that fall back to it. What these spill and
rescue is counted in the drain: a victim that went on getting it would not be empty before the deadline.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from penstock.controller.service_state import ServiceState
from penstock.model.spec import ServiceKey
from penstock.model.traffic import GatewayGroup, RoutePlan

#: Names of pods by namespace.
Closed = Mapping[str, Collection[str]]
NONE_CLOSED: Final[Closed] = {}


def closed_pods(
    states: Mapping[ServiceKey, ServiceState], served: Iterable[ServiceKey], now: float
) -> Closed:
    """Return the pods that the drains of the `served` services close; `now` in Unix seconds.

    A drain that was under way when its service left the gateways is not carried on, and closes nothing.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for key in served:
        if (state := states.get(key)) is not None and (closed := state.gateway.closed(now)):
            found[key.namespace] |= closed
    return found


def helped_by(plans: Iterable[RoutePlan]) -> dict[ServiceKey, set[ServiceKey]]:
    """Return whose routes lead to the pods of a service as their fallback, by that service."""
    found: dict[ServiceKey, set[ServiceKey]] = defaultdict(set)
    for plan in plans:
        if plan.fallback is not None and plan.fallback.service is not None:
            found[plan.fallback.service].add(plan.key)
    return dict(found)


def all_know(group: GatewayGroup | None, key: ServiceKey, helped: Iterable[ServiceKey]) -> bool:
    """Whether all gateways have which pods of a service are closed, in the routes of the `helped` as well.

    A fallback is in the namespace, and so in the group, of those it helps. What a gateway refuses of theirs
    stays behind for days and must not hold up this one's scale-down: endpoints are taken without it.
    """
    if group is None or not group.acknowledged(key):
        return False
    return all(group.acknowledged(each) or each in group.rejected for each in helped)
