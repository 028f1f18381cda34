"""When a fallback's share of an HTTPRoute is given back, and when it is held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from fakes.gateway_api import routed_by_rule
from penstock.controller.cache import FleetCache, KnownService
from penstock.controller.given_shares import UNASKED_SECONDS
from penstock.controller.httproutes import HttpRoutes, Problem
from penstock.controller.route_weights import RouteWeights
from penstock.controller.service_state import ServiceState
from penstock.kube.api import KubeError
from penstock.model.decision import Decision, TrafficReason
from penstock.model.spec import (
    BackendKind,
    BackendRef,
    FallbackSpec,
    HttpRouteRef,
    Mode,
    RoutingSpec,
    ServiceKey,
    ServiceRef,
)
from penstock.policy.canary_explanation import NONE_SET
from penstock.policy.fallback import FallbackShare
from penstock.policy.fallback_refusal import WITHHELD

CHAT, SMALL = ServiceKey("prod", "chat"), ServiceKey("prod", "small")
PLANNED = FallbackShare(0.4, 10, enforced=True)
SPEC = routed_by_rule(CHAT)


def to(name: str, kind: BackendKind = BackendKind.SERVICE) -> FallbackSpec:
    return FallbackSpec(BackendRef(name, kind, 8000, 10))


@dataclass
class PlayedRoute:
    """A rule as somebody left it; `ours`: we wrote it last."""

    weights: dict[str, int] = field(default_factory=lambda: {"chat": 100})
    ours: bool = False
    problem: Problem | None = None
    unreadable: bool = False
    writes: int = 0

    async def set_weights(
        self, key: ServiceKey, ref: HttpRouteRef, weights: Mapping[str, int], *, primary: str, now: float
    ) -> Problem | None:
        if self.problem is None:
            self.weights |= weights
            self.ours, self.writes = True, self.writes + 1
        return self.problem

    async def wrote_last(self, key: ServiceKey, ref: HttpRouteRef) -> bool:
        if self.unreadable:
            raise KubeError("the server is away")
        return self.ours

    def forget(self, key: ServiceKey) -> None:
        pass


class Routed:
    """One service whose share of a route follows what a test decides, tick by tick."""

    def __init__(self) -> None:
        self.cache, self.route, self.now, self.spec = FleetCache(), PlayedRoute(), 1000.0, SPEC
        self.status: dict[str, Any] = {}
        small = replace(SPEC, key=SMALL, service=ServiceRef("small-front", 8000), routing=RoutingSpec())
        self.cache.services[SMALL] = KnownService(SMALL, "u", 1, small, None, b"{}")
        self.restart()

    def restart(self) -> None:
        self.state = ServiceState("u")
        self.task = RouteWeights(cast(HttpRoutes, self.route), self.cache, {CHAT: self.state})

    async def undecided(self) -> None:
        self.cache.services[CHAT] = KnownService(CHAT, "u", 1, self.spec, None, orjson.dumps(self.status))
        await self.task.once(self.now)
        self.now += 15.0

    async def decided(
        self, decided: FallbackShare | TrafficReason, fallback: FallbackSpec | None, **fields: Any
    ) -> dict[str, int]:
        """Run a tick later; return the rule's weights."""
        self.spec = replace(SPEC, fallback=fallback, **fields)
        share, reason = (
            (None, decided)
            if isinstance(decided, TrafficReason)
            else (decided, TrafficReason.FALLBACK_ACTIVE)
        )
        outcome = SimpleNamespace(spec=self.spec, fallback=Decision(share, reason, ""), canary=NONE_SET)
        self.state.outcome = cast(Any, outcome)
        await self.undecided()
        return self.route.weights


async def a_service_that_sends(fallback: FallbackSpec | None = None) -> Routed:
    service = Routed()
    await service.decided(PLANNED, fallback or to("small"))
    return service


def test_every_refusal_withholds() -> None:
    refusals = {each for each in TrafficReason if each.name.startswith("FALLBACK_")}
    assert refusals - {TrafficReason.FALLBACK_ACTIVE} <= WITHHELD


@pytest.mark.parametrize("refused", sorted(WITHHELD - {TrafficReason.NO_FALLBACK}))
async def test_a_refused_fallback_gives_its_share_back_once(refused: TrafficReason) -> None:
    service = await a_service_that_sends()
    assert service.route.weights == {"chat": 60, "small": 40}
    assert await service.decided(refused, to("small")) == {"chat": 100, "small": 0}
    service.route.weights = {"chat": 50, "small": 50}  # by hand
    assert await service.decided(refused, to("small")) == {"chat": 50, "small": 50}


