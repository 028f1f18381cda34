"""What proxies refuse, said of the services concerned: Envoy keeps its last good configuration of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from penstock.dataplane.envoy import names
from penstock.dataplane.envoy.proxies import Proxy
from penstock.dataplane.envoy.stats import Look, refused_updates
from penstock.model.spec import ServiceKey
from penstock.model.traffic import RoutePlan, RouteState


def rejections(
    routes: Sequence[RouteState], proxies: Sequence[Proxy], looks: Mapping[str, Look]
) -> dict[ServiceKey, str]:
    """Return one sentence per service with something refused, about the first proxy that refuses."""
    found: dict[ServiceKey, str] = {}
    for proxy in proxies:
        for kind, name in proxy.refused():
            look = looks.get(proxy.name)
            counted = refused_updates(look.stats, kind, name) if look is not None else None
            told = "" if counted is None else f" (it counts {counted} refused updates)"
            for key in _concerned(routes, kind, name):
                found.setdefault(
                    key,
                    f"gateway {proxy.name} refuses {kind.rpartition('.')[2]} {name} and keeps its last good "
                    f"configuration{told}: its log says why; it is sent again within a minute",
                )
    return found


def _concerned(routes: Sequence[RouteState], kind: str, name: str) -> Iterator[ServiceKey]:
    for state in routes:
        if name in _resources(state.plan, kind):
            yield state.plan.key


def _resources(plan: RoutePlan, kind: str) -> set[str]:
    if kind == names.RTDS:
        return {names.runtime_layer(names.cluster_name(plan.key))}
    if kind == names.EDS:
        return {*names.arm_clusters(plan), *names.clusters_into_fallback(plan)}
    if kind == names.SDS:
        return {names.secret_name(plan.key.namespace, plan.tls_secret)} if plan.tls_secret else set()
    if kind == names.CDS:
        sheds = {names.shed_cluster(plan.key, each) for each in names.request_classes(plan)}
        spills = {*names.clusters_into_fallback(plan), names.any_cluster(plan.key)}
        return {*names.arm_clusters(plan), names.canary_any_cluster(plan.key)} | sheds | spills
    return {names.cluster_name(plan.key)}
