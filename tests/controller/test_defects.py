"""A defect that one service meets is shown of it, counted and logged; every other service is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from fakes.canary_specs import inference_service, owned
from fakes.canary_world import CanaryWorld
from fakes.world import World, _merged, chat
from penstock.controller import loop, revisions
from penstock.controller import step as controller_step
from penstock.controller.cache import FleetCache, KnownService
from penstock.controller.canaries import Canaries
from penstock.controller.service_state import Outcome, ServiceState
from penstock.controller.step import StepContext, step
from penstock.kube.api import Resource
from penstock.model.observation import Load
from penstock.model.spec import ServiceKey, ServiceSpec
from penstock.policy.capacity_problem import Engine
from penstock.policy.memory import ServiceMemory

UNLUCKY = ServiceKey("prod", "a-unlucky")


class TwoServices(World):
    """A world with another service, which comes first and only looks at the same Deployment."""

    def __post_init__(self) -> None:
        self.unlucky: dict[str, Any] = {}
        super().__post_init__()

    def _watch(self) -> None:
        about = {"namespace": "prod", "name": UNLUCKY.name, "uid": "u-2", "generation": 1}
        spec = chat() | {"mode": "Observe"}
        self.cache.see_service({"metadata": about, "spec": spec, "status": self.unlucky})
        super()._watch()

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Any, **more: Any
    ) -> dict[str, Any]:
        if name != UNLUCKY.name:
            return await super().patch(resource, namespace, name, body, **more)
        self.unlucky = _merged(self.unlucky, body["status"])
        return {}

    @property
    def accepted(self) -> tuple[str, str]:
        """Reason and message of the other service's condition Accepted."""
        found = next(each for each in self.unlucky["conditions"] if each["type"] == "Accepted")
        return found["reason"], found["message"]


async def test_a_defect_at_one_service_stops_no_other_and_is_a_condition_until_it_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = TwoServices(rate=lambda t: 30.0 if t < 660 else 90.0, spec=chat(), target=2)

    def unlucky(
        context: StepContext, spec: ServiceSpec, state: ServiceState, load: Load | None, now: float
    ) -> Outcome:
        if spec.key == UNLUCKY and now - world.began >= 600 and not mended:
            raise ZeroDivisionError("float division by zero")
        return step(context, spec, state, load, now)

    mended = False
    monkeypatch.setattr(loop, "step", unlucky)
    await world.run(600)
    assert world.accepted[0] == "OtherAutoscaler", "it only looks at what the other one scales"
    assert world.unlucky["replicas"]["desired"] >= 2
    await world.run(300)
    assert world.target > 2, "the other one is scaled all the same"
    assert world.accepted == (
        "InternalError",
        "a defect of Penstock met this service: ZeroDivisionError: float division by zero; its target stays, "
        "report it with the operator's log",
    )
    assert world.unlucky["replicas"]["desired"] >= 2, "what was shown before is still there"
    assert world.metrics.registry.get_sample_value("penstock_failed_steps_total") == 20
    mended = True
    await world.run(120)
    assert world.accepted[0] == "OtherAutoscaler"


@pytest.mark.parametrize("where", ["its series", "its revisions"])
async def test_a_defect_before_the_decision_stops_no_other_either(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = TwoServices(rate=lambda t: 30.0 if t < 660 else 90.0, spec=chat(), target=2)
    in_front = FleetCache.services_in_front

    def unlucky_in_front(cache: FleetCache, spec: ServiceSpec) -> Sequence[str]:
        if spec.key == UNLUCKY:
            raise KeyError("selector")
        return in_front(cache, spec)

    class UnluckyCanaries:
        """Of the one service they fail; the others have none."""

        def begin_tick(self) -> None: ...
        def begin(self, known: KnownService, state: ServiceState, now: float) -> KnownService:
            if known.key == UNLUCKY:
                raise KeyError("selector")
            return known

        async def look(self, now: float) -> None: ...
        async def act(self, now: float) -> None: ...

    await world.run(600)
    if where == "its series":
        monkeypatch.setattr(FleetCache, "services_in_front", unlucky_in_front)
    else:
        world.loop._parts = replace(world.loop._parts, canaries=cast(Canaries, UnluckyCanaries()))
    await world.run(300)
    assert world.target > 2, "the other one is scaled all the same"
    assert world.accepted[0] == "InternalError"
    assert world.metrics.registry.get_sample_value("penstock_failed_steps_total") == 20


async def test_a_defect_where_a_revision_is_made_stops_no_tick_and_is_said_of_the_canary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = revisions.revision_deployment

    def unlucky(spec: ServiceSpec, *others: Any) -> dict[str, Any]:
        if spec.key == UNLUCKY:
            raise KeyError("containerPort")
        return made(spec, *others)

    def healthy() -> tuple[str, str, str]:
        status = world.cluster.objects["InferenceService", UNLUCKY.name]["status"]
        found = next(each for each in status["conditions"] if each["type"] == "CanaryHealthy")
        return found["status"], found["reason"], found["message"]

    world, other = CanaryWorld(owned()), inference_service(owned())
    world.cluster.put(other | {"metadata": other["metadata"] | {"name": UNLUCKY.name, "uid": "psvc-2"}})
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(revisions, "revision_deployment", unlucky)
        await world.until(lambda: world.healthy[1] == "NothingToTry", within=120)
        await world.seconds(60)
        assert healthy() == (
            "False",
            "InternalError",
            "a defect of Penstock met its revisions: KeyError: 'containerPort'; report it with the "
            "operator's log",
        )
    told = [each for each in logs if each["event"] == "a canary could not be acted upon"]
    assert [each["service"] for each in told] == [str(UNLUCKY)], "once, not at every tick"
    failed = world.loop._parts.metrics.registry.get_sample_value("penstock_failed_steps_total")
    assert failed is not None
    assert failed > 4
    await world.seconds(120)
    assert healthy()[:2] == ("True", "NothingToTry")


async def test_a_status_that_cannot_be_read_is_learned_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(status: object, now: float) -> ServiceMemory:
        raise TypeError("a list is no number")

    monkeypatch.setattr(loop, "restored_memory", unreadable)
    world = World(rate=lambda _: 60.0, spec=chat(), target=2)
    await world.run(300)
    assert world.target >= 4


async def test_a_spec_that_meets_a_defect_says_so_until_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> Engine:
        raise RuntimeError("no engine for that")

    world = World(rate=lambda _: 60.0, spec=chat(), target=2)
    with monkeypatch.context() as patched:
        patched.setattr(controller_step, "resolve_engine", broken)
        await world.run(120)
        assert world.condition("Accepted")["reason"] == "InternalError"
    await world.run(300)
    assert world.condition("Accepted")["reason"] == "Accepted"
    assert world.target >= 4
