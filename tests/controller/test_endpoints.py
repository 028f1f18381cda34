"""Endpoints of a Service by its slices, as the operator and a gateway's agent see them alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import pytest

from penstock.controller.endpoints import EndpointCache
from penstock.controller.gateway_agent import endpoints_of
from penstock.model.traffic import Backend

CHAT = Backend("prod", "chat", 80, "chat", "http")
Seen = Callable[[Sequence[dict[str, Any]]], EndpointCache]


def slice_of(family: str, *pods: tuple[str, str], ready: bool = True) -> dict[str, Any]:
    """An EndpointSlice of (pod, address) pairs."""
    return {
        "addressType": family,
        "metadata": {
            "namespace": "prod",
            "name": f"chat-{family.lower()}-{len(pods)}",
            "labels": {"kubernetes.io/service-name": "chat"},
        },
        "ports": [{"name": "http", "port": 8000}],
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": ready}, "targetRef": {"name": pod}}
            for pod, address in pods
        ],
    }


V4 = slice_of("IPv4", ("chat-0", "10.0.0.1"), ("chat-1", "10.0.0.2"))
V6 = slice_of("IPv6", ("chat-0", "fd00::1"), ("chat-1", "fd00::2"))
NAMES = slice_of("FQDN", ("chat-0", "chat-0.example.com"), ("chat-1", "chat-1.example.com"))


def by_the_operator(slices: Sequence[dict[str, Any]]) -> EndpointCache:
    found = EndpointCache()
    port = {"name": "http", "port": 80}
    found.see_service({"metadata": {"namespace": "prod", "name": "chat"}, "spec": {"ports": [port]}})
    for body in slices:
        found.see(body)
    return found


def by_an_agent(slices: Sequence[dict[str, Any]]) -> EndpointCache:
    return endpoints_of(slices, [CHAT])


@pytest.mark.parametrize("seen", [by_the_operator, by_an_agent])
@pytest.mark.parametrize(
    ("slices", "addresses"),
    [
        ([V4], ["10.0.0.1", "10.0.0.2"]),
        ([V6], ["fd00::1", "fd00::2"]),
        ([V4, V6], ["10.0.0.1", "10.0.0.2"]),
        ([V4, V6, NAMES], ["10.0.0.1", "10.0.0.2"]),
        ([NAMES], []),
        # Never of both: an address that changed with the slice that came last would be another endpoint.
        ([V6, slice_of("IPv4", ("chat-0", "10.0.0.1"))], ["10.0.0.1"]),
        # Such a Service in front of pods that have no IPv4.
        ([slice_of("IPv4"), V6], ["fd00::1", "fd00::2"]),
    ],
)
def test_a_pod_is_reached_by_ipv4_where_the_service_has_it_in_whatever_order_slices_come(
    seen: Seen, slices: list[dict[str, Any]], addresses: list[str]
) -> None:
    for ordered in permutations(slices):
        assert [each.address for each in seen(ordered).of("prod", "chat", 80)] == addresses


def test_a_pod_is_ready_as_its_own_family_says() -> None:
    for ordered in permutations([slice_of("IPv4", ("chat-0", "10.0.0.1"), ready=False), V6]):
        [endpoint] = by_the_operator(ordered).of("prod", "chat", 80)
        assert not endpoint.serving


def test_a_service_that_loses_its_ipv4_is_reached_by_ipv6() -> None:
    cache = by_the_operator([V4, V6])
    cache.forget("prod", V4["metadata"]["name"])
    cache.forget("prod", NAMES["metadata"]["name"])
    assert [each.address for each in cache.of("prod", "chat", 80)] == ["fd00::1", "fd00::2"]
