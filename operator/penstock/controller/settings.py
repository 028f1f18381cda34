"""How one operator process runs: everything ``penstock run`` can be told, in one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class PrometheusSettings:
    """Where and how to ask Prometheus. Secrets are read from files, never from flags."""

    url: str
    client: Literal["aiohttp", "prometheus-api-client"] = "aiohttp"
    headers: tuple[tuple[str, str], ...] = ()
    matchers: tuple[tuple[str, str], ...] = ()  # labels and their values, of every series that is read
    bearer_token_file: str = ""
    ca_file: str = ""
    insecure_skip_verify: bool = False
    timeout_seconds: float = 5.0
    scrape_interval_seconds: float = 15.0
    rate_window_seconds: float = 60.0
    namespace_label: str = "namespace"
    pod_label: str = "pod"
    service_label: str = "service"


GatewayScope = Literal["off", "namespace", "cluster", "external"]


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """The Envoy gateways this process serves.

    `scope`: one group per namespace, one for the cluster, or `external`: proxies that somebody else
    starts (the demo, a laptop); nothing is created in the cluster for those.
    """

    scope: GatewayScope = "off"
    xds_listen_host: str = "0.0.0.0"  # noqa: S104 - proxies dial in; each must show its group's token
    xds_listen_port: int = 18000
    xds_address: str = ""  # host:port under which proxies reach the leader
    key_file: str = ""  # secret that the groups' tokens are derived from
    endpoint_host: str = ""  # external only: where all engines are, instead of the addresses in slices
    template_file: str = ""  # YAML: image, replicas, concurrency, resources of gateway pods


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """One operator process."""

    prometheus: PrometheusSettings
    identity: Literal["pod", "service"] = "pod"
    tick_seconds: float = 15.0
    namespaces: tuple[str, ...] = ()  # empty: all
    dry_run: bool = False
    listen_host: str = "0.0.0.0"  # noqa: S104 - a pod's probes and scrapes come from outside; only health and metrics answer
    listen_port: int = 8080
    leader_election: bool = True
    lease_namespace: str = ""
    lease_name: str = "penstock"
    kubeconfig: str = ""
    relist_seconds: float = 600.0
    solver_processes: int = 1
    gateways: GatewaySettings = GatewaySettings()
    record_directory: str = ""  # empty: nothing is recorded
    record_limit_bytes: int = 1 << 30
