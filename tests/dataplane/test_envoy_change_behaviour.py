"""What happens to requests in flight while limits, routes and endpoints change under the real Envoy."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from fakes.envoy_gateway import Gateway, gateway, plan, share, to_small
from fakes.streaming_upstream import StreamingUpstream, at_once

pytestmark = pytest.mark.timed


async def _route_has(gate: Gateway, constant: str) -> None:
    async def shown() -> bool:
        dump = await gate.envoy.admin("/config_dump?resource=dynamic_route_configs")
        return constant in dump.replace('\\"', '"')

    await gate.until(shown)


@pytest.mark.parametrize("workers", [1, 2])
async def test_while_a_limit_falls_in_flight_never_exceeds_the_larger(tmp_path: Path, workers: int) -> None:
    chat = StreamingUpstream("chat-0")
    in_flight: list[int] = []

    async def watch(gate: Gateway) -> None:
        while True:
            in_flight.append(sum(await gate.in_flight("prod_chat")))
            await asyncio.sleep(0.01)

    async with gateway(tmp_path, [(plan(), share(10, 4), [chat], [])], workers=workers) as gate:
        watching = asyncio.create_task(watch(gate))
        leaving: list[asyncio.Task[object]] = []
        for running in (10, 6, 3):
            gate.change(share=share(running, 2))
            for _ in range(15):
                gate.send(4)
                await asyncio.sleep(0.02)
                waiting = [task for task in gate.sent if not task.done()]
                if waiting:  # one stream ends now and then
                    leaving.append(asyncio.create_task(_gone(waiting[0])))
        assert max(in_flight) <= 14 + workers - 1
        assert chat.most_running <= 10 + workers - 1
        # What runs above the new limit runs on; nothing new joins until it is below.
        await gate.all_decided()
        await asyncio.gather(*(_gone(task) for task in gate.sent if not task.done()))
        await gate.all_decided()
        chat.most_running = 0
        gate.send(12)
        await gate.all_decided()
        running, queued = await gate.in_flight("prod_chat")
        assert 5 <= running + queued <= 5 + workers - 1
        assert chat.most_running <= 3 + workers - 1
        watching.cancel()


async def _gone(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_raised_limit_lets_the_waiting_run_and_exactly_the_rest_in(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0")
    async with gateway(tmp_path, [(plan(), share(4, 2), [chat], [])]) as gate:
        gate.send(10)
        await gate.all_decided()
        assert (await gate.in_flight("prod_chat"), len(gate.outcomes())) == ((4, 2), 1)
        gate.change(share=share(8, 2))
        await _route_has(gate, '["default"] = 10')
        gate.send(10)
        await gate.all_decided()
        running, waiting = await gate.in_flight("prod_chat")
        assert running + waiting == 10
        assert chat.most_running <= 8


async def test_streams_survive_churn_of_endpoints_and_routes(tmp_path: Path) -> None:
    pods = [StreamingUpstream(f"chat-{number}") for number in range(3)]
    async with gateway(tmp_path, [(plan(fallback=to_small()), share(30, fallback=5), pods, [])]) as gate:
        await gate.send_apart(9)
        assert [pod.running for pod in pods] == [3, 3, 3]  # least requests with a full scan
        chance = random.Random(1)
        for turn in range(25):
            serving = [pod.endpoint() for pod in pods if chance.random() < 0.6]
            gate.change(endpoints=tuple(serving), share=share(chance.randint(5, 40), fallback=turn))
            await asyncio.sleep(0.02)
        gate.change(endpoints=())
        await _route_has(gate, "has_endpoints = false")
        assert [pod.running for pod in pods] == [3, 3, 3]
        for pod in pods:
            pod.released.set()
        replies = await asyncio.gather(*gate.sent)
        assert {reply.told for reply in replies} == {(200, "chat", "primary")}
        assert {reply.text for reply in replies} == {"data: first\n\ndata: [DONE]\n\n"}


@pytest.mark.parametrize("state", [{"draining": True}, {"ready": False}], ids=["draining", "unready"])
async def test_a_pod_that_drains_gets_nothing_new_and_finishes(
    tmp_path: Path, state: dict[str, bool]
) -> None:
    victim, other = StreamingUpstream("chat-0"), StreamingUpstream("chat-1")
    async with gateway(tmp_path, [(plan(), share(40), [victim, other], [])]) as gate:
        await gate.send_apart(8)
        assert (victim.running, other.running) == (4, 4)
        gate.change(endpoints=(victim.endpoint(**state), other.endpoint()))

        async def put_aside() -> bool:
            lines = (await gate.envoy.admin("/clusters")).splitlines()
            return any(f"{victim.port}::health_flags::/failed_eds" in line for line in lines) or any(
                f"{victim.port}::health_flags::/eds_status_draining" in line for line in lines
            )

        await gate.until(put_aside)
        gate.send(8)
        await gate.all_decided()
        # It has the fewest requests: only its state keeps new ones away, and half of the pods is no panic.
        assert (victim.running, len(victim.seen), other.running) == (4, 4, 12)

        stat = f"cluster.prod_chat.endpoint.127.0.0.1_{victim.port}.rq_active"
        assert (await gate.envoy.stats())[stat] == 4
        victim.released.set()

        async def drained() -> bool:
            return (await gate.envoy.stats())[stat] == 0

        await gate.until(drained)
        assert sum(task.done() for task in gate.sent) == 4
        assert set(gate.outcomes()) == {(200, "chat", "primary")}


async def test_when_every_pod_drains_nothing_is_sent_to_them(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0", behaviour=at_once)
    async with gateway(tmp_path, [(plan(), share(4), [chat], [])]) as gate:
        gate.change(endpoints=(chat.endpoint(draining=True),))

        async def refused() -> bool:
            return (await gate.post()).status == 503

        await gate.until(refused)
        chat.seen.clear()
        assert [(await gate.post()).status for _ in range(20)] == [503] * 20
        assert chat.seen == []


async def test_a_change_of_one_service_leaves_the_others_counts_alone(tmp_path: Path) -> None:
    chat, other = StreamingUpstream("chat-0"), StreamingUpstream("code-0")
    code = plan(type(plan().key)("prod", "code"))
    async with gateway(tmp_path, [(plan(), share(4), [chat], []), (code, share(4), [other], [])]) as gate:
        gate.send(4)
        gate.send(4, code.key)
        await gate.all_decided()
        gate.change(code.key, share=share(6), plan={"retry_after_seconds": 9})
        await _route_has(gate, '["default"] = 6')
        gate.send(4)
        gate.send(4, code.key)
        await gate.all_decided()
        assert (chat.running, other.running) == (4, 6)


async def test_a_stream_outlasts_every_timeout_of_a_second(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0")
    async with gateway(tmp_path, [(plan(), share(4), [chat], [])]) as gate:
        gate.send(1)
        await asyncio.sleep(6)  # above the upstream's idle time-out of 4 s, with nothing sent meanwhile
        chat.released.set()
        assert (await gate.sent[0]).text == "data: first\n\ndata: [DONE]\n\n"
