"""What serves gateways, put together: xDS for the proxies, their objects in the cluster, the one-second task.

xDS is served by the leader alone: two processes with different memories would pull limits to and fro.
Gateways find it through a Service that selects the leader's label, which the leader gives its own pod.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
import yaml

from penstock.controller.cache import FleetCache
from penstock.controller.draining import Drainer
from penstock.controller.endpoints import EndpointCache
from penstock.controller.fallbacks import Fallbacks
from penstock.controller.gateway_ports import ExternalGateways, GatewayPorts
from penstock.controller.gateways import GatewayObjects, GatewayPlacement
from penstock.controller.service_state import ServiceState
from penstock.controller.settings import GatewaySettings
from penstock.controller.traffic import TrafficParts, TrafficTask
from penstock.dataplane.envoy.backend import EnvoyDataPlane
from penstock.dataplane.envoy.server import serve
from penstock.dataplane.envoy.template import read_template
from penstock.dataplane.envoy.tokens import group_token
from penstock.kube.aio_client import AioKubeApi
from penstock.kube.api import PODS, KubeApi, KubeError
from penstock.kube.event_outbox import PendingEvent
from penstock.model.spec import ServiceKey

log = structlog.get_logger(__name__)
LABEL_AGAIN_SECONDS, LABEL_EVERY_SECONDS = 2.0, 60.0
LEADER_LABEL = "serving.penstock.dev/leader"


class GatewayServer:
    """Serves the gateways of one operator process while it leads.

    `stack` takes it apart, `tell` takes Events.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        kube: AioKubeApi,
        stack: AsyncExitStack,
        *,
        endpoints: EndpointCache,
        namespaces: tuple[str, ...],
        tell: Callable[[PendingEvent], None],
    ) -> None:
        self._settings, self._kube, self._stack = settings, kube, stack
        self._endpoints = endpoints
        self._namespaces, self._tell = namespaces, tell
        self._key = Path(settings.key_file).read_bytes().strip()
        self._plane = EnvoyDataPlane(
            lambda group: group_token(self._key, group),
            # Proxies on this machine need no port that others reach.
            listen_address="127.0.0.1" if settings.scope == "external" else "0.0.0.0",  # noqa: S104
        )

    async def start(
        self,
        cache: FleetCache,
        states: Mapping[ServiceKey, ServiceState],
        fallbacks: Fallbacks,
        drainer: Drainer,
        *,
        window_seconds: float,
        dry_run: bool,
    ) -> TrafficTask:
        """Listen for proxies and return the task that tells them what to do."""
        settings = self._settings
        self._stack.push_async_callback(self._plane.close)
        runner = await serve(self._plane.app(), settings.xds_listen_host, settings.xds_listen_port)
        self._stack.push_async_callback(runner.cleanup)
        log.info("serving gateways", scope=settings.scope, address=str(runner.addresses[0]))
        parts = TrafficParts(
            plane=self._plane,
            endpoints=self._endpoints,
            cache=cache,
            fallbacks=fallbacks,
            drainer=drainer,
            ports=self._ports(),
            window_seconds=window_seconds,
            dry_run=dry_run,
        )
        return TrafficTask(parts, states)

    def _ports(self) -> GatewayPorts:
        settings = self._settings
        if settings.scope == "external":
            return ExternalGateways()
        template = read_template(yaml.safe_load(Path(settings.template_file).read_text()))
        host, _, port = settings.xds_address.rpartition(":")
        placement = GatewayPlacement(
            key=self._key,
            xds_host=host,
            xds_port=int(port),
            template=template,
            namespace=template.namespace if settings.scope == "cluster" else "",
            watched=self._namespaces,
        )
        objects = GatewayObjects(self._kube, placement, self._tell)
        self._stack.push_async_callback(objects.close)
        return objects


async def keep_leader_label(kube: KubeApi, *, leads: str | None) -> None:
    """Keep the leader's label on this pod as it is to be, None for without; until cancelled.

    A pod that does not lead looks too: a container that restarts finds the label of its former life, and just
    then the API server may be away. A label that was set may be taken off by hand.
    """
    pause = LABEL_AGAIN_SECONDS
    while True:
        done = await _label_leader(kube, leads)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LABEL_EVERY_SECONDS) if done else LABEL_AGAIN_SECONDS


async def _label_leader(kube: KubeApi, leads: str | None) -> bool:
    """Set or remove the label; whether it is so now. Nothing to do outside a pod."""
    namespace, name = os.environ.get("POD_NAMESPACE", ""), os.environ.get("POD_NAME", "")
    if not namespace or not name:
        return True
    try:
        async with asyncio.timeout(10.0):
            await kube.patch(PODS, namespace, name, {"metadata": {"labels": {LEADER_LABEL: leads}}})
    except (KubeError, TimeoutError) as error:
        log.warning("this pod cannot be labelled: gateways will not find it", error=str(error))
        return False
    return True
