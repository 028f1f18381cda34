"""What proxies show, as one service's reading: sums that only rise, gauges by pod, and nothing made up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.envoy_gateway import CHAT, SMALL, TWO_CLASSES, plan, to_small
from penstock.dataplane.envoy import names
from penstock.dataplane.envoy.snapshot import clusters_by_pool
from penstock.dataplane.envoy.stats import Counters, parse_stats, reading, tells_of, wanted_counters
from penstock.model.traffic import ClassCount, Endpoint, RouteState

pytestmark = pytest.mark.timed

PODS = (Endpoint("chat-0", "10.0.0.1", 8000), Endpoint("chat-1", "fd00::1", 8000))


def test_lines_of_another_form_are_left_out() -> None:
    text = 'a.b: 3\nhistogram: P0(nan,1) P25(nan,2)\nc: -1\n\nno colon\nd: e: 7\ntext: "12"\n'
    assert parse_stats(text) == {"a.b": 3, "d: e": 7}


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("18446744073709551615", 2**64 - 1),
        ("0" * 20, 0),
        ("²", None),  # a digit that int refuses
        ("٣", None),
        ("9" * 21, None),
        ("9" * 400, None),  # no float holds it
        ("9" * 5_000, None),  # int refuses so many digits
        ("", None),
    ],
)
def test_no_value_that_a_proxy_shows_raises(value: str, taken: int | None) -> None:
    assert parse_stats(f"x: {value}\ny: 1\n") == ({"x": taken} if taken is not None else {}) | {"y": 1}


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 50), st.booleans()), max_size=40))
def test_sums_never_fall_and_lose_nothing_that_was_seen(steps: list[tuple[str, int, bool]]) -> None:
    """Each proxy counts on, or begins anew at its restart."""
    counters, shown, expected, before = Counters(), {"a": 0, "b": 0}, 0, 0.0
    for name in shown:
        counters.born(name)
    for proxy, more, restarts in steps:
        # A restart is seen when the count is below the one before.
        fresh = restarts and more < shown[proxy]
        shown[proxy] = more if fresh else shown[proxy] + more
        expected += more
        counters.add(proxy, {"requests": shown[proxy]}, ["requests"])
        assert counters.of("requests") >= before
        before = counters.of("requests")
    assert before == expected


def test_what_an_old_proxy_counted_before_we_knew_it_is_not_counted() -> None:
    counters = Counters()
    counters.add("old", {"requests": 1000, "sheds": 10}, ["requests", "sheds"])
    assert (counters.of("requests"), counters.of("sheds")) == (0, 0)
    counters.add("old", {"requests": 1003, "sheds": 10}, ["requests", "sheds"])
    assert (counters.of("requests"), counters.of("sheds")) == (3, 0)
    counters.born("new")
    counters.add("new", {"requests": 4}, ["requests"])
    assert counters.of("requests") == 7


def test_a_proxy_that_has_the_service_not_yet_tells_nothing_of_it() -> None:
    assert not tells_of({"runtime.load_error": 0}, plan())
    assert tells_of({"cluster.prod_chat.upstream_rq_active": 0}, plan())


def test_a_reading_sums_over_proxies_and_maps_endpoints_to_pods() -> None:
    served = plan(classes=TWO_CLASSES, class_header="x-class", fallback=to_small(in_flight_limit=5))
    one = {
        "cluster.prod_chat.upstream_rq_active": 3,
        "cluster.prod_chat.upstream_rq_pending_active": 2,
        "cluster.prod_chat.endpoint.10.0.0.1_8000.rq_active": 1,
        "cluster.prod_chat.endpoint.[fd00__1]_8000.rq_active": 2,
        f"cluster.{names.spill_cluster(CHAT, 'batch')}.upstream_rq_active": 1,
        names.shed_stat(CHAT, "batch"): 4,
        names.spilled_stat(CHAT, "batch"): 6,
        names.offered_stat(served, "batch"): 20,
        names.offered_stat(served, "interactive"): 8,
        "http.prod_chat.downstream_rq_5xx": 2,
    }
    counters = Counters()
    for proxy in ("p0", "p1"):
        counters.born(proxy)
        counters.add(proxy, one, wanted_counters(served))
    state = RouteState(served, PODS)
    found = reading(state, {"p0": one, "p1": one}, counters, clusters_by_pool([served]), 7.0)
    assert (found.at, found.proxies) == (7.0, 2)
    assert (found.in_flight, found.waiting, found.spilled_in_flight) == (10, 4, 2)
    assert found.by_pod == {"chat-0": 2, "chat-1": 4}
    assert found.server_errors == 4
    assert found.classes == {
        "interactive": ClassCount(16, 0, 0),
        "batch": ClassCount(40, 8, 12),
    }


@pytest.mark.parametrize("present", [True, False])
def test_a_pools_load_counts_what_other_services_send_there(present: bool) -> None:
    small = plan(SMALL)
    served = plan(fallback=to_small(in_flight_limit=5, service=SMALL))
    spill = names.spill_cluster(CHAT, names.UNCLASSED)
    shown = {"cluster.prod_chat-small.upstream_rq_active": 1, f"cluster.{spill}.upstream_rq_active": 2}
    plans = [small, served] if present else [small]
    found = reading(RouteState(small, ()), {"p": shown}, Counters(), clusters_by_pool(plans), 0.0)
    assert found.in_flight == (3 if present else 1)
