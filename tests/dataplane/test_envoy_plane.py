"""Groups and their proxies, with statistics that the test plays: nothing is asked of a real proxy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from structlog.testing import capture_logs

from fakes.envoy_gateway import plan
from penstock.dataplane.envoy.backend import RECENT_SECONDS, EnvoyDataPlane
from penstock.dataplane.envoy.bootstrap import POLLED_STATS_PATH
from penstock.dataplane.envoy.proxies import Proxy
from penstock.dataplane.envoy.server import Caller
from penstock.dataplane.envoy.snapshot import Renderer
from penstock.dataplane.envoy.stats import Stats
from penstock.model.spec import ServiceKey
from penstock.model.traffic import FleetLimit, RouteState

pytestmark = pytest.mark.timed

SHOWN = {"cluster.prod_chat.upstream_rq_active": 3}


class PlayedStats:
    """Statistics by proxy id; who is not in it is silent, and `failing` ones make the look fail."""

    def __init__(self, shown: Mapping[str, Stats], failing: str = "") -> None:
        self.shown, self.failing = dict(shown), failing

    async def read(self, proxies: Sequence[Proxy], path: str = POLLED_STATS_PATH) -> dict[str, Stats]:
        if any(proxy.name == self.failing for proxy in proxies):
            raise ValueError("invalid literal for int() with base 10: '²'")
        return {proxy.name: self.shown[proxy.name] for proxy in proxies if proxy.name in self.shown}


def a_plane(monkeypatch: pytest.MonkeyPatch, played: PlayedStats) -> EnvoyDataPlane:
    plane = EnvoyDataPlane(lambda _: None)
    monkeypatch.setattr(plane, "_poller", played)
    return plane


def asks(plane: EnvoyDataPlane, group: str, name: str, *, version: str = "") -> Proxy:
    """A proxy's question; without a version it is newborn."""
    proxy = plane.proxy(Caller(group, name, "127.0.0.1", "", 19_000, ""), version)
    assert proxy is not None
    return proxy


async def test_what_one_group_shows_does_not_keep_the_others_from_being_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plane = a_plane(monkeypatch, PlayedStats({"good-0": SHOWN}, failing="bad-0"))
    for group in ("bad", "good"):
        key = ServiceKey("prod", "chat") if group == "good" else ServiceKey("other", "chat")
        plane.publish(group, [RouteState(plan(key), ())])
        asks(plane, group, f"{group}-0")
    with capture_logs() as logs:
        found = await plane.read(7.0)
    assert {key: reading.in_flight for key, reading in found.items()} == {ServiceKey("prod", "chat"): 3.0}
    assert [(each["event"], each["group"]) for each in logs] == [
        ("gateways' statistics could not be taken in", "bad")
    ]


async def test_a_route_that_could_not_be_rendered_is_given_when_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plane = a_plane(monkeypatch, PlayedStats({}))
    plane.publish("prod", [])
    proxy = asks(plane, "prod", "gateway-0")
    routes = [RouteState(plan(limit=FleetLimit(8, 0)), ())]

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(Renderer, "render", fail)
        with pytest.raises(ZeroDivisionError):
            plane.publish("prod", routes)
    assert "prod_chat" not in proxy.behind()
    plane.publish("prod", routes)
    assert proxy.behind() >= {"prod_chat"}


async def test_a_newborn_proxy_that_stays_silent_gets_its_equal_part_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plane = a_plane(monkeypatch, PlayedStats({}))
    routes = [RouteState(plan(limit=FleetLimit(40, 0)), ())]
    plane.publish("prod", routes)
    born = [asks(plane, "prod", f"gateway-{index}") for index in range(2)]
    plane.publish("prod", routes)

    def shares() -> list[int]:
        given = plane._groups["prod"].given
        limits = [given[proxy.name][1][routes[0].plan.key].limit for proxy in born]
        return [limit.in_flight for limit in limits if limit is not None]

    assert shares() == [30, 30], "nobody is served by it yet"
    for proxy in born:
        proxy.seen_at -= RECENT_SECONDS + 0.1
    plane.publish("prod", routes)
    assert shares() == [20, 20]
    await plane.read(0.0)
    plane.publish("prod", routes)
    assert shares() == [20, 20]
