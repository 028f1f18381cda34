"""What the data plane is asked to enforce for one service, and what it tells back.

Limits are counted over the whole fleet of gateways; a backend splits them among its proxies. A plan
without a limit lets everything pass: that is `Observe`, and what a service gets that lacks a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.model.spec import ServiceKey


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One pod behind a Service. Not `ready`, or `draining`: it gets no new requests."""

    pod: str
    address: str
    port: int
    ready: bool = True
    draining: bool = False

    @property
    def serving(self) -> bool:
        """Whether new requests may go there."""
        return self.ready and not self.draining


@dataclass(frozen=True, slots=True)
class Backend:
    """A Kubernetes Service whose endpoints serve; `served_by` is told to clients."""

    namespace: str
    service: str
    port: int
    served_by: str
    port_name: str | None = None  # of `port`, by which EndpointSlices know it; None: not told


@dataclass(frozen=True, slots=True)
class FleetLimit:
    """Requests that may be in flight in the whole pool: running, and waiting beyond those."""

    running: int
    queued: int

    @property
    def in_flight(self) -> int:
        """Running and waiting together."""
        return self.running + self.queued


@dataclass(frozen=True, slots=True)
class ClassShare:
    """A request class: admitted while fewer than `ratio` of the fleet's limit are in flight."""

    name: str
    priority: int
    ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class FallbackPlan:
    """Where excess goes. `classes` empty: all may go."""

    backend: Backend
    planned_ratio: float = 0.0  # of requests sent there whatever the load, 0..1
    in_flight_limit: int = 0  # of requests of ours there at once: its spare room
    service: ServiceKey | None = None  # set when the fallback is an InferenceService with a limit of its own
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CanaryRoute:
    """A second arm that gets a share of the admitted requests.

    `backend` is the Service of the canary's pods only, and the plan's own backend that of the stable
    ones. `in_flight_limit` is what the canary can carry at the stable arm's load per replica: beyond it
    requests go to the stable arm. The arms are limited together by the plan's limit. What fails on the
    canary before its first byte is answered by the stable arm, and counted as the canary's error.
    """

    backend: Backend
    weight_percent: int  # 0..100 of the requests; 0: its streams drain
    sticky_header: str = ""  # requests with the same value of it stay on one arm
    in_flight_limit: int | None = None


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """One service as the gateways serve it."""

    key: ServiceKey
    uid: str
    backend: Backend
    listen_port: int  # of the gateways; the Service ``<name>-penstock`` points there
    per_replica: FleetLimit | None = None  # c* and q of one replica: what a lone proxy goes by
    limit: FleetLimit | None = None  # of the fleet now, ramped; None: everything passes
    class_header: str = ""
    default_class: str = ""
    classes: tuple[ClassShare, ...] = ()
    fallback: FallbackPlan | None = None
    canary: CanaryRoute | None = None
    retry_after_seconds: int = 1
    balanced_fully: bool = True  # least requests with a full scan; else Envoy's random choice
    tls_secret: str = ""


def backends_of(plan: RoutePlan) -> tuple[Backend, ...]:
    """Return the Services that a plan leads to: its own, then its canary's and its fallback's."""
    others = (each.backend for each in (plan.canary, plan.fallback) if each is not None)
    return (plan.backend, *others)


@dataclass(frozen=True, slots=True)
class RouteState:
    """A plan with the endpoints of its own and of its fallback's Service as they are now."""

    plan: RoutePlan
    endpoints: tuple[Endpoint, ...]
    fallback_endpoints: tuple[Endpoint, ...] = ()
    canary_endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class ClassCount:
    """Requests of one class since the gateways started, summed over proxies; monotone but for restarts."""

    offered: float = 0.0
    shed: float = 0.0  # answered 429 by the gateway
    spilled: float = 0.0  # sent to the fallback


@dataclass(frozen=True, slots=True)
class ArmCount:
    """Requests of one arm's pods since it is looked at, summed over proxies; monotone but for restarts.

    Each attempt counts where it was made: one that failed on the canary and was answered by the stable
    arm is a failed request here and an answered one there.
    """

    requests: float = 0.0  # answered or failed
    server_errors: float = 0.0  # of these: 5xx, no connection, no answer, or cut by the pod in the middle
    in_flight: float = 0.0  # now


@dataclass(frozen=True, slots=True)
class GatewayReading:
    """What the proxies of one service tell; `proxies` is how many of them answered."""

    at: float  # Unix seconds
    proxies: int
    in_flight: float = 0.0  # running and waiting, own pool
    waiting: float = 0.0
    spilled_in_flight: float = 0.0
    server_errors: float = 0.0  # 5xx since the gateways started
    classes: Mapping[str, ClassCount] = field(default_factory=dict)
    by_pod: Mapping[str, float] = field(default_factory=dict)  # requests in flight per endpoint's pod
    stable_arm: ArmCount | None = None  # both, while a canary has a route
    canary_arm: ArmCount | None = None


@dataclass(frozen=True, slots=True)
class GatewayGroup:
    """The proxies of one group: what they have of what was published.

    `behind`: services of whose newest resources some proxy has not said yet that it has them. So is each
    right after a change was published: ask before the next. `rejected` is what a proxy refused, "" when
    nothing: REST xDS has no NACK, see dataplane/envoy.
    """

    name: str
    proxies: int = 0  # that polled within the last half minute
    current: int = 0  # of these, on the newest version of everything
    rejected: Mapping[ServiceKey, str] = field(default_factory=dict)
    behind: frozenset[ServiceKey] = frozenset()

    def acknowledged(self, key: ServiceKey) -> bool:
        """Whether all proxies have what was published of a service, and there are any."""
        return self.proxies > 0 and key not in self.behind
