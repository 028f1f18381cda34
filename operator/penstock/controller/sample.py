"""One service's outcome as its metrics show it."""

from __future__ import annotations

from penstock.controller.canary_sample import canary_sample
from penstock.controller.decision_counts import reasons_of
from penstock.controller.service_state import Outcome, ServiceState
from penstock.controller.shown_numbers import utilization
from penstock.model.traffic import GatewayReading
from penstock.policy.error_budget import budgets_of
from penstock.policy.objectives_condition import measured
from penstock.telemetry.fleet_metrics import ServiceSample


def sample_of(outcome: Outcome, state: ServiceState) -> ServiceSample:
    """Return the sample of a service; what is not known is None, so that it has no series."""
    spec, seen, believed = outcome.spec, outcome.seen, outcome.estimate
    pool, demand = seen.pool, believed.demand
    gateway, share = state.gateway, outcome.fallback.value
    latest = gateway.memory.readings[-1] if gateway.memory.readings else None
    readings = {each.name: measured(seen.load, each) for each in spec.slo.objectives}
    return ServiceSample(
        namespace=spec.key.namespace,
        name=spec.key.name,
        reason=outcome.decision.reason.value,
        desired_replicas=outcome.decision.value,
        target_replicas=pool.target if pool else None,
        ready_replicas=pool.ready if pool else None,
        stuck_replicas=pool.stuck if pool else None,
        offered_per_second=demand.offered_per_second if demand else None,
        bound_per_second=believed.rate_to_serve if demand else None,
        utilization_ratio=utilization(outcome),
        queue_depth=seen.load.waiting.value,
        lead_seconds=demand.lead_seconds if demand else None,
        speed_ratio=state.memory.speed.in_force if state.memory.speed.believed else None,
        cost_per_hour=spec.cost.per_replica_hour * pool.target if spec.cost and pool else None,
        in_flight_limit=gateway.limit.in_flight if gateway.limit else None,
        in_flight=latest.in_flight if latest else None,
        fallback_ratio=None if share is None else share.offered_ratio if share.enforced else 0.0,
        requests={} if latest is None else requests_by_outcome(latest),
        measured_seconds={
            name: reading.value
            for name, reading in readings.items()
            if reading is not None and reading.value is not None
        },
        objective_seconds={each.name: each.seconds for each in spec.slo.objectives},
        budget_remaining_ratio={
            each.name: left
            for each in budgets_of(spec.slo)
            if (left := state.budget.remaining_ratio(each)) is not None
        },
        objective_requests={name: each.requests for name, each in state.counted.items()},
        objective_missed={name: each.missed for name, each in state.counted.items()},
        reasons=reasons_of(outcome),
        canary=canary_sample(outcome, state.canary, latest),
    )


def requests_by_outcome(reading: GatewayReading) -> dict[tuple[str, str], float]:
    """Return the requests of each class by what became of them."""
    counts: dict[tuple[str, str], float] = {}
    for name, count in reading.classes.items():
        counts[name, "admitted"] = max(0.0, count.offered - count.shed - count.spilled)
        counts[name, "shed"] = count.shed
        counts[name, "spilled"] = count.spilled
    return counts
