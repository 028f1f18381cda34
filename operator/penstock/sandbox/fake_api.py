"""A small Kubernetes API over real HTTP, for tests, the scale benchmark and the demo without Docker.

It stores, lists and watches any registered type, with patches, status and scale subresources,
conflicts, and faults on demand; it runs no controllers, checks no credentials and evaluates no CEL.
The contract tests hold it to a real kube-apiserver.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from penstock.kube.api import Resource
from penstock.sandbox.fake_faults import Faults, RequestCount
from penstock.sandbox.fake_http import ApiHandler
from penstock.sandbox.fake_store import FakeStore
from penstock.sandbox.fake_types import ResourceType, TypeRegistry, types_of_definition
from penstock.sandbox.fake_writes import Check, Writes

Definitions = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")
SHUTDOWN_SECONDS = 0.5


class FakeApi:
    """The server and, for tests in the same process, its objects.

    ``async with FakeApi() as api: api.url`` serves on a free port of 127.0.0.1 and stops at the end.
    """

    def __init__(
        self,
        definitions: Iterable[Mapping[str, Any]] = (),
        *,
        clock: Callable[[], float] = time.time,
        bookmark_seconds: float = 10.0,
    ) -> None:
        self.types = TypeRegistry()
        self.store = FakeStore()
        self.faults = Faults()
        self.requests = RequestCount()
        self._writes = Writes(self.store, clock)
        self._handler = ApiHandler(
            types=self.types,
            store=self.store,
            writes=self._writes,
            faults=self.faults,
            requests=self.requests,
            on_definition=self._serve_definition,
            bookmark_seconds=bookmark_seconds,
        )
        self._runner: web.ServerRunner | None = None
        self.url = ""
        for definition in definitions:
            self.define(definition)

    async def start(self, *, host: str = "127.0.0.1", port: int = 0) -> str:
        """Serve on `host`; port 0 takes a free one. Returns the URL."""
        server = web.Server(self._handler.handle, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, backlog=1024)
        await site.start()
        self.url = f"http://{host}:{self._runner.addresses[0][1]}"
        return self.url

    async def stop(self) -> None:
        """End all watches and stop serving; objects stay."""
        self.drop_watches()
        if self._runner is not None:
            await asyncio.sleep(0)
            for connection in self._runner.server.connections if self._runner.server else ():
                if connection.transport is not None:
                    connection.transport.abort()  # a client that left in the middle is not waited for
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> FakeApi:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def define(self, definition: Mapping[str, Any]) -> None:
        """Register the types of a CustomResourceDefinition."""
        self._writes.create(self.types.of(Definitions), "", definition)
        self._serve_definition(definition)

    def register(self, kind: ResourceType) -> None:
        """Serve a type that has no definition."""
        self.types.add(kind)

    def check(self, group: str, kind: str, check: Check) -> None:
        """Refuse writes (422) of objects for which `check` returns what is wrong."""
        self._writes.checks[group, kind] = check

    def create(self, resource: Resource, body: Mapping[str, Any], namespace: str = "") -> dict[str, Any]:
        """Create an object; the namespace is that of its metadata unless given."""
        namespace = namespace or (body.get("metadata") or {}).get("namespace") or "default"
        return self._writes.create(self.types.of(resource), namespace, body).body()

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        """Return an object. Raises `ApiFailure` (404) when there is none."""
        return self._writes.existing(self.types.of(resource), (namespace, name)).body()

    def edit(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        edit: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        subresource: str = "",
    ) -> dict[str, Any]:
        """Change an object by a function of it, as its owner would."""
        kind = self.types.of(resource)
        return self._writes.change(kind, (namespace, name), edit, subresource=subresource).body()

    def delete(self, resource: Resource, namespace: str, name: str) -> None:
        """Delete an object."""
        self._writes.delete(self.types.of(resource), (namespace, name))

    def objects(self, resource: Resource, namespace: str = "") -> list[dict[str, Any]]:
        """Return all objects of a type."""
        return [entry.body() for entry in self.store.entries(self.types.of(resource), namespace)]

    def drop_watches(self, resource: Resource | None = None) -> None:
        """Close the open watches of a type (None: of all), as a restarting API server does."""
        for shelf in self.store.shelves():
            if resource is None or shelf.kind.resource.plural == resource.plural:
                for watcher in shelf.watchers:
                    watcher.end()

    def forget_history(self, resource: Resource) -> None:
        """Let watches from past versions fail with 410, as etcd's compaction does."""
        self.store.forget_history(self.types.of(resource))

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig for the server and return its path."""
        cluster = {"name": "fake", "cluster": {"server": self.url}}
        context = {"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": "default"}}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [cluster],
            "users": [{"name": "fake", "user": {}}],
            "contexts": [context],
            "current-context": "fake",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def _serve_definition(self, definition: Mapping[str, Any]) -> None:
        """Serve the types and report the definition as established."""
        for kind in types_of_definition(definition):
            self.types.add(kind)
        name = definition["metadata"]["name"]
        conditions = [
            {"type": each, "status": "True", "reason": "Accepted", "message": ""}
            for each in ("NamesAccepted", "Established")
        ]

        def established(body: dict[str, Any]) -> dict[str, Any]:
            names = body["spec"]["names"]
            return body | {"status": {"acceptedNames": names, "conditions": conditions, "storedVersions": []}}

        self._writes.change(self.types.of(Definitions), ("", name), established, subresource="status")


async def wait_until(condition: Callable[[], bool], *, timeout: float = 10.0, what: str = "") -> None:
    """Wait until `condition` holds, looking every 10 ms. Raises `TimeoutError` that says what for."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what or condition}")
        await asyncio.sleep(0.01)
