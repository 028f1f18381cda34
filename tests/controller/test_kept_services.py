"""What becomes of a Service with TLS when its service is gone: on the fake API and on a real one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from structlog.testing import capture_logs

from fakes.api_servers_plugin import Served
from penstock.controller.gateways import GatewayObjects, GatewayPlacement
from penstock.controller.owned_objects import RESOURCES
from penstock.dataplane.envoy.template import GatewayTemplate
from penstock.kube.api import Forbidden, NotFound, PatchType
from penstock.kube.event_outbox import PendingEvent
from penstock.model.spec import ServiceKey
from penstock.model.traffic import Backend, RoutePlan

SERVICES, DEPLOYMENTS, CONFIG_MAPS = RESOURCES["Service"], RESOURCES["Deployment"], RESOURCES["ConfigMap"]


@dataclass
class Operator:
    """One life of the operator; its service is there until a test says that it is gone."""

    served: Served
    now: float = 1000.0
    told: list[PendingEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        placement = GatewayPlacement(
            key=b"k" * 32,
            xds_host="xds",
            xds_port=18000,
            template=GatewayTemplate(image="i"),
            watched=(self.served.namespace,),
        )
        self.objects = GatewayObjects(self.served.kube, placement, self.told.append)
        self.key = ServiceKey(self.served.namespace, "chat")
        self.plan = RoutePlan(
            self.key,
            "u",
            Backend(self.served.namespace, "chat", 8000, "llama"),
            10_000,
            tls_secret="chat-tls",
        )

    async def begin(self) -> None:
        await self.objects.recover()
        await self.round()

    async def round(self, *, gone: bool = False, seconds: float = 1.0) -> None:
        """Let one round pass; of a service that is gone the plan lasts while its TLS is ended here."""
        self.now += seconds
        lasts = not gone or self.key in self.objects.tls_services()
        plans, existing = ([self.plan] if lasts else []), ([] if gone else [self.key])
        await self.objects.ensure(self.served.namespace, plans, existing=existing, now=self.now)

    async def front(self) -> dict[str, Any]:
        body = await self.served.kube.get(SERVICES, self.served.namespace, "chat-penstock")
        return {**body["spec"], "uid": body["metadata"]["uid"]}

    async def pods(self) -> dict[str, Any]:
        body = await self.served.kube.get(DEPLOYMENTS, self.served.namespace, "penstock-gateway")
        return dict(body["spec"]["template"])


async def routed(served: Served) -> Operator:
    """A service with TLS that gateways serve."""
    spec = {"selector": {"app": "chat"}, "ports": [{"port": 8000, "targetPort": 9000}]}
    await served.kube.create(SERVICES, served.namespace, {"metadata": {"name": "chat"}, "spec": spec})
    operator = Operator(served)
    await operator.begin()
    return operator


async def gateways_are_there(operator: Operator) -> bool:
    try:
        await operator.pods()
    except NotFound:
        return False
    return True


async def test_a_service_with_tls_that_is_gone_keeps_its_gateways(served: Served) -> None:
    operator = await routed(served)
    before = await operator.front(), await operator.pods()
    for _ in range(3):
        await operator.round(gone=True, seconds=1000.0)
    assert (await operator.front(), await operator.pods()) == before, "nor do the pods lose its Secret"
    body = await served.kube.get(CONFIG_MAPS, served.namespace, "penstock-gateway-plans")
    assert '"tlsSecret":"chat-tls"' in body["data"]["plans.json"]


async def test_it_is_told_at_once_and_then_every_hour(served_fake: Served) -> None:
    operator = await routed(served_fake)
    with capture_logs() as logs:
        await operator.round(gone=True)
    assert [each["reason"] for each in logs if each["event"] == "a Service with TLS is kept"] == [
        "TLSServiceKept"
    ]
    (event,) = operator.told
    name = f"{served_fake.namespace}/chat-penstock"
    assert event.message == (
        f"Service {name} stays with the gateways, without limits: InferenceService chat is deleted or routed "
        "otherwise, and no engine ends the TLS of its clients; lead them elsewhere, then delete chat-penstock"
    )
    assert (event.about.kind, event.about.name, event.reason) == (
        "Service",
        "chat-penstock",
        "TLSServiceKept",
    )
    assert event.about.uid == (await operator.front())["uid"]
    for _ in range(59):
        await operator.round(gone=True, seconds=60.0)
    assert len(operator.told) == 1
    await operator.round(gone=True, seconds=60.0)
    assert len(operator.told) == 2


async def test_the_gateways_go_when_somebody_deletes_it_and_it_does_not_come_back(served: Served) -> None:
    operator = await routed(served)
    await operator.round(gone=True)
    await served.kube.delete(SERVICES, served.namespace, "chat-penstock")
    await operator.round(gone=True)
    assert await gateways_are_there(operator), "looked at once a minute"
    await operator.round(gone=True, seconds=3600.0)
    await operator.round(gone=True)
    assert not await gateways_are_there(operator)
    assert [each["metadata"]["name"] for each in await served.kube.list(SERVICES, served.namespace)] == [
        "chat"
    ]


async def test_one_that_somebody_takes_over_is_left_to_him(served: Served) -> None:
    operator = await routed(served)
    await operator.round(gone=True)
    labels = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}}
    path = f"{SERVICES.path(served.namespace, 'chat-penstock')}?fieldManager=kubectl-edit"
    status, _ = await served.request("PATCH", path, labels, PatchType.MERGE.value)
    assert status == 200
    await operator.round(gone=True, seconds=61.0)
    await operator.round(gone=True)
    assert not await gateways_are_there(operator)
    assert (await operator.front())["ports"][0]["port"] == 443


async def test_one_that_led_nowhere_at_two_looks_keeps_no_gateways(served: Served) -> None:
    operator = await routed(served)
    await operator.round(gone=True)
    await served.kube.delete(SERVICES, served.namespace, "chat")
    await operator.round(gone=True, seconds=61.0)
    assert await gateways_are_there(operator), "it may just be replaced"
    await operator.round(gone=True, seconds=61.0)
    await operator.round(gone=True)
    assert not await gateways_are_there(operator)


async def test_a_restarted_operator_keeps_it_too(served: Served) -> None:
    before = await routed(served)
    await before.round(gone=True)
    front, pods = await before.front(), await before.pods()
    again = Operator(served)
    await again.objects.recover()
    await again.objects.ensure(served.namespace, [], existing=[], now=again.now)
    assert again.objects.stored() == {served.namespace: (again.plan,)}, "by which its route lasts"
    await again.round(gone=True)
    assert (await again.front(), await again.pods()) == (front, pods)
    assert len(again.told) == 1


async def test_a_service_that_returns_leads_on_and_is_told_of_anew_when_it_goes_again(served: Served) -> None:
    operator = await routed(served)
    await operator.round(gone=True)
    await operator.round()
    await operator.round(gone=True)
    assert len(operator.told) == 2
    assert (await operator.front())["ports"][0]["port"] == 443


async def test_a_look_that_fails_changes_nothing(served_fake: Served, monkeypatch: Any) -> None:
    operator = await routed(served_fake)

    async def refused(*_: Any) -> None:
        raise Forbidden("no")

    with monkeypatch.context() as patch:
        patch.setattr(served_fake.kube, "get", refused)
        await operator.round(gone=True)
    assert operator.objects.tls_services() == {operator.key}


async def test_taken_off_first_tls_does_not_keep_it(served: Served) -> None:
    operator = await routed(served)
    backend = operator.plan.backend
    operator.plan = RoutePlan(operator.key, "u", backend, 10_000)
    await operator.round()
    await operator.round(gone=True)
    (port,) = (await operator.front())["ports"]
    assert (port["port"], port["targetPort"]) == (80, 9000)
    assert operator.told == []
