"""The stand-in as its clients meet it: over HTTP, on a free port of this machine."""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections.abc import Callable

import aiohttp
import orjson
import pytest
from aiohttp import web

from fakes.engine_server import running_engine, steps_of
from penstock.engine.batch_loop import EngineLimits
from penstock.engine.faults import Faults

pytestmark = pytest.mark.timed

SHORT = {"prompt": "a b c", "max_tokens": 4}
LONG = {"prompt": "a b c", "max_tokens": 1000, "stream": True}


async def health(client: aiohttp.ClientSession) -> dict[str, object]:
    async with client.get("/health") as response:
        return await response.json()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is awaited belongs to the server, not to the test
            await asyncio.sleep(0.005)


async def test_a_stream_brings_each_token_when_its_step_ends():
    async with running_engine(step_seconds=steps_of(0.05)) as (_, client):
        loop = asyncio.get_running_loop()
        start, times = loop.time(), []
        async with client.post("/v1/completions", json={**SHORT, "stream": True}) as response:
            assert response.content_type == "text/event-stream"
            async for line in response.content:
                times += [loop.time() - start] * line.startswith(b'data: {"id"')
        # never early: 4 steps of 50 ms; late by what a busy machine needs
        assert all(at >= 0.05 * step for step, at in enumerate(times, start=1))
        assert len(times) == 4
        assert times[-1] < 1.0


async def test_an_answer_without_streaming_comes_whole():
    async with (
        running_engine() as (_, client),
        client.post("/v1/chat/completions", json={"messages": [{"content": "hi"}]}) as response,
    ):
        answer = await response.json()
        assert answer["usage"] == {"prompt_tokens": 1, "completion_tokens": 128, "total_tokens": 129}


async def test_the_front_end_time_delays_the_first_token_only():
    async with running_engine(frontend_seconds=0.3, step_seconds=steps_of(0.01)) as (server, client):
        async with client.post("/v1/completions", json=SHORT) as response:
            await response.read()
        text = await (await client.get("/metrics")).text()
        assert 'vllm:time_to_first_token_seconds_bucket{engine="0",le="0.25",model_name="m"} 1.0' in text
        assert server.replica.lag.steps == 4


async def test_models_and_metrics_are_served():
    async with running_engine() as (_, client):
        models = await (await client.get("/v1/models")).json()
        assert [model["id"] for model in models["data"]] == ["m"]
        async with client.get("/metrics") as response:
            assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert "vllm:num_requests_running" in await response.text()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/nowhere", None, 404, "Not Found (GET /nowhere)"),
        ("GET", "/v1/completions", None, 405, "Method Not Allowed (GET /v1/completions)"),
        (
            "POST",
            "/v1/completions",
            {},
            400,
            "prompt must be a text or a list of token ids; one prompt a request.",
        ),
        (
            "POST",
            "/v1/completions",
            {"prompt": "a", "max_tokens": 2048},
            400,
            "This model's maximum context length is 2048 tokens. However, you requested 2048 output tokens "
            "and your prompt contains 1 input tokens. Reduce one of them.",
        ),
        (
            "POST",
            "/v1/completions",
            {"prompt": "x" * (4 * 1024 * 1024)},
            413,
            "The body exceeds 4194304 bytes. (POST /v1/completions)",
        ),
    ],
)
async def test_errors_are_in_openais_format(method: str, path: str, body: object, status: int, message: str):
    async with (
        running_engine() as (_, client),
        client.request(
            method, path, data=None if body is None else io.BytesIO(orjson.dumps(body))
        ) as response,
    ):
        assert response.status == status
        assert (await response.json())["error"]["message"] == message


async def test_a_full_engine_refuses_and_counts_it():
    async with running_engine(max_in_flight=1, step_seconds=steps_of(0.05)) as (server, client):
        first = asyncio.create_task(client.post("/v1/completions", json=LONG))
        await until(lambda: server.open_requests == 1)
        async with client.post("/v1/completions", json=SHORT) as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
            assert (await refused.json())["error"]["message"] == "The engine holds 1 requests, its limit."
        text = await (await client.get("/metrics")).text()
        assert 'vllm:admission_rejections_total{model_name="m",reason="max_num_queued_reqs"} 1.0' in text
        (await first).close()


async def test_a_client_that_goes_away_frees_its_slot():
    async with running_engine(step_seconds=steps_of(0.01)) as (server, client):
        response = await client.post("/v1/completions", json=LONG)
        await response.content.readline()
        assert server.replica.batch.running_count == 1
        response.close()
        await until(lambda: server.replica.in_flight == 0)
        assert (server.replica.batch.running_count, server.open_requests) == (0, 0)
        text = await (await client.get("/metrics")).text()
        assert 'request_success_total{engine="0",finished_reason="abort",model_name="m"} 1.0' in text


async def finished(client: aiohttp.ClientSession) -> dict[str, int]:
    """What is counted of each reason to end, without the zeros."""
    text = await (await client.get("/metrics")).text()
    found = re.findall(r'request_success_total\{.*finished_reason="(\w+)".*\} (\S+)', text)
    return {reason: int(float(count)) for reason, count in found if float(count)}


