"""The Services of an adopted canary's arms: whose pods they select, and when they cannot be told apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes.api_servers_plugin import Served
from fakes.builders import service
from fakes.recorded_api import RecordedApi, look
from penstock.controller.adopted_arms import AdoptedArms
from penstock.controller.cache import FleetCache
from penstock.controller.gateways import GatewayObjects, GatewayPlacement
from penstock.dataplane.envoy.template import GatewayTemplate
from penstock.kube.api import DEPLOYMENTS, SERVICES
from penstock.model.canary_spec import CanarySpec
from penstock.model.spec import Mode, ServiceKey, ServiceSpec, TargetRef
from penstock.model.traffic import Backend, RoutePlan

NEXT = TargetRef("apps", "Deployment", "chat-next")
PORTS = [
    {"name": "http", "port": 80, "targetPort": "api", "protocol": "TCP", "appProtocol": "http"},
    {"name": "gossip", "port": 7000, "protocol": "UDP"},
]


def deployment(name: str, selector: dict[str, str], **labels: str) -> dict[str, Any]:
    containers = [{"name": "engine", "image": "vllm"}]
    template = {"metadata": {"labels": selector | labels}, "spec": {"containers": containers}}
    spec = {"selector": {"matchLabels": selector}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


class Adopted:
    """A service ``chat`` whose canary is the Deployment ``chat-next``."""

    def __init__(
        self, served: Served, *, mode: Mode = Mode.ENFORCE, canary_mode: Mode = Mode.ENFORCE
    ) -> None:
        self.served, self.cache = served, FleetCache()
        self.kube = RecordedApi(served.kube)
        self.arms = AdoptedArms(self.kube, self.cache)  # type: ignore[arg-type]
        key, canary = ServiceKey(served.namespace, "chat"), CanarySpec(target=NEXT, mode=canary_mode)
        self.spec: ServiceSpec = replace(service(), key=key, mode=mode, canary=canary)
        self.now = 0.0

    async def create(self, *deployments: dict[str, Any], ports: list[dict[str, Any]] | None = None) -> None:
        for body in deployments:
            await self.served.kube.create(DEPLOYMENTS, self.served.namespace, body)
        spec = {"selector": {"app": "chat"}, "ports": PORTS if ports is None else ports}
        front = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "chat"}, "spec": spec}
        await self.served.kube.create(SERVICES, self.served.namespace, front)

    async def ensure(self) -> tuple[str, str] | None:
        self.now += 15.0
        await look(self.served, self.cache)
        return await self.arms.ensure(self.spec, self.now)

    async def selected(self) -> dict[str, dict[str, str]]:
        return {
            each["metadata"]["name"]: each["spec"]["selector"]
            for each in await self.served.kube.list(SERVICES, self.served.namespace)
            if each["metadata"]["name"] != "chat"
        }


STABLE = deployment("chat", {"app": "chat", "track": "stable"}, version="1")
CANARY = deployment("chat-next", {"app": "chat", "track": "next"}, version="2")


async def test_each_arm_has_a_service_that_selects_what_its_workload_does(served: Served) -> None:
    chat = Adopted(served)
    await chat.create(STABLE, CANARY)
    before = [await served.kube.get(DEPLOYMENTS, served.namespace, name) for name in ("chat", "chat-next")]
    assert await chat.ensure() is None
    assert await chat.selected() == {
        "chat-stable": {"app": "chat", "track": "stable"},
        "chat-canary": {"app": "chat", "track": "next"},
    }
    arm = await served.kube.get(SERVICES, served.namespace, "chat-canary")
    (port,) = arm["spec"]["ports"]
    assert port == PORTS[0]
    # A deletion in the middle leaves them: an HTTPRoute, or the gateways' own Service, leads there.
    assert "ownerReferences" not in arm["metadata"]
    after = [await served.kube.get(DEPLOYMENTS, served.namespace, name) for name in ("chat", "chat-next")]
    assert after == before


async def test_a_deletion_in_the_middle_leads_the_gateways_clients_to_the_stable_arm(served: Served) -> None:
    chat = Adopted(served)
    await chat.create(STABLE, CANARY)
    await chat.ensure()
    placement = GatewayPlacement(
        key=b"k" * 32, xds_host="xds", xds_port=18000, template=GatewayTemplate(image="i")
    )
    gateways = GatewayObjects(served.kube, placement)
    await gateways.recover()
    arm = Backend(served.namespace, "chat-stable", 80, served_by="llama")
    route = RoutePlan(chat.spec.key, "u", arm, listen_port=10_000)
    assert await gateways.ensure(served.namespace, [route], existing=[route.key], now=0.0) == {}
    assert await gateways.ensure(served.namespace, [], existing=[], now=1.0) == {}
    body = await served.kube.get(SERVICES, served.namespace, "chat-penstock")
    # `chat`, in front of the target, selects the canary's pods as well.
    assert body["spec"]["selector"] == {"app": "chat", "track": "stable"}
    (port,) = body["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, "api")


async def test_what_is_as_wanted_is_neither_read_nor_written(served: Served) -> None:
    chat = Adopted(served)
    await chat.create(STABLE, CANARY)
    await chat.ensure()
    chat.kube.calls.clear()
    assert await chat.ensure() is None
    assert chat.kube.calls == []


async def test_a_canary_that_is_not_there_yet_has_no_service(served: Served) -> None:
    chat = Adopted(served)
    await chat.create(STABLE)
    assert await chat.ensure() is None
    assert set(await chat.selected()) == {"chat-stable"}
    await served.kube.create(DEPLOYMENTS, served.namespace, CANARY)
    assert await chat.ensure() is None
    assert set(await chat.selected()) == {"chat-stable", "chat-canary"}


async def test_a_service_deleted_by_hand_comes_back(served: Served) -> None:
    chat = Adopted(served)
    await chat.create(STABLE, CANARY)
    await chat.ensure()
    await chat.ensure()
    await served.kube.delete(SERVICES, served.namespace, "chat-stable")
    assert await chat.ensure() is None
    assert set(await chat.selected()) == {"chat-stable", "chat-canary"}


@pytest.mark.parametrize(
    ("stable", "canary", "message"),
    [
        pytest.param(
            deployment("chat", {"app": "chat"}),
            CANARY,
            "the pods of Deployment/chat-next bear all labels by which Deployment/chat selects its own "
            "(app=chat): give the pods of Deployment/chat-next another value of one of them",
            id="the stable arm's selector is too wide",
        ),
        pytest.param(
            STABLE,
            deployment("chat-next", {"app": "chat"}, track="next"),
            "the pods of Deployment/chat bear all labels by which Deployment/chat-next selects its own "
            "(app=chat): give the pods of Deployment/chat-next another value of one of them",
            id="the canary's selector is too wide",
        ),
    ],
)
async def test_arms_that_cannot_be_told_apart_get_no_services(
    served_fake: Served, stable: dict[str, Any], canary: dict[str, Any], message: str
) -> None:
    chat = Adopted(served_fake)
    await chat.create(stable, canary)
    assert await chat.ensure() == ("ArmsOverlap", message)
    assert await chat.selected() == {}


async def test_a_selector_that_a_service_cannot_have_is_said(served_fake: Served) -> None:
    chat = Adopted(served_fake)
    expressions = {"matchExpressions": [{"key": "track", "operator": "In", "values": ["next", "newest"]}]}
    await chat.create(STABLE, CANARY | {"spec": CANARY["spec"] | {"selector": expressions}})
    assert await chat.ensure() == (
        "ArmsNotSelectable",
        "Deployment/chat-next selects its pods by matchExpressions only, which a Service cannot: "
        "add a matchLabels of its own",
    )


async def test_a_service_of_somebody_else_is_left_alone(served: Served) -> None:
    chat = Adopted(served)
    await chat.create(STABLE, CANARY)
    theirs = {"metadata": {"name": "chat-canary"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 1}]}}
    await served.kube.create(SERVICES, served.namespace, {"apiVersion": "v1", "kind": "Service"} | theirs)
    assert await chat.ensure() == (
        "ArmNameTaken",
        f"Service {served.namespace}/chat-canary exists and is not Penstock's: "
        "delete it, or give the InferenceService another name",
    )
    assert (await chat.selected())["chat-canary"] == {"a": "b"}


async def test_ports_without_tcp_are_said(served_fake: Served) -> None:
    chat = Adopted(served_fake)
    await chat.create(STABLE, CANARY, ports=PORTS[1:])
    assert await chat.ensure() == (
        "CanaryNotRouted",
        "Service chat has no TCP port: give it one, its arms get the same",
    )


@pytest.mark.parametrize(
    ("mode", "canary_mode"),
    [(Mode.OBSERVE, Mode.ENFORCE), (Mode.ENFORCE, Mode.OBSERVE), (Mode.PAUSED, Mode.ENFORCE)],
)
async def test_nothing_is_written_but_in_enforce(served_fake: Served, mode: Mode, canary_mode: Mode) -> None:
    chat = Adopted(served_fake, mode=mode, canary_mode=canary_mode)
    await chat.create(STABLE, CANARY)
    assert await chat.ensure() is None
    assert chat.kube.calls == []
    assert await chat.selected() == {}


async def test_a_service_without_a_canary_has_no_arms(served_fake: Served) -> None:
    chat = Adopted(served_fake)
    chat.spec = replace(chat.spec, canary=None)
    await chat.create(STABLE)
    assert await chat.ensure() is None
    assert await chat.selected() == {}
