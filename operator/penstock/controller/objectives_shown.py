"""A service's objectives as status shows them: what is measured, and what is left of their budgets."""

from __future__ import annotations

from penstock.controller.service_state import Outcome, ServiceState
from penstock.model.objective_counts import total
from penstock.model.resource_status import ObjectiveProgress, availability_progress, latency_progress
from penstock.policy.availability import measured_availability
from penstock.policy.error_budget import BudgetMemory, availability_budget, budgets_of, latency_budget
from penstock.policy.objectives_condition import measured


def objectives_shown(outcome: Outcome, state: ServiceState) -> tuple[ObjectiveProgress, ...]:
    """Return the latency objectives; availability too, where gateways have counted requests."""
    slo, load = outcome.spec.slo, outcome.seen.load
    shown = []
    for each in slo.objectives:
        budget = latency_budget(each)
        left = state.budget.remaining_ratio(budget)
        shown.append(latency_progress(each, measured(load, each), left, state.budget.of(budget)))
    answered = measured_availability(state.gateway.memory, slo)
    budget = availability_budget(slo)
    days = state.budget.of(budget)
    if answered is not None or days:
        left = state.budget.remaining_ratio(budget)
        shown.append(availability_progress(slo.availability_ratio, answered, left, days))
    return tuple(shown)


def budget_numbers(outcome: Outcome, memory: BudgetMemory) -> tuple[float | None, ...]:
    """Return requests and what is left, by budget."""
    return tuple(
        number
        for each in budgets_of(outcome.spec.slo)
        for number in (total(memory.of(each)).requests, memory.remaining_ratio(each))
    )
