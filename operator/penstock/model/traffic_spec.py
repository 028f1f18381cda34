"""What the user asks for requests: admission, fallback, and what carries them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from penstock.model.references import Mode


class RoutingType(StrEnum):
    """What is done in the request path."""

    NONE = "None"
    ENVOY = "Envoy"
    GATEWAY_API = "GatewayAPI"


class AdmissionPolicy(StrEnum):
    """Where the limit on requests in flight comes from."""

    AUTO = "Auto"  # the queueing model
    STATIC = "Static"
    OFF = "Off"


class BackendKind(StrEnum):
    """What a fallback is."""

    INFERENCE_SERVICE = "InferenceService"
    SERVICE = "Service"


@dataclass(frozen=True, slots=True)
class RequestClass:
    """Requests that are shed alike; the highest `priority` is shed last.

    `max_percent` of the fleet's limit is what this class may fill together with those below it.
    """

    name: str
    priority: int
    max_percent: int = 100


@dataclass(frozen=True, slots=True)
class AdmissionSpec:
    """How many requests may be in flight, and who waits for whom."""

    mode: Mode = Mode.ENFORCE  # Observe or Enforce; the weaker of this and the service's wins
    policy: AdmissionPolicy = AdmissionPolicy.AUTO
    static_in_flight_per_replica: int | None = None  # with Static only
    class_header: str = ""  # empty: every request is of the default class
    default_class: str = ""
    classes: tuple[RequestClass, ...] = ()


@dataclass(frozen=True, slots=True)
class BackendRef:
    """Another service of the same namespace; `port` and `max_in_flight` with kind Service only."""

    name: str
    kind: BackendKind = BackendKind.INFERENCE_SERVICE
    port: int | None = None
    max_in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class FallbackSpec:
    """Where the excess goes while there is room."""

    backend: BackendRef
    mode: Mode = Mode.ENFORCE
    max_percent: int = 50  # of the offered requests
    classes: tuple[str, ...] = ()  # empty: all


@dataclass(frozen=True, slots=True)
class HttpRouteRef:
    """One named rule of an HTTPRoute of the same namespace."""

    name: str
    rule: str


@dataclass(frozen=True, slots=True)
class RoutingSpec:
    """What is done in the request path, and by what."""

    type: RoutingType = RoutingType.NONE
    tls_secret: str = ""  # Envoy: the gateway's certificate for this service
    http_route: HttpRouteRef | None = None  # GatewayAPI
