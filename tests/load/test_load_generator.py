"""The open loop against stand-in engines in this process."""

from __future__ import annotations

import asyncio
import random
import resource
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from fakes.engine_server import running_engine, steps_of
from penstock.engine.arrivals import PlannedRequest
from penstock.engine.faults import Faults
from penstock.engine.lag import StepLag
from penstock.engine.load_generator import LoadGenerator, LoadLimits, LoadResult
from penstock.engine.load_report import LoadObjectives, Trust, summarize
from penstock.engine.openai_api import Endpoint
from penstock.engine.stream_client import Connections, RequestShape
from penstock.engine.targets import Balancing, Targets

pytestmark = pytest.mark.timed

NOTHING = LoadObjectives()


def plan(count: int, gap: float = 0.01, tokens: int = 3) -> list[PlannedRequest]:
    return [PlannedRequest(number * gap, 20, tokens) for number in range(count)]


async def send(
    *urls: str,
    requests: Iterable[PlannedRequest],
    file: Path | None = None,
    shape: RequestShape | None = None,
    **limits: Any,
) -> LoadResult:
    targets = Targets(urls, file=file, balancing=Balancing.ROUND_ROBIN, chance=random.Random(0))
    generator = LoadGenerator(
        targets, shape or RequestShape(), LoadLimits(**{"duration_seconds": 0.1, **limits})
    )
    return await generator.run(requests)


def url_of(client: Any) -> str:
    return str(client.make_url("")).rstrip("/")


@pytest.mark.parametrize("endpoint", list(Endpoint))
async def test_every_request_is_measured_token_by_token(endpoint: Endpoint):
    async with running_engine(step_seconds=steps_of(0.02)) as (_, client):
        result = await send(url_of(client), requests=plan(10), shape=RequestShape(endpoint, "m"))
    assert [record.outcome for record in result.records] == ["ok"] * 10
    assert all(record.output_tokens == 3 for record in result.records)
    # never early: three steps of 20 ms, the first of which begins after the request came
    assert all(record.ttft_seconds >= 0.02 for record in result.records)
    assert all(record.latency_seconds >= 0.06 for record in result.records)
    assert all(record.tpot_seconds > 0 for record in result.records)
    assert result.inter_token.count == 20
    assert result.engine_lag.steps > 0


async def test_the_engine_sees_the_prompt_length_that_was_planned():
    async with running_engine() as (_, client):
        await send(url_of(client), requests=[PlannedRequest(0, 300, 1), PlannedRequest(0, 5, 1)])
        text = await (await client.get("/metrics")).text()
    assert 'vllm:request_prompt_tokens_sum{engine="0",model_name="m"} 305.0' in text


async def test_requests_leave_when_due_though_none_is_answered():
    async with running_engine(step_seconds=steps_of(30)) as (_, client):
        result = await send(url_of(client), requests=plan(20), duration_seconds=0.25, drain_seconds=0.1)
    assert result.sent == 20
    assert [record.outcome for record in result.records] == ["unfinished"] * 20
    assert all(
        record.sent_at is not None and record.sent_at >= record.planned.at_seconds
        for record in result.records
    )
    report = summarize(result, LoadLimits(0.25), LoadObjectives(ttft_seconds=10))
    assert report["errors"] == {"unfinished": 20}
    assert report["slo"]["ttft_attained_ratio"] == 0
    assert report["ttft_seconds"]["p95"] is None


async def test_what_is_due_beyond_the_limit_in_flight_is_not_sent_and_said_so():
    async with running_engine(step_seconds=steps_of(30)) as (_, client):
        result = await send(url_of(client), requests=plan(10), max_in_flight=4, drain_seconds=0.1)
    assert result.sent == 4
    assert [r.outcome for r in result.records].count("in-flight limit") == 6


@asynccontextmanager
async def serving(handler: Any) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/completions", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


def answering(body: bytes, status: int = 200) -> Any:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=body, status=status)

    return handler


