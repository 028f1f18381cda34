"""The numbers that status shows, and whether they have moved enough for a look at the whole of it."""

from __future__ import annotations

from penstock.controller.canary_shown import canary_numbers
from penstock.controller.learned_shown import engine_numbers
from penstock.controller.objectives_shown import budget_numbers
from penstock.controller.service_state import Outcome, ServiceState
from penstock.controller.traffic_shown import admission_shown, fallback_shown, offered_shown
from penstock.model.status_change import MOVED_RATIO
from penstock.policy.error_budget import NO_BUDGET
from penstock.policy.memory import NO_ADMISSION
from penstock.policy.objectives_condition import measured


def utilization(outcome: Outcome) -> float | None:
    """Return offered load over what the ready replicas carry at saturation; None where unknown."""
    believed, pool = outcome.estimate, outcome.seen.pool
    if believed.demand is None or believed.capacity is None or pool is None or not pool.ready:
        return None
    return believed.demand.offered_per_second / (pool.ready * believed.capacity.saturation_rate_per_second)


def shown_numbers(outcome: Outcome, state: ServiceState) -> tuple[float | None, ...]:
    """Return the numbers of the whole status, None for those that are not known."""
    found = (*_service_numbers(outcome), *engine_numbers(state.memory.calibration))
    canary = state.canary
    if state.budget is not NO_BUDGET:
        found += budget_numbers(outcome, state.budget)
    return found if canary is None else (*found, *canary_numbers(outcome, canary))


def have_moved(new: tuple[float | None, ...], old: tuple[float | None, ...]) -> bool:
    """Whether a number came, went, or moved by more than the ratio that status shows."""
    if len(new) != len(old):
        return True
    for after, before in zip(new, old, strict=True):
        if after is None or before is None:
            if after is not before:
                return True
        elif abs(after - before) > MOVED_RATIO * abs(before):
            return True
    return False


def _service_numbers(outcome: Outcome) -> tuple[float | None, ...]:
    seen, believed = outcome.seen, outcome.estimate
    pool, load, offered = seen.pool, seen.load, offered_shown(outcome)
    limit, shed, sent = _traffic_numbers(outcome)
    return (
        pool.ready if pool else None,
        pool.current if pool else None,
        load.arrival_rate.value if offered is None else offered,
        limit,
        shed,
        sent,
        None if believed.capacity is None else 1.0,  # utilization is known
        *(
            reading.value
            for objective in outcome.spec.slo.objectives
            if (reading := measured(load, objective)) is not None
        ),
    )


def _traffic_numbers(outcome: Outcome) -> tuple[float | None, float | None, float | None]:
    """Return limit, shed ratio and fallback ratio as far as they are known."""
    admission = admission_shown(outcome, NO_ADMISSION)
    fallback = fallback_shown(outcome)
    return (
        None if admission is None else admission.in_flight_limit,
        None if admission is None else admission.shed_ratio,
        None if fallback is None else fallback.ratio,
    )
