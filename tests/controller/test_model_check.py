"""A fallback is asked for its models before any traffic goes there."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from penstock.controller.model_check import ModelCheck, Served
from penstock.model.traffic import Backend, Endpoint

SMALL = Backend("prod", "chat-small", 8000, "small")


async def answer_of(reply: web.Response) -> Served:
    """Return what is known after one check against a server that replies so."""

    async def models(_: web.Request) -> web.Response:
        return reply

    app = web.Application()
    app.router.add_get("/v1/models", models)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        check = ModelCheck(session)
        endpoints = (Endpoint("small-0", server.host, server.port or 0),)
        assert check.served(SMALL, endpoints) == Served()  # not known yet: no traffic
        await asyncio.gather(*check._tasks)
        return check.served(SMALL, endpoints)


@pytest.mark.parametrize(
    ("reply", "served"),
    [
        (web.json_response({"data": [{"id": "small"}, {"id": "llama"}]}), Served(("llama", "small"))),
        (web.json_response({"data": []}), Served(())),
        (web.Response(status=503), Served(None, "GET /v1/models: HTTP 503")),
        (web.json_response(["llama"]), Served(None, "GET /v1/models: no list of models came back")),
    ],
)
async def test_a_fallback_is_asked_for_the_models_it_serves(reply: web.Response, served: Served) -> None:
    assert await answer_of(reply) == served


async def test_a_fallback_without_endpoints_stays_unknown() -> None:
    async with aiohttp.ClientSession() as session:
        assert ModelCheck(session).served(SMALL, ()) == Served()
