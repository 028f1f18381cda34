"""What each proxy of a group may let in of every service's limits, by the last look at each.

Four limits are divided the same way: a service's own pool, its room at its canary and in the fallback's pool,
and through the fallback's own share that pool as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.dataplane.envoy import names
from penstock.dataplane.envoy.shares import Use, divide, part_of, settle
from penstock.dataplane.envoy.snapshot import ProxyShare, clusters_by_pool
from penstock.dataplane.envoy.stats import Look, Silence, in_flight
from penstock.model.spec import ServiceKey
from penstock.model.traffic import RoutePlan, RouteState

#: The last look at each proxy by id, where anything recent is known.
Looks = Mapping[str, Look | Silence]


class Allotment:
    """Divides limits, and remembers what is in force so that small moves are not made."""

    def __init__(self) -> None:
        self._in_force: dict[tuple[str, ServiceKey], dict[str, int]] = {}

    def of(self, routes: Sequence[RouteState], looks: Looks) -> dict[str, dict[ServiceKey, ProxyShare]]:
        """Return the shares of every proxy in `looks`."""
        plans = [state.plan for state in routes]
        pools = clusters_by_pool(plans)
        limits = {
            plan.key: self._divided("own", plan, plan.limit.in_flight, pools[plan.key], looks)
            for plan in plans
            if plan.limit is not None
        }
        spills = {
            plan.key: self._divided(
                "fallback", plan, plan.fallback.in_flight_limit, names.clusters_into_fallback(plan), looks
            )
            for plan in plans
            if plan.fallback is not None
        }
        canaries = {
            plan.key: self._divided(
                "canary", plan, plan.canary.in_flight_limit, (names.canary_cluster(plan.key),), looks
            )
            for plan in plans
            if plan.canary is not None and plan.canary.in_flight_limit is not None
        }
        divided = {"own": limits, "fallback": spills, "canary": canaries}
        present = {(what, key) for what, parts in divided.items() for key in parts}
        for gone in self._in_force.keys() - present:
            del self._in_force[gone]
        return {
            proxy: {plan.key: _share(plan, proxy, limits, spills, canaries) for plan in plans}
            for proxy in looks
        }

    def _divided(
        self, what: str, plan: RoutePlan, limit: int, clusters: Sequence[str], looks: Looks
    ) -> dict[str, int]:
        before = self._in_force.get((what, plan.key), {})
        sheds = [names.shed_stat(plan.key, name) for name in names.request_classes(plan)]
        uses = {
            proxy: _use(look, clusters, sheds if what == "own" else (), before.get(proxy))
            for proxy, look in looks.items()
        }
        found = divide(limit, uses)
        if len(uses) > 1:
            found = settle(before, found, limit)
        self._in_force[what, plan.key] = found
        return found


def _use(look: Look | Silence, clusters: Sequence[str], sheds: Sequence[str], share: int | None) -> Use:
    if isinstance(look, Silence):
        return Use(None, lost=look is Silence.LOST)
    load = in_flight(look.stats, clusters)
    return Use(load, pressed=look.rose(sheds) or (share is not None and load >= share))


def _share(
    plan: RoutePlan,
    proxy: str,
    limits: Mapping[ServiceKey, Mapping[str, int]],
    spills: Mapping[ServiceKey, Mapping[str, int]],
    canaries: Mapping[ServiceKey, Mapping[str, int]],
) -> ProxyShare:
    into = plan.fallback.service if plan.fallback is not None else None
    return ProxyShare(
        limit=None if plan.limit is None else part_of(plan.limit, limits[plan.key][proxy]),
        fallback_in_flight=spills[plan.key][proxy] if plan.key in spills else 0,
        pool_limit=limits[into][proxy] if into is not None and into in limits else None,
        canary_in_flight=canaries[plan.key][proxy] if plan.key in canaries else None,
    )
