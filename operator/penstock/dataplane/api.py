"""The port to a data plane: publish what each service is to enforce, read back what happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from penstock.model.spec import ServiceKey
from penstock.model.traffic import GatewayGroup, GatewayReading, RouteState


class DataPlane(Protocol):
    """Gateways in groups (one per namespace, or one for the cluster), served by this process."""

    def publish(self, group: str, routes: Sequence[RouteState]) -> None:
        """Serve these routes to the proxies of `group` from now on; unchanged ones cost nothing."""

    def groups(self) -> Mapping[str, GatewayGroup]:
        """Return what the proxies of each group have, and what they rejected."""

    async def read(self, now: float) -> Mapping[ServiceKey, GatewayReading]:
        """Return counts and gauges of all services; those whose proxies are silent are left out."""
