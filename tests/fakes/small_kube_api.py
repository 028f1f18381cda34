"""A Kubernetes API that holds objects by name and checks resourceVersion; each caller has its own faults.

Only get, create and replace. The full fake with watches and subresources is the sandbox's.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

from penstock.kube.api import Conflict, NotFound, Object, PatchType, Resource, Scale

Fault = Callable[[str], Awaitable[None]]


class Store:
    """The objects behind all callers, and who wrote them."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.written: list[Object] = []
        self._version = 0

    def put(self, key: tuple[str, str, str], body: Mapping[str, Any]) -> Object:
        """Store under a new resourceVersion."""
        self._version += 1
        held = copy.deepcopy(dict(body))
        held["metadata"] = {**(held.get("metadata") or {}), "resourceVersion": str(self._version)}
        self.objects[key] = held
        self.written.append(held)
        return copy.deepcopy(held)


class SmallKubeApi:
    """One caller's view. `before` runs before a call is processed, `after` before its answer is given."""

    def __init__(self, store: Store, *, before: Fault | None = None, after: Fault | None = None) -> None:
        self.store = store
        self.before = before
        self.after = after
        self.calls: list[str] = []

    async def _processed(self, verb: str, process: Callable[[], Object]) -> Object:
        self.calls.append(verb)
        if self.before is not None:
            await self.before(verb)
        await asyncio.sleep(0)
        answer = process()
        if self.after is not None:
            await self.after(verb)
        return answer

    def _held(self, key: tuple[str, str, str]) -> Object:
        if key not in self.store.objects:
            raise NotFound(f'{key[0]} "{key[2]}" not found', status=404)
        return copy.deepcopy(self.store.objects[key])

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Return a copy."""
        return await self._processed("get", lambda: self._held((resource.plural, namespace, name)))

    async def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> Object:
        """Create unless it is there."""
        key = (resource.plural, namespace, body["metadata"]["name"])

        def process() -> Object:
            if key in self.store.objects:
                raise Conflict(f'{key[0]} "{key[2]}" already exists', status=409)
            return self.store.put(key, body)

        return await self._processed("create", process)

    async def replace(self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
        """Replace what has the body's resourceVersion."""
        key = (resource.plural, namespace, name)

        def process() -> Object:
            if self._held(key)["metadata"]["resourceVersion"] != body["metadata"].get("resourceVersion"):
                raise Conflict("the object has been modified", status=409)
            return self.store.put(key, body)

        return await self._processed("replace", process)

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = ""
    ) -> list[Object]:
        """Not served."""
        self._unserved()

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: object,
        *,
        subresource: str = "",
        patch_type: PatchType = PatchType.MERGE,
    ) -> Object:
        """Not served."""
        self._unserved()

    async def get_scale(self, resource: Resource, namespace: str, name: str) -> Scale:
        """Not served."""
        self._unserved()

    async def patch_scale(
        self, resource: Resource, namespace: str, name: str, *, replicas: int, resource_version: str
    ) -> Scale:
        """Not served."""
        self._unserved()

    async def resource_of(self, group: str, kind: str) -> Resource:
        """Not served."""
        self._unserved()

    def _unserved(self) -> NoReturn:
        raise AssertionError("this small fake serves get, create and replace")
