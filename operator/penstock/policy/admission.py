"""Decide how many requests may be in flight: (spec, seen, estimate, memory, now) -> (decision, memory).

    limit = ready, non-draining replicas x (c* + q)

c* and q come from the table that sizes the replicas in the same tick, so the two agree: while scaling
waits (replicas.max, missing nodes) the limit follows the replicas that are there. Without a model
there is no limit, never a limit of zero. What is decided here is a target; ``policy/ramp.py`` walks to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from penstock.model.decision import Decision, TrafficReason
from penstock.model.observation import Observation
from penstock.model.spec import AdmissionPolicy, Mode, RoutingType, ServiceSpec
from penstock.model.traffic import FleetLimit
from penstock.policy import traffic_explanation as explanation
from penstock.policy.admission_law import AdmissionLaw
from penstock.policy.estimate import Estimate
from penstock.policy.gateway_load import GatewayRates
from penstock.policy.modes import weaker
from penstock.policy.queue_trim import UNTRIMMED, TrimMemory, queue_pressure, trim

SHORTEST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1, 60
LEAST_LIMITED = 0.001  # of the offered requests: a shed request in a thousand is worth saying
# Once limited, a pool is so until it sheds half of what made it so: the share wanders by its own noise.
RECOVERY_RATIO = 0.5
_TOLD_APART = (TrafficReason.WITHIN_LIMIT, TrafficReason.ADMISSION_LIMITED)
SAID_SHED = 0.1  # the sentence is said anew when the shed share moved by this much
SAME_SHED = 0.002  # as exact as the law's table is


@dataclass(frozen=True, slots=True)
class Admission:
    """What the gateways are to enforce. `per_replica` is c* and q; `queue_ratio` what q is multiplied by."""

    per_replica: FleetLimit
    serving: int  # replicas that are ready and not draining
    enforced: bool  # else only published
    queue_ratio: float = 1.0
    shed_ratio: float | None = None  # expected at the offered rate; None: no model of this limit
    retry_after_seconds: int = SHORTEST_RETRY_SECONDS

    @property
    def limit(self) -> FleetLimit:
        """Return the limit of the whole pool as it is now."""
        return fleet_limit(self.per_replica, self.serving, self.queue_ratio)

    @property
    def enforced_limit(self) -> FleetLimit | None:
        """Return the limit to put in force; None: everything passes."""
        return self.limit if self.enforced else None

    def with_serving(self, serving: int) -> Admission:
        """Return the decision for another number of serving replicas: endpoints change between ticks."""
        return Admission(
            self.per_replica,
            serving,
            self.enforced,
            self.queue_ratio,
            self.shed_ratio,
            self.retry_after_seconds,
        )


@dataclass(frozen=True, slots=True)
class AdmissionMemory:
    """What the next decision must know: limits per replica outlive the model that gave them."""

    per_replica: FleetLimit | None = None
    enforcing: bool = False  # what Paused freezes
    limited: bool = False
    trim: TrimMemory = UNTRIMMED
    said: Decision[Admission] | None = None

    @classmethod
    def restored(cls, per_replica: FleetLimit, mode: Mode, reason: str) -> AdmissionMemory:
        """Return the memory after a restart: the limits of a replica, whether in force, and what was said.

        Without it everything would pass until the model is solved again.
        """
        return cls(
            per_replica=per_replica,
            enforcing=mode is Mode.ENFORCE,
            limited=reason == TrafficReason.ADMISSION_LIMITED.value,
        )


def fleet_limit(per_replica: FleetLimit, serving: int, queue_ratio: float = 1.0) -> FleetLimit:
    """Return the limit of `serving` replicas; of one where none serves, so that recovery can begin."""
    count = max(1, serving)
    queued = count * per_replica.queued * queue_ratio
    # Rounded towards q, so that no trim exceeds its bound; 1e-9 for 0.8 x 15 = 12.000000000000002.
    whole = math.floor(queued + 1e-9) if queue_ratio > 1 else math.ceil(queued - 1e-9)
    return FleetLimit(count * per_replica.running, whole)


def decide_admission(
    spec: ServiceSpec,
    seen: Observation,
    estimate: Estimate,
    memory: AdmissionMemory,
    now: float,
    *,
    draining: int = 0,
    rates: GatewayRates | None = None,
) -> tuple[Decision[Admission], AdmissionMemory]:
    """Return the limit to head for and the memory to keep. `value` None: there is no limit.

    `draining` ready replicas get no new requests; `rates` is what the gateways measured, if they serve.
    """
    mode = weaker(spec.mode, spec.admission.mode)
    law = estimate.capacity.admission if estimate.capacity is not None else None
    per_replica = _per_replica(spec, mode, law, memory)
    if spec.admission.policy is AdmissionPolicy.OFF or per_replica is None or seen.pool is None:
        reason, message = explanation.no_limit(spec, seen.pool, mode, estimate)
        kept = AdmissionMemory(per_replica, memory.enforcing, memory.limited, memory.trim)
        return Decision(None, reason, message), kept

    pool = seen.pool
    routed = spec.routing.type is RoutingType.ENVOY
    enforcing = memory.enforcing if mode is Mode.PAUSED else mode is Mode.ENFORCE
    trimmed = memory.trim if spec.admission.policy is AdmissionPolicy.AUTO else UNTRIMMED
    if rates is not None and spec.admission.policy is AdmissionPolicy.AUTO and mode is not Mode.PAUSED:
        trimmed = trim(trimmed, queue_pressure(spec.slo, seen.load, rates), now)
    serving = max(0, pool.ready - draining)
    offered = estimate.demand.offered_per_second if estimate.demand is not None else None
    shed = None
    if law is not None and offered is not None and _is_of(law, per_replica):
        shed = law.shed_ratio(serving, offered)
    measured = turned_away(rates) if rates is not None else shed
    share = measured or 0.0
    limited = memory.limited if measured is None else share > _least_limited(spec, rates, memory)
    reason = _reason(mode, serving, routed=routed, limited=limited)
    if measured is None and _held(spec, law, estimate) and reason in _TOLD_APART:
        reason = TrafficReason.METRICS_MISSING  # the limit is held; whether it binds is not known
    value = _unmoved(
        memory.said, per_replica, serving, enforced=enforcing and routed, trimmed=trimmed, shed=shed
    ) or Admission(
        per_replica=per_replica,
        serving=serving,
        enforced=enforcing and routed,
        queue_ratio=_queue_ratio(trimmed),
        shed_ratio=shed,
        retry_after_seconds=_retry_after(per_replica, law),
    )
    said = _said(memory.said, value, reason, share)
    if said is None:
        message = explanation.admission(spec, value, reason, estimate, rates=rates, draining=draining)
        said = Decision(value, reason, message, explanation.admission_inputs(value, offered, share))
    elif said.value is not value:
        said = Decision(value, reason, said.message, said.inputs)
    if said is memory.said and trimmed is memory.trim and limited is memory.limited:
        return said, memory
    return said, AdmissionMemory(per_replica, enforcing, limited, trimmed, said)


def _per_replica(
    spec: ServiceSpec, mode: Mode, law: AdmissionLaw | None, memory: AdmissionMemory
) -> FleetLimit | None:
    """Return c* and q; what was last known while the model is away, and while Paused."""
    if mode is Mode.PAUSED:
        return memory.per_replica
    if spec.admission.policy is AdmissionPolicy.STATIC and spec.admission.static_in_flight_per_replica:
        return FleetLimit(spec.admission.static_in_flight_per_replica, 0)
    if law is None:
        return memory.per_replica
    known = memory.per_replica
    if known is not None and known.running == law.running and known.queued == law.queued:
        return known
    return FleetLimit(law.running, law.queued)


def _retry_after(per_replica: FleetLimit, law: AdmissionLaw | None) -> int:
    """Return whole seconds in which a full replica works off what it holds.

    The queue alone is gone in half the TTFT objective, and 1 s for everybody would bring a crowd back
    into a pool that is still full: its places come free over one such time.
    """
    if law is None:
        return SHORTEST_RETRY_SECONDS
    seconds = math.ceil(per_replica.in_flight / law.completion_rate_per_second - 1e-9)
    return min(LONGEST_RETRY_SECONDS, max(SHORTEST_RETRY_SECONDS, seconds))


def _held(spec: ServiceSpec, law: AdmissionLaw | None, estimate: Estimate) -> bool:
    """Whether the limit in force is an old one because signals are missing, not just after a restart."""
    return law is None and spec.admission.policy is AdmissionPolicy.AUTO and not estimate.learning


def _least_limited(spec: ServiceSpec, rates: GatewayRates | None, memory: AdmissionMemory) -> float:
    """Return the share shed above which the limit is said to bind: more than the SLO allows where the
    model only expects it, next to nothing where it is measured.
    """
    least = LEAST_LIMITED if rates is not None else max(LEAST_LIMITED, 1 - spec.slo.availability_ratio)
    return least * RECOVERY_RATIO if memory.limited else least


def turned_away(rates: GatewayRates) -> float:
    """Return the share of the offered requests that got a 429, 0..1."""
    return rates.shed / rates.offered if rates.offered > 0 else 0.0


def _reason(mode: Mode, serving: int, *, routed: bool, limited: bool) -> TrafficReason:
    if not routed:
        return TrafficReason.NO_GATEWAY
    if mode is Mode.OBSERVE:
        return TrafficReason.OBSERVING
    if mode is Mode.PAUSED:
        return TrafficReason.PAUSED
    if serving == 0:
        return TrafficReason.NO_READY_REPLICA
    return TrafficReason.ADMISSION_LIMITED if limited else TrafficReason.WITHIN_LIMIT


def _is_of(law: AdmissionLaw, per_replica: FleetLimit) -> bool:
    # A static limit is not split into running and waiting, its law is.
    return law.running + law.queued == per_replica.in_flight


def _queue_ratio(trimmed: TrimMemory) -> float:
    if not trimmed.ratio:
        return 1.0
    return round(1 + trimmed.ratio, 2)  # by whole percents: each move is told to every gateway


def _unmoved(
    said: Decision[Admission] | None,
    per_replica: FleetLimit,
    serving: int,
    *,
    enforced: bool,
    trimmed: TrimMemory,
    shed: float | None,
) -> Admission | None:
    """Return the value as it was while nothing moved that is told: most services at most ticks."""
    before = None if said is None else said.value
    if (
        before is None
        # Mostly the very same; equal ones after a restart, and in a replay.
        or (before.per_replica is not per_replica and before.per_replica != per_replica)
        or before.serving != serving
        or before.enforced is not enforced
        or before.queue_ratio != _queue_ratio(trimmed)
    ):
        return None
    if shed is None or before.shed_ratio is None:
        return before if shed is before.shed_ratio else None
    return before if abs(shed - before.shed_ratio) < SAME_SHED else None


def _said(
    said: Decision[Admission] | None, value: Admission, reason: TrafficReason, share: float
) -> Decision[Admission] | None:
    """Return what was last said while it still holds: same limit, same reason, about the same share."""
    before = None if said is None else said.value
    if said is None or before is None or said.reason is not reason:
        return None
    if abs(said.inputs["shed_ratio"] - share) >= SAID_SHED:
        return None
    if before is value:
        return said
    if before.limit != value.limit or before.enforced != value.enforced or before.serving != value.serving:
        return None
    return said
