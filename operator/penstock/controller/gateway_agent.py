"""What stands in for the operator beside each gateway while the operator is down: same server, last plans.

Plans come from a file (a mounted ConfigMap), endpoints live from the API server, and only while the proxy
asks: it turns here when the operator does not answer. Limits per replica stay as they were, the fleet's go by
the endpoints. Gateways that share them are counted in the EndpointSlice that lists this pod, and have equal
parts. What is not known is not served: without plans or endpoints a proxy keeps what it has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from penstock.controller.endpoints import EndpointCache
from penstock.controller.undecided_routes import route_of
from penstock.dataplane.envoy.backend import EnvoyDataPlane
from penstock.dataplane.envoy.proxies import Proxy
from penstock.dataplane.envoy.server import Caller, XdsServer
from penstock.dataplane.envoy.stored import StoredPlansError, read_plans
from penstock.kube.api import ENDPOINT_SLICES, KubeError, Object, Resource
from penstock.model.traffic import Backend, RoutePlan, backends_of

log = structlog.get_logger(__name__)
# A question is held this long at most, so that a proxy is back with the operator soon after that is.
HOLD_SECONDS: Final = (3.0, 5.0)
ASKED_SECONDS: Final = 15.0  # a proxy that has not asked for so long is with the operator
REFRESH_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.2
GROUP: Final = "own"  # the one group served here, whatever the proxy calls it
SERVICE_LABEL: Final = "kubernetes.io/service-name"


class SliceLister(Protocol):
    """What the agent may ask of the API server; raises `KubeError`."""

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = ""
    ) -> list[Object]:
        """Return all objects of a type in a namespace."""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """`gateways` is how many share the limits where they cannot be counted: this pod is in no Service."""

    plans: Path
    namespace: str
    pod: str
    gateways: int = 2


class GatewayAgent:
    """Serves one proxy. Run `server`'s app, and `run` beside it."""

    def __init__(self, settings: AgentSettings, kube: SliceLister) -> None:
        self._settings, self._kube = settings, kube
        self._plane = EnvoyDataPlane(lambda _: None)
        self._plans: tuple[RoutePlan, ...] | None = None
        self._text = ""
        self._asked_at = float("-inf")
        self._problem = ""
        # On loopback, where only the pod's own containers are: no token.
        self.server = XdsServer(self, lambda _: None, hold_seconds=HOLD_SECONDS)

    @property
    def ready(self) -> bool:
        """Whether there are plans: a proxy asks only whom its health check finds well."""
        return self._plans is not None

    def proxy(self, caller: Caller, version: str) -> Proxy | None:
        """Return the proxy that asks; None until its configuration is put together."""
        self._asked_at = time.monotonic()
        return self._plane.proxy(replace(caller, group=GROUP), version)

    async def run(self) -> None:
        """Follow the file, and the endpoints while somebody asks; until cancelled."""
        refreshed_at = float("-inf")
        while True:
            self.read_plans()
            now = time.monotonic()
            if now - self._asked_at < ASKED_SECONDS and now - refreshed_at >= REFRESH_SECONDS:
                refreshed_at = now
                await self.refresh()
            await asyncio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        """Close connections."""
        await self._plane.close()

    def read_plans(self) -> None:
        """Take in the file where it changed; what cannot be read leaves the plans as they are."""
        try:
            # kubelet replaces the file as a whole, so what is read is never half of it.
            text = self._settings.plans.read_text()
            if text != self._text:
                self._plans = read_plans(text)
                self._text = text
                log.info("plans read", services=len(self._plans), file=str(self._settings.plans))
        except OSError as error:
            self._say(f"plans cannot be read: {error.strerror}")
        except (StoredPlansError, UnicodeDecodeError) as error:
            self._say(f"plans cannot be used: {error}")

    async def refresh(self) -> None:
        """Serve the plans with the endpoints of this moment."""
        plans = self._plans
        if plans is None:
            return
        namespaces = {self._settings.namespace} | {each.namespace for each in _backends(plans)}
        try:
            async with asyncio.timeout(10.0):
                listed = [await self._kube.list(ENDPOINT_SLICES, each) for each in sorted(namespaces)]
        except (KubeError, TimeoutError) as error:
            self._say(f"endpoints cannot be listed, gateways keep those they have: {error}")
            return
        slices = [body for each in listed for body in each]
        endpoints = endpoints_of(slices, _backends(plans))
        gateways = gateways_beside(slices, self._settings) or self._settings.gateways
        self._plane.publish(GROUP, [route_of(plan, endpoints, gateways) for plan in plans])
        self._problem = ""

    def _say(self, problem: str) -> None:
        if problem != self._problem:
            log.warning(problem)
        self._problem = problem


def endpoints_of(slices: Sequence[Object], backends: Sequence[Backend]) -> EndpointCache:
    """Return the endpoints in EndpointSlices, with the ports of `backends` as slices name them.

    A port whose name was not stored is the slice's only one; where there are several it is not guessed.
    """
    cache = EndpointCache()
    ports: dict[tuple[str, str], dict[int, str]] = {}
    for body in slices:
        cache.see(body)
    for backend in backends:
        name = backend.port_name
        if name is None:
            own = [body for body in slices if _service_of(body) == (backend.namespace, backend.service)]
            named = {each.get("name") or "" for body in own for each in body.get("ports") or ()}
            name = named.pop() if len(named) == 1 else None
        if name is not None:
            ports.setdefault((backend.namespace, backend.service), {})[backend.port] = name
    for (namespace, service), numbered in ports.items():
        spec = {"ports": [{"name": name, "port": port} for port, name in numbered.items()]}
        cache.see_service({"metadata": {"namespace": namespace, "name": service}, "spec": spec})
    return cache


def gateways_beside(slices: Sequence[Object], settings: AgentSettings) -> int:
    """Return how many gateways share the Service that leads to this pod; 0 where none does.

    Those that are not ready count as well: they are about to be.
    """
    by_service: dict[tuple[str, str], set[str]] = {}
    for body in slices:
        place = _service_of(body)
        if place[0] == settings.namespace:
            pods = by_service.setdefault(place, set())
            pods |= {str((each.get("targetRef") or {}).get("name")) for each in body.get("endpoints") or ()}
    return max((len(pods) for pods in by_service.values() if settings.pod in pods), default=0)


def _backends(plans: Sequence[RoutePlan]) -> list[Backend]:
    return [backend for plan in plans for backend in backends_of(plan)]


def _service_of(body: Mapping[str, Any]) -> tuple[str, str]:
    metadata = body["metadata"]
    return str(metadata["namespace"]), str((metadata.get("labels") or {}).get(SERVICE_LABEL, ""))
