"""When the real Envoy sends to the fallback, and that the fallback's own limit holds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fakes.envoy_gateway import CHAT, SMALL, TWO_CLASSES, UNLIMITED, gateway, plan, share, to_small
from fakes.streaming_upstream import Behaviour, StreamingUpstream, at_once, cut, held, refused
from penstock.dataplane.envoy import names

pytestmark = pytest.mark.timed


async def test_a_client_that_refuses_the_fallback_gets_429_instead(tmp_path: Path) -> None:
    chat, small = StreamingUpstream("chat-0"), StreamingUpstream("small-0")
    served = (plan(fallback=to_small()), share(2, fallback=4), [chat], [small])
    async with gateway(tmp_path, [served]) as gate:
        gate.send(5, X_Penstock_Fallback="never")
        await gate.all_decided()
        assert gate.outcomes() == {(429, "-", "shed"): 3}
        assert (chat.running, small.running) == (2, 0)


async def test_only_classes_that_may_spill_do(tmp_path: Path) -> None:
    chat, small = StreamingUpstream("chat-0"), StreamingUpstream("small-0")
    served = plan(
        class_header="x-request-class",
        default_class="batch",
        classes=TWO_CLASSES,
        fallback=to_small(classes=("interactive",)),
    )
    async with gateway(tmp_path, [(served, share(4, fallback=9), [chat], [small])]) as gate:
        gate.send(5)
        await gate.all_decided()
        gate.send(5, x_request_class="interactive")
        await gate.all_decided()
        assert gate.outcomes() == {(429, "-", "shed"): 3}
        assert (chat.running, small.running) == (4, 3)
        stats = await gate.envoy.stats()
        assert stats[names.spilled_stat(CHAT, "interactive")] == 3


async def test_a_planned_share_goes_to_the_fallback_whatever_the_load(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0", behaviour=at_once)
    small = StreamingUpstream("small-0", behaviour=at_once)
    served = (plan(fallback=to_small(planned_ratio=0.3)), share(50, fallback=50), [chat], [small])
    async with gateway(tmp_path, [served]) as gate:
        for _ in range(20):
            await asyncio.gather(*gate.send(25))
        planned = gate.outcomes()[(200, "chat-small", "overload")]
        # 500 draws at 0.3: mean 150, standard deviation 10.2; a right script fails once in 15,000 runs.
        assert 109 <= planned <= 191


@pytest.mark.parametrize("failure", [refused(503), refused(429), cut], ids=["503", "429", "reset"])
async def test_what_the_primary_fails_before_the_first_byte_goes_to_the_fallback(
    tmp_path: Path, failure: Behaviour
) -> None:
    chat = StreamingUpstream("chat-0", behaviour=failure)
    small = StreamingUpstream("small-0", behaviour=at_once)
    served = (plan(fallback=to_small()), share(8, fallback=4), [chat], [small])
    async with gateway(tmp_path, [served]) as gate:
        assert (await gate.post(body=b"prompt")).told == (200, "chat-small", "error")
        assert [seen.body for seen in small.seen] == [b"prompt"]
        # The client that refuses another model gets the engine's own answer, asked once.
        before = len(chat.seen)
        reply = await gate.post(headers={"x-penstock-fallback": "never"})
        assert reply.status in (503, 429)
        assert (len(chat.seen) - before, len(small.seen)) == (1, 1)


async def test_a_failing_fallback_is_asked_once(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0", behaviour=refused(503))
    small = StreamingUpstream("small-0", behaviour=refused(503))
    served = (plan(fallback=to_small()), share(1, fallback=4), [chat], [small])
    async with gateway(tmp_path, [served]) as gate:
        assert (await gate.post()).told == (503, "chat-small", "error")
        assert (len(chat.seen), len(small.seen)) == (1, 1)
        gate.change(share=share(0, fallback=4))

        async def spilled() -> bool:
            return (await gate.post()).told == (503, "chat-small", "overload")

        await gate.until(spilled)
        chat.seen.clear()
        small.seen.clear()
        assert (await gate.post()).told == (503, "chat-small", "overload")
        assert (len(chat.seen), len(small.seen)) == (0, 1)


async def test_engine_errors_that_no_other_model_can_mend_stay_as_they_are(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0", behaviour=refused(400))
    small = StreamingUpstream("small-0", behaviour=at_once)
    served = (plan(fallback=to_small()), share(1, fallback=4), [chat], [small])
    async with gateway(tmp_path, [served]) as gate:
        reply = await gate.post()
        assert (reply.told, reply.text) == ((400, "chat", "primary"), "engine says no")


async def test_a_primary_that_answers_only_503_fills_the_fallback_to_its_cap_at_most(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0", behaviour=refused(503))
    small = StreamingUpstream("small-0")
    served = (plan(fallback=to_small()), share(40, fallback=10), [chat], [small])
    async with gateway(tmp_path, [served]) as gate:
        gate.send(40)
        await gate.all_decided()
        # At once: the budget, 20 % of 10 but at least 3; each that got its first byte frees its place in it.
        assert 3 <= small.most_running <= 10
        assert len(chat.seen) == 40  # asked once each: no amplification


async def test_without_endpoints_the_fallback_serves_and_says_so(tmp_path: Path) -> None:
    small = StreamingUpstream("small-0", behaviour=at_once)
    served = (plan(fallback=to_small()), share(8, fallback=4), [], [small])
    async with gateway(tmp_path, [served]) as gate:
        assert (await gate.post()).told == (200, "chat-small", "error")


async def test_without_any_endpoint_the_answer_is_503_not_429(tmp_path: Path) -> None:
    async with gateway(tmp_path, [(plan(fallback=to_small()), share(8, fallback=4), [], [])]) as gate:
        reply = await gate.post()
        assert reply.told == (503, "-", "unavailable")
        assert "retry-after" not in reply.headers
        assert '"message":"No replica of this service answered: no_healthy_upstream."' in reply.text


async def test_a_fallback_without_endpoints_does_not_turn_a_429_into_a_503(tmp_path: Path) -> None:
    chat = StreamingUpstream("chat-0")
    async with gateway(tmp_path, [(plan(fallback=to_small()), share(1, fallback=4), [chat], [])]) as gate:
        gate.send(2)
        await gate.all_decided()
        assert gate.outcomes() == {(429, "-", "shed"): 1}


async def test_the_fallbacks_own_limit_counts_its_own_clients_and_what_spills(tmp_path: Path) -> None:
    chat, small = StreamingUpstream("chat-0"), StreamingUpstream("small-0")
    primary = plan(fallback=to_small(service=SMALL))
    services = [
        (primary, share(2, fallback=100, pool=10), [chat], [small]),
        (plan(SMALL), share(10), [small], []),
    ]
    async with gateway(tmp_path, services) as gate:
        gate.send(6, SMALL)
        await gate.all_decided()
        gate.send(20, CHAT)
        await gate.all_decided()
        assert (chat.running, small.running) == (2, 10)
        gate.send(5, SMALL)  # its own clients find the pool full of spilled requests as well
        await gate.all_decided()
        assert small.running == small.most_running == 10
        assert gate.outcomes() == {(429, "-", "shed"): 14 + 5}


async def test_two_services_with_one_fallback_fill_it_to_its_limit_together(tmp_path: Path) -> None:
    chat, code = StreamingUpstream("chat-0"), StreamingUpstream("code-0")
    small = StreamingUpstream("small-0")
    other = type(CHAT)("prod", "code")
    services = [
        (plan(fallback=to_small(service=SMALL)), share(1, fallback=100, pool=7), [chat], [small]),
        (plan(other, fallback=to_small(service=SMALL)), share(1, fallback=100, pool=7), [code], [small]),
        (plan(SMALL), share(7), [small], []),
    ]
    async with gateway(tmp_path, services) as gate:
        gate.send(6, CHAT)
        gate.send(6, other)
        gate.send(6, SMALL)
        await gate.all_decided()
        assert (chat.running, code.running, small.running) == (1, 1, 7)


async def test_a_pod_that_is_gone_is_put_aside_though_it_has_the_fewest_requests(tmp_path: Path) -> None:
    # The full scan would choose it every time: without outlier detection half of 220 requests failed.
    pods = [StreamingUpstream(f"chat-{number}") for number in range(3)]
    async with gateway(tmp_path, [(plan(), UNLIMITED, pods, [])]) as gate:
        await gate.send_apart(9)
        await pods[0].stop()
        for pod in pods:
            pod.behaviour = at_once
        replies = [await gate.post() for _ in range(30)]
        assert {reply.told for reply in replies} == {(200, "chat", "primary")}


async def test_retries_stay_within_the_budget_while_no_pod_accepts(tmp_path: Path) -> None:
    pods = [StreamingUpstream(f"chat-{number}", behaviour=held) for number in range(2)]
    async with gateway(tmp_path, [(plan(), share(100), pods, [])]) as gate:
        for pod in pods:
            await pod.stop()
        replies = await asyncio.gather(*(gate.post() for _ in range(100)))
        assert {reply.told for reply in replies} == {(503, "-", "unavailable")}
        retries = await gate.envoy.admin("/stats?filter=^cluster.prod_chat.upstream_rq_retry$")
        # 20 % of 100 under way; each of them may try twice.
        assert 0 < int(retries.split()[-1]) <= 60
