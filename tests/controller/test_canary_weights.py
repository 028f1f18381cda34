"""Canaries behind an HTTPRoute: which weights its rule gets, tick by tick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fakes.gateway_api import routed_by_rule
from penstock.controller.cache import FleetCache, KnownService
from penstock.controller.canary_state import CanaryState
from penstock.controller.canary_step import CanaryStep
from penstock.controller.endpoints import EndpointCache
from penstock.controller.httproutes import HttpRoutes, Problem
from penstock.controller.route_weights import RouteWeights
from penstock.controller.service_state import ServiceState
from penstock.model.canary import CanaryPhase, CanaryPlan
from penstock.model.canary_spec import CanarySpec
from penstock.model.decision import Decision, RolloutReason, TrafficReason
from penstock.model.spec import (
    BackendKind,
    BackendRef,
    FallbackSpec,
    HttpRouteRef,
    Mode,
    RoutingSpec,
    RoutingType,
    ServiceKey,
    ServiceSpec,
    TargetRef,
)
from penstock.policy.beliefs import LoopTimes
from penstock.policy.fallback import FallbackShare

CHAT = ServiceKey("prod", "chat")
REFUSED = ("UnexpectedBackends", "as the route has it")
ADOPTED = CanarySpec(target=TargetRef("apps", "Deployment", "chat-next"))


@dataclass
class Written:
    """Keeps what would be patched."""

    weights: list[Mapping[str, int]] = field(default_factory=list)
    primary: str = ""
    problem: Problem | None = None

    async def set_weights(
        self, key: ServiceKey, ref: HttpRouteRef, weights: Mapping[str, int], *, primary: str, now: float
    ) -> Problem | None:
        self.weights.append(dict(weights))
        self.primary = primary
        return self.problem

    async def wrote_last(self, key: ServiceKey, ref: HttpRouteRef) -> bool:
        return False

    def forget(self, key: ServiceKey) -> None:
        pass


class Steered:
    """One service with a fallback and a canary, decided as a test says."""

    def __init__(self, **fields: Any) -> None:
        self.spec = routed_by_rule(CHAT, canary=ADOPTED)
        self.cache, self.endpoints, self.routes = FleetCache(), EndpointCache(), Written()
        self.spec_is(**fields)
        self.state = ServiceState("u")
        self.task = RouteWeights(
            cast(HttpRoutes, self.routes), self.cache, {CHAT: self.state}, self.endpoints, clock=lambda: 0.0
        )

    def spec_is(self, **fields: Any) -> None:
        self.spec = replace(self.spec, **fields)
        self.cache.services[CHAT] = KnownService(CHAT, "u", 1, self.spec, None, b"{}")

    async def decided(
        self, weight: int | None = None, *, share: FallbackShare | None = None
    ) -> Mapping[str, int] | None:
        """Run once; `weight` None: no canary is routed. Return what was written."""
        plan = CanaryPlan(CanaryPhase.IDLE)
        if weight is not None:
            plan = CanaryPlan(CanaryPhase.TESTING, weight_percent=weight, routed=True)
        outcome = SimpleNamespace(
            spec=self.spec,
            fallback=Decision(share, TrafficReason.LEARNING, ""),
            canary=Decision(plan, RolloutReason.TESTING, ""),
        )
        self.state.outcome = cast(Any, outcome)
        self.routes.weights.clear()
        await self.task.once(0.0)
        return self.routes.weights[-1] if self.routes.weights else None


def with_fallback() -> dict[str, Any]:
    return {"fallback": FallbackSpec(BackendRef("chat-small", BackendKind.SERVICE, 8000, 10))}


async def test_the_canarys_weight_is_taken_from_the_stable_arm() -> None:
    service = Steered()
    assert await service.decided(0) == {"chat": 100, "chat-canary": 0}
    assert service.state.gateway.acknowledged is True
    assert await service.decided(20) == {"chat": 80, "chat-canary": 20}
    assert await service.decided(0) == {"chat": 100, "chat-canary": 0}


async def test_a_fallback_keeps_its_share_while_nothing_is_decided_about_it() -> None:
    service = Steered(**with_fallback())
    planned = FallbackShare(0.3, 10, enforced=True)
    assert await service.decided(20, share=planned) == {"chat": 56, "chat-small": 30, "chat-canary": 14}
    assert await service.decided(50) == {"chat": 35, "chat-small": 30, "chat-canary": 35}
    observed = replace(planned, enforced=False)
    assert await service.decided(50, share=observed) == {"chat": 50, "chat-small": 0, "chat-canary": 50}


async def test_a_route_that_cannot_be_written_acknowledges_nothing() -> None:
    service = Steered()
    service.routes.problem = REFUSED
    await service.decided(5)
    assert (service.state.gateway.acknowledged, service.state.gateway.problem) == (False, REFUSED)


async def test_what_a_canary_had_when_it_ended_is_not_left_to_it_by_a_restarted_operator() -> None:
    assert await Steered().decided(None) == {"chat": 100, "chat-canary": 0}


@pytest.mark.parametrize(
    "fields", [{"mode": Mode.OBSERVE}, {"canary": replace(ADOPTED, mode=Mode.OBSERVE)}, {"canary": None}]
)
async def test_a_canary_that_is_only_observed_or_withdrawn_gives_its_weight_back_once(
    fields: dict[str, Any],
) -> None:
    service = Steered(**fields)
    assert await service.decided(None) is None, "never ours"
    service = Steered()
    await service.decided(20)
    service.spec_is(**fields)
    assert await service.decided(None) == {"chat": 100, "chat-canary": 0}
    assert await service.decided(None) is None


async def test_paused_leaves_the_weights_alone() -> None:
    service = Steered()
    await service.decided(20)
    service.spec_is(mode=Mode.PAUSED)
    assert await service.decided(None) is None
    service.spec_is(mode=Mode.ENFORCE)
    assert await service.decided(20) == {"chat": 80, "chat-canary": 20}


@pytest.mark.parametrize(
    ("behind_front", "stable"),
    [(["chat-0"], "chat"), (["chat-0", "next-0"], "chat-stable")],
    ids=["apart", "the front Service selects the canary too"],
)
async def test_a_service_that_leads_to_both_arms_is_not_taken_for_the_stable_one(
    behind_front: list[str], stable: str
) -> None:
    service = Steered()
    for name, pods in (("chat", behind_front), ("chat-canary", ["next-0"])):
        place = {"namespace": "prod", "name": name}
        service.endpoints.see_service({"metadata": place, "spec": {"ports": [{"port": 8000}]}})
        endpoints = [{"addresses": ["10.0.0.1"], "targetRef": {"name": pod}} for pod in pods]
        labels = {"kubernetes.io/service-name": name}
        service.endpoints.see(
            {
                "metadata": {**place, "labels": labels},
                "ports": [{"name": "", "port": 9000}],
                "endpoints": endpoints,
            }
        )
    assert await service.decided(20) == {stable: 80, "chat-canary": 20}
    assert service.routes.primary == stable


def test_a_split_that_an_httproute_cannot_keep_is_not_tried() -> None:
    step = CanaryStep(FleetCache(), None, LoopTimes(tick_seconds=15.0, rate_window_seconds=60.0))

    def refused(spec: ServiceSpec) -> RolloutReason | None:
        refusal = step._refusal(spec, CanaryState(), None, None)
        return None if refusal is None else refusal[0]

    asked = replace(Steered().spec, canary=replace(ADOPTED, sticky_header="x-session"))
    assert refused(asked) is RolloutReason.STICKY_SPLIT_NOT_POSSIBLE
    assert refused(Steered().spec) is not RolloutReason.STICKY_SPLIT_NOT_POSSIBLE
    envoy = replace(asked, routing=RoutingSpec(RoutingType.ENVOY))
    assert refused(envoy) is not RolloutReason.STICKY_SPLIT_NOT_POSSIBLE