async def test_a_removed_fallback_gives_its_share_back_until_that_is_done() -> None:
    service = await a_service_that_sends()
    service.route.problem = ("RouteNotWritten", "the server is away")
    assert await service.decided(TrafficReason.NO_FALLBACK, None) == {"chat": 60, "small": 40}
    assert service.state.gateway.problem == service.route.problem
    service.route.problem = None
    assert await service.decided(TrafficReason.NO_FALLBACK, None) == {"chat": 100, "small": 0}
    writes = service.route.writes
    await service.decided(TrafficReason.NO_FALLBACK, None)
    assert service.route.writes == writes


async def test_a_fallback_that_is_gone_gives_back_what_its_service_had() -> None:
    service = await a_service_that_sends(to("small", BackendKind.INFERENCE_SERVICE))
    assert service.route.weights == {"chat": 60, "small-front": 40}
    del service.cache.services[SMALL]
    refused = await service.decided(
        TrafficReason.FALLBACK_NOT_FOUND, to("small", BackendKind.INFERENCE_SERVICE)
    )
    assert refused == {"chat": 100, "small-front": 0}


async def test_another_fallback_gets_nothing_of_what_was_decided_about_the_one_before() -> None:
    service = await a_service_that_sends()
    service.spec = replace(SPEC, fallback=to("tiny"))
    await service.undecided()  # the tick has not seen the edit yet
    assert service.route.weights == {"chat": 100, "small": 0, "tiny": 0}
    assert await service.decided(PLANNED, to("tiny")) == {"chat": 60, "small": 0, "tiny": 40}


@pytest.mark.parametrize("unknown", [TrafficReason.LEARNING, TrafficReason.METRICS_MISSING])
async def test_what_is_not_known_now_leaves_the_share_as_it_is(unknown: TrafficReason) -> None:
    service = await a_service_that_sends()
    assert await service.decided(unknown, to("small")) == {"chat": 60, "small": 40}


async def test_a_share_is_given_back_also_when_the_spec_could_not_be_read_meanwhile() -> None:
    service = await a_service_that_sends()
    service.cache.services[CHAT] = replace(service.cache.services[CHAT], spec=None)
    await service.task.once(service.now)
    assert await service.decided(TrafficReason.NO_FALLBACK, None) == {"chat": 100, "small": 0}


async def test_paused_leaves_the_share_of_a_removed_fallback_until_it_ends() -> None:
    service = await a_service_that_sends()
    paused = await service.decided(TrafficReason.NO_FALLBACK, None, mode=Mode.PAUSED)
    assert paused == {"chat": 60, "small": 40}
    assert await service.decided(TrafficReason.NO_FALLBACK, None) == {"chat": 100, "small": 0}


async def test_a_service_that_names_itself_keeps_all_it_has() -> None:
    service = await a_service_that_sends()
    refused = await service.decided(TrafficReason.FALLBACK_IS_ITSELF, to("chat"))
    assert refused == {"chat": 100, "small": 0}


async def test_a_fallback_removed_while_the_operator_was_away_is_known_by_the_status() -> None:
    service = await a_service_that_sends(to("small", BackendKind.INFERENCE_SERVICE))
    service.restart()
    service.spec, service.status = SPEC, {"fallback": {"backend": "small", "percent": 40}}
    await service.undecided()
    service.status = {}
    removed = await service.decided(TrafficReason.NO_FALLBACK, None)
    assert removed == {"chat": 100, "small-front": 0}


@pytest.mark.parametrize("change", ["written by a user", "observing"])
async def test_after_a_restart_a_route_that_is_not_ours_to_set_stays_as_it_is(change: str) -> None:
    service = await a_service_that_sends()
    service.restart()
    service.route.ours = change != "written by a user"
    mode = Mode.OBSERVE if change == "observing" else Mode.ENFORCE
    refused = await service.decided(TrafficReason.MODEL_NOT_SERVED, to("small"), mode=mode)
    assert refused == {"chat": 60, "small": 40}


async def test_a_fallback_that_a_restarted_operator_has_not_asked_yet_keeps_its_share_for_a_minute() -> None:
    service = await a_service_that_sends()
    service.restart()
    began = service.now
    while service.now - began < UNASKED_SECONDS:
        held = await service.decided(TrafficReason.FALLBACK_UNCHECKED, to("small"))
        assert held == {"chat": 60, "small": 40}
    unanswered = await service.decided(TrafficReason.FALLBACK_UNCHECKED, to("small"))
    assert unanswered == {"chat": 100, "small": 0}


async def test_a_route_that_cannot_be_read_after_a_restart_says_so_and_is_read_again() -> None:
    service = await a_service_that_sends()
    service.restart()
    service.route.unreadable = True
    await service.decided(TrafficReason.MODEL_NOT_SERVED, to("small"))
    assert service.state.gateway.problem == (
        "RouteNotWritten",
        "HTTPRoute prod/chat cannot be read: the server is away",
    )
    service.route.unreadable = False
    refused = await service.decided(TrafficReason.MODEL_NOT_SERVED, to("small"))
    assert refused == {"chat": 100, "small": 0}
    assert service.state.gateway.problem is None
