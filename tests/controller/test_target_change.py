"""A service whose workload.targetRef is changed scales the new target as it would any that it takes over."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fakes.gateway_world import GatewayWorld, routed_chat
from fakes.world import World, chat
from penstock.controller.canary_state import CanaryState
from penstock.controller.service_state import ServiceState
from penstock.controller.workloads import read_workload
from penstock.kube.api import Conflict, Resource, Scale
from penstock.model.spec import ServiceKey, TargetRef


class TwoTargets(World):
    """A world with a second Deployment, ``chat-b``, of three replicas that nobody has written for long."""

    def __post_init__(self) -> None:
        self.other, self.other_version = 3, 50
        self.other_writes: list[int] = []
        super().__post_init__()

    def name_the_other(self) -> None:
        """Change workload.targetRef to it."""
        self.spec = copy.deepcopy(self.spec)
        self.spec["workload"]["targetRef"]["name"] = "chat-b"
        self.spec_generation += 1

    def _watch(self) -> None:
        super()._watch()
        about = {"namespace": "prod", "name": "chat-b", "uid": "d-2", "generation": 1}
        status = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), self.other)
        self.cache.see_workload(
            "Deployment",
            {
                "metadata": about | {"resourceVersion": str(self.other_version)},
                "spec": {"replicas": self.other, "selector": {"matchLabels": {"app": "chat-b"}}},
                "status": {"observedGeneration": 1} | status,
            },
        )

    async def get_scale(self, resource: Resource, namespace: str, name: str) -> Scale:
        if name != "chat-b":
            return await super().get_scale(resource, namespace, name)
        return Scale(self.other, self.other, "app=chat-b", str(self.other_version))

    async def patch_scale(
        self, resource: Resource, namespace: str, name: str, *, replicas: int, resource_version: str
    ) -> Scale:
        if name != "chat-b":
            return await super().patch_scale(
                resource, namespace, name, replicas=replicas, resource_version=resource_version
            )
        if resource_version != str(self.other_version):
            raise Conflict("the object has been modified", status=409)
        self.version += 1
        self.other, self.other_version = replicas, self.version
        self.other_writes.append(replicas)
        return await self.get_scale(resource, namespace, name)


async def test_a_target_named_within_a_tick_of_a_write_to_the_last_one_is_scaled() -> None:
    world = TwoTargets(rate=lambda t: 30.0 if t < 300 else 90.0, spec=chat(), target=2)
    while not (world.now - world.began > 300 and len(world.scale_writes) > 1):
        await world.run(15)
        assert world.now - world.began < 3000
    world.name_the_other()
    await world.run(30)
    assert world.other_writes, "and not when its version moves by another hand, days later"
    assert world.other > 3


async def test_the_count_of_a_new_target_is_no_foreign_hand_and_its_pods_have_not_just_started() -> None:
    world = TwoTargets(rate=lambda _: 15.0, spec=chat(), target=1)
    world.other = 9
    await world.run(600)
    (state,) = world.loop.states.values()
    measured = state.memory.lead.warm_seconds
    world.name_the_other()
    await world.run(60)
    assert (state.memory.replicas.in_force, state.memory.replicas.floor) == (9, 0)
    assert state.memory.lead.warm_seconds == measured
    assert world.status["decision"]["reason"] != "ForeignScaleUp"


async def test_a_drain_of_the_last_target_closes_and_lowers_nothing_of_the_new_one() -> None:
    spec = routed_chat(scaleDownWindow="2m")
    world = GatewayWorld(rate=lambda t: 45.0 if t < 60 else 5.0, spec=spec, target=3)
    world.streams = {"chat-0": 1.0, "chat-1": 1.0, "chat-2": 1.0}  # nobody goes yet
    state = None
    while state is None or not state.gateway.drain.victims:
        await world.seconds(15)
        (state,) = world.loop.states.values()
        assert world.now - world.began < 1800
    world.spec = copy.deepcopy(spec)
    world.spec["workload"]["targetRef"]["name"] = "chat-b"
    world.spec_generation += 1
    about = {"namespace": "prod", "name": "chat-b", "uid": "d-2", "resourceVersion": "50"}
    selects = {"matchLabels": {"app": "chat-b"}}
    world.cache.see_workload("Deployment", {"metadata": about, "spec": {"replicas": 3, "selector": selects}})
    world._watch()
    known = world.cache.services[ServiceKey("prod", "chat")].spec
    assert known is not None
    before = world.traffic._next_step(known, state, world.now, acknowledged=True)
    assert before is None, "by what was decided of the last one"
    await world.seconds(15)
    assert state.gateway.drain.victims == ()


@pytest.mark.parametrize("state", [ServiceState(uid="u"), CanaryState()], ids=["a target's", "a canary's"])
def test_what_was_written_counts_for_its_own_target_alone(state: Any) -> None:
    chat_next, other = TargetRef("apps", "Deployment", "chat-next"), TargetRef("apps", "Deployment", "other")
    about = {"metadata": {"resourceVersion": "7"}, "spec": {"replicas": 3}}
    state.written, state.written_to, state.written_version = 5, chat_next, "900"
    assert read_workload(about).pool_since(state, chat_next).target == 5, "the watch has not shown it yet"
    assert read_workload(about).pool_since(state, other).target == 3
    assert state.written is None
