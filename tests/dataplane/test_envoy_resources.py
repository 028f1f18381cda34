"""What is built for Envoy: golden files, validated by the real binary; and what must not depend on what."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from fakes.envoy_gateway import CHAT, SMALL, TWO_CLASSES, UNLIMITED, backend, share, to_canary, to_small
from fakes.envoy_static import static_configuration
from fakes.golden import assert_golden
from penstock.dataplane.envoy import names
from penstock.dataplane.envoy.binary import find_envoy
from penstock.dataplane.envoy.bootstrap import bootstrap
from penstock.dataplane.envoy.routes import class_limits
from penstock.dataplane.envoy.snapshot import ProxyShare, Renderer, Snapshot, render
from penstock.model.spec import ServiceKey
from penstock.model.traffic import ClassShare, Endpoint, FleetLimit, RoutePlan, RouteState

GOLDEN = Path(__file__).parent / "golden"
PODS = (
    Endpoint("chat-0", "10.0.0.1", 8000),
    Endpoint("chat-1", "10.0.0.2", 8000, draining=True),
    Endpoint("chat-2", "10.0.0.3", 8000, ready=False),
)
SMALL_PODS = (Endpoint("small-0", "10.0.1.1", 8000),)
PLAIN = RoutePlan(CHAT, "uid-1", backend("chat"), 10000)
FULL = replace(
    PLAIN,
    class_header="x-request-class",
    default_class="batch",
    classes=TWO_CLASSES,
    fallback=to_small(planned_ratio=0.125, service=SMALL, classes=("batch",)),
    retry_after_seconds=4,
    balanced_fully=False,
)
FALLBACK = RoutePlan(SMALL, "uid-2", backend("chat-small"), 10001)

CANARY_PODS = (Endpoint("canary-0", "10.0.2.1", 8000),)
TRIED = replace(FULL, canary=to_canary(20, sticky_header="x-session", in_flight_limit=6))

SCENARIOS: dict[str, tuple[list[RouteState], dict[ServiceKey, ProxyShare]]] = {
    "unlimited": ([RouteState(PLAIN, PODS)], {CHAT: UNLIMITED}),
    "limited": ([RouteState(PLAIN, PODS)], {CHAT: share(24, 9)}),
    "classes_and_fallback": (
        [RouteState(FULL, PODS, SMALL_PODS), RouteState(FALLBACK, SMALL_PODS)],
        {CHAT: share(24, 9, fallback=6, pool=40), SMALL: share(30, 10)},
    ),
    "no_endpoints": ([RouteState(FULL, PODS[1:], ())], {CHAT: share(24, 9, fallback=6)}),
    "canary": (
        [RouteState(TRIED, PODS, SMALL_PODS, CANARY_PODS)],
        {CHAT: replace(share(24, 9, fallback=6), canary_in_flight=6)},
    ),
    "canary_drains": (
        [RouteState(replace(PLAIN, canary=to_canary(0)), PODS, (), CANARY_PODS)],
        {CHAT: share(24, 9)},
    ),
    "tls": ([RouteState(replace(PLAIN, tls_secret="chat-tls"), PODS)], {CHAT: share(24, 9)}),
}


def _rendered(scenario: str, **where: str) -> Snapshot:
    return render(*SCENARIOS[scenario], **where)  # type: ignore[arg-type]


def _validate(configuration: object, directory: Path) -> None:
    path = directory / "envoy.json"
    path.write_bytes(orjson.dumps(configuration))
    command = (str(find_envoy()), "--mode", "validate", "-c", str(path), "--log-level", "warning")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "deprecated" not in ended.stderr.lower()


PLACES: Any = {
    "group": "prod",
    "token": "t",
    "xds_host": "penstock-xds",
    "xds_port": 18000,
    "agent_port": 18001,
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_resources_are_the_golden_ones(scenario: str) -> None:
    assert_golden(GOLDEN / f"{scenario}.json", _rendered(scenario).resources)


def test_the_bootstrap_is_the_golden_one() -> None:
    made = bootstrap(**PLACES, memory_limit_bytes=512 * 2**20)
    assert_golden(GOLDEN / "bootstrap.json", made)


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "tls"])
def test_envoy_accepts_the_resources(scenario: str, tmp_path: Path) -> None:
    _validate(static_configuration(_rendered(scenario)), tmp_path)


@pytest.mark.parametrize("memory_limit_bytes", [None, 512 * 2**20], ids=["no memory limit", "512 MiB"])
def test_envoy_accepts_the_bootstrap(tmp_path: Path, memory_limit_bytes: int | None) -> None:
    made = bootstrap(**PLACES, node_id="gateway-0", memory_limit_bytes=memory_limit_bytes)
    _validate(made, tmp_path)


@pytest.mark.parametrize(
    "moved",
    [
        {"limit": FleetLimit(1, 1)},
        {"per_replica": FleetLimit(9, 9)},
        {"retry_after_seconds": 99},
        {"fallback": replace(FULL.fallback, planned_ratio=0.9, in_flight_limit=77)},  # type: ignore[type-var]
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_no_number_that_moves_is_in_a_cluster_or_a_listener(moved: dict[str, object]) -> None:
    changed = replace(FULL, **moved)  # type: ignore[arg-type]
    before = render([RouteState(FULL, PODS, SMALL_PODS)], {CHAT: share(24, 9, fallback=6)}).resources
    after = render([RouteState(changed, PODS, SMALL_PODS)], {CHAT: share(7, 3, fallback=1)}).resources
    assert (before[names.CDS], before[names.LDS]) == (after[names.CDS], after[names.LDS])
    assert before[names.RDS] != after[names.RDS]


@pytest.mark.parametrize(
    "moved", [{"weight_percent": 50}, {"in_flight_limit": 1}, {"sticky_header": "x-user"}]
)
def test_a_canarys_numbers_are_in_no_cluster(moved: dict[str, object]) -> None:
    changed = replace(TRIED, canary=replace(TRIED.canary, **moved))  # type: ignore[type-var]
    shares = {CHAT: share(24, 9, fallback=6)}
    before = render([RouteState(TRIED, PODS, SMALL_PODS, CANARY_PODS)], shares).resources
    after = render([RouteState(changed, PODS, SMALL_PODS, CANARY_PODS)], shares).resources
    assert [kind for kind in names.ORDER if before[kind] != after[kind]] in ([], [names.RDS])
    assert before[names.CDS] == after[names.CDS]


@pytest.mark.parametrize(
    ("weight", "pods"),
    [(0, CANARY_PODS), (20, ()), (20, (replace(CANARY_PODS[0], ready=False),))],
    ids=["no weight", "no pods", "no pod ready"],
)
def test_a_canary_that_may_get_nothing_leaves_the_route_as_it_is_without_one(
    weight: int, pods: tuple[Endpoint, ...]
) -> None:
    shares = {CHAT: share(24, 9)}
    without = render([RouteState(PLAIN, PODS)], shares).resources
    tried = render([RouteState(replace(PLAIN, canary=to_canary(weight)), PODS, (), pods)], shares).resources
    assert tried[names.RDS] == without[names.RDS]
    assert tried[names.CDS].keys() - without[names.CDS].keys() == {"prod_chat_canary", "prod_chat_canary_any"}


def test_endpoints_move_neither_clusters_nor_routes_while_one_serves() -> None:
    shares = {CHAT: share(24, 9)}
    before = render([RouteState(PLAIN, PODS)], shares).resources
    after = render([RouteState(PLAIN, PODS[:2])], shares).resources
    assert [kind for kind in names.ORDER if before[kind] != after[kind]] == [names.EDS]


def test_what_did_not_change_is_the_same_object() -> None:
    states, shares = SCENARIOS["classes_and_fallback"]
    renderer = Renderer()
    before = renderer.render(states, shares).resources
    after = renderer.render(states, shares | {CHAT: share(23, 9, fallback=6, pool=40)}).resources
    assert after[names.RDS]["prod_chat-small"] is before[names.RDS]["prod_chat-small"]
    assert all(after[names.CDS][name] is cluster for name, cluster in before[names.CDS].items())


def test_a_service_without_a_share_is_an_error_not_an_open_gate() -> None:
    with pytest.raises(KeyError, match="chat"):
        render([RouteState(PLAIN, PODS)], {})


@pytest.mark.parametrize(
    ("ratio", "in_flight", "most"),
    [(1.0, 10, 10), (0.7, 10, 7), (0.29, 100, 29), (0.7, 1, 1), (0.01, 50, 1), (0.5, 0, 0)],
)
def test_a_class_gets_its_part_of_the_limit_and_never_none_of_some(
    ratio: float, in_flight: int, most: int
) -> None:
    plan = replace(PLAIN, classes=(ClassShare("batch", 0, ratio),))
    assert class_limits(plan, FleetLimit(in_flight, 0)) == {"batch": most}


def test_names_of_two_services_cannot_meet() -> None:
    assert names.service_of("a_b-spill_canary_any") == ServiceKey("a", "b-spill")
    assert names.service_of("penstock") is None
    one = names.spill_cluster(ServiceKey("a", "b"), "c")
    other = names.cluster_name(ServiceKey("a", "b-spill-c"))
    assert (one, other) == ("a_b_spill_c", "a_b-spill-c")
