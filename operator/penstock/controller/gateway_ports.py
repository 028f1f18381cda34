"""Groups and ports of gateways, and who keeps up what they need: the cluster, or nobody.

`GatewayObjects` (gateways in the cluster) answers this port; `ExternalGateways` is for proxies that
somebody else starts: the demo, a laptop.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from penstock.dataplane.envoy.ports import allocate_ports
from penstock.model.spec import ServiceKey
from penstock.model.traffic import RoutePlan

EXTERNAL_GROUP = "penstock"


class GatewayPorts(Protocol):
    """Where each service is served."""

    def group_of(self, key: ServiceKey) -> str:
        """Return the gateways that serve a service."""

    def listen_port(self, group: str, key: ServiceKey) -> int | None:
        """Return the gateways' port of a service; None while it is not known. Raises `NoPortError`."""

    def stored(self) -> Mapping[str, Sequence[RoutePlan]] | None:
        """Return what was told before this operator started, by group; None while it is not known."""

    def tls_services(self) -> Collection[ServiceKey]:
        """Return the services whose clients' TLS the gateways end: gone, they keep their routes."""

    def follow(
        self,
        routes: Mapping[str, Sequence[RoutePlan]],
        existing: Collection[ServiceKey],
        *,
        reached: Collection[ServiceKey],
        now: float,
    ) -> Mapping[ServiceKey, tuple[str, str]]:
        """Keep up what the gateways of `routes` need; return what hinders which service."""


class ExternalGateways:
    """Proxies that are somebody else's: one group, ports in the order of the services' names."""

    def __init__(self) -> None:
        self._ports: dict[ServiceKey, int] = {}

    def group_of(self, key: ServiceKey) -> str:
        """Return the one group."""
        return EXTERNAL_GROUP

    def listen_port(self, group: str, key: ServiceKey) -> int | None:
        """Return the port of a service, from 10000 on."""
        if key not in self._ports:
            self._ports |= allocate_ports(self._ports, [key])
        return self._ports[key]

    def stored(self) -> Mapping[str, Sequence[RoutePlan]]:
        """Return nothing: no agent of ours stands beside these proxies."""
        return {}

    def tls_services(self) -> Collection[ServiceKey]:
        """Return none: no Service of ours leads to these proxies."""
        return ()

    def follow(
        self,
        routes: Mapping[str, Sequence[RoutePlan]],
        existing: Collection[ServiceKey],
        *,
        reached: Collection[ServiceKey],
        now: float,
    ) -> Mapping[ServiceKey, tuple[str, str]]:
        """Do nothing: nothing in the cluster is ours."""
        return {}
