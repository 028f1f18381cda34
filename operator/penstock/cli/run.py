"""``penstock run``: the operator."""

from __future__ import annotations

import re
import sys
from typing import Literal

import click

from penstock.cli.positive_number import PositiveNumber
from penstock.cli.prometheus_matcher import prometheus_matcher
from penstock.controller.record_files import LEAST_BYTES
from penstock.controller.settings import GatewaySettings, OperatorSettings, PrometheusSettings


def _header(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Split ``Name: value`` and ``Name=value``, at whichever mark comes first."""
    pairs = []
    for value in values:
        parts = re.split("[:=]", value, maxsplit=1)  # a value may hold either: X-Url=http://a
        name = parts[0].strip()
        if len(parts) < 2 or not name:
            raise click.BadParameter(f"{value!r}: write it as 'X-Scope-OrgID: tenant'")
        pairs.append((name, parts[1].strip()))
    return tuple(pairs)


def _listen(_: click.Context, __: click.Parameter, value: str) -> tuple[str, int]:
    """Split ``host:port``."""
    host, mark, port = value.rpartition(":")
    if not mark or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"{value!r}: write it as host:port, for example 0.0.0.0:8080")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - probes come from outside the pod


@click.command(
    epilog="""\b
Examples:
  penstock run --prometheus-url http://prometheus.monitoring:9090
  penstock run --prometheus-url https://mimir/prometheus --prometheus-header 'X-Scope-OrgID: team-a' \\
      --prometheus-bearer-token-file /var/run/secrets/prometheus/token
  penstock run --prometheus-url http://127.0.0.1:9090 --no-leader-election --log-format console
  penstock run --prometheus-url http://prometheus:9090 --record /var/lib/penstock --record-limit 256"""
)
@click.option(
    "--prometheus-url",
    required=True,
    envvar="PENSTOCK_PROMETHEUS_URL",
    help="Base URL of Prometheus, Thanos or Mimir.",
)
@click.option(
    "--prometheus-client",
    type=click.Choice(["aiohttp", "prometheus-api-client"]),
    default="aiohttp",
    show_default=True,
    help="Adapter; the second one goes through that package and requests, in two threads.",
)
@click.option(
    "--prometheus-header",
    "headers",
    multiple=True,
    callback=_header,
    help="Extra header, may be repeated: 'X-Scope-OrgID: tenant' or X-Scope-OrgID=tenant.",
)
@prometheus_matcher
@click.option(
    "--prometheus-bearer-token-file", default="", help="File with a bearer token; read again when it changes."
)
@click.option("--prometheus-ca-file", default="", help="CA certificates to verify Prometheus with.")
@click.option(
    "--prometheus-insecure-skip-verify", is_flag=True, help="Do not verify Prometheus's certificate."
)
@click.option(
    "--prometheus-timeout",
    type=PositiveNumber(0.1, 60),
    default=5.0,
    show_default=True,
    help="Seconds each of a tick's queries for the whole fleet may take. All queries of a tick end within "
    "10, so more changes nothing. Others keep limits of their own: a Custom engine's 2, canaries' 5, "
    "requests in flight 10, error budgets' 10, the history after a start 20.",
)
@click.option(
    "--scrape-interval",
    type=PositiveNumber(0.1, 300),
    default=15.0,
    show_default=True,
    help="How often Prometheus scrapes the engines, in seconds; older samples than 4 of these are stale.",
)
@click.option(
    "--rate-window",
    type=PositiveNumber(1, 3600),
    default=60.0,
    show_default=True,
    help="Seconds that rates are taken over; at least 4 scrape intervals.",
)
@click.option(
    "--namespace-label",
    default="namespace",
    show_default=True,
    help="Label of the series that holds the namespace.",
)
@click.option("--pod-label", default="pod", show_default=True, help="Label that holds the pod's name.")
@click.option(
    "--service-label",
    default="service",
    show_default=True,
    help="Label that holds the Service's name (--identity service).",
)
@click.option(
    "--identity",
    type=click.Choice(["pod", "service"]),
    default="pod",
    show_default=True,
    help="What identifies a service's series: its pods, joined through EndpointSlices, or a label.",
)
@click.option(
    "--tick-seconds",
    type=PositiveNumber(0.2, 300),
    default=15.0,
    show_default=True,
    help="Seconds from one decision to the next.",
)
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    help="Watch only this namespace, may be repeated. Default: all.",
)
@click.option("--dry-run", is_flag=True, help="Decide and publish, never write to a target's /scale.")
@click.option(
    "--listen",
    default="0.0.0.0:8080",
    show_default=True,
    callback=_listen,
    help="Address of /healthz, /readyz and /metrics.",
)
@click.option(
    "--leader-election/--no-leader-election",
    default=True,
    show_default=True,
    help="Decide only while holding the Lease.",
)
@click.option(
    "--lease-namespace",
    default="",
    envvar="POD_NAMESPACE",
    help="Namespace of the Lease. Default: the pod's own, else 'default'.",
)
@click.option("--lease-name", default="penstock", show_default=True, help="Name of the Lease.")
@click.option(
    "--gateways",
    type=click.Choice(["off", "namespace", "cluster", "external"]),
    default="off",
    show_default=True,
    help="Envoy gateways for services with routing.type Envoy: a group per namespace, one for the cluster, "
    "or proxies that you start yourself.",
)
@click.option(
    "--xds-listen",
    default="0.0.0.0:18000",
    show_default=True,
    callback=_listen,
    help="Address on which gateways ask for their configuration.",
)
@click.option(
    "--xds-address", default="", help="host:port under which gateways reach the leader; required for groups."
)
@click.option(
    "--gateway-key-file",
    default="",
    help="File with the secret that gateways' tokens are derived from; required for gateways.",
)
@click.option(
    "--gateway-endpoint-host",
    default="",
    hidden=True,
    help="With external gateways: where all engines are, instead of the addresses in EndpointSlices.",
)
@click.option(
    "--gateway-template", default="", help="YAML file: image, replicas, resources of the gateway pods."
)
@click.option(
    "--record",
    "record_directory",
    type=click.Path(file_okay=False, path_type=str),
    default="",
    metavar="DIR",
    help="Record what is seen and decided as JSON lines, for penstock replay; the oldest are deleted.",
)
@click.option(
    "--record-limit",
    type=click.IntRange(LEAST_BYTES >> 20),
    default=1024,
    show_default=True,
    metavar="MIB",
    help="All files of the recording together, in MiB.",
)
@click.option(
    "--kubeconfig",
    default="",
    envvar="KUBECONFIG",
    help="Kubeconfig file. Default: in-cluster, else ~/.kube/config.",
)
@click.option(
    "--log-format",
    type=click.Choice(["json", "console"]),
    default="json",
    show_default=True,
    help="How logs are written.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Least severe records to write.",
)
def run(
    *,
    prometheus_url: str,
    prometheus_client: str,
    headers: tuple[tuple[str, str], ...],
    matchers: tuple[tuple[str, str], ...],
    prometheus_bearer_token_file: str,
    prometheus_ca_file: str,
    prometheus_insecure_skip_verify: bool,
    prometheus_timeout: float,
    scrape_interval: float,
    rate_window: float,
    namespace_label: str,
    pod_label: str,
    service_label: str,
    identity: str,
    tick_seconds: float,
    namespaces: tuple[str, ...],
    dry_run: bool,
    listen: tuple[str, int],
    leader_election: bool,
    lease_namespace: str,
    lease_name: str,
    gateways: Literal["off", "namespace", "cluster", "external"],
    xds_listen: tuple[str, int],
    xds_address: str,
    gateway_key_file: str,
    gateway_endpoint_host: str,
    gateway_template: str,
    record_directory: str,
    record_limit: int,
    kubeconfig: str,
    log_format: str,
    log_level: str,
) -> None:
    """Run the operator until it is told to stop.

    Decides only while it holds the Lease; standbys answer health and metrics. Losing the Lease ends
    the process. While no operator runs, nothing changes: targets keep their replicas.
    """
    if rate_window < 4 * scrape_interval:
        raise click.BadParameter(
            f"{rate_window:g} s holds fewer than 4 scrapes of {scrape_interval:g} s: one missed scrape "
            f"would read as no data; use at least {4 * scrape_interval:g}",
            param_hint="--rate-window",
        )
    if gateways != "off" and not gateway_key_file:
        raise click.BadParameter("gateways need a key to know them by", param_hint="--gateway-key-file")
    if gateways in ("namespace", "cluster") and not xds_address:
        raise click.BadParameter("gateway pods must know whom to ask", param_hint="--xds-address")
    from penstock.controller.app import run_operator
    from penstock.kube.api import KubeError
    from penstock.telemetry.logging import configure_logging

    settings = OperatorSettings(
        prometheus=PrometheusSettings(
            url=prometheus_url,
            client="aiohttp" if prometheus_client == "aiohttp" else "prometheus-api-client",
            headers=headers,
            matchers=matchers,
            bearer_token_file=prometheus_bearer_token_file,
            ca_file=prometheus_ca_file,
            insecure_skip_verify=prometheus_insecure_skip_verify,
            timeout_seconds=prometheus_timeout,
            scrape_interval_seconds=scrape_interval,
            rate_window_seconds=rate_window,
            namespace_label=namespace_label,
            pod_label=pod_label,
            service_label=service_label,
        ),
        identity="pod" if identity == "pod" else "service",
        tick_seconds=tick_seconds,
        namespaces=namespaces,
        dry_run=dry_run,
        listen_host=listen[0],
        listen_port=listen[1],
        leader_election=leader_election,
        lease_namespace=lease_namespace or "default",
        lease_name=lease_name,
        kubeconfig=kubeconfig,
        gateways=GatewaySettings(
            scope=gateways,
            xds_listen_host=xds_listen[0],
            xds_listen_port=xds_listen[1],
            xds_address=xds_address,
            key_file=gateway_key_file,
            endpoint_host=gateway_endpoint_host,
            template_file=gateway_template,
        ),
        record_directory=record_directory,
        record_limit_bytes=record_limit << 20,
    )
    configure_logging("json" if log_format == "json" else "console", log_level)
    try:
        code = run_operator(settings)
    except (KubeError, ValueError, OSError) as error:
        # A wrong URL, label, file or an address in use: the user's to mend, not a traceback.
        raise click.ClickException(str(error)) from error
    sys.exit(code)
