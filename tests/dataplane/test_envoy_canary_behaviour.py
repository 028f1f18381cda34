"""Which arm the real Envoy chooses, and what limits and weights do to requests in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.envoy_files import write_snapshot
from fakes.envoy_gateway import CHAT, UNLIMITED, Gateway, gateway, plan, share, to_canary, to_small
from fakes.streaming_upstream import Behaviour, StreamingUpstream, at_once, held
from penstock.dataplane.envoy import names
from penstock.dataplane.envoy.lua_canary import sticky_part
from penstock.dataplane.envoy.snapshot import Snapshot, render
from penstock.model.traffic import RouteState

pytestmark = pytest.mark.timed

STABLE, CANARY = (200, "chat", "primary"), (200, "chat@canary", "canary")


def pods(*called: str, behaviour: Behaviour = held) -> list[StreamingUpstream]:
    return [StreamingUpstream(name, behaviour) for name in called]


async def weighed(gate: Gateway, weight_percent: int, **fields: object) -> None:
    """Set the weight, and wait until the route has it."""
    before = gate.states[CHAT].plan
    assert before.canary is not None
    gate.change(
        plan={
            "canary": replace(before.canary, weight_percent=weight_percent, **fields),  # type: ignore[arg-type]
            "retry_after_seconds": before.retry_after_seconds + 1,
        }
    )

    async def in_force() -> bool:
        routes = await gate.envoy.admin("/config_dump?resource=dynamic_route_configs")
        return f'"retry_after_seconds": "{before.retry_after_seconds + 1}"' in routes

    await gate.until(in_force)


def _rendered(state: RouteState, gate: Gateway) -> Mapping[str, Mapping[str, Any]]:
    return render([state], gate.shares, listen_address="127.0.0.1").resources


async def test_the_canary_gets_its_weight_of_the_requests(tmp_path: Path) -> None:
    [chat, canary] = pods("chat-0", "canary-0", behaviour=at_once)
    served = (plan(canary=to_canary(0)), UNLIMITED, [chat], [])
    async with gateway(tmp_path, [served], canary=[canary]) as gate:
        # Of 400 draws, mean 20, 80, 200 and 4 standard deviations: wrong once in 16,000 runs.
        for weight, least, most in ((0, 0, 0), (5, 3, 37), (20, 48, 112), (50, 160, 240), (100, 400, 400)):
            await weighed(gate, weight)
            gate.sent.clear()
            for _ in range(8):
                await asyncio.gather(*gate.send(50))
            told = gate.outcomes()
            assert least <= told[CANARY] <= most, f"{weight} %"
            assert told[CANARY] + told[STABLE] == 400


async def test_a_header_keeps_its_value_on_one_arm_while_the_weight_only_rises(tmp_path: Path) -> None:
    [chat, canary] = pods("chat-0", "canary-0", behaviour=at_once)
    served = (plan(canary=to_canary(0, sticky_header="x-session")), UNLIMITED, [chat], [])
    sessions = [f"user-{number}" for number in range(60)] + ["", "é", "x" * 5000, "Bearer a.b.c"]
    tried: set[str] = set()
    async with gateway(tmp_path, [served], canary=[canary]) as gate:
        for weight in (10, 30, 60):
            await weighed(gate, weight)
            before = tried
            for _ in range(2):
                replies = await asyncio.gather(
                    *(gate.post(headers={"x-session": session}) for session in sessions)
                )
                told = {
                    session for session, reply in zip(sessions, replies, strict=True) if reply.told == CANARY
                }
                parts = {each for each in sessions if sticky_part("prod_chat_canary", each) < weight * 100}
                assert told == parts
            assert before < told
            tried = told
        await asyncio.gather(*gate.send(60))  # without the header: by draw
        assert set(gate.outcomes()) == {STABLE, CANARY}


async def test_at_weight_0_nothing_new_comes_and_streams_finish(tmp_path: Path) -> None:
    [chat, canary] = pods("chat-0", "canary-0")
    served = (plan(canary=to_canary(100)), share(4), [chat], [])
    async with gateway(tmp_path, [served], canary=[canary]) as gate:
        gate.send(3)
        await gate.all_decided()
        await weighed(gate, 0)
        gate.send(6)
        await gate.all_decided()
        # The canary's last streams take no place of the stable arm's.
        assert (canary.running, chat.running) == (3, 4)
        assert gate.outcomes() == {(429, "-", "shed"): 2}
        canary.released.set()
        assert {(await task).told for task in gate.sent[:3]} == {CANARY}
        assert {(await task).text for task in gate.sent[:3]} == {"data: first\n\ndata: [DONE]\n\n"}


async def test_streams_of_a_canary_that_is_gone_finish(tmp_path: Path) -> None:
    [chat, canary] = pods("chat-0", "canary-0")
    served = (plan(canary=to_canary(100)), share(9), [chat], [])
    async with gateway(tmp_path, [served], canary=[canary]) as gate:
        gate.send(3)
        await gate.all_decided()
        await weighed(gate, 0)
        gate.change(plan={"canary": None}, canary_endpoints=())

        async def gone() -> bool:
            return "prod_chat_canary" not in await gate.envoy.admin(
                "/config_dump?resource=dynamic_active_clusters"
            )

        await gate.until(gone)
        canary.released.set()
        assert {(await task).text for task in gate.sent} == {"data: first\n\ndata: [DONE]\n\n"}


async def test_a_full_canary_sends_on_to_the_stable_arm(tmp_path: Path) -> None:
    [chat, canary] = pods("chat-0", "canary-0")
    room = replace(UNLIMITED, canary_in_flight=3)
    async with gateway(tmp_path, [(plan(canary=to_canary(100)), room, [chat], [])], canary=[canary]) as gate:
        gate.send(10)
        await gate.all_decided()
        assert (canary.running, canary.most_running, chat.running) == (3, 3, 7)


async def test_the_limit_counts_both_arms(tmp_path: Path) -> None:
    [chat, canary, small] = pods("chat-0", "canary-0", "small-0")
    room = replace(share(4, 1, fallback=2), canary_in_flight=2)
    served = (plan(canary=to_canary(100), fallback=to_small()), room, [chat], [small])
    async with gateway(tmp_path, [served], canary=[canary]) as gate:
        gate.send(12)
        await gate.all_decided()
        assert (canary.running, chat.running, small.running) == (2, 3, 2)
        assert gate.outcomes() == {(429, "-", "shed"): 5}


async def test_requests_in_flight_before_a_canary_came_still_count(tmp_path: Path) -> None:
    [chat, canary] = pods("chat-0", "canary-0")
    async with gateway(tmp_path, [(plan(), share(4), [chat], [])]) as gate:
        await canary.start()
        gate.send(4)
        await gate.all_decided()
        gate.change(plan={"canary": to_canary(0)}, canary_endpoints=(canary.endpoint(),))
        await weighed(gate, 100)
        gate.send(3)
        await gate.all_decided()
        assert (chat.running, canary.running) == (4, 0)
        assert gate.outcomes() == {(429, "-", "shed"): 3}
        await canary.stop()


@pytest.mark.parametrize("state", [{"ready": False}, {"draining": True}], ids=["crash-looping", "draining"])
async def test_a_canary_without_a_ready_pod_gets_nothing(tmp_path: Path, state: dict[str, bool]) -> None:
    [chat, canary] = pods("chat-0", "canary-0", behaviour=at_once)
    served = (plan(canary=to_canary(0)), UNLIMITED, [chat], [])
    async with gateway(tmp_path, [served], canary=[canary]) as gate:
        gate.change(canary_endpoints=(canary.endpoint(**state),))
        await weighed(gate, 100)
        await asyncio.gather(*gate.send(20))
        assert (gate.outcomes(), canary.seen) == ({STABLE: 20}, [])


@pytest.mark.parametrize("missing", [{"prod_chat_canary", "prod_chat_canary_any"}, {"prod_chat_canary_any"}])
async def test_a_canary_whose_clusters_have_not_arrived_gets_nothing_and_costs_nobody_an_answer(
    tmp_path: Path, missing: set[str]
) -> None:
    [chat, canary] = pods("chat-0", "canary-0", behaviour=at_once)
    served = plan(canary=to_canary(100))
    async with gateway(tmp_path, [(plan(listen_port=served.listen_port), UNLIMITED, [chat], [])]) as gate:
        state = replace(gate.states[CHAT], plan=served, canary_endpoints=(canary.endpoint(),))
        whole = _rendered(state, gate)
        clusters = {name: cluster for name, cluster in whole[names.CDS].items() if name not in missing}
        write_snapshot(Snapshot({**whole, names.CDS: clusters}), tmp_path)

        async def routed() -> bool:
            return "canary_parts" in await gate.envoy.admin("/config_dump?resource=dynamic_route_configs")

        await gate.until(routed)
        await asyncio.gather(*gate.send(10))
        assert gate.outcomes() == {STABLE: 10}


@pytest.mark.parametrize(
    "left", [[{"ready": False}], [{"draining": True}], []], ids=["unready", "draining", "deleted"]
)
async def test_between_a_pods_end_and_the_routes_nobody_is_refused(
    tmp_path: Path, left: list[dict[str, bool]]
) -> None:
    """Endpoints and routes are two answers: for a moment the route names a canary without a ready pod."""
    [chat, canary] = pods("chat-0", "canary-0", behaviour=at_once)
    served = (plan(canary=to_canary(100)), UNLIMITED, [chat], [])
    async with gateway(tmp_path, [served], canary=[canary]) as gate:
        before = gate.states[CHAT]
        after = replace(before, canary_endpoints=tuple(canary.endpoint(**each) for each in left))
        routes, endpoints = (_rendered(each, gate) for each in (before, after))
        await canary.stop()
        write_snapshot(Snapshot({**routes, names.EDS: endpoints[names.EDS]}), tmp_path)

        async def told() -> bool:
            clusters = await gate.envoy.admin("/clusters")
            known = f"prod_chat_canary::127.0.0.1:{canary.port}::health_flags::"
            return f"{known}/" in clusters or (not left and known not in clusters)

        await gate.until(told)
        await asyncio.gather(*gate.send(10))
        assert gate.outcomes() == {STABLE: 10}


async def test_a_canary_serves_up_to_its_limit_while_the_stable_arm_has_nobody(tmp_path: Path) -> None:
    [chat, canary] = pods("chat-0", "canary-0")
    room = replace(share(9), canary_in_flight=3)
    async with gateway(tmp_path, [(plan(canary=to_canary(5)), room, [chat], [])], canary=[canary]) as gate:
        gate.change(endpoints=(chat.endpoint(ready=False),))
        await weighed(gate, 5)
        gate.send(5)
        await gate.all_decided()
        assert (canary.running, chat.running) == (3, 0)
        assert gate.outcomes() == {(429, "-", "shed"): 2}
