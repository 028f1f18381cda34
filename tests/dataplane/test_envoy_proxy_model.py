"""The real Envoy and a model of a few lines let in, spill and shed the same requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.envoy_gateway import (
    CHAT,
    SMALL,
    TWO_CLASSES,
    UNLIMITED,
    Gateway,
    gateway,
    plan,
    to_canary,
    to_small,
)
from fakes.proxy_model import CANARY, PRIMARY, SHED, SPILL, ProxyModel
from fakes.streaming_upstream import StreamingUpstream
from penstock.dataplane.envoy.lua_canary import sticky_part
from penstock.dataplane.envoy.snapshot import ProxyShare
from penstock.model.spec import ServiceKey
from penstock.model.traffic import ClassShare, FleetLimit

CLASSED = {"class_header": "x-request-class", "default_class": "batch", "classes": TWO_CLASSES}
TOLD = {(429, "-", "shed"): SHED, (200, "chat", "primary"): PRIMARY, (200, "chat-small", "overload"): SPILL}


@dataclass(frozen=True)
class Arrival:
    key: ServiceKey
    request_class: str
    may_spill: bool
    session: str = ""


@dataclass(frozen=True)
class Departure:
    which: int  # of those in flight, modulo their number


@dataclass(frozen=True)
class Case:
    chat: ProxyShare
    small: ProxyShare
    batch_ratio: float
    weight_percent: int
    events: tuple[Arrival | Departure, ...]


@dataclass
class RunningGateway:
    gate: Gateway
    run: Callable[[Awaitable[None]], None]
    generation: Iterator[int]


_limits = st.builds(FleetLimit, st.integers(0, 3), st.integers(0, 1))
_few = st.none() | st.integers(0, 4)
_shares = st.builds(ProxyShare, _limits, st.integers(0, 4), _few, _few)
_arrivals = st.builds(
    Arrival,
    st.sampled_from([CHAT, SMALL]),
    st.sampled_from(["batch", "batch", "interactive"]),
    st.sampled_from([True, True, False]),
    st.text("abcdefg-0123", min_size=1, max_size=12),
)
_events = st.lists(_arrivals | _arrivals | st.builds(Departure, st.integers(0, 9)), min_size=6, max_size=20)
_cases = st.builds(
    Case,
    _shares,
    st.builds(ProxyShare, _limits, st.just(0), st.none()),
    st.sampled_from([0.25, 0.5, 0.7, 1.0]),
    st.sampled_from([0, 5, 50, 80, 100]),
    _events.map(tuple),
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One Envoy for all examples: a second each would be spent on starting it."""
    pods = [StreamingUpstream("chat-0"), StreamingUpstream("small-0")]
    fallback = to_small(service=SMALL, classes=("batch",))
    services = [
        (plan(fallback=fallback, canary=to_canary(0), **CLASSED), UNLIMITED, pods[:1], pods[1:]),
        (plan(SMALL, **CLASSED), UNLIMITED, pods[1:], []),
    ]
    with asyncio.Runner() as runner:
        canary = [StreamingUpstream("canary-0")]
        opened = gateway(tmp_path_factory.mktemp("envoy"), services, canary=canary)
        gate = runner.run(opened.__aenter__())
        try:
            yield RunningGateway(gate, runner.run, count(1))  # type: ignore[arg-type]
        finally:
            runner.run(opened.__aexit__(None, None, None))


@pytest.mark.slow
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(case=_cases)
def test_envoy_and_the_model_decide_alike(running: RunningGateway, case: Case) -> None:
    running.run(_decided_alike(running.gate, case, generation=next(running.generation)))


async def _decided_alike(gate: Gateway, case: Case, *, generation: int) -> None:
    await _publish(gate, case, generation)
    model = ProxyModel({key: state.plan for key, state in gate.states.items()}, dict(gate.shares))
    here: list[tuple[asyncio.Task[object], ServiceKey, str]] = []
    for event in case.events:
        if isinstance(event, Arrival):
            headers = {"x_request_class": event.request_class, "x_session": event.session}
            if not event.may_spill:
                headers["x_penstock_fallback"] = "never"
            [sent] = gate.send(1, event.key, **headers)
            await gate.all_decided()
            expected = model.arrive(
                event.key,
                event.request_class,
                may_spill=event.may_spill,
                drawn_at=sticky_part("prod_chat_canary", event.session),
            )
            assert sent.done() == (expected == SHED), f"{event}: {expected} by the model"
            if expected == SHED:
                assert TOLD[sent.result().told] == SHED
            else:
                here.append((sent, event.key, expected))
        elif here:
            leaver, key, outcome = here.pop(event.which % len(here))
            leaver.cancel()
            await asyncio.gather(leaver, return_exceptions=True)
            await gate.all_decided()
            model.leave(key, outcome)
        assert await _counts(gate) == {
            "prod_chat": model.in_flight[CHAT, PRIMARY],
            "prod_chat_canary": model.in_flight[CHAT, CANARY],
            "prod_chat-small": model.in_flight[SMALL, PRIMARY],
            "spilled": model.in_flight[CHAT, SPILL],
        }


async def _publish(gate: Gateway, case: Case, generation: int) -> None:
    """Start empty, with the limits of a case in force."""
    for task in gate.sent:
        task.cancel()
    await asyncio.gather(*gate.sent, return_exceptions=True)
    gate.sent.clear()
    await gate.all_decided()
    classes = (ClassShare("interactive", 100), ClassShare("batch", 0, case.batch_ratio))
    for key, share in ((CHAT, case.chat), (SMALL, case.small)):
        state = gate.states[key]
        fresh = replace(state.plan, classes=classes, retry_after_seconds=generation)
        if fresh.canary is not None:
            fresh = replace(fresh, canary=to_canary(case.weight_percent, sticky_header="x-session"))
        gate.states[key], gate.shares[key] = replace(state, plan=fresh), share
    gate.change()

    async def in_force() -> bool:
        routes = await gate.envoy.admin("/config_dump?resource=dynamic_route_configs")
        return routes.count(f'"retry_after_seconds": "{generation}"') == 2

    await gate.until(in_force)


async def _counts(gate: Gateway) -> dict[str, int]:
    spilled = await gate.in_flight("prod_chat_spill_batch")
    return {
        "prod_chat": sum(await gate.in_flight("prod_chat")),
        "prod_chat_canary": sum(await gate.in_flight("prod_chat_canary")),
        "prod_chat-small": sum(await gate.in_flight("prod_chat-small")),
        "spilled": sum(spilled),
    }
