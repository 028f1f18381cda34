"""Endpoints of Services with their addresses, for those services that a gateway serves.

Kept apart from the fleet's cache: only gateways need addresses, and only of the Services they route to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from penstock.model.traffic import Endpoint

Object = Mapping[str, Any]
Place = tuple[str, str]  # namespace, Service


class EndpointCache:
    """The EndpointSlices of all Services; `changed` is called with the Service whose slices moved."""

    def __init__(self, changed: Callable[[Place], None] = lambda _: None) -> None:
        self._slices: dict[Place, dict[str, Object]] = {}
        self._place_of: dict[tuple[str, str], Place] = {}
        self._changed = changed

    def see(self, body: Object) -> None:
        """Take in a slice."""
        metadata = body["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        service = (metadata.get("labels") or {}).get("kubernetes.io/service-name", "")
        place = (namespace, service)
        self._place_of[namespace, name] = place
        # Of a slice only what an endpoint is made of: managed fields alone are larger than that.
        self._slices.setdefault(place, {})[name] = {
            "endpoints": [_essence(each) for each in body.get("endpoints") or ()],
            "ports": [(each.get("name") or "", each.get("port")) for each in body.get("ports") or ()],
        }
        self._changed(place)

    def forget(self, namespace: str, name: str) -> None:
        """Drop a deleted slice."""
        place = self._place_of.pop((namespace, name), None)
        if place is None:
            return
        self._slices[place].pop(name, None)
        if not self._slices[place]:
            del self._slices[place]
        self._changed(place)

    def of(
        self, namespace: str, service: str, *, port_name: str = "", draining: Iterable[str] = ()
    ) -> tuple[Endpoint, ...]:
        """Return the endpoints of a Service in the order of their pods; a pod listed twice counts once.

        `port_name` is the Service port's name, where it has several.
        """
        leaving = frozenset(draining)
        found: dict[str, Endpoint] = {}
        for entry in self._slices.get((namespace, service), {}).values():
            ports = dict(entry["ports"])
            port = ports.get(port_name) or next(iter(ports.values()), None)
            if port is None:
                continue
            for pod, address, ready, terminating in entry["endpoints"]:
                # A terminating pod still finishes its streams: it drains, it is not gone.
                found[pod] = Endpoint(
                    pod, address, int(port), ready or terminating, pod in leaving or terminating
                )
        return tuple(found[pod] for pod in sorted(found))


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
