"""What is left of an objective's error budget: a p95 objective may be missed by 5 % of the requests.

remaining = 1 - missed / ((1 - percentile) x requests), over the last `slo.windowDays` days; negative when it
is overspent. Requests are counted by day (UTC), so the window moves by whole days.
Google, The Site Reliability Workbook, chapter 5.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.model.duration import format_duration
from penstock.model.objective_counts import DAY_SECONDS, NONE_COUNTED, Counted, Days, total
from penstock.model.spec import Objective, Slo
from penstock.model.value import value

Key = tuple[str, str]  # name and target as status shows them: another target is another budget


@value(frozen=True, slots=True)
class BudgetMemory:
    """What was counted by day for each objective."""

    days: Mapping[Key, Days]

    def of(self, objective: Objective) -> Days:
        """Return what was counted of an objective; {} where nothing was."""
        return self.days.get(key_of(objective), {})


NO_BUDGET = BudgetMemory({})


def key_of(objective: Objective) -> Key:
    """Return what a budget is told by."""
    return objective.name, format_duration(objective.seconds)


def count(memory: BudgetMemory, slo: Slo, found: Mapping[Objective, Counted], at: float) -> BudgetMemory:
    """Return the memory with what was `found` just before `at` (Unix seconds).

    Objectives that were not found keep what they have: not measured is not met. Days beyond the window go,
    and objectives that the service does not have any more.
    """
    today = int(at // DAY_SECONDS)
    kept: dict[Key, Days] = {}
    for objective in slo.objectives:
        days = {day: each for day, each in memory.of(objective).items() if day > today - slo.window_days}
        counted = found.get(objective, NONE_COUNTED)
        if counted.requests > 0:
            days[today] = days.get(today, NONE_COUNTED) + counted
        if days:
            kept[key_of(objective)] = days
    return BudgetMemory(kept)


def remaining_ratio(days: Days, percentile: float) -> float | None:
    """Return what is left of the budget, 1 is all of it; None while there were no requests."""
    counted = total(days)
    if counted.requests <= 0:
        return None
    return 1.0 - counted.missed / ((1.0 - percentile) * counted.requests)
