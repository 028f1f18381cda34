"""EndpointSlices of the sandbox's pods: written when a pod serves, gone when its process is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from penstock.kube.api import ENDPOINT_SLICES, Object
from penstock.sandbox.bodies import slice_body
from penstock.sandbox.local_pod import LocalPod
from penstock.sandbox.rest import RestClient, RestError


class EndpointSlices:
    """Keeps one slice for each pod behind each Service."""

    def __init__(self, api: RestClient, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._written: dict[str, Object] = {}
        self._positions: dict[str, int] = {}
        self._next_position = 0

    async def write(
        self,
        pods: Iterable[LocalPod],
        services_of: Mapping[str, list[str]],
        services: Mapping[str, Object],
    ) -> None:
        """Write what changed; raises `RestError`."""
        wanted = {}
        for pod in pods:
            if not (pod.url and pod.uid):
                continue
            for service in services_of.get(pod.name, ()):
                body = slice_body(pod, services[service], self._position(pod.name))
                wanted[body["metadata"]["name"]] = body
        for name in [name for name in self._written if name not in wanted]:
            await self._api.delete(ENDPOINT_SLICES.path(self._namespace, name))
            del self._written[name]
        for name, body in wanted.items():
            if self._written.get(name) != body:
                await self._put(name, body)
                self._written[name] = body

    async def _put(self, name: str, body: Object) -> None:
        path = ENDPOINT_SLICES.path(self._namespace)
        if name in self._written:
            await self._api.merge(f"{path}/{name}", {"endpoints": body["endpoints"], "ports": body["ports"]})
            return
        try:
            await self._api.create(path, body)
        except RestError as error:
            if error.status != 409:
                raise
            await self._api.delete(f"{path}/{name}")  # left by an earlier run
            await self._api.create(path, body)

    def _position(self, pod: str) -> int:
        if pod not in self._positions:
            self._positions[pod] = self._next_position % 64_000
            self._next_position += 1
        return self._positions[pod]
