"""EDS: the pods behind a Kubernetes Service. Draining and unready ones stay, without new requests.

They stay because a pod that leaves the list takes its count of running requests along, and the drain waits
for that count. Each tells who serves and why: the reply's headers take that from the endpoint, because of a
composite cluster Envoy knows only the composite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.dataplane.envoy.names import EDS, METADATA, endpoints_name
from penstock.model.traffic import Backend, Endpoint


def load_assignment(backend: Backend, endpoints: Sequence[Endpoint], reason: str) -> dict[str, Any]:
    """Return the endpoints of a Service as clusters take them that go there for `reason`."""
    told = {"filter_metadata": {METADATA: {"served_by": backend.served_by, "reason": reason}}}
    return {
        "@type": EDS,
        "cluster_name": endpoints_name(backend, reason),
        "endpoints": [{"lb_endpoints": [_endpoint(each, told) for each in endpoints]}],
    }


def _endpoint(endpoint: Endpoint, told: dict[str, Any]) -> dict[str, Any]:
    address = {"socket_address": {"address": endpoint.address, "port_value": endpoint.port}}
    return {"endpoint": {"address": address}, "health_status": _health(endpoint), "metadata": told}


def _health(endpoint: Endpoint) -> str:
    if endpoint.draining:
        return "DRAINING"
    return "HEALTHY" if endpoint.ready else "UNHEALTHY"
