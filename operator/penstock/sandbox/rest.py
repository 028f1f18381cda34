"""A few plain calls to a Kubernetes API: what a kubelet and controllers need and `KubeApi` leaves out.

Deletion, bindings and watches, on JSON over HTTP. For the sandbox only: errors are not retried here,
because every caller reconciles again anyway.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
import orjson

from penstock.kube.api import Object, PatchType

CALL_SECONDS = 10.0
WATCH_SECONDS = 300  # the server ends the watch then; the follower lists again
REST_SECONDS = 0.5  # between attempts when the API does not answer


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """Where an API server is and how to be let in."""

    url: str
    token: str = ""
    tls: ssl.SSLContext | None = None


class RestError(Exception):
    """An answer that is not 2xx, or no answer (status 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Change:
    """One object as it is now; `deleted` when it is gone."""

    body: Object
    deleted: bool


class RestClient:
    """Calls by path; use it as an async context manager."""

    def __init__(self, access: ApiAccess) -> None:
        self._access = access
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._access.token}"} if self._access.token else {}
        self._session = aiohttp.ClientSession(headers=headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened().close()

    async def get(self, path: str, **query: str) -> Object:
        """Read an object or a list."""
        return await self._call("GET", path, query=query)

    async def create(self, path: str, body: Mapping[str, Any]) -> Object:
        """Post an object to its collection."""
        return await self._call("POST", path, body=body)

    async def merge(self, path: str, body: Mapping[str, Any]) -> Object:
        """Merge-patch an object or a subresource."""
        return await self._call("PATCH", path, body=body, content_type=PatchType.MERGE)

    async def delete(self, path: str, *, grace_seconds: int = 0) -> None:
        """Delete an object; one that is gone already is fine. Pods on a node stay for their grace period."""
        try:
            await self._call("DELETE", path, query={"gracePeriodSeconds": str(grace_seconds)})
        except RestError as error:
            if error.status != 404:
                raise

    async def follow(self, path: str) -> AsyncIterator[list[Change]]:
        """Yield what there is, then every change, for ever; the first batch may be empty.

        After a lost connection everything is listed again: objects that vanished meanwhile come as deleted.
        """
        known: dict[str, Object] = {}
        while True:
            try:
                listing = await self.get(path)
                present = {item["metadata"]["uid"]: item for item in listing["items"]}
                gone = [Change(body, deleted=True) for uid, body in known.items() if uid not in present]
                known = present
                yield gone + [Change(body, deleted=False) for body in present.values()]
                async for change in self._watch(path, listing["metadata"]["resourceVersion"]):
                    uid = change.body["metadata"]["uid"]
                    if change.deleted:
                        known.pop(uid, None)
                    else:
                        known[uid] = change.body
                    yield [change]
            except (RestError, aiohttp.ClientError, OSError, TimeoutError, ValueError):
                await asyncio.sleep(REST_SECONDS)

    async def _watch(self, path: str, version: str) -> AsyncIterator[Change]:
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS)}
        timeout = aiohttp.ClientTimeout(total=None, connect=CALL_SECONDS, sock_read=WATCH_SECONDS + 30)
        async with self._opened().get(
            self._access.url + path, params=query, timeout=timeout, ssl=self._access.tls or True
        ) as response:
            if response.status != 200:
                raise RestError(response.status, await response.text())
            rest = b""
            async for data in response.content.iter_any():  # lines may exceed readline's 64 KiB
                *lines, rest = (rest + data).split(b"\n")
                for line in filter(None, lines):
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":  # 410: too old, list again
                        raise RestError(int(event["object"].get("code", 0)), str(event["object"]))
                    if event["type"] != "BOOKMARK":
                        yield Change(event["object"], deleted=event["type"] == "DELETED")

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        try:
            async with self._opened().request(
                method,
                self._access.url + path,
                params=query,
                data=None if body is None else orjson.dumps(body),
                headers={"Content-Type": content_type} if body is not None else None,
                timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
                ssl=self._access.tls or True,
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise RestError(0, f"{method} {path}: {str(error) or type(error).__name__}") from error
        if not 200 <= response.status < 300:
            raise RestError(response.status, f"{method} {path}: {response.status} {answer[:500]!r}")
        parsed: Object = orjson.loads(answer)
        return parsed

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use RestClient as an async context manager")
        return self._session
