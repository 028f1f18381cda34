"""Requests of the fake API: from URL and method to the store, and back as JSON."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from penstock.sandbox import fake_discovery as discovery
from penstock.sandbox import fake_errors as errors
from penstock.sandbox.fake_errors import ApiFailure
from penstock.sandbox.fake_faults import Call, Faults, RequestCount
from penstock.sandbox.fake_patch import json_patch, merge
from penstock.sandbox.fake_reads import list_bytes, selector_of, watch_chunks
from penstock.sandbox.fake_store import FakeStore, Key, Watcher
from penstock.sandbox.fake_types import ResourceType, TypeRegistry
from penstock.sandbox.fake_writes import Writes

JSON = "application/json"
_PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
LONGEST_WATCH_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a URL points within the API."""

    kind: ResourceType
    namespace: str
    name: str
    subresource: str

    @property
    def key(self) -> Key:
        """Return the key of the object."""
        return self.namespace, self.name


class ApiHandler:
    """Answers HTTP requests."""

    def __init__(
        self,
        *,
        types: TypeRegistry,
        store: FakeStore,
        writes: Writes,
        faults: Faults,
        requests: RequestCount,
        on_definition: Callable[[Mapping[str, Any]], None],
        bookmark_seconds: float,
    ) -> None:
        self._types = types
        self._store = store
        self._writes = writes
        self._faults = faults
        self._requests = requests
        self._on_definition = on_definition
        self._bookmark_seconds = bookmark_seconds

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; a failure becomes a ``Status``."""
        try:
            return await self._answer(request)
        except ApiFailure as failure:
            headers = {}
            if failure.retry_after_seconds:
                headers["Retry-After"] = str(failure.retry_after_seconds)
            body = orjson.dumps(failure.to_dict())
            return web.Response(body=body, status=failure.code, content_type=JSON, headers=headers)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        known = self._discovery(request.path)
        if known is not None:
            return _json(known)
        address = self._address(request.path)
        verb = _VERBS.get(request.method, "")
        if verb == "get" and not address.name:
            verb = "watch" if request.query.get("watch") in ("1", "true") else "list"
        plural = address.kind.resource.plural
        call = Call(verb, f"{plural}/{address.subresource}" if address.subresource else plural)
        self._requests.add(call)
        if fault := self._faults.take(call):
            await asyncio.sleep(fault.delay_seconds)
            if failure := fault.failure():
                raise failure
        if verb == "watch":
            return await self._watch(request, address)
        if verb == "list":
            body = list_bytes(self._store, address.kind, address.namespace, request.query)
            return web.Response(body=body, content_type=JSON)
        return await self._object(request, verb, address)

    async def _object(self, request: web.BaseRequest, verb: str, address: Address) -> web.Response:
        kind, key, scaling = address.kind, address.key, address.subresource == "scale"
        if verb == "get":
            if scaling:
                return _json(self._writes.scale(kind, key))
            return web.Response(body=self._writes.existing(kind, key).raw, content_type=JSON)
        if verb == "create":
            return self._create(address, await _body(request))
        if verb == "update":
            body = await _body(request)
            if scaling:
                return _json(self._writes.set_scale(kind, key, body))
            entry = self._writes.replace(kind, key, body, subresource=address.subresource)
            return web.Response(body=entry.raw, content_type=JSON)
        if verb == "patch":
            return await self._patch(request, address)
        if verb == "delete":
            if address.name:
                return web.Response(body=self._writes.delete(kind, key).raw, content_type=JSON)
            return self._delete_collection(address, request.query)
        raise ApiFailure(
            405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
        )

    def _create(self, address: Address, body: dict[str, Any]) -> web.Response:
        if address.name:
            raise ApiFailure(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        named = (body.get("metadata") or {}).get("namespace")
        if address.kind.namespaced and named and named != address.namespace:
            raise errors.bad_request(
                f"the namespace of the provided object does not match the namespace sent on the request: "
                f"{named} != {address.namespace}"
            )
        entry = self._writes.create(address.kind, address.namespace, body)
        if address.kind.resource.kind == "CustomResourceDefinition":
            self._on_definition(entry.body())
        return web.Response(body=entry.raw, status=201, content_type=JSON)

    async def _patch(self, request: web.BaseRequest, address: Address) -> web.Response:
        kind, key = address.kind, address.key
        patch = await _parsed(request)
        if request.content_type == "application/json-patch+json":
            if not isinstance(patch, list):
                raise errors.bad_request("a JSON patch is a list of operations")
            operations = patch

            def edit(body: dict[str, Any]) -> dict[str, Any]:
                return json_patch(body, operations)

        elif request.content_type in _PATCHES:
            if not isinstance(patch, dict):
                raise errors.bad_request("a merge patch of an object is an object")
            fields = patch

            def edit(body: dict[str, Any]) -> dict[str, Any]:
                merged: dict[str, Any] = merge(body, fields)
                return merged

        elif request.content_type == "application/apply-patch+yaml":
            return self._apply(request, address, patch)
        else:
            message = f"the body of the request was in an unknown format: {request.content_type}"
            raise ApiFailure(415, "UnsupportedMediaType", message)
        if address.subresource == "scale":
            return _json(self._writes.set_scale(kind, key, edit(self._writes.scale(kind, key))))
        entry = self._writes.change(kind, key, edit, subresource=address.subresource)
        return web.Response(body=entry.raw, content_type=JSON)

    def _apply(self, request: web.BaseRequest, address: Address, fields: object) -> web.Response:
        manager = request.query.get("fieldManager", "")
        if not manager:
            raise errors.bad_request("PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
        if not isinstance(fields, dict):
            raise errors.bad_request("an apply patch is an object")
        entry, created = self._writes.apply(
            address.kind,
            address.key,
            fields,
            manager=manager,
            force=request.query.get("force") in ("1", "true"),
            subresource=address.subresource,
        )
        return web.Response(body=entry.raw, status=201 if created else 200, content_type=JSON)

    def _delete_collection(self, address: Address, query: Mapping[str, str]) -> web.Response:
        matches = selector_of(query, address.namespace)
        doomed = [entry.key for entry in self._store.entries(address.kind) if matches(entry)]
        for key in doomed:
            self._writes.delete(address.kind, key)
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})

    async def _watch(self, request: web.BaseRequest, address: Address) -> web.StreamResponse:
        query = request.query
        matches = selector_of(query, address.namespace)
        if address.name:
            raise errors.no_such_path()
        bookmarks = query.get("allowWatchBookmarks") in ("1", "true")
        response = web.StreamResponse(headers={"Content-Type": JSON})
        response.enable_chunked_encoding()
        await response.prepare(request)
        watcher = Watcher()
        watchers = self._store.shelf(address.kind).watchers
        chunks = watch_chunks(
            self._store,
            address.kind,
            matches,
            version=query.get("resourceVersion", ""),
            bookmark_seconds=self._bookmark_seconds if bookmarks else 0.0,
            watcher=watcher,
        )
        # Joined in the same step of the loop in which the history is read: nothing is lost or told twice.
        watchers.add(watcher)
        seconds = float(query.get("timeoutSeconds") or LONGEST_WATCH_SECONDS)
        deadline = asyncio.get_running_loop().call_later(seconds, watcher.end)
        try:
            async for chunk in chunks:
                await response.write(chunk)
            await response.write_eof()
        except ConnectionError:
            pass  # the client left
        finally:
            deadline.cancel()
            watchers.discard(watcher)
        return response

    def _discovery(self, path: str) -> dict[str, Any] | None:
        parts = [part for part in path.split("/") if part]
        match parts:
            case ["healthz" | "readyz" | "livez"]:
                return {"status": "ok", "time": int(time.time())}
            case ["version"]:
                return dict(discovery.VERSION)
            case ["api"]:
                return discovery.core_versions()
            case ["apis"]:
                return discovery.group_list(self._types)
            case ["apis", group]:
                versions = self._types.groups().get(group)
                if versions is None:
                    raise errors.no_such_path()
                return discovery.group(group, versions)
            case ["api", version]:
                return discovery.resource_list(version, self._types.in_version("", version))
            case ["apis", group, version]:
                types = self._types.in_version(group, version)
                if not types:
                    raise errors.no_such_path()
                return discovery.resource_list(f"{group}/{version}", types)
        return None

    def _address(self, path: str) -> Address:
        parts = [part for part in path.split("/") if part]
        match parts:
            case ["api", version, *rest]:
                group = ""
            case ["apis", group, version, *rest]:
                pass
            case _:
                raise errors.no_such_path()
        namespace = ""
        # /api/v1/namespaces/prod is an object, /api/v1/namespaces/prod/pods a place.
        if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        plural, name, subresource, *excess = [*rest, "", ""]
        kind = self._types.find(group, version, plural)
        supported = kind is not None and {
            "": True,
            "status": kind.has_status,
            "scale": kind.scale is not None,
        }.get(subresource, False)
        if kind is None or not supported or any(excess) or (kind.namespaced and name and not namespace):
            raise errors.no_such_path()
        return Address(kind, namespace, name, subresource)


def _json(body: object) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type=JSON)


async def _parsed(request: web.BaseRequest) -> Any:
    try:
        return orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise errors.bad_request(f"the body is not JSON: {error}") from None


async def _body(request: web.BaseRequest) -> dict[str, Any]:
    body = await _parsed(request)
    if not isinstance(body, dict):
        raise errors.bad_request("the body is not an object")
    return body
