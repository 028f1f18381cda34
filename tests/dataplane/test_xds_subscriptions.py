"""What a question tells: taken, lost, refused, restarted; and what may be sent in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dataplane.envoy.names import CDS, EDS, LDS, RDS, RTDS, runtime_layer
from penstock.dataplane.envoy.proxies import ORDER_SECONDS, RUNTIME_FIRST_SECONDS, Proxy
from penstock.dataplane.envoy.runtime import pool_keys, runtime
from penstock.dataplane.envoy.snapshot import Snapshot
from penstock.dataplane.envoy.subscriptions import LONGEST_PAUSE_SECONDS
from penstock.dataplane.envoy.versions import STAY_SECONDS

pytestmark = pytest.mark.timed

CLUSTERS, LISTENERS = (CDS, ""), (LDS, "")


def snapshot(**changes: int) -> Snapshot:
    """One service; a change of a type's number is another content."""
    number = {"clusters": 0, "endpoints": 0, "listeners": 0, "routes": 0} | changes
    cluster = {
        "@type": CDS,
        "name": "prod_chat",
        "number": number["clusters"],
        "eds_cluster_config": {"service_name": "chat"},
    }
    return Snapshot(
        {
            CDS: {"prod_chat": cluster},
            EDS: {"chat": {"@type": EDS, "number": number["endpoints"]}},
            LDS: {"prod_chat": {"@type": LDS, "number": number["listeners"]}},
            RDS: {"prod_chat": {"@type": RDS, "number": number["routes"]}},
            RTDS: {},
        }
    )


