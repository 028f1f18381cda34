"""Endpoints of Services with their addresses, for those services that a gateway serves.

Kept apart from the fleet's cache: only gateways need addresses, and only of the Services they route to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from penstock.model.traffic import Endpoint

Object = Mapping[str, Any]
Place = tuple[str, str]  # namespace, Service
IPV4: Final = "IPv4"
FAMILIES: Final = (IPV4, "IPv6")  # a slice of the third type, FQDN, lists names: EDS takes addresses


class EndpointCache:
    """The EndpointSlices of all Services.

    `host` stands for every endpoint's address where engines are processes of this machine: an API
    server takes no loopback addresses in slices.
    """

    def __init__(self, host: str = "") -> None:
        self._slices: dict[Place, dict[str, Object]] = {}
        self._ports: dict[Place, tuple[tuple[str, int], ...]] = {}
        self._place_of: dict[tuple[str, str], Place] = {}
        self._host = host

    def see(self, body: Object) -> None:
        """Take in a slice."""
        family, metadata = body.get("addressType", IPV4), body["metadata"]
        if family not in FAMILIES:
            return
        namespace, name = metadata["namespace"], metadata["name"]
        service = (metadata.get("labels") or {}).get("kubernetes.io/service-name", "")
        place = (namespace, service)
        self._place_of[namespace, name] = place
        # Of a slice only what an endpoint is made of: managed fields alone are larger than that.
        self._slices.setdefault(place, {})[name] = {
            "family": family,
            "endpoints": [_essence(each) for each in body.get("endpoints") or ()],
            "ports": [(each.get("name") or "", each.get("port")) for each in body.get("ports") or ()],
        }

    def forget(self, namespace: str, name: str) -> None:
        """Drop a deleted slice."""
        place = self._place_of.pop((namespace, name), None)
        if place is None:
            return
        self._slices[place].pop(name, None)
        if not self._slices[place]:
            del self._slices[place]

    def see_service(self, body: Object) -> None:
        """Take in a Service: slices name its ports, users number them."""
        metadata = body["metadata"]
        self._ports[metadata["namespace"], metadata["name"]] = tuple(
            (each.get("name") or "", int(each["port"]))
            for each in (body.get("spec") or {}).get("ports") or ()
            if each.get("protocol", "TCP") == "TCP"
        )

    def forget_service(self, namespace: str, name: str) -> None:
        """Drop a deleted Service."""
        self._ports.pop((namespace, name), None)

    def ports(self, namespace: str, service: str) -> tuple[int, ...]:
        """Return the TCP ports of a Service; empty where it does not exist."""
        return tuple(number for _, number in self._ports.get((namespace, service), ()))

    def port_name(self, namespace: str, service: str, port: int) -> str | None:
        """Return how EndpointSlices call a Service's port; None where it does not exist."""
        return next((name for name, each in self._ports.get((namespace, service), ()) if each == port), None)

    def of(
        self, namespace: str, service: str, port: int, *, draining: Iterable[str] = ()
    ) -> tuple[Endpoint, ...]:
        """Return the endpoints behind a Service's `port` in the order of their pods, each pod once.

        All are of one address family: IPv4 where the Service has both.
        """
        leaving = frozenset(draining)
        numbered = {number: name for name, number in self._ports.get((namespace, service), ())}
        found: dict[str, Endpoint] = {}
        for entry in _of_one_family(self._slices.get((namespace, service), {}).values()):
            ports = dict(entry["ports"])
            port_number = ports.get(numbered.get(port, ""))
            if port_number is None:
                continue
            for pod, address, ready, terminating in entry["endpoints"]:
                # A terminating pod still finishes its streams: it drains, it is not gone.
                found[pod] = Endpoint(
                    pod,
                    self._host or address,
                    int(port_number),
                    ready or terminating,
                    pod in leaving or terminating,
                )
        return tuple(found[pod] for pod in sorted(found))


def _of_one_family(slices: Iterable[Object]) -> list[Object]:
    """Return the slices with IPv4 addresses; all where there is none, which are then of IPv6.

    A dual-stack Service lists each pod in a slice of either family, and an engine on 0.0.0.0 refuses what
    comes by IPv6. Not by the Service's `ipFamilies`: gateways' agents see no Services. Empty slices do not
    count: such a Service has one of each family, whatever addresses its pods have.
    """
    found = list(slices)
    return [each for each in found if each["family"] == IPV4 and each["endpoints"]] or found


def _essence(endpoint: Object) -> tuple[str, str, bool, bool]:
    conditions = endpoint.get("conditions") or {}
    addresses = endpoint.get("addresses") or [""]
    reference = endpoint.get("targetRef") or {}
    ready, terminating = conditions.get("ready"), bool(conditions.get("terminating"))
    # "nil should be interpreted as true" (discovery.k8s.io/v1).
    return (
        str(reference.get("name") or addresses[0]),
        str(addresses[0]),
        ready is None or bool(ready),
        terminating,
    )
