"""Without serviceRef the Service is the one that selects the pods; none or several: nothing is written."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.world import World, chat

CHAT, SEARCH = {"app": "chat"}, {"app": "search"}
AROUND = "the pods of Deployment/chat"
SEVERAL = (
    "False",
    "AmbiguousService",
    f"several Services select {AROUND} (chat, chat-metrics): name one in workload.serviceRef",
)
NONE = (
    "False",
    "AmbiguousService",
    f"no Service selects {AROUND}: create one, or name it in workload.serviceRef",
)
GONE = (
    "False",
    "TargetNotFound",
    "Deployment/chat does not exist in namespace prod: create it or correct workload.targetRef",
)
ACCEPTED = ("True", "Accepted", "Deployment/chat found, the spec is valid")


def without_reference(**replicas: Any) -> dict[str, Any]:
    spec = chat(**replicas)
    workload = {name: value for name, value in spec["workload"].items() if name != "serviceRef"}
    return spec | {"workload": workload}


class Fronted(World):
    """A world whose Services select pods by their labels; `selectors` are those that exist."""

    def __post_init__(self) -> None:
        self.selectors: dict[str, dict[str, str]] = {}
        self.target_exists = True
        super().__post_init__()

    def _watch(self) -> None:
        super()._watch()
        if not self.target_exists:
            self.cache.forget_workload("Deployment", "prod", "chat")
        for name in ("chat", "chat-1", "chat-2", "chat-metrics", "search"):
            if name in self.selectors:
                metadata = {"namespace": "prod", "name": name}
                self.cache.see_cluster_service(
                    {"metadata": metadata, "spec": {"selector": self.selectors[name]}}
                )
            else:
                self.cache.forget_cluster_service("prod", name)

    def _deployment(self) -> dict[str, Any]:
        body = super()._deployment()
        body["spec"]["template"] = {"metadata": {"labels": {"app": "chat", "pod-template-hash": "1"}}}
        return body

    @property
    def accepted(self) -> tuple[str, str, str]:
        found = self.condition("Accepted")
        return found["status"], found["reason"], found["message"]


def fronted(*, target: int = 2, **replicas: Any) -> Fronted:
    world = Fronted(rate=lambda _: 30.0, spec=without_reference(**replicas), target=target)
    world.selectors = {"chat": CHAT, "search": SEARCH}
    return world


async def test_the_one_service_that_selects_the_pods_needs_no_name() -> None:
    world = fronted(min=3, max=12)
    await world.run(60)
    assert world.accepted == ACCEPTED
    assert world.condition("MetricsAvailable")["status"] == "True"
    assert world.target == 3


@pytest.mark.parametrize(
    ("selectors", "accepted"),
    [({"chat": CHAT, "chat-metrics": CHAT, "search": SEARCH}, SEVERAL), ({"search": SEARCH}, NONE)],
    ids=["several", "none"],
)
async def test_where_it_cannot_be_told_nothing_is_written_until_it_can(
    selectors: dict[str, dict[str, str]], accepted: tuple[str, str, str]
) -> None:
    world = fronted(min=3, max=12)
    world.selectors = selectors
    await world.run(120)
    assert world.accepted == accepted
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "NotAccepted")
    assert world.scale_writes == [], "not even up to replicas.min"
    world.selectors = {"chat": CHAT, "search": SEARCH}
    await world.run(60)
    assert world.accepted == ACCEPTED
    assert world.condition("Ready")["reason"] == "Enforcing"
    assert world.target == 3


async def test_from_several_services_to_none_it_stays_refused_and_nothing_is_written() -> None:
    world = fronted(min=3, max=12)
    world.selectors["chat-metrics"] = CHAT
    await world.run(120)
    assert world.accepted == SEVERAL
    world.selectors = {"search": SEARCH}
    await world.run(120)
    assert world.accepted == NONE
    assert world.scale_writes == []
    world.selectors = {"chat": CHAT, "search": SEARCH}
    await world.run(60)
    assert world.accepted == ACCEPTED
    assert world.target == 3


async def test_a_second_service_stops_a_service_that_was_scaled_and_its_end_lets_it_go_on() -> None:
    world = fronted(min=1, max=12)
    await world.run(600)
    world.selectors["chat-metrics"] = CHAT
    world.rate = lambda _: 90.0
    world.scale_writes.clear()
    before = world.target
    await world.run(300)
    assert world.accepted == SEVERAL
    assert (world.target, world.scale_writes) == (before, [])
    del world.selectors["chat-metrics"]
    await world.run(300)
    assert world.accepted == ACCEPTED
    assert world.target > before


async def test_a_name_ends_the_ambiguity_too() -> None:
    world = fronted(min=3, max=12)
    world.selectors["chat-metrics"] = CHAT
    await world.run(60)
    assert world.accepted == SEVERAL
    world.spec, world.spec_generation = chat(min=3, max=12), 2
    await world.run(60)
    assert world.accepted == ACCEPTED
    assert world.target == 3


async def test_services_that_differ_by_a_number_are_told_apart() -> None:
    world = fronted(min=3, max=12)
    world.selectors["chat-1"] = CHAT
    await world.run(120)
    assert world.accepted[2].startswith(f"several Services select {AROUND} (chat, chat-1): ")
    world.selectors["chat-2"] = world.selectors.pop("chat-1")
    await world.run(120)
    assert world.accepted[2].startswith(f"several Services select {AROUND} (chat, chat-2): ")


async def test_a_restart_in_between_leaves_no_stale_names_either() -> None:
    world = fronted(min=3, max=12)
    world.selectors["chat-metrics"] = CHAT
    await world.run(120)
    world.selectors = {"search": SEARCH}
    world.restart_operator()
    await world.run(120)
    assert world.accepted == NONE


async def test_what_stays_ambiguous_is_written_once() -> None:
    world = fronted(min=3, max=12)
    world.selectors["chat-metrics"] = CHAT
    await world.run(300)
    world.status_writes.clear()
    await world.run(1800)
    assert world.accepted == SEVERAL
    assert world.status_writes == []


async def test_a_target_that_is_gone_is_said_instead_of_who_selects_it() -> None:
    world = fronted(min=3, max=12)
    world.selectors["chat-metrics"] = CHAT
    await world.run(120)
    assert world.accepted == SEVERAL
    world.target_exists = False
    await world.run(60)
    assert world.accepted == GONE
    world.target_exists = True
    await world.run(60)
    assert world.accepted == SEVERAL
    assert world.scale_writes == []
