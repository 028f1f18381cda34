"""Whose step lag is added up when one URL leads to several engines, and when engines come and go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from fakes.engine_server import running_engine
from penstock.engine.lag import StepLag
from penstock.engine.lag_watch import EngineLagWatch

pytestmark = pytest.mark.timed

OLD = 1000.0


def health(engine: str, steps: int, *, age: float = OLD) -> bytes:
    """Steps of 100 ms, each 1 ms late."""
    lag = {
        "steps": steps,
        "scheduled_seconds": steps / 10,
        "lag_seconds": steps / 1000,
        "worst_seconds": 0.001,
    }
    return orjson.dumps({"step_lag": {"engine": engine, "age_seconds": age, **lag}})


@asynccontextmanager
async def watched(*answers: bytes) -> AsyncIterator[tuple[EngineLagWatch, str]]:
    """A URL that gives these answers one after the other."""
    left = list(answers)

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=left.pop(0))

    app = web.Application()
    app.router.add_get("/health", handler)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield EngineLagWatch(session), str(server.make_url("")).rstrip("/")


async def counted(*answers: bytes) -> StepLag:
    async with watched(*answers) as (watch, url):
        for _ in answers:
            await watch.poll([url])
        return watch.total


async def test_an_engine_counts_from_the_first_look_on():
    assert await counted(health("a", 1000), health("a", 1010), health("a", 1030)) == StepLag(
        30, 3.0, 1.03 - 1.0, 0.001
    )


async def test_engines_behind_one_url_are_told_apart():
    answers = [health("a", 1000), health("b", 5), health("a", 1010), health("b", 9), health("a", 1011)]
    assert (await counted(*answers)).steps == 10 + 4 + 1


async def test_an_engine_that_began_after_the_load_counts_whole():
    assert (await counted(health("a", 5), health("b", 7, age=0.0), health("b", 9, age=0.0))).steps == 9


async def test_what_states_no_lag_is_no_engine():
    assert await counted(b"", b"{}", b'{"step_lag":{"steps":4}}') == StepLag()


async def test_two_stand_ins_of_one_process_have_ids_of_their_own():
    async with running_engine() as (_, one), running_engine() as (_, two):
        stated = [(await (await each.get("/health")).json())["step_lag"] for each in (one, two, one)]
    assert stated[0]["engine"] == stated[2]["engine"] != stated[1]["engine"]
    assert 0 <= stated[0]["age_seconds"] < stated[2]["age_seconds"] < 60
