"""``penstock gateway``: the agent beside each gateway."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import click

from penstock.controller.gateway_agent import AgentSettings, GatewayAgent
from penstock.dataplane.envoy.server import serve

INTERRUPTED = 130
ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def _listen(_: click.Context, __: click.Parameter, value: str) -> tuple[str, int]:
    """Split ``host:port`` of loopback."""
    host, mark, port = value.rpartition(":")
    host = host.strip("[]")
    if not mark or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"{value!r}: write it as host:port, for example 127.0.0.1:18001")
    if host not in ("127.0.0.1", "::1", "localhost"):
        raise click.BadParameter(f"{host!r}: it asks for no token, so it listens on 127.0.0.1 only")
    return host, int(port)


@click.command(
    epilog="""\b
Examples:
  penstock gateway --plans /etc/penstock/plans/plans.json
  penstock gateway --plans plans.json --kubeconfig ~/.kube/config --namespace prod --pod my-gateway"""
)
@click.option(
    "--plans",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the last plans, as the operator keeps them in ConfigMap penstock-gateway-plans. "
    "May come later.",
)
@click.option(
    "--listen",
    default="127.0.0.1:18001",
    show_default=True,
    callback=_listen,
    help="Address on loopback on which the proxy of this pod asks.",
)
@click.option(
    "--namespace",
    default="",
    envvar="POD_NAMESPACE",
    help="Namespace of the gateways. Default: the pod's own, else 'default'.",
)
@click.option("--pod", default="", envvar="POD_NAME", help="Name of this pod, to count the gateways by.")
@click.option(
    "--gateways",
    type=click.IntRange(1, 1000),
    default=2,
    show_default=True,
    help="Gateways that share the limits, where they cannot be counted.",
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
def gateway(
    *,
    plans: Path,
    listen: tuple[str, int],
    namespace: str,
    pod: str,
    gateways: int,
    kubeconfig: str,
    log_format: str,
    log_level: str,
) -> None:
    """Stand in for the operator beside a gateway.

    Answers the proxy of this pod while the operator does not: the last plans, with the endpoints of the
    moment. Idle otherwise.
    """
    from penstock.kube.api import KubeError
    from penstock.telemetry.logging import configure_logging

    configure_logging("json" if log_format == "json" else "console", log_level)
    settings = AgentSettings(plans=plans, namespace=namespace or _own_namespace(), pod=pod, gateways=gateways)
    try:
        sys.exit(asyncio.run(_serve(settings, listen, kubeconfig)))
    except KubeError as error:
        raise click.ClickException(error.message) from error
    except OSError as error:
        raise click.ClickException(f"cannot listen on {listen[0]}:{listen[1]}: {error.strerror}") from error


async def _serve(settings: AgentSettings, listen: tuple[str, int], kubeconfig: str) -> int:
    """Serve until a signal; return the exit status."""
    from penstock.kube.aio_client import connect

    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def end(status: int) -> None:
        if not ended.done():
            ended.set_result(status)

    loop.add_signal_handler(signal.SIGTERM, end, 0)
    loop.add_signal_handler(signal.SIGINT, end, INTERRUPTED)
    kube = await connect(kubeconfig=kubeconfig)
    agent = GatewayAgent(settings, kube)
    site = None
    following = asyncio.create_task(agent.run(), name="plans and endpoints")
    try:
        site = await serve(agent.server.app(), *listen)
        # A defect of the task must end the process, not leave a server that never changes.
        waiting: set[asyncio.Future[Any]] = {following, ended}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
        return ended.result()
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        if site is not None:
            await site.cleanup()
        await agent.close()
        await kube.close()


def _own_namespace() -> str:
    try:
        return ACCOUNT_NAMESPACE.read_text().strip() or "default"
    except OSError:
        return "default"
