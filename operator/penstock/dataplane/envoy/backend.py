"""The Envoy data plane: what was published, to whom it was given, and what the proxies show.

One registry of proxies and one of groups; everything is rendered anew when routes, proxies or shares
change, and costs nothing where nothing did (the resources are cached by content).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
import structlog
from aiohttp import web

from penstock.dataplane.envoy import names
from penstock.dataplane.envoy.bootstrap import POLLED_STATS_PATH
from penstock.dataplane.envoy.proxies import Proxy
from penstock.dataplane.envoy.server import HOLD_SECONDS, XdsServer
from penstock.dataplane.envoy.shares import part_of, shares, steady
from penstock.dataplane.envoy.snapshot import ProxyShare, clusters_by_pool, render
from penstock.dataplane.envoy.stats import Counters, Stats, in_flight, parse_stats, reading, wanted_counters
from penstock.model.spec import ServiceKey
from penstock.model.traffic import GatewayGroup, GatewayReading, RouteState

log = structlog.get_logger(__name__)
READ_SECONDS = 0.8  # a proxy that takes longer is left out of this second's reading
LARGEST_STATS_BYTES = 16 * 1024 * 1024  # 200 services of 50 endpoints each show some 2 MB


@dataclass(slots=True)
class _Group:
    name: str
    routes: tuple[RouteState, ...] = ()
    proxies: dict[str, Proxy] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    shown: dict[str, Stats] = field(default_factory=dict)  # statistics of this second, by proxy
    in_force: dict[tuple[str, ServiceKey], int] = field(default_factory=dict)  # shares by proxy and service


class EnvoyDataPlane:
    """Implements ``dataplane.api.DataPlane`` for proxies that ask by REST xDS.

    `token_of` gives each group's token; `listen_address` is where proxies bind services' listeners.
    """

    def __init__(
        self,
        token_of: Callable[[str], str],
        *,
        listen_address: str = "0.0.0.0",  # noqa: S104 - a gateway is there to be reached
        hold_seconds: tuple[float, float] = HOLD_SECONDS,
    ) -> None:
        self._groups: dict[str, _Group] = {}
        self._listen_address = listen_address
        self._session: aiohttp.ClientSession | None = None
        self.server = XdsServer(self, token_of, hold_seconds=hold_seconds)

    @property
    def ready(self) -> bool:
        """Whether anything was published yet."""
        return bool(self._groups)

    def app(self) -> web.Application:
        """Return the application that answers the proxies."""
        return self.server.app()

    async def close(self) -> None:
        """Close connections to the proxies' statistics."""
        if self._session is not None:
            await self._session.close()

    def publish(self, group: str, routes: Sequence[RouteState]) -> None:
        """Serve these routes to the proxies of `group` from now on."""
        state = self._groups.setdefault(group, _Group(group))
        state.routes = tuple(routes)
        self._forget_gone(state)
        self._give_all(state)

    def groups(self) -> Mapping[str, GatewayGroup]:
        """Return what the proxies of each group have, and what they rejected."""
        now = time.monotonic()
        found = {}
        for group in self._groups.values():
            alive = [proxy for proxy in group.proxies.values() if proxy.is_alive(now)]
            current = sum(proxy.is_current for proxy in alive)
            found[group.name] = GatewayGroup(group.name, len(alive), current, _rejected(group, alive))
        return found

    async def read(self, now: float) -> Mapping[ServiceKey, GatewayReading]:
        """Return counts and gauges of all services; those whose proxies are silent are left out."""
        found: dict[ServiceKey, GatewayReading] = {}
        for group in self._groups.values():
            await self._look(group)
            if not group.shown:
                continue
            pools = clusters_by_pool([state.plan for state in group.routes])
            for state in group.routes:
                wanted = wanted_counters(state.plan)
                for proxy, stats in group.shown.items():
                    group.counters.add(proxy, stats, wanted)
                found[state.plan.key] = reading(state, group.shown, group.counters, pools, now)
        return found

    def proxy(self, group: str, name: str, host: str, stats_port: int) -> Proxy | None:
        """Return the proxy that asks; a new one gets its share before it has an answer."""
        state = self._groups.get(group)
        if state is None:
            return None
        known = state.proxies.get(name)
        if known is not None and (known.host, known.stats_port) == (host, stats_port):
            return known
        if known is None:
            log.info("a gateway asks for its configuration", group=group, proxy=name, address=host)
        state.proxies[name] = Proxy(name, group, host, stats_port)
        self._give_all(state)
        return state.proxies[name]

    def _forget_gone(self, group: _Group) -> None:
        now = time.monotonic()
        for name in [name for name, proxy in group.proxies.items() if not proxy.is_alive(now)]:
            log.info("a gateway is gone", group=group.name, proxy=name)
            del group.proxies[name]
            group.counters.forget(name)
            group.shown.pop(name, None)
            for key in [key for key in group.in_force if key[0] == name]:
                del group.in_force[key]

    def _give_all(self, group: _Group) -> None:
        """Render what each proxy is to have, and wake the questions whose answer changed."""
        pools = clusters_by_pool([state.plan for state in group.routes])
        by_proxy: dict[str, dict[ServiceKey, ProxyShare]] = {name: {} for name in group.proxies}
        limits: dict[ServiceKey, dict[str, int]] = {}
        for state in group.routes:
            if state.plan.limit is not None:
                limits[state.plan.key] = self._shares(
                    group, state.plan.key, state.plan.limit.in_flight, pools[state.plan.key]
                )
        for state in group.routes:
            plan = state.plan
            spill = plan.fallback
            spilled = {}
            if spill is not None:
                into = names.clusters_into_fallback(plan)
                loads = self._loads(group, into)
                spilled = shares(spill.in_flight_limit, loads)
            for name in group.proxies:
                share = limits.get(plan.key, {}).get(name)
                pool = None
                if spill is not None and spill.service is not None:
                    pool = limits.get(spill.service, {}).get(name)
                by_proxy[name][plan.key] = ProxyShare(
                    limit=None if share is None or plan.limit is None else part_of(plan.limit, share),
                    fallback_in_flight=spilled.get(name, 0),
                    pool_limit=pool,
                )
        for name, proxy in group.proxies.items():
            snapshot = render(group.routes, by_proxy[name], listen_address=self._listen_address)
            proxy.wake(proxy.catalogue.update(snapshot))

    def _loads(self, group: _Group, clusters: Sequence[str]) -> dict[str, float]:
        return {name: float(in_flight(group.shown.get(name, {}), clusters)) for name in group.proxies}

    def _shares(self, group: _Group, key: ServiceKey, limit: int, clusters: Sequence[str]) -> dict[str, int]:
        """Return the proxies' shares of a limit; small moves are not made."""
        loads = self._loads(group, clusters)
        fresh = shares(limit, loads) if loads else {}
        found = {}
        for name, share in fresh.items():
            before = group.in_force.get((name, key))
            found[name] = share if len(fresh) == 1 else steady(before, share, limit, loads[name])
            group.in_force[name, key] = found[name]
        return found

    async def _look(self, group: _Group) -> None:
        """Read the statistics of all proxies of a group at once."""
        if self._session is None:
            self._session = aiohttp.ClientSession()
        proxies = [proxy for proxy in group.proxies.values() if proxy.stats_port]
        answers = await asyncio.gather(*(self._stats(self._session, proxy) for proxy in proxies))
        group.shown = {
            proxy.name: stats
            for proxy, stats in zip(proxies, answers, strict=True)
            if stats is not None and proxy.name in group.proxies
        }

    @staticmethod
    async def _stats(session: aiohttp.ClientSession, proxy: Proxy) -> Stats | None:
        host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
        url = f"http://{host}:{proxy.stats_port}{POLLED_STATS_PATH}"
        try:
            async with session.get(url, timeout=aiohttp.ClientTimeout(total=READ_SECONDS)) as answer:
                if answer.status != 200:
                    return None
                body = await answer.content.read(LARGEST_STATS_BYTES)
                while chunk := await answer.content.read(LARGEST_STATS_BYTES - len(body)):
                    body += chunk
                    if len(body) >= LARGEST_STATS_BYTES:
                        return None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        return parse_stats(body.decode(errors="replace"))


def _rejected(group: _Group, proxies: Sequence[Proxy]) -> dict[ServiceKey, str]:
    """Return what proxies refuse, by the service whose resource it is."""
    found: dict[ServiceKey, str] = {}
    for proxy in proxies:
        for kind, name in proxy.refused():
            for state in group.routes:
                cluster = names.cluster_name(state.plan.key)
                if name == cluster or name.startswith(f"{cluster}_"):
                    what = kind.rpartition(".")[2]
                    found[state.plan.key] = (
                        f"gateway {proxy.name} refuses {what} {name} and keeps its last good configuration: "
                        "its log says why; the operator tries again every 30 s"
                    )
    return found
