"""Routes of services that are gone, cannot be read or lead nowhere: gateways keep them while clients come.

A deleted service's Service is led past the gateways at once, but nodes learn of it over seconds, and keep-
alive connections end later still: without its listener they would be refused. An edit that made a spec
unreadable freezes its route until it is mended. So does one after which the Service in front of the target
cannot be told: when a canary's workload became the target, which no Service selected, all requests failed.
A deleted service with TLS is not led past the gateways: its route lasts as long as its Service.
An operator that starts finds those of the one before it in what that stored for the gateways' agents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.controller.closed_pods import NONE_CLOSED, Closed
from penstock.controller.endpoints import EndpointCache
from penstock.controller.undecided_routes import route_of
from penstock.model.spec import ServiceKey
from penstock.model.traffic import RoutePlan, RouteState

# kube-proxy follows within 1 to 5 s, clients' DNS and pools within their idle time-outs.
KEPT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Last:
    group: str
    plan: RoutePlan
    seen_at: float


class DepartedRoutes:
    """Remembers the last route of each service."""

    def __init__(self, endpoints: EndpointCache) -> None:
        self._endpoints = endpoints
        self._last: dict[ServiceKey, _Last] = {}

    def recall(self, plans: Mapping[str, Sequence[RoutePlan]], now: float) -> None:
        """Take what an operator before this one told, by group, for services without a route since."""
        for group, each in plans.items():
            for plan in each:
                self._last.setdefault(plan.key, _Last(group, plan, now))

    def beside(
        self,
        routes: Mapping[str, Sequence[RouteState]],
        *,
        served: Collection[ServiceKey],
        unreadable: Collection[ServiceKey],
        lasting: Collection[ServiceKey] = (),
        closed: Closed = NONE_CLOSED,
        now: float,
    ) -> dict[str, list[RouteState]]:
        """Return the routes to keep beside `routes`, by group; `now` is Unix seconds.

        `lasting` are services that are gone and whose clients still come by the gateways alone. `closed` are
        pods that get no new requests by these either: drains go on.
        """
        for group, states in routes.items():
            for route in states:
                self._last[route.plan.key] = _Last(group, route.plan, now)
        kept: dict[str, list[RouteState]] = {}
        for key, last in list(self._last.items()):
            if last.seen_at == now:
                continue
            drained = closed.get(key.namespace, ())
            if key in lasting:
                last = self._last[key] = replace(last, seen_at=now)
            if key in unreadable or key in served:
                self._last[key] = replace(last, seen_at=now)
                kept.setdefault(last.group, []).append(route_of(last.plan, self._endpoints, closed=drained))
            elif now - last.seen_at > KEPT_SECONDS:
                del self._last[key]
            else:
                # Nobody decides its limit any more.
                plan = replace(last.plan, limit=None, per_replica=None)
                # Nor its canary: an owned one goes with its service. Nor what its fallback can take.
                plan = replace(plan, canary=plan.canary and replace(plan.canary, weight_percent=0))
                nothing = plan.fallback and replace(plan.fallback, planned_ratio=0.0, in_flight_limit=0)
                plan = replace(plan, fallback=nothing)
                kept.setdefault(last.group, []).append(route_of(plan, self._endpoints, closed=drained))
        return kept
