"""What is kept of one service that gateways serve, beside the policy's memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.model.traffic import FleetLimit
from penstock.policy.drain import DrainMemory
from penstock.policy.gateway_load import GatewayMemory

NOBODY: frozenset[str] = frozenset()


@dataclass(slots=True)
class GatewayState:
    """Mutable state of one gateway-served service, owned by the loop and its one-second task."""

    memory: GatewayMemory = field(default_factory=GatewayMemory)
    limit: FleetLimit | None = None  # in force now, on its way to what was decided
    limited_at: float = 0.0  # when `limit` was last moved, Unix seconds
    drain: DrainMemory = field(default_factory=DrainMemory)
    leaving: dict[str, float] = field(default_factory=dict)  # removed pods stay closed until, Unix seconds
    overdue: tuple[str, ...] = ()  # victims that were cut at the deadline
    proxies: int = 0  # that serve it now: fewer in a reading, and it does not know of all streams
    problem: tuple[str, str] | None = None  # (reason, message) why gateways do not do as decided

    def closed(self, now: float) -> frozenset[str]:
        """Return the pods that get no new requests."""
        if not self.leaving and not self.drain.victims:
            return NOBODY
        for name in [name for name, until in self.leaving.items() if until <= now]:
            del self.leaving[name]
        return self.drain.names | self.leaving.keys()
