"""EDS: the pods behind a Kubernetes Service. Draining and unready ones stay, without new requests.

They stay because a pod that leaves the list takes its count of running requests along, and the drain waits
for that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.dataplane.envoy.names import EDS, endpoints_name
from penstock.model.traffic import Backend, Endpoint


def load_assignment(backend: Backend, endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return the endpoints of a Service as Envoy takes them."""
    return {
        "@type": EDS,
        "cluster_name": endpoints_name(backend),
        "endpoints": [{"lb_endpoints": [_endpoint(each) for each in endpoints]}],
    }


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    address = {"socket_address": {"address": endpoint.address, "port_value": endpoint.port}}
    return {"endpoint": {"address": address}, "health_status": _health(endpoint)}


def _health(endpoint: Endpoint) -> str:
    if endpoint.draining:
        return "DRAINING"
    return "HEALTHY" if endpoint.ready else "UNHEALTHY"
