"""What is left of an objective's error budget: a p95 objective may be missed by 5 % of the requests.

remaining = 1 - missed / allowed, over the last `slo.windowDays` days; negative when it is overspent. Allowed
is 1 - percentile of the requests, or 1 - availability. Requests are counted by day (UTC), so the window
moves by whole days. Google, The Site Reliability Workbook, chapter 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.model.duration import format_duration
from penstock.model.objective_counts import DAY_SECONDS, NONE_COUNTED, Counted, Days, format_percent, total
from penstock.model.spec import Objective, Slo
from penstock.model.value import value
from penstock.queueing.arithmetic import error_budget

AVAILABILITY = "availability"
Key = tuple[str, str]  # name and target as status shows them: another target is another budget


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget of a service: `objective_ratio` of the requests must meet the objective."""

    key: Key
    objective_ratio: float

    @property
    def name(self) -> str:
        """``ttft.p95`` or ``availability``."""
        return self.key[0]


@value(frozen=True, slots=True)
class BudgetMemory:
    """What was counted by day for each budget."""

    days: Mapping[Key, Days]

    def of(self, budget: Budget) -> Days:
        """Return what was counted; {} where nothing was."""
        return self.days.get(budget.key, {})

    def remaining_ratio(self, budget: Budget) -> float | None:
        """Return what is left of a budget, 1 is all of it; None while there were no requests.

        Where nothing may miss (availability 100 %) all is left until something does, and then nothing.
        """
        counted = total(self.of(budget))
        if counted.requests <= 0:
            return None
        allowed = error_budget(budget.objective_ratio, counted.requests)
        if allowed <= 0:
            return 0.0 if counted.missed > 0 else 1.0
        return 1.0 - counted.missed / allowed


NO_BUDGET = BudgetMemory({})


def budgets_of(slo: Slo) -> tuple[Budget, ...]:
    """Return a service's budgets: of its latency objectives in their order, then of its availability."""
    return (*map(latency_budget, slo.objectives), availability_budget(slo))


def latency_budget(objective: Objective) -> Budget:
    """Return the budget of a latency objective."""
    return Budget((objective.name, format_duration(objective.seconds)), objective.percentile)


def availability_budget(slo: Slo) -> Budget:
    """Return the budget of requests that are not answered."""
    return Budget((AVAILABILITY, format_percent(slo.availability_ratio)), slo.availability_ratio)


def count(memory: BudgetMemory, slo: Slo, found: Mapping[Key, Counted], at: float) -> BudgetMemory:
    """Return the memory with what was `found` just before `at` (Unix seconds).

    What was not found keeps what it has: not measured is not met. Days beyond the window go, and budgets
    that the service does not have any more.
    """
    today = int(at // DAY_SECONDS)
    kept: dict[Key, Days] = {}
    for budget in budgets_of(slo):
        days = {day: each for day, each in memory.of(budget).items() if day > today - slo.window_days}
        counted = found.get(budget.key, NONE_COUNTED)
        if counted.requests > 0:
            days[today] = days.get(today, NONE_COUNTED) + counted
        if days:
            kept[budget.key] = days
    return BudgetMemory(kept)