TOKEN = b'data: {"choices":[{"text":" a"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"completion_tokens":7}}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("body", "status", "outcome"),
    [
        (b"", 429, "http 429"),
        (TOKEN + USAGE + DONE, 200, "ok"),
        (b'data: {"choices":[{"delta":{"reasoning":"hm"}}]}\n\n' + USAGE + DONE, 200, "ok"),
        (b'data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}\n\n' + USAGE + DONE, 200, "ok"),
        (b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n' + DONE, 200, "no tokens"),
        (USAGE + DONE, 200, "no tokens"),
        (TOKEN, 200, "cut"),
        (b'data: {"error":{"message":"out of memory"}}\n\n', 200, "stream error"),
        (b"data: hello\n\n", 200, "not a completion"),
        (b'data: {"choices":[7]}\n\n', 200, "not a completion"),
        (b"data: 7\n\n", 200, "not a completion"),
        (b"x" * 3_000_000, 200, "not a completion"),
    ],
)
async def test_each_way_to_end_has_its_name(body: bytes, status: int, outcome: str):
    async with serving(answering(body, status)) as url:
        result = await send(url, requests=plan(1))
    assert result.records[0].outcome == outcome
    if outcome == "ok":
        assert result.records[0].output_tokens == 7  # what the server says, not its number of events
        assert result.records[0].ttft_seconds is not None


async def test_what_a_gateway_says_of_the_answer_is_kept():
    async def handler(_request: web.Request) -> web.Response:
        headers = {"x-penstock-served-by": "chat-small", "x-penstock-reason": "overload"}
        return web.Response(body=TOKEN + b"data: [DONE]\n\n", headers=headers)

    async with serving(handler) as url:
        told = (await send(url, requests=plan(1))).records[0]
    async with serving(answering(b"", 429)) as url:
        untold = (await send(url, requests=plan(1))).records[0]
    assert (told.outcome, told.served_by, told.served_because) == ("ok", "chat-small", "overload")
    assert (untold.outcome, untold.served_by, untold.served_because) == ("http 429", "", "")


@pytest.mark.parametrize(("told", "counted"), [(False, True), (True, False)])
async def test_the_step_lag_is_of_the_engines_that_are_told_else_of_the_targets(told: bool, counted: bool):
    async with running_engine(step_seconds=steps_of(0.02)) as (_, client):
        targets = Targets((url_of(client),), file=None, balancing=Balancing.RANDOM, chance=random.Random(0))
        generator = LoadGenerator(
            targets, RequestShape(), LoadLimits(duration_seconds=0.1), engines=tuple if told else None
        )
        result = await generator.run(plan(3))
    assert (result.engine_lag.steps > 0) is counted


async def test_a_server_that_is_not_there_is_an_error_of_each_request():
    result = await send("http://127.0.0.1:1", requests=plan(3))
    assert [record.outcome for record in result.records] == ["connect"] * 3
    assert summarize(result, LoadLimits(0.1), NOTHING)["errors"] == {"connect": 3}


