"""Refusals, retries and time-outs over real HTTP."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from penstock.kube.aio_client import AioKubeApi, connect
from penstock.kube.answers import CallLimits, pause_seconds
from penstock.kube.api import (
    DEPLOYMENTS,
    LEASES,
    PODS,
    Conflict,
    Forbidden,
    KubeError,
    NotFound,
    PatchType,
    Unavailable,
    Unprocessable,
)

Server = Any  # the fixture's ApiServer
Ask = Callable[[AioKubeApi], Awaitable[object]]
CALLS: dict[str, Ask] = {
    "get": lambda api: api.get(PODS, "prod", "p"),
    "list": lambda api: api.list(PODS, "prod"),
    "replace": lambda api: api.replace(LEASES, "ops", "penstock", {}),
    "merge patch": lambda api: api.patch(PODS, "prod", "p", {}),
    "apply": lambda api: api.patch(PODS, "prod", "p", {}, patch_type=PatchType.APPLY),
    "JSON patch": lambda api: api.patch(PODS, "prod", "p", [], patch_type=PatchType.JSON),
    "create": lambda api: api.create(LEASES, "ops", {}),
}
REPEATABLE = ("get", "list", "replace", "merge patch", "apply")


def ok() -> web.Response:
    return web.json_response({"items": []})


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, Unprocessable),
        (403, Forbidden),
        (404, NotFound),
        (405, Unprocessable),
        (409, Conflict),
        (410, KubeError),
        (413, Unprocessable),
        (415, Unprocessable),
        (422, Unprocessable),
        (501, Unavailable),
    ],
)
async def test_a_refusal_says_what_the_api_server_said(
    api: AioKubeApi, server: Server, refusal: Any, code: int, error: type[KubeError]
) -> None:
    server.queue = [refusal(code, f"because of {code}")]
    with pytest.raises(KubeError, match=f"^because of {code}$") as raised:
        await api.get(DEPLOYMENTS, "prod", "chat")
    assert type(raised.value) is error
    assert raised.value.status == code
    assert len(server.asked) == 1
    assert server.counted == [("get", "deployments", str(code))]


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("name", REPEATABLE)
async def test_what_passes_is_tried_again(
    api: AioKubeApi, server: Server, refusal: Any, name: str, code: int
) -> None:
    server.queue = [refusal(code, "later"), refusal(code, "later"), ok()]
    await CALLS[name](api)
    assert [counted[2] for counted in server.counted] == [str(code), str(code), "200"]


@pytest.mark.parametrize("name", CALLS)
async def test_two_retries_are_the_most(api: AioKubeApi, server: Server, refusal: Any, name: str) -> None:
    server.queue = [refusal(429, "too many requests") for _ in range(9)]
    with pytest.raises(Unavailable, match=r"^too many requests$") as raised:
        await CALLS[name](api)
    assert raised.value.status == 429
    assert len(server.asked) == 3


@pytest.mark.parametrize("name", sorted(set(CALLS) - set(REPEATABLE)))
@pytest.mark.parametrize("code", [500, 502, 503, 504])
async def test_what_may_have_been_done_is_not_done_twice(
    api: AioKubeApi, server: Server, refusal: Any, name: str, code: int
) -> None:
    server.queue = [refusal(code, "etcdserver: request timed out"), ok()]
    with pytest.raises(Unavailable, match=r"^etcdserver: request timed out$"):
        await CALLS[name](api)
    assert len(server.asked) == 1


@pytest.mark.parametrize(("name", "attempts"), [("merge patch", 3), ("create", 1), ("JSON patch", 1)])
async def test_a_connection_lost_half_way_is_repeated_only_where_that_is_safe(
    api: AioKubeApi, server: Server, name: str, attempts: int
) -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.respond = hang_up
    with pytest.raises(Unavailable, match=r"^(PATCH|POST) http\S+ failed: "):
        await CALLS[name](api)
    assert len(server.asked) == attempts
    assert {counted[2] for counted in server.counted} == {"connection"}


@pytest.mark.parametrize("name", ["get", "create"])
async def test_a_server_that_is_not_there_was_never_asked_so_every_call_is_repeated(
    write_kubeconfig: Callable[..., str], unused_tcp_port: int, name: str
) -> None:
    codes: list[str] = []
    limits = CallLimits(total_seconds=5, first_pause_seconds=0.002)
    api = await connect(
        kubeconfig=write_kubeconfig(f"http://127.0.0.1:{unused_tcp_port}"),
        on_request=lambda _verb, _resource, code, _seconds: codes.append(code),
        limits=limits,
    )
    with pytest.raises(Unavailable, match=r"failed: Cannot connect to host 127\.0\.0\.1"):
        await CALLS[name](api)
    assert codes == ["connection"] * 3
    await api.close()


async def test_retry_after_is_waited_for(api: AioKubeApi, server: Server, refusal: Any) -> None:
    server.queue = [refusal(429, "slow down", Retry_After="1"), ok()]
    started = time.monotonic()
    await api.get(PODS, "prod", "p")
    assert time.monotonic() - started >= 1.0


@pytest.mark.parametrize(
    ("attempt", "retry_after", "low", "high"),
    [
        (0, None, 0.05, 0.15),
        (1, None, 0.1, 0.3),
        (2, None, 0.2, 0.6),
        (0, "1", 1.0, 1.1),
        (0, "0", 0.0, 0.0),
        (0, "3600", 5.0, 5.0),
        (0, "Sat, 21 Nov 2026 12:00:00 GMT", 0.05, 0.15),
        (0, "-1", 0.05, 0.15),
        (9, None, 5.0, 5.0),
    ],
)
def test_pauses_grow_and_are_capped(attempt: int, retry_after: str | None, low: float, high: float) -> None:
    rng = random.Random(1)
    pauses = [pause_seconds(attempt, retry_after, CallLimits(), rng) for _ in range(200)]
    assert low <= min(pauses)
    assert max(pauses) <= high
    assert low == high or len(set(pauses)) > 100


async def test_a_call_without_answer_ends_in_time_and_is_not_repeated(
    server: Server, write_kubeconfig: Callable[..., str]
) -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(10)
        return web.Response()

    server.respond = hang
    limits = CallLimits(total_seconds=0.2)
    api = await connect(kubeconfig=write_kubeconfig(server.url), on_request=server.count, limits=limits)
    with pytest.raises(Unavailable, match=r"^GET http://\S+/pods/p had no answer within 0.2 s$"):
        await api.get(PODS, "prod", "p")
    assert server.counted == [("get", "pods", "timeout")]
    await api.close()


async def test_a_body_that_never_ends_is_cut_off_too(
    server: Server, write_kubeconfig: Callable[..., str]
) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    server.respond = drip
    api = await connect(kubeconfig=write_kubeconfig(server.url), limits=CallLimits(total_seconds=0.3))
    with pytest.raises(Unavailable, match=r"had no answer within 0.3 s$"):
        await api.get(PODS, "prod", "p")
    await api.close()


async def test_a_call_that_is_cancelled_is_counted_as_such(api: AioKubeApi, server: Server) -> None:
    asked = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        asked.set()
        await asyncio.sleep(10)
        return web.Response()

    server.respond = hang
    task = asyncio.create_task(api.get(PODS, "prod", "p"))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.counted == [("get", "pods", "canceled")]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            web.Response(status=502, text="<html>\n  Bad Gateway</html>"),
            r"POST \S+ was answered with 502: <html> Bad Gateway</html>",
        ),
        (web.Response(status=502, text=""), r"POST \S+ was answered with 502"),
        (web.Response(status=502, text="x" * 300), rf"POST \S+ was answered with 502: {'x' * 200}…"),
        (
            web.Response(text="<html>log in</html>", content_type="text/html"),
            r"POST \S+ was answered with 200 but no JSON object \(text/html; charset=utf-8\): "
            r"is this the address of an API server\?",
        ),
        (
            web.json_response([1]),
            r"POST \S+ was answered with 200 but no JSON object \(application/json; charset=utf-8\): .*",
        ),
    ],
    ids=["html", "empty", "long", "log-in page", "a list"],
)
async def test_what_is_no_api_server_is_named(
    api: AioKubeApi, server: Server, answer: web.Response, message: str
) -> None:
    server.queue = [answer]
    with pytest.raises(Unavailable) as raised:
        await api.create(LEASES, "ops", {})
    assert re.fullmatch(message, raised.value.message)
