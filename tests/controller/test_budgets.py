"""Error budgets of a running service: counted beside the ticks, shown, and kept over a restart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes.builders import service
from fakes.gateway_world import GatewayWorld, routed_chat
from fakes.world import World, chat
from penstock.controller.between_ticks import BetweenTicks
from penstock.controller.budgets import EVERY_SECONDS, Budgets
from penstock.controller.service_state import ServiceState
from penstock.metrics_source.base import DEFAULT_LIMITS, ErrorKind, QueryError, QueryLimits, QueryResult
from penstock.metrics_source.identity import IdentifyBy, SeriesSettings, Watched
from penstock.model.objective_counts import Counted
from penstock.model.traffic import ClassCount, GatewayReading
from penstock.policy.error_budget import latency_budget
from penstock.policy.gateway_load import GatewayMemory

SETTINGS = SeriesSettings(identify_by=IdentifyBy.SERVICE)


class Histograms:
    """A Prometheus in which `slow` of 1,000 requests take longer than every objective."""

    def __init__(self) -> None:
        self.slow = 0.0
        self.up = True
        self.asked: list[str] = []

    async def instant(self, query: str, at: float, limits: QueryLimits = DEFAULT_LIMITS) -> QueryResult:
        self.asked.append(query)
        if not self.up:
            raise QueryError(ErrorKind.UNAVAILABLE, query, "cannot reach Prometheus")
        labels = {"namespace": "prod", "service": "chat"}
        fast = 1000.0 - self.slow
        return QueryResult([(labels | {"le": "0.001"}, fast), (labels | {"le": "+Inf"}, 1000.0)])


class Counting:
    """A world whose budgets are counted every five minutes."""

    def __init__(self) -> None:
        self.world = World(rate=lambda _: 10.0, spec=chat())
        self.prometheus = Histograms()

    async def minutes(self, count: int) -> None:
        for _ in range(count // 5):
            await self.world.run(EVERY_SECONDS)
            states = self.world.loop.states
            budgets = Budgets(self.prometheus, SETTINGS, states, BetweenTicks())  # type: ignore[arg-type]
            watched = [state.watched for state in states.values() if state.watched is not None]
            await budgets.once(watched, self.world.now)

    def objective(self, name: str = "ttft.p95") -> dict[str, Any]:
        return next(each for each in self.world.status["objectives"] if each["name"] == name)


async def test_the_budget_that_is_left_and_its_days_are_shown() -> None:
    counting = Counting()
    counting.prometheus.slow = 25.0
    await counting.minutes(20)
    shown = counting.objective()
    assert shown["budgetRemainingPercent"] == 50
    assert shown["days"][-1].startswith("1970-01-12: ")
    assert counting.world.status["budgetRemainingPercent"] == 50
    assert counting.prometheus.asked[0] == (
        "sum by (namespace, service, le) (increase(vllm:time_to_first_token_seconds_bucket"
        '{namespace=~"prod",service=~"chat"}[300s]))'
    )


async def test_what_is_not_counted_is_not_shown() -> None:
    counting = Counting()
    counting.prometheus.up = False
    await counting.minutes(20)
    assert "budgetRemainingPercent" not in counting.world.status
    assert "days" not in counting.objective()


async def test_an_outage_of_prometheus_neither_spends_nor_fills_a_budget() -> None:
    counting = Counting()
    counting.prometheus.slow = 25.0
    await counting.minutes(20)
    before = counting.objective()
    counting.prometheus.up = False
    await counting.minutes(30)
    assert counting.objective()["budgetRemainingPercent"] == before["budgetRemainingPercent"]


async def test_a_restarted_operator_goes_on_with_the_days_of_status() -> None:
    counting = Counting()
    counting.prometheus.slow = 100.0
    await counting.minutes(40)
    await counting.world.run(60)
    before = counting.objective()
    assert before["budgetRemainingPercent"] == -100
    counting.world.restart_operator()
    counting.prometheus.slow = 0.0
    await counting.minutes(5)
    (state,) = counting.world.loop.states.values()
    assert state.outcome is not None
    (day,) = state.budget.of(latency_budget(state.outcome.spec.slo.objectives[0])).values()
    assert day.missed == pytest.approx(800.0, rel=0.11)  # a tenth may be lost
    assert day.requests == pytest.approx(9000.0, rel=0.11)


async def test_what_gateways_turn_away_spends_the_availability() -> None:
    world = GatewayWorld(rate=lambda _: 80.0, spec=routed_chat(min=2, max=2), target=2)
    prometheus = Histograms()
    prometheus.up = False  # gateways are read by ourselves
    await world.seconds(300)
    budgets = Budgets(prometheus, SETTINGS, world.loop.states, BetweenTicks())  # type: ignore[arg-type]
    await budgets.once([state.watched for state in world.loop.states.values() if state.watched], world.now)
    await world.seconds(120)
    shown = next(each for each in world.status["objectives"] if each["name"] == "availability")
    share = world.shed / world.offered
    assert shown["target"] == "99.5%"
    assert float(shown["measured"].removesuffix("%")) == pytest.approx(100 * (1 - share), abs=3)
    assert shown["budgetRemainingPercent"] == pytest.approx(100 * (1 - share / 0.005), rel=0.1)
    assert world.status["budgetRemainingPercent"] == shown["budgetRemainingPercent"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (("interactive",), (), Counted(200.0, 10.0)),
        ((), ("interactive",), Counted(100.0, 0.0)),
        (("batch",), ("interactive",), Counted(100.0, 0.0)),
    ],
    ids=["all", "one", "another"],
)
async def test_other_classes_in_the_objective_book_no_request_of_the_past(
    before: tuple[str, ...], after: tuple[str, ...], expected: Counted
) -> None:
    spec, state = service(), ServiceState("u-1")
    prometheus = Histograms()
    prometheus.up = False  # gateways are read by ourselves
    states = {spec.key: state}
    budgets = Budgets(prometheus, SETTINGS, states, BetweenTicks())  # type: ignore[arg-type]

    async def count(classes: tuple[str, ...], more: float) -> Counted:
        """Return what is counted in all after `more` of each class, of batch a tenth shed."""
        counts = {
            "interactive": ClassCount(400_000.0 + more),
            "batch": ClassCount(600_000.0 + more, 300_000.0 + more / 10),
        }
        state.gateway.memory = GatewayMemory((GatewayReading(more, 2, classes=counts),))
        slo = replace(spec.slo, classes=classes)
        await budgets.once([Watched(replace(spec, slo=slo))], EVERY_SECONDS)
        return state.counted["availability"]

    first = await count(before, 0.0)
    assert await count(after, 100.0) == first + expected
