"""LDS: one listener a service, on a port of its own; written once, so that nothing here follows a limit.

Headers that steer Envoy or are ours are taken off requests after the route is chosen (the script reads the
opt-out) and before the router acts on them. Bodies stream through, nothing times out but a lost client
(lost_peers.py), TLS comes by SDS.
"""

from __future__ import annotations

from typing import Any

from penstock.dataplane.envoy import names
from penstock.dataplane.envoy.bootstrap import xds_source
from penstock.dataplane.envoy.lost_peers import clients_asked
from penstock.dataplane.envoy.names import EXTENSION
from penstock.dataplane.envoy.proxy_limits import KEPT_BODY_BYTES
from penstock.dataplane.envoy.replies import local_replies
from penstock.model.traffic import RoutePlan


def listener(plan: RoutePlan, address: str) -> dict[str, Any]:
    """Return the listener of one service, bound to `address`."""
    name = names.cluster_name(plan.key)
    chain: dict[str, Any] = {
        "filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": _http_manager(plan)}
        ]
    }
    if plan.tls_secret:
        chain["transport_socket"] = _tls(plan)
    return {
        "@type": names.LDS,
        "name": name,
        "address": {"socket_address": {"address": address, "port_value": plan.listen_port}},
        "socket_options": clients_asked(),
        # Of a request that waits as much is held twice beside what is kept of it. Envoy's own is 1 MiB.
        "per_connection_buffer_limit_bytes": KEPT_BODY_BYTES,
        "filter_chains": [chain],
    }


def _http_manager(plan: RoutePlan) -> dict[str, Any]:
    name = names.cluster_name(plan.key)
    counted = [_counted_by_class(plan)] if plan.classes else []
    return {
        "@type": EXTENSION + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "rds": {"config_source": xds_source(), "route_config_name": name},
        "stream_idle_timeout": "0s",
        "request_headers_timeout": "10s",
        # With Envoy's own 16 MiB 8 MB of a request that waited were held.
        "http2_protocol_options": {"initial_stream_window_size": KEPT_BODY_BYTES},
        "server_header_transformation": "PASS_THROUGH",
        "use_remote_address": True,  # x-forwarded-for gets the client's address
        "xff_num_trusted_hops": 1,  # else x-forwarded-proto of an ingress that ends TLS would be overwritten
        "generate_request_id": False,
        "preserve_external_request_id": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "local_reply_config": local_replies(),
        "http_filters": [
            *counted,
            {"name": "envoy.filters.http.header_mutation", "typed_config": _internal_headers_removed()},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": EXTENSION + "filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            },
        ],
    }


def _counted_by_class(plan: RoutePlan) -> dict[str, Any]:
    """Return a filter that lets all pass and counts each class as requests arrive.

    A cluster counts what was sent, and what waits or is shed is not.
    """
    by_header = {
        name: {"header": {"name": plan.class_header, "string_match": {"exact": name}}}
        for name in names.request_classes(plan)
        if plan.class_header and name != names.default_class(plan)
    }
    others: dict[str, Any] = {"any": True}
    if by_header:
        others = {"not_id": {"or_ids": {"ids": list(by_header.values())}}}
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": EXTENSION + "filters.http.rbac.v3.RBAC",
            "track_per_rule_stats": True,
            "shadow_rules": {
                "action": "ALLOW",
                "policies": {
                    name: {"permissions": [{"any": True}], "principals": [principal]}
                    for name, principal in (by_header | {names.default_class(plan): others}).items()
                },
            },
        },
    }


def _internal_headers_removed() -> dict[str, Any]:
    return {
        "@type": EXTENSION + "filters.http.header_mutation.v3.HeaderMutation",
        "mutations": {
            "request_mutations": [
                {"remove_on_match": {"key_matcher": {"prefix": prefix, "ignore_case": True}}}
                for prefix in ("x-envoy-", "x-penstock-")
            ]
        },
    }


def _tls(plan: RoutePlan) -> dict[str, Any]:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": EXTENSION + "transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificate_sds_secret_configs": [
                    {
                        "name": names.secret_name(plan.key.namespace, plan.tls_secret),
                        "sds_config": xds_source(),
                    }
                ],
            },
        },
    }
