"""The instruments of the data-plane benchmark: verdicts, the light upstream, the small clients."""

from __future__ import annotations

import asyncio
import math

import pytest

from bench.dataplane_report import Figure, Goal
from bench.gateway import light_upstream, stream_path
from bench.open_loop import Answer
from bench.raw_http import KeepAlive, many, request_bytes


@pytest.mark.parametrize(
    ("value", "goal", "void", "missed"),
    [
        (39.9, (Goal.BELOW, 40), "", False),
        (40.0, (Goal.BELOW, 40), "", True),
        (0.9, (Goal.AT_LEAST, 0.9), "", False),
        (1.0, (Goal.EXACTLY, 1), "", False),
        (math.nan, (Goal.AT_MOST, 40), "", True),
        (1.0, (Goal.AT_MOST, 40), "the machine was the bottleneck", True),
        (1e9, None, "", False),
    ],
)
def test_a_figure_without_a_measurement_meets_no_goal(
    value: float, goal: tuple[Goal, float] | None, void: str, missed: bool
) -> None:
    assert Figure("section", "name", value, "ms", "Envoy", goal, void).missed is missed


@pytest.mark.parametrize(
    ("first", "last", "complete", "good"),
    [
        (1.0, 2.0, True, True),
        (1.1, 2.0, True, False),  # late first token
        (0.5, 2.1, True, False),  # slow tokens: 1.6 s for ten gaps
        (0.5, 1.0, False, False),  # cut
        (math.nan, math.nan, False, False),  # refused
    ],
)
def test_an_answer_is_good_when_it_is_whole_and_within_both_objectives(
    first: float, last: float, complete: bool, good: bool
) -> None:
    answer = Answer(0.0, first=first, last=last, events=11, complete=complete, asked=0.0)
    assert answer.good(1.0, 0.15) is good


async def test_the_light_upstream_streams_on_time_and_counts_what_runs() -> None:
    async with light_upstream() as upstream:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with many([request_bytes(stream_path(11, 20))] * 5, upstream.port) as streams:
            await asyncio.gather(*(stream.answered.wait() for stream in streams))
            assert upstream.state()["running"] == 5
            await asyncio.gather(*(stream.done.wait() for stream in streams))
        assert loop.time() - began >= 10 * 0.020
        assert [stream.events for stream in streams] == [11] * 5
        assert not any(stream.cut for stream in streams)
        counts = upstream.state()
        assert (counts["running"], counts["most"], counts["requests"]) == (0, 5, 5)


async def test_a_client_that_leaves_frees_its_place_at_the_light_upstream() -> None:
    async with light_upstream() as upstream:
        async with many([request_bytes(stream_path(1000, 20))], upstream.port) as (stream,):
            await stream.answered.wait()
        async with asyncio.timeout(5):
            while upstream.state()["running"]:  # noqa: ASYNC110 - the other process tells
                await asyncio.sleep(0.01)


async def test_one_connection_serves_many_requests() -> None:
    async with light_upstream() as upstream:
        connection = KeepAlive(upstream.port)
        replies = [connection.ask(request_bytes(stream_path(3, 0))) for _ in range(3)]
        connection.close()
        assert [reply.body.count(b"data:") for reply in replies] == [3, 3, 3]
