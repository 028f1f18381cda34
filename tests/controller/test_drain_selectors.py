"""A scale-down behind gateways closes pods of its own target and no others, however that selects them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from fakes.gateway_world import GatewayWorld, routed_chat
from penstock.controller.scalable_targets import ScalableTargets
from penstock.kube.api import Resource, Scale

FOREIGN = {
    "metadata": {"name": "a-database"},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}
EXPRESSIONS = [
    {"key": "app", "operator": "In", "values": ["chat", "chat-large"]},
    {"key": "canary", "operator": "DoesNotExist"},
]


class SharedNamespace(GatewayWorld):
    """A world with an idle pod of somebody else's, listed by whoever asks for less than `selector`."""

    def __init__(self, labels: dict[str, Any], selector: str) -> None:
        self.labels, self.selector = labels, selector
        rate = {"rate": lambda t: 45.0 if t < 60 else 5.0, "spec": routed_chat(scaleDownWindow="2m")}
        super().__init__(**rate, target=3)

    async def scale_down(self) -> None:
        """Let the load fall, and wait for a lower target."""
        await self.seconds(60)
        for _ in range(40):
            await self.seconds(15)
            if self.target < 3:
                return

    def _deployment(self) -> dict[str, Any]:
        body = super()._deployment()
        body["spec"]["selector"] = self.labels
        return body

    async def get_scale(self, *where: Any) -> Scale:
        return replace(await super().get_scale(*where), selector=self.selector)

    async def list(self, resource: Resource, *where: str, label_selector: str = "") -> list[dict[str, Any]]:
        own = await super().list(resource, *where, label_selector=label_selector)
        return own if label_selector and label_selector == self.selector else [FOREIGN, *own]

    def _is_ready(self, name: str) -> bool:
        return name == "a-database" or super()._is_ready(name)


class WithoutSelector(SharedNamespace):
    """The target is of a kind whose /scale names no selector."""

    def __init__(self) -> None:
        super().__init__({}, "")
        target = {"group": "example.com", "kind": "EngineSet", "name": "chat"}
        self.spec["workload"]["targetRef"] = target

    def restart_operator(self) -> None:
        super().restart_operator()
        others = ScalableTargets(self, self.cache)  # type: ignore[arg-type] - as much of the port as is used
        self.loop._parts = replace(self.loop._parts, other_targets=others)


@pytest.mark.parametrize(
    ("labels", "selector"),
    [
        ({"matchExpressions": EXPRESSIONS}, "app in (chat,chat-large),!canary"),
        (
            {"matchLabels": {"team": "a"}, "matchExpressions": EXPRESSIONS},
            "team=a,app in (chat,chat-large),!canary",
        ),
    ],
)
async def test_pods_of_others_are_no_victims_of_a_target_that_selects_by_expressions(
    labels: dict[str, Any], selector: str
) -> None:
    world = SharedNamespace(labels, selector)
    await world.scale_down()
    assert world.target < 3
    victims = {name for name, cost in world.costs.items() if cost}
    assert victims
    assert victims == {pod.name for pod in world.gone}


async def test_a_target_without_a_selector_is_scaled_down_and_no_pod_is_closed() -> None:
    world = WithoutSelector()
    with capture_logs() as logs:
        await world.scale_down()
    assert world.target < 3
    assert world.costs == {}
    (state,) = world.loop.states.values()
    assert not state.gateway.closed(world.now)
    said = next(each for each in logs if each["event"] == "scaled down without a drain")
    assert (said["log_level"], said["service"], said["reason"]) == ("warning", "prod/chat", "NoSelector")
    assert said["cause"] == "the /scale of the target names no selector: its pods cannot be told from others"


async def test_a_selector_that_goes_in_the_middle_of_a_drain_opens_the_victims() -> None:
    world = SharedNamespace({"matchLabels": {"app": "chat"}}, "app=chat")
    world.streams = {pod.name: 3.0 for pod in world.pods}
    await world.seconds(60)
    (state,) = world.loop.states.values()
    for _ in range(40):
        await world.seconds(15)
        if state.gateway.drain.victims:
            break
    assert state.gateway.drain.victims
    world.labels, world.selector = {}, ""
    await world.seconds(2)
    assert not state.gateway.drain.victims
    assert "a-database" not in world.costs


async def test_unready_pods_are_looked_for_by_expressions_too() -> None:
    world = SharedNamespace({"matchExpressions": EXPRESSIONS}, "app in (chat,chat-large),!canary")
    await world.seconds(30)
    world.pods[0].ready_at = None
    await world.seconds(60)
    (state,) = world.loop.states.values()
    assert state.stuck.unschedulable == 1