class Envoy:
    """Asks as Envoy does: with the version it took last."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.has: dict[tuple[str, str], str] = {}

    def ask(self, key: tuple[str, str], now: float, *, refuse: bool = False, lose: bool = False) -> bool:
        """Return whether there was an answer."""
        version = self.has.get(key, "")
        self.proxy.asked(key, version, now)
        answer = self.proxy.answer(key, version, now)
        if answer is None:
            return False
        if not refuse and not lose:
            self.has[key] = answer.version
        return True

    def take_all(self, now: float) -> None:
        for key in (CLUSTERS, (EDS, "chat"), LISTENERS, (RDS, "prod_chat")):
            while self.ask(key, now):
                pass


@pytest.fixture
def proxy() -> Proxy:
    found = Proxy("gateway-0", "prod", "127.0.0.1", 0)
    found.give(snapshot(), 0.0)
    return found


@pytest.fixture
def envoy(proxy: Proxy) -> Envoy:
    found = Envoy(proxy)
    found.take_all(1.0)
    return found


def test_the_echo_acknowledges(proxy: Proxy, envoy: Envoy) -> None:
    assert proxy.is_current
    proxy.give(snapshot(routes=1), 2.0)
    assert not proxy.is_current
    assert envoy.ask((RDS, "prod_chat"), 2.0)
    assert not proxy.is_current, "sent is not taken"
    assert not envoy.ask((RDS, "prod_chat"), 2.0)
    assert proxy.is_current


def test_a_cluster_asked_for_by_its_name_is_held_and_keeps_nobody_behind(proxy: Proxy, envoy: Envoy) -> None:
    assert not envoy.ask((CDS, "prod_chat"), 2.0)
    assert proxy.is_current
    proxy.give(snapshot(clusters=1), 3.0)
    envoy.take_all(3.0)
    assert proxy.is_current


def test_a_lost_answer_is_sent_again(proxy: Proxy, envoy: Envoy) -> None:
    proxy.give(snapshot(routes=1), 2.0)
    assert envoy.ask((RDS, "prod_chat"), 2.0, lose=True)
    assert envoy.ask((RDS, "prod_chat"), 2.1)
    assert not envoy.ask((RDS, "prod_chat"), 2.2)
    assert proxy.is_current
    assert proxy.refused() == []


def test_what_is_refused_is_sent_twice_then_seldom(proxy: Proxy, envoy: Envoy) -> None:
    proxy.give(snapshot(routes=1), 2.0)
    sent = sum(envoy.ask((RDS, "prod_chat"), 2.0 + 0.02 * number, refuse=True) for number in range(100))
    assert sent == 2
    assert proxy.refused() == [(RDS, "prod_chat")]
    assert envoy.ask((RDS, "prod_chat"), 10.0, refuse=True), "it may have been a passing cause"
    sent = sum(envoy.ask((RDS, "prod_chat"), 10.0 + number, refuse=True) for number in range(600))
    assert sent <= 600 / LONGEST_PAUSE_SECONDS + 4


def test_newer_content_is_sent_at_once_and_the_refusal_stays_told_until_it_is_taken(
    proxy: Proxy, envoy: Envoy
) -> None:
    proxy.give(snapshot(routes=1), 2.0)
    for _ in range(4):
        envoy.ask((RDS, "prod_chat"), 2.0, refuse=True)
    proxy.give(snapshot(routes=1, endpoints=1), 3.0)
    assert proxy.refused() == [(RDS, "prod_chat")]
    proxy.give(snapshot(routes=2), 4.0)
    assert proxy.refused() == [], "what was refused is not asked of it any more"
    assert envoy.ask((RDS, "prod_chat"), 4.0)
    envoy.ask((RDS, "prod_chat"), 4.1)
    envoy.take_all(4.2)
    assert proxy.is_current


def test_of_clusters_sent_together_only_those_that_changed_are_suspected(proxy: Proxy, envoy: Envoy) -> None:
    resources = {kind: dict(found) for kind, found in snapshot().resources.items()}
    resources[CDS]["prod_bad"] = {"@type": CDS, "name": "prod_bad"}
    proxy.give(Snapshot(resources), 2.0)
    for _ in range(4):
        envoy.ask(CLUSTERS, 2.0, refuse=True)
    assert proxy.refused() == [(CDS, "prod_bad")]
    # Another service comes: the refusal of the whole is explained by the one that was refused before.
    more = {kind: dict(found) for kind, found in resources.items()}
    more[CDS]["prod_new"] = {"@type": CDS, "name": "prod_new"}
    proxy.give(Snapshot(more), 3.0)
    for _ in range(4):
        envoy.ask(CLUSTERS, 3.0, refuse=True)
    assert proxy.refused() == [(CDS, "prod_bad")]


def test_several_askers_with_one_name_refuse_nothing(proxy: Proxy) -> None:
    resources = {kind: dict(found) for kind, found in snapshot().resources.items()}
    for number in range(4):
        resources[CDS][f"prod_{number}"] = {"eds_cluster_config": {"service_name": "chat"}}
    proxy.give(Snapshot(resources), 1.0)
    for _ in range(5):  # each cluster asks for the first time
        proxy.asked((EDS, "chat"), "", 1.0)
        assert proxy.answer((EDS, "chat"), "", 1.0) is not None
    assert proxy.refused() == []


def test_a_restarted_envoy_gets_everything_at_once(proxy: Proxy, envoy: Envoy) -> None:
    for life in range(5):
        again = Envoy(proxy)
        again.take_all(2.0 + life / 10)
        assert len(again.has) == 4
        assert proxy.is_current
    assert proxy.refused() == []


def test_a_restarted_operator_sends_nothing_that_is_there_already(envoy: Envoy) -> None:
    reborn = Proxy("gateway-0", "prod", "127.0.0.1", 0)
    reborn.give(snapshot(), 5.0)
    envoy.proxy = reborn
    assert not any(envoy.ask(key, 5.0) for key in list(envoy.has))
    assert reborn.is_current


def test_routes_wait_for_their_clusters_and_endpoints(proxy: Proxy, envoy: Envoy) -> None:
    resources = {kind: dict(found) for kind, found in snapshot(routes=1).resources.items()}
    resources[CDS]["prod_chat_rescue"] = {"eds_cluster_config": {"service_name": "small"}}
    resources[EDS]["small"] = {"@type": EDS}
    proxy.give(Snapshot(resources), 2.0)
    route = (RDS, "prod_chat")
    assert not envoy.ask(route, 2.0)
    assert envoy.ask(CLUSTERS, 2.0)
    assert not envoy.ask(CLUSTERS, 2.01)
    assert not envoy.ask(route, 2.02)
    assert envoy.ask((EDS, "small"), 2.03)
    assert not envoy.ask((EDS, "small"), 2.04)
    assert envoy.ask(route, 2.05)


def test_routes_do_not_wait_for_ever(proxy: Proxy, envoy: Envoy) -> None:
    proxy.give(snapshot(clusters=1, routes=1), 2.0)
    assert not envoy.ask((RDS, "prod_chat"), 2.0)
    assert envoy.ask((RDS, "prod_chat"), 2.0 + ORDER_SECONDS)


LAYER = runtime_layer("prod_chat")


def limited(running: int, *, routes: int) -> Snapshot:
    """The service with so many connections to its pool."""
    layer = runtime(LAYER, [pool_keys("prod_chat", running=running, queued=1)])
    return Snapshot({**snapshot(routes=routes).resources, RTDS: {LAYER: layer}})


def test_a_route_that_lets_more_in_waits_until_the_connections_are_there(proxy: Proxy, envoy: Envoy) -> None:
    route, connections = (RDS, "prod_chat"), (RTDS, LAYER)
    proxy.give(limited(1, routes=1), 2.0)
    assert envoy.ask(route, 2.0), "less is let in: at once"
    assert envoy.ask(connections, 2.0)
    assert not envoy.ask(connections, 2.02)
    proxy.give(limited(2, routes=2), 3.0)
    assert not envoy.ask(route, 3.0)
    assert envoy.ask(connections, 3.0)
    assert not envoy.ask(route, 3.01), "sent, but not taken yet"
    assert not envoy.ask(connections, 3.02)
    assert envoy.ask(route, 3.02)


def test_a_route_does_not_wait_for_connections_of_services_in_another_layer(
    proxy: Proxy, envoy: Envoy
) -> None:
    other = next(name for name in (f"prod_{n}" for n in range(99)) if runtime_layer(name) != LAYER)
    proxy.give(limited(1, routes=1), 2.0)
    raised = limited(2, routes=2).resources
    routes = {**raised[RDS], other: raised[RDS]["prod_chat"]}
    proxy.give(Snapshot({**raised, RDS: routes}), 3.0)
    assert not envoy.ask((RDS, "prod_chat"), 3.0)
    assert envoy.ask((RDS, other), 3.0)


def test_a_route_waits_for_connections_whose_loss_is_on_its_way(proxy: Proxy, envoy: Envoy) -> None:
    route, connections = (RDS, "prod_chat"), (RTDS, LAYER)
    proxy.give(limited(2, routes=2), 2.0)
    envoy.take_all(2.0)
    assert envoy.ask(connections, 2.0)
    assert not envoy.ask(connections, 2.01)
    proxy.give(limited(1, routes=1), 3.0)
    assert envoy.ask(route, 3.0)
    assert envoy.ask(connections, 3.0), "sent; that it is taken is not said yet"
    proxy.give(limited(2, routes=2), 3.01)
    assert not envoy.ask(route, 3.01), "two are let in where one connection is made"
    assert not proxy.is_current
    assert envoy.ask(connections, 3.02), "the one connection is taken, two are sent"
    assert not envoy.ask(connections, 3.03), "two are taken"
    assert envoy.ask(route, 3.03)


def test_a_route_that_lets_less_in_waits_for_nothing_a_moment_after_a_raise(
    proxy: Proxy, envoy: Envoy
) -> None:
    proxy.give(limited(1, routes=1), 2.0)
    proxy.give(limited(2, routes=2), 3.0)
    assert proxy.runtime_goes_first(LAYER, 3.05)
    proxy.give(limited(1, routes=1), 3.1)
    assert not proxy.runtime_goes_first(LAYER, 3.1), (
        "one that is let in and finds no connection waits for ever"
    )
    assert envoy.ask((RDS, "prod_chat"), 3.1)


def test_a_route_does_not_wait_for_ever_for_connections(proxy: Proxy, envoy: Envoy) -> None:
    proxy.give(limited(1, routes=1), 2.0)
    proxy.give(limited(2, routes=2), 3.0)
    assert not envoy.ask((RDS, "prod_chat"), 3.0)
    assert envoy.ask((RDS, "prod_chat"), 3.0 + RUNTIME_FIRST_SECONDS)


def test_clusters_outlive_the_routes_that_named_them(proxy: Proxy, envoy: Envoy) -> None:
    bare = Snapshot({CDS: {}, EDS: {}, LDS: {}, RDS: {}, RTDS: {}})
    proxy.give(bare, 2.0)
    assert not envoy.ask(CLUSTERS, 2.0), "still there"
    assert envoy.ask(LISTENERS, 2.0)
    proxy.give(bare, 2.0 + STAY_SECONDS)
    assert envoy.ask(CLUSTERS, 2.0 + STAY_SECONDS)
    assert not proxy.catalogue.is_leaving


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=60))
def test_whatever_is_lost_or_refused_a_proxy_that_then_takes_all_is_current(
    steps: list[tuple[int, bool, bool]],
) -> None:
    proxy = Proxy("gateway-0", "prod", "127.0.0.1", 0)
    envoy, now = Envoy(proxy), 0.0
    for number, refuse, lose in steps:
        now += 0.5
        proxy.give(snapshot(routes=number, clusters=number % 2), now)
        for key in (CLUSTERS, (EDS, "chat"), LISTENERS, (RDS, "prod_chat")):
            envoy.ask(key, now, refuse=refuse, lose=lose)
    now += 2 * LONGEST_PAUSE_SECONDS
    proxy.give(snapshot(routes=9), now)
    envoy.take_all(now + ORDER_SECONDS)
    envoy.take_all(now + ORDER_SECONDS + LONGEST_PAUSE_SECONDS)  # twice lost is taken for refused
    assert proxy.is_current
    assert proxy.refused() == []
