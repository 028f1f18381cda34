"""Where the two arms are, while slices and Services come one after the other."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.canary import adopted, owned
from penstock.controller.arm_endpoints import ArmsSeen, arms_of, canary_backend, in_flight, stable_backend
from penstock.controller.endpoints import EndpointCache
from penstock.controller.gateway_state import GatewayState
from penstock.model.traffic import ArmCount, Backend, Endpoint, GatewayReading
from penstock.policy.gateway_load import GatewayMemory

FRONT = Backend("prod", "chat", 80, "chat", "http")
OLD, NEW = "cccccccccc", "bbbbbbbbbb"


def cache(**services: tuple[str, ...]) -> EndpointCache:
    """Return endpoints of Services, "_" in a name standing for "-"."""
    found = EndpointCache()
    for key, pods in services.items():
        name = key.replace("_", "-")
        port: dict[str, Any] = {"name": "http", "port": 80}
        found.see_service({"metadata": {"namespace": "prod", "name": name}, "spec": {"ports": [port]}})
        found.see(
            {
                "metadata": {
                    "namespace": "prod",
                    "name": f"{name}-x",
                    "labels": {"kubernetes.io/service-name": name},
                },
                "ports": [{"name": "http", "port": 8000}],
                "endpoints": [
                    {"addresses": ["10.0.0.1"], "conditions": {}, "targetRef": {"name": pod}} for pod in pods
                ],
            }
        )
    return found


def endpoints(*pods: str) -> list[Endpoint]:
    return [Endpoint(pod, "10.0.0.1", 8000) for pod in pods]


@pytest.mark.parametrize(
    ("there", "service"),
    [
        ({"chat": ("chat-1", "chat-2")}, "chat"),  # our Service does not exist yet
        ({"chat": ("chat-1", "chat-2"), "chat_stable": ()}, "chat"),
        ({"chat": ("chat-1", "chat-2"), "chat_stable": ("chat-1",)}, "chat"),  # or its slice is behind
        ({"chat": ("chat-1", "chat-2"), "chat_stable": ("chat-1", "chat-2")}, "chat-stable"),
        # A canary's pod behind the Service in front is no reason to go back there.
        ({"chat": ("chat-1", "chat-canary-1"), "chat_stable": ("chat-1",)}, "chat-stable"),
    ],
)
def test_our_service_of_the_stable_arm_is_used_once_it_has_all_pods(
    there: dict[str, tuple[str, ...]], service: str
) -> None:
    assert stable_backend(adopted(), FRONT, cache(**there)).service == service


def test_an_owned_service_leads_to_its_stable_arm_by_itself() -> None:
    assert stable_backend(owned(), FRONT, cache(chat=("a",), chat_stable=("a",))) == FRONT


def test_the_canarys_service_is_found_by_its_name() -> None:
    assert canary_backend(adopted(), FRONT, cache(chat=())) is None
    found = canary_backend(adopted(), FRONT, cache(chat=(), chat_canary=("x",)))
    assert found == Backend("prod", "chat-canary", 80, "chat", "http")


def test_pods_of_another_revision_count_for_nobody() -> None:
    arms = arms_of(owned(), endpoints(f"chat-{OLD}-1"), endpoints(f"chat-{OLD}-1"), NEW)
    assert arms == ArmsSeen(frozenset({f"chat-{OLD}-1"}), frozenset(), mixed=True)
    arms = arms_of(owned(), endpoints(f"chat-{OLD}-1"), endpoints(f"chat-{NEW}-1"), NEW)
    assert arms == ArmsSeen(frozenset({f"chat-{OLD}-1"}), frozenset({f"chat-{NEW}-1"}))


def test_requests_in_flight_are_unknown_while_a_gateway_is_silent() -> None:
    def of(at: float, proxies: int) -> GatewayState:
        arms = {"stable_arm": ArmCount(in_flight=3.0), "canary_arm": ArmCount(in_flight=1.0)}
        reading = GatewayReading(at=at, proxies=proxies, **arms)
        return GatewayState(memory=GatewayMemory((reading,)), proxies=2)

    assert in_flight(of(100.0, 2), 101.0) == (3.0, 1.0)
    assert in_flight(of(100.0, 1), 101.0) == (None, None)
    assert in_flight(of(80.0, 2), 101.0) == (None, None)
    assert in_flight(GatewayState(), 101.0) == (None, None)
