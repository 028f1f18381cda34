"""What is kept of one service that gateways serve, beside the policy's memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from penstock.model.traffic import CanaryRoute, Endpoint, FleetLimit
from penstock.policy.drain import DrainMemory
from penstock.policy.gateway_load import GatewayMemory

NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ArmsTold:
    """Endpoints that get requests in each arm, and the canary's share, as gateways were told them."""

    stable: frozenset[Endpoint] = frozenset()
    canary: frozenset[Endpoint] = frozenset()
    weight_percent: int = 0

    @classmethod
    def of(cls, stable: Iterable[Endpoint], canary: Iterable[Endpoint], weight_percent: int = 0) -> ArmsTold:
        """Return what is told of these endpoints."""
        return cls(
            frozenset(each for each in stable if each.serving),
            frozenset(each for each in canary if each.serving),
            weight_percent,
        )

    def same_endpoints(self, other: ArmsTold) -> bool:
        """Whether the same endpoints get requests, whatever the share."""
        return self.stable == other.stable and self.canary == other.canary


@dataclass(slots=True)
class GatewayState:
    """Mutable state of one gateway-served service, owned by the loop and its one-second task."""

    memory: GatewayMemory = field(default_factory=GatewayMemory)
    limit: FleetLimit | None = None  # in force now, on its way to what was decided
    limited_at: float = 0.0  # when `limit` was last moved, Unix seconds
    drain: DrainMemory = field(default_factory=DrainMemory)
    leaving: dict[str, float] = field(default_factory=dict)  # removed pods stay closed until, Unix seconds
    overdue: tuple[str, ...] = ()  # victims that were cut at the deadline
    unmarked_until: float = 0.0  # no drain before: victims could not be marked, Unix seconds; 0: they could
    proxies: int = 0  # that serve it now: fewer in a reading, and it does not know of all streams
    problem: tuple[str, str] | None = None  # (reason, message) why gateways do not do as decided
    # Of a service whose revisions are tried: what was published last, and whether all gateways have it.
    told: ArmsTold | None = None
    acknowledged: bool | None = None  # None: there is no gateway
    canary: CanaryRoute | None = None  # of the route published last
    canary_left_at: float | None = None  # since when nothing is decided about that, Unix seconds

    def closed(self, now: float) -> frozenset[str]:
        """Return the pods that get no new requests."""
        if not self.leaving and not self.drain.victims:
            return NOBODY
        for name in [name for name, until in self.leaving.items() if until <= now]:
            del self.leaving[name]
        return self.drain.names | self.leaving.keys()
