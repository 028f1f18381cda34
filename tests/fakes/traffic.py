"""One-line builders for tests of admission and fallback: a law, a routed service, what gateways measured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fakes.builders import LinearCapacity, service
from penstock.model.spec import (
    AdmissionSpec,
    BackendKind,
    BackendRef,
    FallbackSpec,
    Mode,
    RequestClass,
    RoutingSpec,
    RoutingType,
    ServiceKey,
    ServiceSpec,
)
from penstock.model.traffic import GatewayReading
from penstock.policy.admission_law import AdmissionLaw
from penstock.policy.demand import Demand
from penstock.policy.estimate import Estimate
from penstock.policy.gateway_load import ClassRate, GatewayRates

INTERACTIVE = RequestClass("interactive", 100, 100)
BATCH = RequestClass("batch", 0, 70)


def law(running: int = 95, queued: int = 3, rate: float = 18.86) -> AdmissionLaw:
    """A law without chance: what exceeds `rate` requests a second per replica is turned away."""
    return AdmissionLaw(running, queued, rate, (1,), ((0.0, 0.5, 1.0, 1.0),), (0.0, 0.5, 1.0, 4.0))


@dataclass(frozen=True)
class LimitedCapacity(LinearCapacity):
    """Each replica carries 18 requests a second within the objectives."""

    per_replica: float = 18.0
    admission: AdmissionLaw | None = field(default_factory=law)


def believed(offered: float, *, lead: float = 120.0, **fields: object) -> Estimate:
    """An estimate of a service whose replicas run 95 requests, and 3 may wait."""
    return Estimate(Demand(offered, 0.0, lead), **({"capacity": LimitedCapacity()} | fields))  # type: ignore[arg-type]


def routed(
    *,
    mode: Mode = Mode.ENFORCE,
    routing: RoutingType = RoutingType.ENVOY,
    fallback: FallbackSpec | None = None,
    admission: AdmissionSpec | None = None,
    name: str = "chat",
    **replicas: object,
) -> ServiceSpec:
    """A service ``prod/chat`` behind Envoy; keyword arguments are fields of ReplicaSpec."""
    spec = service(mode=mode, **replicas)
    return replace(
        spec,
        key=ServiceKey("prod", name),
        routing=RoutingSpec(routing),
        admission=admission or AdmissionSpec(),
        fallback=fallback,
    )


def to(name: str = "chat-small", *, kind: BackendKind = BackendKind.INFERENCE_SERVICE, **fields: object):  # type: ignore[no-untyped-def]
    """A fallback to `name`; keyword arguments are fields of FallbackSpec."""
    port, most = (None, None) if kind is BackendKind.INFERENCE_SERVICE else (8000, 40)
    return FallbackSpec(BackendRef(name, kind, port, most), **fields)  # type: ignore[arg-type]


def measured(
    offered: float, *, shed: float = 0.0, spilled: float = 0.0, waiting: float = 0.0, at: float = 0.0
) -> GatewayRates:
    """What the gateways counted in a minute, requests per second of one class."""
    reading = GatewayReading(at=at, proxies=2, waiting=waiting)
    return GatewayRates(reading, 60.0, {"": ClassRate(offered, shed, spilled)})
