"""From a service's decisions to what its gateways enforce now."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from penstock.controller.endpoints import EndpointCache
from penstock.controller.service_state import Outcome, ServiceState
from penstock.model.spec import BackendKind, ServiceKey, ServiceSpec
from penstock.model.traffic import (
    Backend,
    CanaryRoute,
    Endpoint,
    FallbackPlan,
    FleetLimit,
    RoutePlan,
    RouteState,
)
from penstock.policy.arms import canary_room, limit_of_both
from penstock.policy.fallback import FallbackShare
from penstock.policy.ramp import ramp
from penstock.policy.request_classes import class_shares
from penstock.queueing.balancer import Balancer

NO_SHARE = FallbackShare(planned_ratio=0.0, in_flight_limit=0, enforced=True)


def route_state(
    outcome: Outcome,
    state: ServiceState,
    backend: Backend,
    fallback: Backend | None,
    endpoints: EndpointCache,
    *,
    listen_port: int,
    now: float,
    canary: CanaryRoute | None = None,
    fallback_closed: Collection[str] = (),
) -> RouteState:
    """Return the route of a service now: its limit a step further towards what was decided.

    `canary` as decided; a weight of 0 keeps its clusters while its streams drain. `fallback_closed` are pods
    behind the fallback that get no new requests, because their own service drains them.
    """
    gateway, spec = state.gateway, outcome.spec
    own = endpoints.of(backend.namespace, backend.service, backend.port, draining=gateway.closed(now))
    admission = outcome.admission.value
    target, per_replica = None, None
    if admission is not None and admission.enforced:
        per_replica = FleetLimit(
            admission.per_replica.running, round(admission.per_replica.queued * admission.queue_ratio)
        )
        target = admission.with_serving(sum(each.serving for each in own)).limit
    tried: tuple[Endpoint, ...] = ()
    if canary is not None:
        to = canary.backend
        tried = endpoints.of(to.namespace, to.service, to.port, draining=gateway.closed(now))
        room = canary_room(canary, per_replica, sum(each.serving for each in tried))
        canary = replace(canary, in_flight_limit=room)
        target = limit_of_both(target, canary.weight_percent, room)
    gateway.limit = ramp(gateway.limit, target, now - gateway.limited_at)
    gateway.limited_at = now
    spill = None
    there: tuple[Endpoint, ...] = ()
    if fallback is not None and fallback != backend and spec.fallback is not None:
        # Its clusters stay while nothing may go there. An operator that has just started has not checked it
        # yet: without them, the routes of the one before named clusters that were gone, and answered 503.
        decided = outcome.fallback.value
        share = decided if decided is not None and decided.enforced else NO_SHARE
        spill = FallbackPlan(
            backend=fallback,
            planned_ratio=share.planned_ratio,
            in_flight_limit=share.in_flight_limit,
            service=fallback_service(spec),
            classes=spec.fallback.classes,
        )
        there = endpoints.of(fallback.namespace, fallback.service, fallback.port, draining=fallback_closed)
    plan = RoutePlan(
        key=spec.key,
        uid=spec.uid,
        backend=backend,
        listen_port=listen_port,
        per_replica=per_replica,
        limit=gateway.limit,
        class_header=spec.admission.class_header,
        default_class=spec.admission.default_class,
        classes=class_shares(spec.admission),
        fallback=spill,
        canary=canary,
        retry_after_seconds=1 if admission is None else admission.retry_after_seconds,
        balanced_fully=spec.balancer is Balancer.LEAST_REQUESTS,
        tls_secret=spec.routing.tls_secret,
    )
    return RouteState(plan, own, there, tried)


def fallback_service(spec: ServiceSpec) -> ServiceKey | None:
    """Return the InferenceService that a service falls back to; None for a plain Service."""
    if spec.fallback is None or spec.fallback.backend.kind is not BackendKind.INFERENCE_SERVICE:
        return None
    return ServiceKey(spec.key.namespace, spec.fallback.backend.name)
