"""The sentences of admission: how many may be in flight, where that comes from, what it turns away.

Built only when they will be said: see ``policy/admission.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from penstock.model.decision import TrafficReason
from penstock.model.observation import Pool
from penstock.model.spec import AdmissionPolicy, Mode, RoutingType, ServiceSpec
from penstock.policy import wording
from penstock.policy.engine_flags import engine_flags
from penstock.policy.estimate import Estimate, NothingToCarry
from penstock.policy.gateway_load import GatewayRates

if TYPE_CHECKING:
    from penstock.policy.admission import Admission

_HYPOTHETICAL = (TrafficReason.OBSERVING, TrafficReason.NO_GATEWAY)


def no_limit(
    spec: ServiceSpec, pool: Pool | None, mode: Mode, estimate: Estimate
) -> tuple[TrafficReason, str]:
    """Return why there is no limit: everything passes."""
    passes = "every request is let in"
    if spec.admission.policy is AdmissionPolicy.OFF:
        return TrafficReason.OFF, f"admission.policy is Off: {passes}"
    if pool is None:
        return TrafficReason.TARGET_MISSING, f"{spec.target} does not exist: there is nothing to limit"
    if mode is Mode.PAUSED:
        return TrafficReason.PAUSED, f"paused before there was a limit: {passes}"
    if isinstance(estimate.capacity, NothingToCarry):
        return TrafficReason.LEARNING, f"no requests have been seen yet: {passes}"
    return missing(estimate), f"{passes} until there is a limit: {estimate.missing}"


def missing(estimate: Estimate) -> TrafficReason:
    """Return why there is no model of the service now."""
    return TrafficReason.LEARNING if estimate.learning else TrafficReason.METRICS_MISSING


def admission(
    spec: ServiceSpec,
    value: Admission,
    reason: TrafficReason,
    estimate: Estimate,
    *,
    rates: GatewayRates | None,
    draining: int,
) -> str:
    """Say the limit: ``392 in flight allowed: 4 ready replicas x (95 running + 3 queued)``."""
    would = "would be " if reason in _HYPOTHETICAL else ""
    text = f"{value.limit.in_flight} in flight {would}allowed: {_product(spec, value, draining)}"
    if estimate.capacity is None and spec.admission.policy is AdmissionPolicy.AUTO:
        text += f", held: {estimate.missing}" if reason is not TrafficReason.PAUSED else ""
    effect = _effect(value, estimate, rates, hypothetical=bool(would))
    text += f"; {effect}" if effect else ""
    if reason is TrafficReason.PAUSED:
        return f"{text}; paused: the limit per replica stays" if value.enforced else f"{text}; paused"
    if reason is TrafficReason.NO_GATEWAY:
        return f"{text}; {_without_gateway(spec, value)}"
    return f"{text}; observing: nothing is refused" if reason is TrafficReason.OBSERVING else text


def admission_inputs(value: Admission, offered: float | None, shed_ratio: float) -> Mapping[str, float]:
    """Return the inputs that mattered, by name with units."""
    inputs = {
        "serving_replicas": float(value.serving),
        "running_per_replica": float(value.per_replica.running),
        "queued_per_replica": float(value.per_replica.queued),
        "queue_ratio": value.queue_ratio,
        "shed_ratio": shed_ratio,  # measured where gateways serve, else expected
    }
    if offered is not None:
        inputs["offered_per_second"] = offered
    return inputs


def _product(spec: ServiceSpec, value: Admission, draining: int) -> str:
    each = value.per_replica
    if spec.admission.policy is AdmissionPolicy.STATIC:
        share = f"{each.running} (admission.static)"
    else:
        share = f"({each.running} running + {each.queued} queued)"
    if value.serving == 0:
        return f"none of the replicas is ready, the first to come may take {share}"
    count = "1 ready replica" if value.serving == 1 else f"{value.serving} ready replicas"
    text = f"{count} x {share}"
    if value.queue_ratio != 1:
        sign = "+" if value.queue_ratio > 1 else "-"
        text += f", the queue {sign}{wording.percent(abs(value.queue_ratio - 1))} by measured waits"
    return f"{text}, {draining} draining" if draining else text


def _effect(value: Admission, estimate: Estimate, rates: GatewayRates | None, *, hypothetical: bool) -> str:
    """Say what happens to the excess: as measured where the gateways serve, else as the model expects."""
    if rates is not None and rates.offered > 0 and not hypothetical:
        at = f"at {wording.rate(rates.offered)} req/s"
        spilled, shed = rates.spilled / rates.offered, rates.shed / rates.offered
        elsewhere = f"{wording.percent(spilled)} go to the fallback" if spilled >= 0.0005 else ""
        refused = f"{wording.percent(shed)} are shed" if shed >= 0.0005 else ""
        return f"{at} " + (" and ".join(each for each in (elsewhere, refused) if each) or "nothing is shed")
    if estimate.demand is None or value.shed_ratio is None:
        return ""
    at = f"at {wording.rate(estimate.demand.offered_per_second)} req/s"
    if value.shed_ratio < 0.0005:
        return f"{at} nothing {'would be' if hypothetical else 'is'} shed"
    return f"{at} {wording.percent(value.shed_ratio)} {'would be' if hypothetical else 'are'} shed"


def _without_gateway(spec: ServiceSpec, value: Admission) -> str:
    each = value.per_replica
    flags = engine_flags(spec.engine.type, running=each.running, queued=each.queued)
    start = f" or start the engine with {' '.join(flags)}" if flags else ""
    if spec.routing.type is RoutingType.GATEWAY_API:
        return f"an HTTPRoute cannot limit requests in flight: set routing.type: Envoy{start}"
    return f"nothing is in the request path to enforce it: set routing.type: Envoy{start}"
