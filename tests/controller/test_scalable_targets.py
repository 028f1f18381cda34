"""Targets of any kind with /scale: read before each tick, scaled like a Deployment."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from fakes.world import World, chat
from penstock.controller import scalable_targets
from penstock.controller.cache import FleetCache
from penstock.controller.scalable_targets import ScalableTargets, workload_of_scale
from penstock.kube.api import Forbidden, Resource, Scale, Unavailable
from penstock.model.spec import TargetRef

GROUP, KIND = "leaderworkerset.x-k8s.io", "LeaderWorkerSet"


class OtherKind(World):
    """A world whose pods belong to a LeaderWorkerSet; `error` answers whoever reads its /scale."""

    error: Exception | None = None

    def restart_operator(self) -> None:
        super().restart_operator()
        others = ScalableTargets(self, self.cache)  # type: ignore[arg-type] - as much of the port as is used
        self.loop._parts = replace(self.loop._parts, other_targets=others)

    async def get_scale(self, resource: Resource, namespace: str, name: str) -> Scale:
        if self.error is not None:
            raise self.error
        return await super().get_scale(resource, namespace, name)


def other_kind() -> dict[str, Any]:
    spec = chat()
    spec["workload"]["targetRef"] = {"group": GROUP, "kind": KIND, "name": "chat"}
    return spec


async def test_another_kind_with_scale_follows_the_load_up_and_down() -> None:
    world = OtherKind(rate=lambda t: 30.0 if t >= 600 else 60.0, spec=other_kind(), target=2)
    await world.run(600)
    up = world.target
    assert up >= 4
    assert world.condition("Accepted")["message"] == "LeaderWorkerSet/chat found, the spec is valid"
    assert world.status["replicas"]["ready"] == up
    await world.run(1200)
    assert world.target < up


async def test_a_kind_that_may_not_be_read_is_a_condition_with_what_to_grant() -> None:
    world = OtherKind(rate=lambda _: 30.0, spec=other_kind(), target=2)
    world.error = Forbidden('cannot get resource "leaderworkersets/scale"', status=403)
    await world.run(60)
    accepted = world.condition("Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "TargetNotReadable")
    assert accepted["message"] == (
        'LeaderWorkerSet/chat cannot be read: cannot get resource "leaderworkersets/scale"; '
        "grant it with the chart's rbac.extraTargets"
    )
    world.error = None
    await world.run(60)
    assert world.condition("Accepted")["status"] == "True"


async def test_while_it_cannot_be_asked_for_its_last_numbers_hold() -> None:
    world = OtherKind(rate=lambda _: 30.0, spec=other_kind(), target=2)
    await world.run(300)
    world.error = Unavailable("the API server is away")
    await world.run(120)
    assert world.condition("Accepted")["status"] == "True"
    assert world.target == 2


async def test_who_follows_the_advice_and_names_a_deployment_is_scaled_again() -> None:
    world = OtherKind(rate=lambda _: 60.0, spec=other_kind(), target=2)
    world.error = Forbidden('cannot get resource "leaderworkersets/scale"', status=403)
    await world.run(60)
    world.spec = chat()
    world.spec_generation += 1
    world.error = None
    await world.run(300)
    assert world.condition("Accepted")["status"] == "True"
    assert world.target >= 4


async def test_an_answer_that_cannot_be_understood_is_a_condition_and_stops_nobody() -> None:
    world = OtherKind(rate=lambda _: 30.0, spec=other_kind(), target=2)
    world.error = KeyError("resourceVersion")
    await world.run(60)
    accepted = world.condition("Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "TargetNotReadable")
    assert accepted["message"] == (
        "the /scale of LeaderWorkerSet/chat cannot be understood: KeyError: 'resourceVersion'"
    )


async def test_all_that_hang_together_take_a_tick_no_longer_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scalable_targets, "PATIENCE_SECONDS", 0.05)
    cache, api = FleetCache(), HangingApi()
    for number in range(100):
        about = {"namespace": "prod", "name": f"chat-{number}", "uid": str(number), "generation": 1}
        cache.see_service({"metadata": about, "spec": other_kind()})
    looking = ScalableTargets(api, cache).look(list(cache.services.values()), {})  # type: ignore[arg-type]
    await asyncio.wait_for(looking, 1.0)
    assert cache.workloads == {}


class HangingApi:
    """An API server that answers nobody."""

    async def resource_of(self, *_: str) -> Resource:
        await asyncio.Event().wait()
        raise AssertionError


def test_a_kind_of_another_group_is_not_taken_for_the_one_of_the_same_name() -> None:
    cache = FleetCache()
    about = {"namespace": "prod", "name": "chat"}
    cache.see_workload("StatefulSet", {"metadata": about, "spec": {"replicas": 3}})
    assert cache.workload("prod", TargetRef("apps", "StatefulSet", "chat")) is not None
    assert cache.workload("prod", TargetRef("apps.kruise.io", "StatefulSet", "chat")) is None


@pytest.mark.parametrize(
    ("selector", "labels"),
    [
        ("app=chat,role==leader", {"app": "chat", "role": "leader"}),
        ("", {}),
        ("app!=chat", {}),
        ("app in (chat,chat2)", {}),
    ],
)
def test_labels_are_read_where_a_selector_is_a_list_of_them(selector: str, labels: dict[str, str]) -> None:
    workload = workload_of_scale(Scale(3, 2, selector, "7"), 1)
    assert (workload.selector, workload.label_selector) == (labels, selector)
