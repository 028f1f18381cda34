"""Everything one proxy is to have: resources by type URL and name, built from plans and its shares.

Resources of services that did not change are the same objects as before: a server may compare by identity
first. Nobody may change them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from penstock.dataplane.envoy import names
from penstock.dataplane.envoy.certificates import MOUNTED_AT, tls_secret
from penstock.dataplane.envoy.clusters import clusters
from penstock.dataplane.envoy.endpoints import load_assignment
from penstock.dataplane.envoy.listeners import listener
from penstock.dataplane.envoy.routes import CanaryRoom, Room, route_configuration
from penstock.dataplane.envoy.runtime import breaker_keys, pool_keys, rescue_keys, runtime
from penstock.model.spec import ServiceKey
from penstock.model.traffic import Backend, CanaryRoute, Endpoint, FleetLimit, RoutePlan, RouteState

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProxyShare:
    """What one proxy may let in of a service's limits.

    `limit` None: everything passes. `fallback_in_flight`: of this service's requests in the fallback's pool.
    `pool_limit`: of all requests in that pool, its own clients' included; None: it has no limit of ours.
    `canary_in_flight`: of requests at the canary; None: as many as are let in.
    """

    limit: FleetLimit | None
    fallback_in_flight: int
    pool_limit: int | None
    canary_in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Resources by type URL and name, each a JSON object with its ``@type``."""

    resources: Mapping[str, Mapping[str, Resource]]


@dataclass(frozen=True, slots=True)
class _Fragment:
    """What one service adds to a snapshot."""

    resources: tuple[tuple[str, Mapping[str, Resource]], ...]  # by type URL
    breakers: Mapping[str, int]


class Renderer:
    """Renders what one proxy is to have. A service that did not change costs a comparison: with 200 in a
    group, hashing them all to find them in a cache took 17 ms at each change of one.

    `listen_address` is where the proxy binds listeners, `tls_directory` holds its mounted Secrets.
    """

    def __init__(
        self,
        *,
        listen_address: str = "0.0.0.0",  # noqa: S104 - a gateway is there to be reached
        tls_directory: str = MOUNTED_AT,
    ) -> None:
        self._listen_address, self._tls_directory = listen_address, tls_directory
        self._known: dict[ServiceKey, tuple[tuple[object, ...], _Fragment]] = {}
        self._layers: dict[str, list[Mapping[str, int]]] = {}
        self._runtimes: dict[str, Resource] = {}

    def render(self, states: Sequence[RouteState], shares: Mapping[ServiceKey, ProxyShare]) -> Snapshot:
        """Return all resources of a proxy with these shares. Raises KeyError when a service has no share."""
        pools = clusters_by_pool([state.plan for state in states])
        known, self._known = self._known, {}
        by_type: dict[str, dict[str, Resource]] = {type_url: {} for type_url in names.ORDER}
        layers: dict[str, list[Mapping[str, int]]] = {name: [] for name in names.RUNTIME_LAYERS}
        for state in states:
            key = state.plan.key
            inputs = (state, shares[key], _pools_of(state.plan, pools))
            before = known.get(key)
            fragment = before[1] if before is not None and before[0] == inputs else self._fragment(*inputs)
            self._known[key] = inputs, fragment
            for type_url, resources in fragment.resources:
                by_type[type_url].update(resources)
            layers[names.runtime_layer(names.cluster_name(key))].append(fragment.breakers)
        for name, services in layers.items():
            if services != self._layers.get(name):
                self._runtimes[name] = runtime(name, services)
        self._layers = layers
        by_type[names.RTDS].update(self._runtimes)
        return Snapshot(by_type)

    def _fragment(self, state: RouteState, share: ProxyShare, pools: _Pools) -> _Fragment:
        plan = state.plan
        name, structure = names.cluster_name(plan.key), _structure(plan)
        resources: list[tuple[str, Mapping[str, Resource]]] = [
            (names.CDS, _clusters(structure)),
            (names.LDS, {name: _listener(structure, self._listen_address)}),
            (names.RDS, {name: route_configuration(plan, room(state, share, *pools))}),
            (names.EDS, dict(_endpoints(state))),
        ]
        if plan.tls_secret:
            secret = names.secret_name(plan.key.namespace, plan.tls_secret)
            found = _secret(plan.key.namespace, plan.tls_secret, self._tls_directory)
            resources.append((names.SDS, {secret: found}))
        return _Fragment(tuple(resources), _breakers(structure, share))


def render(
    states: Sequence[RouteState],
    shares: Mapping[ServiceKey, ProxyShare],
    *,
    listen_address: str = "0.0.0.0",  # noqa: S104 - a gateway is there to be reached
    tls_directory: str = MOUNTED_AT,
) -> Snapshot:
    """Return what a proxy with these shares is to have, once. Raises KeyError when a service has no share."""
    return Renderer(listen_address=listen_address, tls_directory=tls_directory).render(states, shares)


