"""EDS: the pods that a cluster sends to. Draining and unready ones stay, without new requests.

They stay because a pod that leaves the list takes its count of running requests along, and the drain waits
for that count. Each tells who serves and why: the reply's headers take that from the endpoint, because of a
composite cluster Envoy knows only the composite. One resource a cluster, though several list the same pods:
of two clusters that ask for one resource by REST a server cannot tell which has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.dataplane.envoy.names import EDS, METADATA
from penstock.model.traffic import Backend, Endpoint


def load_assignment(
    cluster: str, backend: Backend, endpoints: Sequence[Endpoint], *, reason: str
) -> dict[str, Any]:
    """Return the endpoints of a Service for a cluster that goes there for `reason`."""
    told = {"filter_metadata": {METADATA: {"served_by": backend.served_by, "reason": reason}}}
    return {
        "@type": EDS,
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": [_endpoint(each, told) for each in endpoints]}],
    }


def _endpoint(endpoint: Endpoint, told: dict[str, Any]) -> dict[str, Any]:
    address = {"socket_address": {"address": endpoint.address, "port_value": endpoint.port}}
    return {"endpoint": {"address": address}, "health_status": _health(endpoint), "metadata": told}


def _health(endpoint: Endpoint) -> str:
    if endpoint.draining:
        return "DRAINING"
    return "HEALTHY" if endpoint.ready else "UNHEALTHY"