async def test_a_client_that_goes_away_after_the_last_token_aborted_nothing(monkeypatch: pytest.MonkeyPatch):
    async def stuck(_: web.StreamResponse) -> None:
        await asyncio.Event().wait()

    async with running_engine() as (server, client):
        with monkeypatch.context() as patched:
            patched.setattr(web.StreamResponse, "write_eof", stuck)
            response = await client.post("/v1/completions", json={**LONG, "max_tokens": 3})
            while await response.content.readline() != b"data: [DONE]\n":
                pass
            assert server.open_requests == 1
            response.close()
            await until(lambda: server.open_requests == 0)
        assert await finished(client) == {"length": 1}


async def test_draining_refuses_new_requests_and_finishes_streams():
    async with running_engine(step_seconds=steps_of(0.02)) as (server, client):
        body = {**LONG, "max_tokens": 25}
        async with client.post("/v1/completions", json=body) as response:
            draining = asyncio.create_task(server.drain())
            await until(lambda: server.state == "draining")
            assert (await health(client))["status"] == "draining"
            async with client.post("/v1/completions", json=SHORT) as refused:
                assert refused.status == 503
                assert (await refused.json())["error"]["message"] == "The engine is draining."
            text = await response.text()
        assert text.count('"text"') == 25
        assert text.endswith("data: [DONE]\n\n")
        await asyncio.wait_for(draining, 1)


async def test_fail_ratio_one_fails_every_request():
    async with (
        running_engine(faults=Faults(fail_ratio=1)) as (_, client),
        client.post("/v1/completions", json=SHORT) as response,
    ):
        assert response.status == 500
        assert (await response.json())["error"]["message"] == "Injected failure (--fail-ratio)."
        assert await finished(client) == {"error": 1}


async def test_fail_ratio_fails_its_share():
    async with running_engine(faults=Faults(fail_ratio=0.3), step_seconds=steps_of(0.0005)) as (_, client):
        statuses = [
            (await client.post("/v1/completions", json={**SHORT, "max_tokens": 1})).status for _ in range(200)
        ]
    assert 35 <= statuses.count(500) <= 85  # 60 +- 4 standard deviations
    assert statuses.count(500) + statuses.count(200) == 200


async def test_cut_streams_end_after_the_first_token(caplog: pytest.LogCaptureFixture):
    async with running_engine(faults=Faults(cut_ratio=1)) as (server, client):
        with pytest.raises(aiohttp.ClientError):
            async with client.post("/v1/completions", json={**SHORT, "stream": True}) as response:
                await response.read()
        await until(lambda: server.open_requests == 0)
        assert server.replica.in_flight == 0
        assert await finished(client) == {"abort": 1}
    assert [each.message for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_a_hanging_metrics_endpoint_accepts_and_never_answers():
    async with running_engine(faults=Faults(hang_metrics_after_seconds=0)) as (_, client):
        with pytest.raises(TimeoutError):
            await client.get("/metrics", timeout=aiohttp.ClientTimeout(total=0.2))
        assert (await health(client))["status"] == "ready"


async def test_a_slow_engine_stretches_its_schedule_and_that_is_no_lag():
    async with running_engine(faults=Faults(slow_factor=3), step_seconds=steps_of(0.05)) as (server, client):
        await client.post("/v1/completions", json={**SHORT, "max_tokens": 2})
        assert server.replica.lag.scheduled_seconds == pytest.approx(0.3)


@pytest.mark.parametrize(("age", "factor"), [(0.0, 1.0), (9.9, 1.0), (10.0, 4.0)])
def test_slowness_begins_when_told(age: float, factor: float):
    assert Faults(slow_factor=4, slow_after_seconds=10).step_factor(age) == factor


async def test_a_busy_machine_shows_as_lag_in_health():
    def busy(_work) -> float:
        asyncio.get_running_loop().call_later(0.001, _block, 0.05)
        return 0.01

    async with running_engine(step_seconds=busy) as (server, client):
        await client.post("/v1/completions", json={**SHORT, "max_tokens": 5})
        lag = (await health(client))["step_lag"]
        assert lag["steps"] == 5
        assert lag["worst_seconds"] > 0.03  # the loop was blocked for 50 ms of a step of 10 ms
        assert lag["lag_seconds"] > 0.05
        assert server.replica.lag.machine_was_the_bottleneck


def _block(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        pass


async def test_lag_does_not_accumulate_into_throughput():
    # 40 steps of 25 ms end at 1.0 s on schedule; each one ending 1 ms late would add only its own 1 ms
    async with running_engine(
        step_seconds=steps_of(0.025),
        limits=EngineLimits(slots=1, kv_capacity_tokens=4096, step_budget_tokens=64),
    ) as (server, client):
        start = asyncio.get_running_loop().time()
        await client.post("/v1/completions", json={**SHORT, "max_tokens": 40})
        took = asyncio.get_running_loop().time() - start
        assert took >= 1.0
        assert took - 1.0 <= server.replica.lag.worst_seconds + 0.2


async def test_an_engine_answers_to_all_its_names_and_replies_with_the_first():
    async with running_engine(other_names=("alias",)) as (_, client):
        models = await (await client.get("/v1/models")).json()
        assert [each["id"] for each in models["data"]] == ["m", "alias"]
        async with client.post("/v1/completions", json={**SHORT, "model": "alias"}) as reply:
            assert (reply.status, (await reply.json())["model"]) == (200, "m")
        async with client.post("/v1/completions", json={**SHORT, "model": "other"}) as reply:
            assert reply.status == 404
