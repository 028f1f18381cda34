"""A call that fails says what failed and why."""

from __future__ import annotations

import asyncio

import pytest

from penstock.sandbox import rest
from penstock.sandbox.rest import ApiAccess, RestClient, RestError


async def test_a_call_without_an_answer_in_time_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "CALL_SECONDS", 0.1)
    over = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, RestClient(ApiAccess(f"http://{host}:{port}")) as api:
        with pytest.raises(RestError) as raised:
            await api.create("/api/v1/namespaces/prod/pods", {})
        over.set()
    assert str(raised.value).startswith("POST /api/v1/namespaces/prod/pods: "), raised.value
    assert not str(raised.value).endswith(": "), "a TimeoutError has no text of its own"
    assert raised.value.status == 0
