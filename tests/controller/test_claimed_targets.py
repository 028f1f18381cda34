"""Of several InferenceServices that name one workload one writes, and the others say which that is."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.canary_specs import adopted, two_deployments
from fakes.canary_world import CanaryWorld
from fakes.world import World, _merged, chat
from penstock.controller.cache import FleetCache
from penstock.kube.api import Resource
from penstock.model.spec import ServiceKey, TargetRef

CHAT, SEARCH = ServiceKey("prod", "chat"), ServiceKey("prod", "search")
OLDER, NEWER = "2026-01-02T03:04:05Z", "2026-11-22T05:00:00Z"


class Copied(World):
    """A world with ``prod/chat-copy`` on the same Deployment, with other bounds and made at `created`."""

    copy_created = NEWER
    copy_mode = "Enforce"

    def __post_init__(self) -> None:
        self.copy: dict[str, Any] = {}
        self.copy_generation = 1
        super().__post_init__()

    def _watch(self) -> None:
        super()._watch()
        about = {"namespace": "prod", "name": "chat-copy", "uid": "u-2", "generation": self.copy_generation}
        spec = chat(min=6, max=12) | {"mode": self.copy_mode}
        metadata = about | {"creationTimestamp": self.copy_created}
        self.cache.see_service({"metadata": metadata, "spec": spec, "status": self.copy})

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Any, **more: Any
    ) -> dict[str, Any]:
        if name != "chat-copy":
            return await super().patch(resource, namespace, name, body, **more)
        self.copy = _merged(self.copy, body["status"])
        return {}

    @property
    def accepted(self) -> tuple[str, str, str]:
        """Status, reason and message of the copy's condition Accepted."""
        found = next(each for each in self.copy["conditions"] if each["type"] == "Accepted")
        return found["status"], found["reason"], found["message"]


def body(key: ServiceKey, target: str, *, created: str = OLDER, generation: int = 1, **spec: Any) -> Any:
    """An InferenceService on a Deployment."""
    about = {"namespace": key.namespace, "name": key.name, "uid": key.name, "generation": generation}
    workload = {"targetRef": {"name": target}}
    fields = {"workload": workload, "slo": {"ttft": {"p95": "500ms"}}} | spec
    return {"metadata": about | {"creationTimestamp": created}, "spec": fields}


def deployment(name: str, group: str = "apps") -> TargetRef:
    return TargetRef(group, "Deployment", name)


async def test_the_older_of_two_on_one_workload_scales_it_and_the_newer_names_it() -> None:
    world = Copied(rate=lambda _: 20.0, spec=chat(min=1, max=4), target=4)
    await world.run(3600)
    assert world.condition("Accepted")["status"] == "True"
    assert world.accepted == (
        "False",
        "TargetClaimed",
        "InferenceService/chat scales Deployment/chat and was there first: name another workload in "
        "workload.targetRef, delete one of the two, or set mode: Observe to only look",
    )
    assert world.status["decision"]["reason"] != "ForeignScaleUp"
    assert {count for _, count in world.scale_writes} <= {1, 2, 3, 4}, "nobody fights for six"


async def test_who_waited_for_a_workload_takes_over_when_the_other_one_lets_go() -> None:
    world = Copied(rate=lambda _: 20.0, spec=chat(min=1, max=4), target=4)
    await world.run(600)
    world.spec = world.spec | {"mode": "Observe"}
    world.spec_generation += 1
    await world.run(60)
    assert world.target == 6, "the least of the other one"
    assert world.accepted[:2] == ("True", "Accepted")
    accepted = world.condition("Accepted")
    assert (accepted["status"], accepted["reason"]) == ("True", "OtherAutoscaler")
    assert accepted["message"] == (
        "InferenceService/chat-copy scales Deployment/chat and goes on doing so in mode Observe"
    )


async def test_one_that_only_looks_claims_nothing() -> None:
    world = Copied(rate=lambda _: 20.0, spec=chat(min=1, max=4), target=4)
    world.copy_mode, world.copy_created = "Observe", OLDER
    await world.run(300)
    assert world.condition("Accepted")["reason"] == "Accepted"
    assert world.accepted[1] == "OtherAutoscaler"


@pytest.mark.parametrize(
    ("case", "theirs", "ours", "who"),
    [
        ("the older comes first", {"created": OLDER}, {"created": NEWER}, "InferenceService/chat"),
        ("also where it is the second by name", {"created": NEWER}, {"created": OLDER}, ""),
        ("of the same second the first by name", {}, {}, "InferenceService/chat"),
        ("who is paused writes nothing", {"mode": "Paused"}, {}, ""),
        ("who is misspelt writes nothing", {"slo": {}}, {}, ""),
        (
            "who serves by it comes before an older canary",
            {"created": NEWER},
            {"created": OLDER, "workload": {"targetRef": {"name": "search"}}},
            "InferenceService/chat",
        ),
    ],
)
def test_one_claim_comes_first(case: str, theirs: Any, ours: Any, who: str) -> None:
    tried = {"canary": {"targetRef": {"name": "chat"}}} if "workload" in ours else {}
    both = [body(CHAT, "chat", **theirs), body(SEARCH, "chat", **ours, **tried)]
    for order in (both, both[::-1]):
        cache = FleetCache()
        for each in order:
            cache.see_service(each)
        assert cache.conflict(SEARCH, deployment("chat")) == who, case


