"""Weights written to HTTPRoutes of the real Gateway API on a real kube-apiserver."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fakes.api_servers_plugin import Served
from fakes.gateway_api import a_route, a_rule, http_route_definition, routed_by_rule
from penstock.controller.cache import FleetCache, KnownService
from penstock.controller.httproutes import HttpRoutes
from penstock.controller.route_weights import RouteWeights
from penstock.controller.service_state import ServiceState
from penstock.kube.aio_client import connect
from penstock.kube.api import PatchType, Resource
from penstock.model.decision import Decision, TrafficReason
from penstock.model.spec import (
    BackendKind,
    BackendRef,
    FallbackSpec,
    HttpRouteRef,
    ServiceKey,
)
from penstock.policy.canary_explanation import NONE_SET
from penstock.policy.fallback import FallbackShare
from penstock.sandbox.apiserver import ApiServer

pytestmark = pytest.mark.api
ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
REF = HttpRouteRef("chat", "main")
BOTH = a_rule("main", chat=1, chat_small=0)


@pytest.fixture(scope="module")
def gateway_api(apiserver: ApiServer) -> None:
    apiserver.define(http_route_definition())


@pytest.fixture
def real(gateway_api: None, served_real: Served) -> Served:
    return served_real


def key(served: Served) -> ServiceKey:
    return ServiceKey(served.namespace, "chat")


async def set_share(
    routes: HttpRoutes, served: Served, share: int, now: float = 0.0
) -> tuple[str, str] | None:
    weights = {"chat": 100 - share, "chat-small": share}
    return await routes.set_weights(key(served), REF, weights, primary="chat", now=now)


async def weights(served: Served, rule: int = 0) -> list[int]:
    body = await served.kube.get(ROUTES, served.namespace, "chat")
    return [each["weight"] for each in body["spec"]["rules"][rule]["backendRefs"]]


async def test_only_the_named_rule_gets_its_weights(real: Served) -> None:
    other = a_rule("other", chat=5, chat_small=5)
    await real.kube.create(ROUTES, real.namespace, a_route(other, BOTH))
    assert await set_share(HttpRoutes(real.kube), real, 30) is None
    assert await weights(real, 1) == [70, 30]
    assert await weights(real, 0) == [5, 5]


async def test_what_is_as_wanted_is_not_written(real: Served) -> None:
    created = await real.kube.create(ROUTES, real.namespace, a_route(BOTH))
    assert await set_share(HttpRoutes(real.kube), real, 0) is None
    after = await real.kube.get(ROUTES, real.namespace, "chat")
    assert after["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


class Moving:
    """Changes the route between our look and our patch, once."""

    def __init__(self, served: Served, change: list[dict[str, Any]]) -> None:
        self._served, self._change = served, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._served.kube, name)

    async def validate(self, *place: Any) -> Any:
        if self._change:
            change, self._change = self._change, []
            await self._served.kube.patch(*place[:3], change, patch_type=PatchType.JSON)
        return await self._served.kube.validate(*place)


async def test_a_rule_inserted_meanwhile_does_not_get_the_weights(real: Served) -> None:
    await real.kube.create(ROUTES, real.namespace, a_route(BOTH))
    before_it = {"op": "add", "path": "/spec/rules/0", "value": a_rule("first", chat=3, chat_small=4)}
    assert await set_share(HttpRoutes(Moving(real, [before_it])), real, 40) is None
    assert await weights(real, 0) == [3, 4]
    assert await weights(real, 1) == [60, 40]


async def test_a_route_that_is_gone_says_what_to_correct(real: Served) -> None:
    assert await set_share(HttpRoutes(real.kube), real, 10) == (
        "RouteNotFound",
        f"HTTPRoute {real.namespace}/chat does not exist: "
        "create it, or correct routing.gatewayAPI.httpRouteRef",
    )


async def test_a_missing_permission_is_a_value(real: Served, apiserver: ApiServer, tmp_path: Any) -> None:
    token = apiserver.token_for(real.namespace, "powerless")
    kube = await connect(kubeconfig=str(apiserver.kubeconfig(tmp_path / "powerless", token=token)))
    try:
        problem = await set_share(HttpRoutes(kube), real, 10)
    finally:
        await kube.close()
    assert problem is not None
    assert problem[0] == "RouteNotWritten"
    assert "is forbidden" in problem[1]
    assert problem[1].endswith("; grant it with the chart's RBAC")


async def test_weights_that_are_set_back_again_and_again_are_left_alone(real: Served) -> None:
    await real.kube.create(ROUTES, real.namespace, a_route(BOTH))
    routes = HttpRoutes(real.kube)
    path = f"{ROUTES.path(real.namespace, 'chat')}?fieldManager=argocd-controller"
    back = [{"op": "replace", "path": "/spec/rules/0/backendRefs", "value": BOTH["backendRefs"]}]
    for round_ in range(3):
        assert await set_share(routes, real, 30, now=60.0 * round_) is None
        status, _ = await real.request("PATCH", path, back, PatchType.JSON.value)
        assert status == 200
    assert await set_share(routes, real, 30, now=180.0) == (
        "RouteContested",
        f"HTTPRoute {real.namespace}/chat: argocd-controller has changed the weights 3 times within 15 min: "
        "let it ignore spec.rules[].backendRefs[].weight",
    )
    assert await weights(real) == [1, 0]
    assert await set_share(routes, real, 30, now=180.0 + 900.0) is None
    assert await weights(real) == [70, 30]


def a_spec(namespace: str, share: FallbackShare | None) -> tuple[FleetCache, dict[ServiceKey, ServiceState]]:
    """A service with routing.type GatewayAPI and a plain Service as its fallback, decided as given."""
    key = ServiceKey(namespace, "chat")
    backend = BackendRef("chat-small", BackendKind.SERVICE, 8000, 10)
    spec = routed_by_rule(key, fallback=FallbackSpec(backend))
    cache = FleetCache()
    cache.services[key] = KnownService(key, "u", 1, spec, None, b"{}")
    decision = Decision(share, TrafficReason.FALLBACK_ACTIVE, "said")
    outcome = SimpleNamespace(spec=spec, fallback=decision, canary=NONE_SET)
    return cache, {key: ServiceState("u", outcome=cast(Any, outcome))}


def decide(
    states: dict[ServiceKey, ServiceState],
    share: FallbackShare | None,
    reason: TrafficReason = TrafficReason.LEARNING,
) -> None:
    (state,) = states.values()
    assert state.outcome is not None
    spec, decision = state.outcome.spec, Decision(share, reason, "said")
    state.outcome = cast(Any, SimpleNamespace(spec=spec, fallback=decision, canary=NONE_SET))


async def test_a_planned_share_becomes_weights_and_observe_gives_all_back(real: Served) -> None:
    await real.kube.create(ROUTES, real.namespace, a_route(BOTH))
    cache, states = a_spec(real.namespace, FallbackShare(0.3, 10, enforced=True))
    task = RouteWeights(HttpRoutes(real.kube), cache, states)
    await task.once(0.0)
    assert await weights(real) == [70, 30]
    decide(states, None)  # no data: hold
    await task.once(15.0)
    assert await weights(real) == [70, 30]
    decide(states, FallbackShare(0.3, 10, enforced=False))
    await task.once(30.0)
    assert await weights(real) == [100, 0]
    assert states[key(real)].gateway.problem is None


async def test_a_refused_fallback_gives_its_share_back_also_one_of_before_a_restart(real: Served) -> None:
    await real.kube.create(ROUTES, real.namespace, a_route(BOTH))
    cache, states = a_spec(real.namespace, FallbackShare(0.4, 10, enforced=True))
    await RouteWeights(HttpRoutes(real.kube), cache, states).once(0.0)
    assert await weights(real) == [60, 40]
    restarted = RouteWeights(HttpRoutes(real.kube), cache, states)
    decide(states, None)
    await restarted.once(15.0)
    assert await weights(real) == [60, 40], "not known yet: held"
    decide(states, None, TrafficReason.MODEL_NOT_SERVED)
    await restarted.once(30.0)
    assert await weights(real) == [100, 0]


async def test_weights_that_a_user_set_last_are_left_to_him_by_a_restarted_operator(real: Served) -> None:
    await real.kube.create(ROUTES, real.namespace, a_route(BOTH))
    path = f"{ROUTES.path(real.namespace, 'chat')}?fieldManager=kubectl-edit"
    change = [{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 1}]
    status, _ = await real.request("PATCH", path, change, PatchType.JSON.value)
    assert status == 200
    cache, states = a_spec(real.namespace, None)
    decide(states, None, TrafficReason.MODEL_NOT_SERVED)
    await RouteWeights(HttpRoutes(real.kube), cache, states).once(0.0)
    assert await weights(real) == [1, 1]


async def test_a_service_that_only_observes_never_touches_its_route(real: Served) -> None:
    created = await real.kube.create(ROUTES, real.namespace, a_route(BOTH))
    cache, states = a_spec(real.namespace, FallbackShare(0.3, 10, enforced=False))
    await RouteWeights(HttpRoutes(real.kube), cache, states).once(0.0)
    after = await real.kube.get(ROUTES, real.namespace, "chat")
    assert after["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


async def test_what_hinders_the_weights_is_kept_for_the_condition(real: Served) -> None:
    await real.kube.create(ROUTES, real.namespace, a_route(a_rule("main", chat=1, other=1)))
    cache, states = a_spec(real.namespace, FallbackShare(0.3, 10, enforced=True))
    await RouteWeights(HttpRoutes(real.kube), cache, states).once(0.0)
    assert states[key(real)].gateway.problem == (
        "UnexpectedBackends",
        f"rule 'main' of HTTPRoute {real.namespace}/chat has no backendRef to Service chat-small: add "
        '{"name": "chat-small", "port": ..., "weight": 0} to its backendRefs',
    )


async def test_a_cluster_without_the_gateway_api_says_so(served_fake: Served) -> None:
    assert await set_share(HttpRoutes(served_fake.kube), served_fake, 10) == (
        "GatewayAPIMissing",
        "the cluster serves no HTTPRoute: install the Gateway API v1.2 or later",
    )