_Pools = tuple[tuple[str, ...], tuple[str, ...]]


def _pools_of(plan: RoutePlan, pools: Mapping[ServiceKey, tuple[str, ...]]) -> _Pools:
    """Return the clusters that send into a service's own pool, and into its fallback's."""
    into = plan.fallback.service if plan.fallback is not None else None
    return pools[plan.key], () if into is None else pools.get(into, ())


def clusters_by_pool(plans: Sequence[RoutePlan]) -> dict[ServiceKey, tuple[str, ...]]:
    """Return every cluster that sends into a service's pool: of its arms, then those that fall back to it."""
    pools = {plan.key: [*names.arm_clusters(plan)] for plan in plans}
    for plan in plans:
        if plan.fallback is not None and plan.fallback.service in pools:
            pools[plan.fallback.service] += names.clusters_into_fallback(plan)
    return {key: tuple(into) for key, into in pools.items()}


def room(state: RouteState, share: ProxyShare, own: tuple[str, ...], fallback_pool: tuple[str, ...]) -> Room:
    """Return what a proxy may let in of a service as things are now."""
    plan = state.plan
    fallback_serves = any(endpoint.serving for endpoint in state.fallback_endpoints)
    stable_serves, canary = any(endpoint.serving for endpoint in state.endpoints), _canary_room(state, share)
    if canary is None:
        # A canary's last streams take nothing from the stable arm, which is now all there is.
        own = tuple(each for each in own if each != names.canary_cluster(plan.key))
    return Room(
        limit=share.limit,
        has_endpoints=stable_serves or canary is not None,
        own_pool=own,
        # Without endpoints it would answer 503 where a 429 with Retry-After is true.
        fallback_in_flight=share.fallback_in_flight if fallback_serves else 0,
        fallback_pool=fallback_pool,
        pool_limit=share.pool_limit,
        canary=canary,
    )


def _canary_room(state: RouteState, share: ProxyShare) -> CanaryRoom | None:
    canary, serves = state.plan.canary, any(each.serving for each in state.canary_endpoints)
    if canary is None or not canary.weight_percent or not serves:
        return None
    stable_serves = any(each.serving for each in state.endpoints)
    # A canary that was trusted with a share is better than nobody.
    weight = canary.weight_percent if stable_serves else 100
    return CanaryRoom(weight, share.canary_in_flight, canary.sticky_header, stable_serves)


def _structure(plan: RoutePlan) -> RoutePlan:
    # What clusters and listeners are made of: no number that moves.
    fallback = plan.fallback and replace(plan.fallback, planned_ratio=0.0, in_flight_limit=0)
    canary = plan.canary and CanaryRoute(plan.canary.backend, 0)
    return replace(
        plan, per_replica=None, limit=None, retry_after_seconds=1, fallback=fallback, canary=canary
    )


def _endpoints(state: RouteState) -> Iterator[tuple[str, Resource]]:
    plan = state.plan
    own = names.cluster_name(plan.key)
    yield own, _assignment(own, plan.backend, state.endpoints, names.REASON_PRIMARY)
    if plan.canary is not None:
        arm, told = names.canary_cluster(plan.key), names.canary_served_by(plan)
        there = replace(plan.canary.backend, served_by=told)
        yield arm, _assignment(arm, there, state.canary_endpoints, names.REASON_CANARY)
    if plan.fallback is not None:
        rescue = names.rescue_cluster(plan.key)
        for cluster in names.clusters_into_fallback(plan):
            reason = names.REASON_ERROR if cluster == rescue else names.REASON_OVERLOAD
            yield cluster, _assignment(cluster, plan.fallback.backend, state.fallback_endpoints, reason)


@lru_cache(maxsize=4096)
def _clusters(structure: RoutePlan) -> Mapping[str, Resource]:
    return clusters(structure)


@lru_cache(maxsize=4096)
def _listener(structure: RoutePlan, address: str) -> Resource:
    return listener(structure, address)


@lru_cache(maxsize=8192)
def _assignment(cluster: str, backend: Backend, endpoints: tuple[Endpoint, ...], reason: str) -> Resource:
    return load_assignment(cluster, backend, endpoints, reason=reason)


@lru_cache(maxsize=1024)
def _secret(namespace: str, secret: str, mounted_at: str) -> Resource:
    return tls_secret(namespace, secret, mounted_at=mounted_at)


def _breakers(structure: RoutePlan, share: ProxyShare) -> Mapping[str, int]:
    keys: dict[str, int] = {}
    if share.limit is not None:
        keys |= pool_keys(
            names.cluster_name(structure.key), running=share.limit.running, queued=share.limit.queued
        )
    if structure.fallback is not None:
        allowed = share.fallback_in_flight
        for cluster in names.clusters_into_fallback(structure):
            keys |= breaker_keys(
                cluster, max_connections=allowed, max_pending_requests=allowed, max_requests=allowed
            )
        keys |= rescue_keys(names.any_cluster(structure.key), in_flight=allowed)
    return keys
