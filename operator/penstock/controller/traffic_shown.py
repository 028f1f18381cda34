"""What status shows of load, limits and fallback: measured where gateways enforce them, else expected.

What is shed is shown only where something can: in `Shed%` a reader takes 3 for refused requests.
"""

from __future__ import annotations

from penstock.controller.service_state import Outcome
from penstock.model.resource_status import AdmissionShown, FallbackShown, LoadSource
from penstock.model.spec import AdmissionPolicy
from penstock.policy.admission import AdmissionMemory, turned_away


def admission_shown(outcome: Outcome, memory: AdmissionMemory) -> AdmissionShown | None:
    """Return the limit on requests in flight; None where there is none.

    Where the replicas are not known the limit of one of them is still shown: a restarted operator
    reads it back.
    """
    value = outcome.admission.value
    if value is None:
        held = memory.per_replica
        if held is None or outcome.spec.admission.policy is AdmissionPolicy.OFF:
            return None
        return AdmissionShown(None, held.running, held.queued, memory.enforcing)
    shed = value.shed_ratio if outcome.spec.turns_away else None
    if value.enforced and outcome.rates is not None:
        shed = turned_away(outcome.rates)
    return AdmissionShown(
        in_flight_limit=value.limit.in_flight,
        running_per_replica=value.per_replica.running,
        queued_per_replica=value.per_replica.queued,
        enforced=value.enforced,
        shed_ratio=shed,
    )


def fallback_shown(outcome: Outcome) -> FallbackShown | None:
    """Return what goes to the fallback; None where there is none that may be used."""
    value, fallback = outcome.fallback.value, outcome.spec.fallback
    if value is None or fallback is None:
        return None
    ratio, rates = value.offered_ratio, outcome.rates
    if value.enforced and rates is not None:
        ratio = rates.spilled / rates.offered if rates.offered > 0 else 0.0
    return FallbackShown(fallback.backend.name, ratio)


def offered_shown(outcome: Outcome) -> float | None:
    """Return the offered rate that decisions go by, 1/s; None where it is not known.

    What engines serve is less than that in an overload, and beside a canary that they do not see.
    """
    demand = outcome.estimate.demand
    return outcome.seen.load.offered_rate.value if demand is None else demand.offered_per_second


def load_source(outcome: Outcome) -> LoadSource:
    """Return where the offered rate was counted: at the gateways once they were read for half a window."""
    counted = outcome.rates is not None and outcome.seen.load.offered_rate.value is not None
    return LoadSource.GATEWAY if counted else LoadSource.ENGINE
