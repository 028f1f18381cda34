"""The static configuration a proxy starts with: where to ask for all else, and who sees its statistics.

The xDS cluster has two priorities: the operator's Service (health checked), then the agent beside the proxy,
which knows the last plans. The admin port is on loopback. The statistics listener passes four exact paths on
and nothing else: the admin interface can stop the process and show its configuration.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from penstock.dataplane.envoy.lost_peers import asked
from penstock.dataplane.envoy.names import EXTENSION, RUNTIME_LAYERS, XDS_CLUSTER, XDS_HEALTH_PATH
from penstock.dataplane.envoy.proxy_limits import overload_manager

#: Beside ``-c <bootstrap>``: one worker, because pools and queues are per worker.
ARGUMENTS: Final = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
#: Of the statistics listener: the gauges and counters of all services, as ``name: value`` lines.
POLLED_STATS_PATH: Final = "/stats/penstock"
#: As well, and asked for only while some service has a canary: what each pod has answered and failed.
ARM_STATS_PATH: Final = "/stats/penstock/arms"
READY_PATH: Final = "/ready"
PROMETHEUS_PATH: Final = "/stats/prometheus"

EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104

# What `POLLED_STATS_PATH` shows of clusters, virtual clusters (classes), HTTP managers and configuration.
_POLLED: Final = (
    r"^(cluster\.[^.]*_[^.]*\.(upstream_rq_active|upstream_rq_pending_active|upstream_rq_total|upstream_cx_none_healthy"
    r"|endpoint\.[^ ]+\.rq_active|update_rejected)"
    r"|http\.[^.]*_[^.]*\.rbac\.policy\..+\.shadow_allowed"
    r"|http\.[^.]*_[^.]*\.(downstream_rq_(total|active|5xx)|rds\.[^.]+\.update_rejected)"
    r"|(cluster_manager\.cds|listener_manager\.lds)\.update_rejected"
    r"|listener_manager\.listener_create_failure|runtime\.load_error)$"
)
# What `ARM_STATS_PATH` shows, of the clusters of services' own pods.
_ARMS: Final = (
    r"^cluster\.[^._]+_[^._]+(_canary)?\."
    r"(endpoint\.[^ ]+\.rq_(success|error)|upstream_cx_destroy_remote_with_active_rq)$"
)
# What exists at all, for Prometheus as well: every poll looks at each, on the thread that takes routes in.
# With 200 services of a class and a fallback 17,000, 18 ms of CPU; the same of every cluster: 31,000, 28 ms.
_KEPT: Final = (
    # Of services' own pods.
    r"(cluster\.[^._]+_[^._]+(_canary)?\.(upstream_rq_(active|pending_active|pending_overflow|total|completed"
    r"|[1-5]xx|429|503|retry|retry_success|retry_overflow|rx_reset|tx_reset|time)"
    r"|upstream_cx_(active|total|connect_fail|none_healthy|destroy_remote_with_active_rq)|membership_(healthy|total)"
    r"|outlier_detection\.ejections_(active|enforced_total)|update_(rejected|failure|success))"
    # Of what is made of them: a pool and its rescue, ways into a fallback, nobody.
    r"|cluster\.[^.]+_any\.upstream_rq_([1-5]xx|retry|retry_success|retry_overflow)"
    r"|cluster\.[^.]+_(rescue|spill_[^.]+)\.(upstream_rq_(active|pending_active|pending_overflow|total|[1-5]xx)"
    r"|upstream_cx_(connect_fail|none_healthy)|membership_healthy|update_rejected)"
    r"|cluster\.[^.]+_shed_[^.]+\.upstream_cx_none_healthy"
    r"|cluster\.xds\.(upstream_rq_(active|total|[1-5]xx)|upstream_cx_(active|connect_fail)|membership_healthy)"
    r"|http\.[^.]+\.(downstream_rq_(total|active|time|[1-5]xx)|downstream_cx_(active|total)|rbac\.policy\..+"
    r"|rds\..+\.update_rejected)"
    r"|listener\.[0-9a-fA-F_.:\[\]]+\.(downstream_cx_(active|total)|ssl\.(handshake|connection_error))"
    r"|(server|cluster_manager|listener_manager|runtime|overload)\..+)"
)


def xds_source(*, refresh_delay: str = "0.02s") -> dict[str, Any]:
    """Return a ConfigSource: JSON by HTTP, held by the server until something changes.

    `refresh_delay` is between a reply and the next question: the whole delay of a change.
    """
    return {
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": "REST",
            "transport_api_version": "V3",
            "cluster_names": [XDS_CLUSTER],
            "refresh_delay": refresh_delay,
            "request_timeout": "75s",  # longer than the server holds a question
        },
    }


def bootstrap(
    *,
    group: str,
    token: str,
    xds_host: str,
    xds_port: int,
    agent_port: int,
    admin_port: int = 9901,
    stats_port: int = 9902,
    node_id: str = "",
    memory_limit_bytes: int | None = None,
    listen_address: str = "0.0.0.0",  # noqa: S104 - a gateway is there to be reached
) -> dict[str, Any]:
    """Return the bootstrap of a proxy of `group`.

    `node_id` "": given on the command line, ``--service-node $(POD_NAME)``, so that pods share one file.
    `memory_limit_bytes` is the container's; None: it has none. `listen_address` is where the statistics
    listener is bound; services' listeners come by LDS.
    """
    node: dict[str, Any] = {"cluster": group, "metadata": {"token": token, "stats_port": stats_port}}
    if listen_address not in EVERYWHERE:
        node["metadata"]["listen_address"] = listen_address  # services' listeners are to be bound there too
    if node_id:
        node["id"] = node_id
    # Routes that let more in wait until the runtime before them is taken, which its next question tells.
    source, first = xds_source(), xds_source(refresh_delay="0.005s")
    return {
        "node": node,
        "admin": {"address": _address("127.0.0.1", admin_port)},
        "dynamic_resources": {"cds_config": source, "lds_config": source},
        "layered_runtime": {
            "layers": [
                {"name": name, "rtds_layer": {"name": name, "rtds_config": first}} for name in RUNTIME_LAYERS
            ]
        },
        "static_resources": {
            "clusters": [
                _xds_cluster(xds_host=xds_host, xds_port=xds_port, agent_port=agent_port),
                _admin_cluster(admin_port),
            ],
            "listeners": [_stats_listener(listen_address, stats_port)],
        },
        "stats_config": {
            "stats_matcher": {"inclusion_list": {"patterns": [{"safe_regex": {"regex": _KEPT}}]}}
        },
        "overload_manager": overload_manager(memory_limit_bytes),
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _xds_cluster(*, xds_host: str, xds_port: int, agent_port: int) -> dict[str, Any]:
    def priority(number: int, host: str, port: int) -> dict[str, Any]:
        return {"priority": number, "lb_endpoints": [{"endpoint": {"address": _address(host, port)}}]}

    return {
        "name": XDS_CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": XDS_CLUSTER,
            "endpoints": [priority(0, xds_host, xds_port), priority(1, "127.0.0.1", agent_port)],
        },
        "health_checks": [
            {
                # An operator that is only slow stays the one who knows which pods drain: its agent does not.
                "timeout": "2s",
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_threshold": 3,
                "healthy_threshold": 1,
                "http_health_check": {"path": XDS_HEALTH_PATH},
            }
        ],
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {
            # Each EDS cluster holds a question of its own: 200 services with a fallback: 800 connections.
            "thresholds": [
                dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 1_000_000)
            ]
        },
        **asked(),  # of a question held by a lost node: a failed health check closes none
    }


def _admin_cluster(admin_port: int) -> dict[str, Any]:
    return {
        "name": "admin",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "admin",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address("127.0.0.1", admin_port)}}]}],
        },
    }


def _stats_listener(address: str, port: int) -> dict[str, Any]:
    def passed(path: str, rewritten: str = "") -> dict[str, Any]:
        route: dict[str, Any] = {"cluster": "admin", "timeout": "5s"}
        if rewritten:
            route["prefix_rewrite"] = rewritten
        return {
            "match": {"path": path, "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
            "route": route,
        }

    manager = {
        "@type": EXTENSION + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "stats",
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": EXTENSION + "filters.http.router.v3.Router"},
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "stats",
                    "domains": ["*"],
                    "routes": [
                        passed(PROMETHEUS_PATH),
                        passed(READY_PATH),
                        passed(POLLED_STATS_PATH, f"/stats?filter={quote(_POLLED, safe='')}"),
                        passed(ARM_STATS_PATH, f"/stats?filter={quote(_ARMS, safe='')}"),
                    ],
                }
            ]
        },
    }
    return {
        "name": "stats",
        "address": _address(address, port),
        # A full gateway must still be seen.
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