async def test_a_machine_without_file_descriptors_is_told_apart_from_a_server_that_is_not_there():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(answering(TOKEN + DONE)) as url:
        targets = Targets((url,), file=None, balancing=Balancing.RANDOM, chance=random.Random(0))
        generator = LoadGenerator(targets, RequestShape(), LoadLimits(duration_seconds=0.6), engines=tuple)
        running = asyncio.create_task(generator.run([PlannedRequest(0.5, 20, 1)]))
        await asyncio.sleep(0.1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # what is open stays, nothing can be opened
        try:
            result = await running
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [record.outcome for record in result.records] == ["no file descriptors"]


async def test_a_request_that_takes_too_long_times_out():
    async with running_engine(step_seconds=steps_of(30)) as (_, client):
        result = await send(url_of(client), requests=plan(1), request_timeout_seconds=0.1)
    assert result.records[0].outcome == "timeout"


async def test_cut_streams_and_failures_are_told_apart():
    async with running_engine(faults=Faults(cut_ratio=1)) as (_, client):
        cut = await send(url_of(client), requests=plan(2))
    async with running_engine(faults=Faults(fail_ratio=1)) as (_, client):
        failed = await send(url_of(client), requests=plan(2))
    assert {record.outcome for record in cut.records} == {"cut"}
    assert {record.outcome for record in failed.records} == {"http 500"}


async def test_the_targets_follow_their_file_and_none_is_an_error_not_a_crash(tmp_path: Path):
    file = tmp_path / "urls"
    async with running_engine() as (_, client):
        url = url_of(client)

        async def appear() -> None:
            await asyncio.sleep(0.4)
            file.write_text(url)

        appearing = asyncio.create_task(appear())
        result = await send(file=file, requests=plan(20, gap=0.06), duration_seconds=1.2)
        await appearing
    outcomes = [record.outcome for record in result.records]
    assert outcomes == ["no target"] * outcomes.count("no target") + ["ok"] * outcomes.count("ok")
    assert outcomes.count("no target") >= 5
    assert outcomes.count("ok") >= 5


async def test_the_warm_up_is_sent_and_left_out_of_the_report():
    async with running_engine() as (_, client):
        result = await send(url_of(client), requests=plan(20), duration_seconds=0.2, warmup_seconds=0.1)
    report = summarize(result, LoadLimits(0.2, warmup_seconds=0.1), NOTHING)
    assert (result.sent, report["requests"]["due"]) == (20, 10)
    assert report["offered_per_second"] == pytest.approx(100)
    assert result.inter_token.count == 20


async def test_cancelled_it_keeps_what_was_measured():
    async with running_engine(step_seconds=steps_of(0.02)) as (_, client):
        targets = Targets((url_of(client),), file=None, balancing=Balancing.RANDOM, chance=random.Random(0))
        limits = LoadLimits(60)
        generator = LoadGenerator(targets, RequestShape(), limits)
        running = asyncio.create_task(generator.run(plan(2000, gap=0.02, tokens=5)))
        await asyncio.sleep(1.0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    report = summarize(generator.result, limits, LoadObjectives(ttft_seconds=30))
    assert report["interrupted"] is True
    assert 0.9 < report["period_seconds"] < 5
    assert report["requests"]["completed"] > 3
    assert report["requests"]["failed"] == 0
    assert report["slo"]["ttft_attained_ratio"] == 1  # those under way did not miss


async def test_stopped_it_sends_no_more_and_waits_for_the_answers():
    async with running_engine(step_seconds=steps_of(0.02)) as (_, client):
        targets = Targets((url_of(client),), file=None, balancing=Balancing.RANDOM, chance=random.Random(0))
        limits = LoadLimits(60, drain_seconds=20)
        generator = LoadGenerator(targets, RequestShape(), limits)
        running = asyncio.create_task(generator.run(plan(2000, gap=0.02, tokens=25)))
        await asyncio.sleep(1.0)
        assert generator.result.in_flight > 0
        generator.stop()
        result = await running
    report = summarize(result, limits, NOTHING)
    assert report["interrupted"] is True
    assert 0.9 < report["period_seconds"] < 2  # without the time that the last answers took
    assert report["requests"]["due"] == report["requests"]["completed"] == result.sent > 10


async def test_stopped_an_answer_that_does_not_come_is_one_that_failed():
    async with running_engine(step_seconds=steps_of(5.0)) as (_, client):
        targets = Targets((url_of(client),), file=None, balancing=Balancing.RANDOM, chance=random.Random(0))
        limits = LoadLimits(60, drain_seconds=0.1)
        generator = LoadGenerator(targets, RequestShape(), limits)
        running = asyncio.create_task(generator.run(plan(1)))
        await asyncio.sleep(0.3)
        generator.stop()
        report = summarize(await running, limits, NOTHING)
    assert report["errors"] == {"unfinished": 1}


async def test_stopped_before_it_began_it_sends_nothing():
    async with running_engine() as (_, client):
        targets = Targets((url_of(client),), file=None, balancing=Balancing.RANDOM, chance=random.Random(0))
        generator = LoadGenerator(targets, RequestShape(), LoadLimits(60))
        generator.stop()
        result = await generator.run(plan(5))
    assert (result.sent, summarize(result, LoadLimits(60), NOTHING)["interrupted"]) == (0, True)


async def test_a_second_run_with_the_same_seed_sends_other_prompts_of_the_same_lengths():
    prompts: list[list[int]] = []

    async def handler(request: web.Request) -> web.Response:
        prompts.append((await request.json())["prompt"])
        return web.Response(body=TOKEN + DONE)

    async with serving(handler) as url:
        for _ in range(2):
            await send(url, requests=plan(4))
    assert [len(prompt) for prompt in prompts] == [20] * 8
    assert len({tuple(prompt[:16]) for prompt in prompts}) == 8  # a block of vLLM's prefix cache


def test_no_two_salts_share_the_first_block_of_a_prompt():
    shape, planned = RequestShape(), PlannedRequest(0, 16, 1)
    # 900 * 2**15 apart, the ids were once equal: each was the salt shifted by a bit more, modulo 900
    assert len({shape.body(planned, 7 + 900 * 2**15 * multiple) for multiple in range(100)}) == 100


@pytest.mark.parametrize(
    ("pause_seconds", "connections"), [(0.1, 1), (30, 3)], ids=["it ends a little later", "it does not end"]
)
async def test_a_body_that_ends_after_its_end_mark_keeps_the_connection(
    pause_seconds: float, connections: int
):
    ports = []

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername")[1])
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(TOKEN + DONE)
        await asyncio.sleep(pause_seconds)
        return response

    async with serving(handler) as url:
        result = await send(url, requests=plan(3, gap=1.5), duration_seconds=3.1)
    assert [record.outcome for record in result.records] == ["ok"] * 3
    assert all(r.first_token_at == r.last_token_at for r in result.records)
    assert len(set(ports)) == connections


async def test_an_answer_that_is_whole_stays_one_when_the_drain_ends_before_its_body():
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(TOKEN + DONE)
        await asyncio.sleep(30)
        return response

    async with serving(handler) as url:
        result = await send(url, requests=plan(1), duration_seconds=0.4, drain_seconds=0.0)
    assert result.records[0].outcome == "ok"


@pytest.mark.parametrize(("connections", "opened"), [(Connections.KEPT, 1), (Connections.NEW, 5)])
async def test_connections_are_kept_or_new_for_each_request(connections: Connections, opened: int):
    ports = set()

    async def answer(request: web.Request) -> web.Response:
        if request.method == "POST":
            assert request.transport is not None
            ports.add(request.transport.get_extra_info("peername")[1])
        return web.Response(status=429)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        await send(url, requests=plan(5, gap=0.2), shape=RequestShape(connections=connections))
    assert len(ports) == opened


async def test_several_targets_share_the_load():
    async with running_engine() as (_, one), running_engine() as (_, two):
        urls = url_of(one), url_of(two)
        result = await send(*urls, requests=plan(10))
    report = summarize(result, LoadLimits(0.1), NOTHING)
    assert report["requests_by_url"] == dict.fromkeys(urls, 5)


def trusted(send_lags: list[float] | None = None, engine: StepLag | None = None) -> str:
    result = LoadResult(engine_lag=engine or StepLag())
    for lag in send_lags or []:
        result.send_lag.add(lag)
    return Trust(max_send_lag_seconds=0.05, max_engine_lag_ratio=0.1).objection(result)


def test_a_timely_measurement_is_believed():
    assert trusted([0.001] * 99 + [0.4], StepLag(100, 10.0, 0.9, 0.1)) == ""
    assert trusted() == ""


def test_a_late_generator_is_not_believed():
    assert trusted([0.001] * 90 + [0.2] * 10) == (
        "1 % of the requests left more than 200 ms late (bound 50 ms): this machine could not send the load"
    )


def test_late_engines_are_not_believed():
    assert trusted([0.001], StepLag(100, 10.0, 1.5, 0.25)) == (
        "steps of the stand-in engines ended late by 15.0% of their duration (bound 10%, worst 250 ms): "
        "the machine was the bottleneck; use fewer tokens a second or a lower --speed"
    )