def test_a_claim_ends_with_its_service_its_mode_and_its_target() -> None:
    cache = FleetCache()
    cache.see_service(body(CHAT, "chat"))
    cache.see_service(body(SEARCH, "chat"))
    assert cache.conflict(SEARCH, deployment("chat")) == "InferenceService/chat"
    assert cache.conflict(CHAT, deployment("chat")) == ""
    assert cache.conflict(ServiceKey("test", "search"), deployment("chat")) == "", "of its namespace alone"
    assert cache.conflict(SEARCH, deployment("chat", "example.org")) == "", "another kind of that name"
    cache.see_service(body(CHAT, "other", generation=2))
    assert cache.conflict(CHAT, deployment("chat")) == "InferenceService/search"
    cache.see_service(body(CHAT, "chat", generation=3))
    assert cache.conflict(SEARCH, deployment("chat")) == "InferenceService/chat"
    cache.see_service(body(CHAT, "chat", generation=4, mode="Observe"))
    assert cache.conflict(SEARCH, deployment("chat")) == ""
    cache.see_service(body(CHAT, "chat", generation=5))
    assert cache.conflict(SEARCH, deployment("chat")) == "InferenceService/chat"
    cache.see_service(body(CHAT, "chat", generation=6, slo={}))
    assert cache.conflict(SEARCH, deployment("chat")) == "", "it cannot be acted upon"
    cache.see_service(body(CHAT, "chat", generation=7))
    cache.forget_service(*CHAT)
    assert cache.conflict(SEARCH, deployment("chat")) == ""


def test_the_deployment_that_serves_an_owned_workload_is_claimed() -> None:
    cache = FleetCache()
    template = {"spec": {"containers": [{"name": "engine"}]}}
    cache.see_service(body(CHAT, "", workload={"type": "Template", "template": template}))
    cache.serve_by(CHAT, "bbbbbbbbbb")
    assert cache.conflict(SEARCH, deployment("chat-bbbbbbbbbb")) == "InferenceService/chat"


def test_a_canary_in_mode_observe_claims_nothing() -> None:
    cache = FleetCache()
    tried = {"targetRef": {"name": "next"}}
    cache.see_service(body(CHAT, "chat", canary=tried | {"mode": "Observe"}))
    assert cache.conflict(SEARCH, deployment("next")) == ""
    cache.see_service(body(CHAT, "chat", canary=tried, generation=2))
    assert cache.conflict(SEARCH, deployment("next")) == "InferenceService/chat"


async def test_a_canary_never_touches_what_another_service_serves_by() -> None:
    world = CanaryWorld(adopted(), *two_deployments())
    search = adopted() | {"canary": None, "replicas": {"min": 3, "max": 3}}
    search["workload"] = search["workload"] | {"targetRef": {"name": "chat-next"}}
    about = {"name": "search", "namespace": "prod", "uid": "psvc-2", "creationTimestamp": NEWER}
    world.cluster.put({"kind": "Deployment", "metadata": {"name": "chat-next"}, "spec": {"replicas": 3}})
    world.cluster.put({"kind": "InferenceService", "metadata": about, "spec": search})
    await world.seconds(300)
    assert world.cluster.replicas("chat-next") == 3
    assert world.healthy == (
        "False",
        "CanaryConflict",
        "InferenceService/search scales Deployment/chat-next: name another workload in canary.targetRef",
    )


async def test_a_canary_under_way_is_given_up_and_not_scaled_in_when_another_serves_by_its_workload() -> None:
    world = CanaryWorld(adopted(), *two_deployments(), stream_seconds=100.0)
    await world.until(lambda: world.weight == 20, within=200)
    search = adopted() | {"canary": None, "replicas": {"min": 3, "max": 3}}
    search["workload"] = search["workload"] | {"targetRef": {"name": "chat-next"}}
    about = {"name": "search", "namespace": "prod", "uid": "psvc-2", "creationTimestamp": NEWER}
    world.cluster.put({"kind": "InferenceService", "metadata": about, "spec": search})
    world.cluster.scaled.clear()
    await world.until(lambda: world.weight == 0, within=30)
    await world.seconds(300)
    assert [count for _, name, count in world.cluster.scaled if name == "chat-next"] == [3]
    assert world.healthy[1] == "CanaryConflict"
