"""A fallback is asked for its models before any traffic goes there."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from penstock.controller.model_check import ModelCheck
from penstock.model.traffic import Backend, Endpoint

SMALL = Backend("prod", "chat-small", 8000, "small")


async def answer_of(reply: web.Response, names: tuple[str, ...] = ("llama",)) -> str | None:
    """Return the refusal after one check against a server that replies so."""

    async def models(_: web.Request) -> web.Response:
        return reply

    app = web.Application()
    app.router.add_get("/v1/models", models)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        check = ModelCheck(session)
        endpoints = (Endpoint("small-0", server.host, server.port or 0),)
        assert check.refusal_of(SMALL, names, endpoints) is None  # not known yet: no traffic
        await asyncio.gather(*check._tasks)
        return check.refusal_of(SMALL, names, endpoints)


@pytest.mark.parametrize(
    ("reply", "refusal"),
    [
        (web.json_response({"data": [{"id": "small"}, {"id": "llama"}]}), ""),
        (
            web.json_response({"data": [{"id": "small"}]}),
            "chat-small does not accept model 'llama': start it with that name too "
            "(vLLM: --served-model-name); it serves small",
        ),
        (
            web.Response(status=503),
            "chat-small does not tell its models (GET /v1/models: HTTP 503)",
        ),
        (
            web.json_response(["llama"]),
            "chat-small does not tell its models (GET /v1/models: no list of models came back)",
        ),
    ],
)
async def test_a_fallback_is_used_only_when_it_serves_the_name(reply: web.Response, refusal: str) -> None:
    assert await answer_of(reply) == refusal


async def test_a_service_without_model_names_has_nothing_to_compare() -> None:
    async with aiohttp.ClientSession() as session:
        assert ModelCheck(session).refusal_of(SMALL, (), ()) == ""


async def test_a_fallback_without_endpoints_stays_unknown() -> None:
    async with aiohttp.ClientSession() as session:
        assert ModelCheck(session).refusal_of(SMALL, ("llama",), ()) is None
