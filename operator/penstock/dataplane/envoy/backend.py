"""The Envoy data plane: what was published, to whom it was given, and what the proxies show.

One registry of groups and their proxies. Everything is rendered anew when routes, proxies or shares change,
and costs nothing where nothing did (the resources are cached by content).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog
from aiohttp import web

from penstock.dataplane.envoy import names
from penstock.dataplane.envoy.allotment import Allotment
from penstock.dataplane.envoy.arm_counts import ArmCounters, arms
from penstock.dataplane.envoy.bootstrap import ARM_STATS_PATH
from penstock.dataplane.envoy.poller import StatsPoller
from penstock.dataplane.envoy.proxies import Proxy
from penstock.dataplane.envoy.rejections import rejections
from penstock.dataplane.envoy.server import HOLD_SECONDS, Caller, XdsServer
from penstock.dataplane.envoy.snapshot import ProxyShare, Renderer, clusters_by_pool
from penstock.dataplane.envoy.stats import Counters, Look, Silence, reading, tells_of, wanted_counters
from penstock.model.spec import ServiceKey
from penstock.model.traffic import GatewayGroup, GatewayReading, RouteState

log = structlog.get_logger(__name__)
# A proxy that skips one look in a row is late; after that what it said is not what is.
RECENT_SECONDS = 3.0


@dataclass(slots=True)
class _Group:
    name: str
    routes: tuple[RouteState, ...] = ()
    proxies: dict[str, Proxy] = field(default_factory=dict)
    looks: dict[str, Look] = field(default_factory=dict)  # the last one of each proxy
    counters: Counters = field(default_factory=Counters)
    arms: ArmCounters = field(default_factory=ArmCounters)
    allotment: Allotment = field(default_factory=Allotment)
    renderers: dict[str, Renderer] = field(default_factory=dict)
    given: dict[str, tuple[tuple[RouteState, ...], Mapping[ServiceKey, ProxyShare]]] = field(
        default_factory=dict
    )

    def recent(self, now: float) -> dict[str, Look | Silence]:
        """Return the last look at each proxy, where it is not old. A newborn one has nothing in flight.

        For a moment only: one whose statistics cannot be read would count as idle for ever, and an idle
        fleet is given its limit twice.
        """
        found: dict[str, Look | Silence] = {}
        for name, proxy in self.proxies.items():
            look = self.looks.get(name)
            if look is None and proxy.newborn and now - proxy.seen_at <= RECENT_SECONDS:
                look = Look(now, {})
            if look is not None and now - look.at <= RECENT_SECONDS:
                found[name] = look
            else:
                found[name] = Silence.LOST if proxy.is_lost(now) else Silence.LATE
        return found

    def forget(self, proxy: str) -> None:
        del self.proxies[proxy]
        self.counters.forget(proxy)
        self.arms.forget(proxy)
        self.looks.pop(proxy, None)
        self.given.pop(proxy, None)
        self.renderers.pop(proxy, None)


class EnvoyDataPlane:
    """Implements ``dataplane.api.DataPlane`` for proxies that ask by REST xDS.

    `token_of` gives each group's token: "" lets nobody in, None everybody (on loopback). `listen_address`
    is where proxies bind services' listeners that do not say it themselves.
    """

    def __init__(
        self,
        token_of: Callable[[str], str | None],
        *,
        listen_address: str = "0.0.0.0",  # noqa: S104 - a gateway is there to be reached
        hold_seconds: tuple[float, float] = HOLD_SECONDS,
    ) -> None:
        self._groups: dict[str, _Group] = {}
        self._listen_address = listen_address
        self._poller = StatsPoller()
        self.server = XdsServer(self, token_of, hold_seconds=hold_seconds)

    @property
    def ready(self) -> bool:
        """Whether anything was published yet."""
        return bool(self._groups)

    def app(self) -> web.Application:
        """Return the application that answers the proxies; `server.runner` runs it."""
        return self.server.app()

    async def close(self) -> None:
        """Close connections to the proxies' statistics."""
        await self._poller.close()

    def publish(self, group: str, routes: Sequence[RouteState]) -> None:
        """Serve these routes to the proxies of `group` from now on."""
        state = self._groups.setdefault(group, _Group(group))
        state.routes = tuple(routes)
        now = time.monotonic()
        for name in [name for name, proxy in state.proxies.items() if not proxy.is_alive(now)]:
            log.info("a gateway is gone", group=group, proxy=name)
            state.forget(name)
        self._give_all(state, now)

    def groups(self) -> Mapping[str, GatewayGroup]:
        """Return what the proxies of each group have, and what they rejected."""
        now = time.monotonic()
        found = {}
        for group in self._groups.values():
            alive = [proxy for proxy in group.proxies.values() if proxy.is_alive(now)]
            current = sum(proxy.is_current for proxy in alive)
            told = rejections(group.routes, alive, group.looks)
            behind = {names.service_of(each) for proxy in alive for each in proxy.behind()}
            services = frozenset(key for key in behind if key is not None)
            found[group.name] = GatewayGroup(group.name, len(alive), current, told, services)
        return found

    async def read(self, now: float) -> Mapping[ServiceKey, GatewayReading]:
        """Return counts and gauges of all services; those whose proxies are silent are left out."""
        found: dict[ServiceKey, GatewayReading] = {}
        for group in self._groups.values():
            try:
                found |= await self._read_group(group, now)
            except Exception:
                # What the proxies of one group say must not keep the others' limits from following.
                log.exception("gateways' statistics could not be taken in", group=group.name)
        return found

    def proxy(self, caller: Caller, version: str) -> Proxy | None:
        """Return the proxy that asks; a new one gets its share before it has an answer."""
        group = self._groups.get(caller.group)
        if group is None:
            return None
        known = group.proxies.get(caller.name)
        if known is not None:
            known.host, known.stats_port = caller.host, caller.stats_port
            return known
        log.info(
            "a gateway asks for its configuration", group=group.name, proxy=caller.name, address=caller.host
        )
        proxy = Proxy(
            name=caller.name,
            group=group.name,
            host=caller.host,
            stats_port=caller.stats_port,
            listen_address=caller.listen_address,
            newborn=not version,
        )
        group.proxies[caller.name] = proxy
        if proxy.newborn:
            group.counters.born(caller.name)
        self._give_all(group, time.monotonic())
        return proxy

    def _give_all(self, group: _Group, now: float) -> None:
        """Render what each proxy is to have; those that lose some of their share come first."""
        shares = group.allotment.of(group.routes, group.recent(now))
        for name, proxy in group.proxies.items():
            wanted = (group.routes, shares[name])
            if group.given.get(name) == wanted and not proxy.catalogue.is_leaving:
                continue
            renderer = group.renderers.get(name)
            if renderer is None:
                address = proxy.listen_address or self._listen_address
                renderer = group.renderers[name] = Renderer(listen_address=address)
            proxy.give(renderer.render(group.routes, shares[name]), now)
            group.given[name] = wanted  # not before: what failed is tried again

    async def _read_group(self, group: _Group, now: float) -> dict[ServiceKey, GatewayReading]:
        await self._look(group)
        looks = group.recent(time.monotonic())
        recent = {name: look for name, look in looks.items() if isinstance(look, Look)}
        pools = clusters_by_pool([state.plan for state in group.routes])
        found = {}
        for state in group.routes:
            told = {name: look.stats for name, look in recent.items() if tells_of(look.stats, state.plan)}
            if not told:
                continue
            shown = reading(state, told, group.counters, pools, now)
            if (both := arms(state.plan, told, group.arms)) is not None:
                shown = replace(shown, stable_arm=both[0], canary_arm=both[1])
            found[state.plan.key] = shown
        return found

    async def _look(self, group: _Group) -> None:
        """Read the statistics of all proxies of a group at once."""
        proxies = list(group.proxies.values())
        plans = [state.plan for state in group.routes if state.plan.canary is not None]
        shown = await self._poller.read(proxies)
        # Not at once: a proxy looks at all it counts each time, on the thread that takes routes in.
        by_arm = await self._poller.read(proxies, ARM_STATS_PATH) if plans else {}
        now = time.monotonic()
        wanted = [name for state in group.routes for name in wanted_counters(state.plan)]
        for name, stats in shown.items():
            if name not in group.proxies:
                continue
            before = group.looks.get(name)
            group.looks[name] = Look(now, stats, before.stats if before is not None else stats)
            group.counters.add(name, stats, wanted)
            group.proxies[name].heard(now)
        for proxy in proxies:
            if proxy.name not in shown:
                proxy.doubt(now)
        if not plans:
            group.arms.forget_all()
        tried = {each for plan in plans for each in names.arm_clusters(plan)}
        for name in by_arm.keys() & group.proxies.keys():
            group.arms.add(name, by_arm[name], tried)
