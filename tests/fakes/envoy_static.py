"""A snapshot as one static configuration, for ``envoy --mode validate``, which asks no xDS server."""

from __future__ import annotations

from typing import Any

from penstock.dataplane.envoy import names
from penstock.dataplane.envoy.snapshot import Snapshot


def static_configuration(snapshot: Snapshot) -> dict[str, Any]:
    """Return a bootstrap with every resource of the snapshot in it."""
    resources = snapshot.resources
    return {
        "node": {"id": "validated", "cluster": "validated"},
        "layered_runtime": {
            "layers": [
                {"name": name, "static_layer": layer["layer"]}
                for name, layer in resources[names.RTDS].items()
            ]
        },
        "static_resources": {
            "clusters": [
                _without_type(_with_endpoints(cluster, snapshot)) for cluster in resources[names.CDS].values()
            ],
            "listeners": [
                _without_type(_with_route(listener, snapshot)) for listener in resources[names.LDS].values()
            ],
            "secrets": [_without_type(secret) for secret in resources[names.SDS].values()],
        },
    }


def _with_endpoints(cluster: dict[str, Any], snapshot: Snapshot) -> dict[str, Any]:
    if "eds_cluster_config" not in cluster:
        return cluster
    name = cluster["eds_cluster_config"]["service_name"]
    rest = {key: value for key, value in cluster.items() if key != "eds_cluster_config"}
    return rest | {
        "type": "STATIC",
        "load_assignment": _without_type(snapshot.resources[names.EDS][name]),
    }


def _with_route(resource: Any, snapshot: Snapshot) -> Any:
    if isinstance(resource, list):
        return [_with_route(each, snapshot) for each in resource]
    if not isinstance(resource, dict):
        return resource
    copied = {key: _with_route(value, snapshot) for key, value in resource.items() if key != "rds"}
    if "rds" in resource:
        route = snapshot.resources[names.RDS][resource["rds"]["route_config_name"]]
        copied["route_config"] = _without_type(route)
    copied.pop("sds_config", None)  # a secret of that name is static
    return copied


def _without_type(resource: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key != "@type"}
