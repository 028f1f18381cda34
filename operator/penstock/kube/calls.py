"""One call to the API server, from its first attempt to an answer or an error of the port.

Repeated: 429 for every call, since the server says it did not process it; likewise a connection
that never came about. After 500, 502, 503, 504 and a connection lost half-way only calls whose
repetition changes nothing. A call that timed out is not repeated: its time is used up.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from penstock.kube.answers import PASSING, CallLimits, error_of, pause_seconds
from penstock.kube.api import Object, Unavailable
from penstock.kube.credentials import Credentials

OnRequest = Callable[[str, str, str, float], None]
METHODS = {
    "get": "GET",
    "list": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A call as metrics name it (`verb` of the API, `resource` with subresource) and as HTTP sends it.

    `repeatable`: processed twice it leaves the same state as once.
    """

    verb: str
    resource: str
    url: str
    body: Any = None
    content_type: str = "application/json"
    repeatable: bool = True

    @property
    def method(self) -> str:
        """Return the HTTP method."""
        return METHODS[self.verb]

    def __str__(self) -> str:
        return f"{self.method} {self.url}"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and whole body of an HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Send = Callable[[Call, Mapping[str, str]], Awaitable[Answer]]


class Caller:
    """Makes calls within their limits; `on_request` is told of each attempt."""

    def __init__(
        self,
        send: Send,
        credentials: Credentials,
        *,
        limits: CallLimits,
        headers: Mapping[str, str],
        on_request: OnRequest | None,
        rng: random.Random,
    ) -> None:
        self._send = send
        self._credentials = credentials
        self._limits = limits
        self._headers = dict(headers)
        self._on_request = on_request
        self._rng = rng

    async def make(self, call: Call) -> Object:
        """Return the answer's object. Raises `KubeError`."""
        limit = self._limits.total_seconds
        try:
            async with asyncio.timeout(limit) as deadline:
                answer = await self._final_answer(call, deadline)
        except TimeoutError:
            raise Unavailable(f"{call} had no answer within {limit:g} s") from None
        if answer.status >= 400:
            raise error_of(answer.status, answer.body, call=str(call))
        return _object(call, answer)

    async def _final_answer(self, call: Call, deadline: asyncio.Timeout) -> Answer:
        """Return the first answer that is not worth another attempt, or the last there was."""
        renewed = False
        attempt = 0
        while True:
            retry_after = None
            authorization = self._credentials.authorization()
            try:
                answer = await self._attempt(call, authorization, deadline)
            except (aiohttp.ClientError, OSError) as error:
                if attempt >= self._limits.retries or not _may_repeat_after(error, call):
                    raise Unavailable(f"{call} failed: {_reason(error)}") from error
            else:
                if answer.status == 401 and not renewed:
                    renewed = True
                    await self._credentials.renew(authorization)
                    continue
                passing = answer.status == 429 or (call.repeatable and answer.status in PASSING)
                if not passing or attempt >= self._limits.retries:
                    return answer
                retry_after = answer.headers.get("Retry-After")
            await asyncio.sleep(pause_seconds(attempt, retry_after, self._limits, self._rng))
            attempt += 1

    async def _attempt(self, call: Call, authorization: str, deadline: asyncio.Timeout) -> Answer:
        headers = {**self._headers, "Content-Type": call.content_type}
        if authorization:
            headers["Authorization"] = authorization
        started = time.monotonic()
        code = "connection"
        try:
            answer = await self._send(call, headers)
            code = str(answer.status)
        except asyncio.CancelledError:
            code = "timeout" if deadline.expired() else "canceled"
            raise
        finally:
            if self._on_request is not None:
                self._on_request(call.verb, call.resource, code, time.monotonic() - started)
        return answer


def _may_repeat_after(error: Exception, call: Call) -> bool:
    if isinstance(error, (aiohttp.ClientSSLError, aiohttp.InvalidURL)):
        return False  # a certificate does not get better within a second
    never_sent = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
    return call.repeatable or never_sent


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _object(call: Call, answer: Answer) -> Object:
    try:
        value = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        kind = answer.headers.get("Content-Type", "no content type")
        raise Unavailable(
            f"{call} was answered with {answer.status} but no JSON object ({kind}): "
            "is this the address of an API server?",
            status=answer.status,
        )
    return value
