"""An API server's client that tells what was asked of it, and a cache that sees what is there."""

from __future__ import annotations

from typing import Any

from fakes.api_servers_plugin import Served
from penstock.controller.cache import FleetCache
from penstock.kube.api import DEPLOYMENTS, SERVICES

READS = ("get", "list", "get_scale")


class RecordedApi:
    """The calls of another client, each as "verb name"."""

    def __init__(self, kube: Any) -> None:
        self._kube = kube
        self.calls: list[str] = []

    def __getattr__(self, verb: str) -> Any:
        call = getattr(self._kube, verb)

        async def recorded(resource: Any, namespace: str, *more: Any, **options: Any) -> Any:
            name = more[0] if more and isinstance(more[0], str) else ""
            if verb == "create":
                name = more[0]["metadata"]["name"]
            self.calls.append(f"{verb} {name}")
            return await call(resource, namespace, *more, **options)

        return recorded

    def writes(self) -> list[str]:
        """Return what was written since this was asked last."""
        found = [each for each in self.calls if each.split()[0] not in READS]
        self.calls.clear()
        return found


async def look(served: Served, cache: FleetCache) -> None:
    """Let a cache see the Deployments and Services of the test's namespace as the watches would."""
    namespace = served.namespace
    deployments = await served.kube.list(DEPLOYMENTS, namespace)
    services = await served.kube.list(SERVICES, namespace)
    there = {each["metadata"]["name"] for each in deployments}
    for _, kind, name in [each for each in cache.workloads if each[2] not in there]:
        cache.forget_workload(kind, namespace, name)
    for name in {name for _, name in cache.own_services} - {each["metadata"]["name"] for each in services}:
        cache.forget_cluster_service(namespace, name)
    for body in deployments:
        cache.see_workload("Deployment", body)
    for body in services:
        cache.see_cluster_service(body)
