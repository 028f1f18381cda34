"""How fast a change is obeyed, and that nothing is let past a limit meanwhile.

* First effect: from the call of `publish` to the end of the first request that is treated the new way, with
  a client that asks all the time. The limit is moved around one held stream, the weights of the fallback and
  of a canary between none and all.
* Falling limits: clients that keep three times the limit in the air; what runs at the engines is counted
  there, between one change and the next.
* Bursts: all at once on fresh connections; who answered whom is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from bench.dataplane_report import ENVOY, Figure, Goal
from bench.gateway import OPEN, Gateway, Upstream, route, stream_path
from bench.raw_http import KeepAlive, Stream, many, request_bytes
from penstock.model.traffic import CanaryRoute, FleetLimit, RouteState

SECTION = "changes"
SERVED_BY = "x-penstock-served-by"
_EFFECT_SECONDS = 10.0
_WARM_SECONDS = 60.0
_LATE_SECONDS = 0.010  # of our own timers, p90: beyond, the machine is what is measured
FALLING = (24, 8, 16, 4, 20, 6, 12, 3)
BURST, BURST_LIMIT, BURST_FALLBACK = 14, FleetLimit(4, 3), 2


class _Prober:
    """Asks without a pause, in a thread, and notes when the answer changes."""

    def __init__(self, port: int) -> None:
        self._connection = KeepAlive(port)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seen: tuple[str, float] = ("", 0.0)  # answer, and when it was first given
        self.asked = 0

    def __enter__(self) -> _Prober:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        request = request_bytes(stream_path(1, 0))
        while not self._stop.is_set():
            try:
                reply = self._connection.ask(request)
            except OSError:
                self._connection.close()  # cut: the next change of an answer tells
                continue
            self.asked += 1
            answer = reply.headers.get(SERVED_BY, "") if reply.status == 200 else str(reply.status)
            if answer != self.seen[0]:
                self.seen = answer, time.perf_counter()

    async def answers(self, expected: str) -> float:
        """Wait until that is the answer and return since when; inf when it does not come."""
        until = time.perf_counter() + _EFFECT_SECONDS
        while self.seen[0] != expected:
            if time.perf_counter() > until:
                return math.inf
            await asyncio.sleep(0.001)
        return self.seen[1]


async def first_effects(
    gateway: Gateway,
    upstreams: tuple[Upstream, Upstream],
    port: int,
    *,
    others: Sequence[RouteState],
    flips: int,
) -> list[Figure]:
    """Return p50 and p99 of changes of a limit and of weights, with `others` in the same group."""
    own, small = upstreams

    def with_limit(in_flight: int) -> list[RouteState]:
        limit = FleetLimit(in_flight, 0)
        return [route("a", listen_port=port, upstream_ports=(own.port,), limit=limit), *others]

    def with_weight(ratio: float) -> list[RouteState]:
        state = route(
            "a",
            listen_port=port,
            upstream_ports=(own.port,),
            limit=OPEN,
            fallback_ports=(small.port,),
            fallback_limit=100,
            planned_ratio=ratio,
        )
        return [state, *others]

    def with_canary(weight_percent: int) -> list[RouteState]:
        [state, *_] = with_limit(OPEN.in_flight)
        arm = route("a", listen_port=port, upstream_ports=(small.port,))
        canary = CanaryRoute(arm.plan.backend, weight_percent)
        return [
            replace(state, plan=replace(state.plan, canary=canary), canary_endpoints=arm.endpoints),
            *others,
        ]

    count = len(others) + 1
    held = request_bytes(stream_path(100_000, 1000))
    gateway.publish(with_limit(2))
    await gateway.has_everything()
    await asyncio.to_thread(_all_answer, [port, *(other.plan.listen_port for other in others)])
    with _Prober(port) as prober:
        await prober.answers("a")
        async with many([held], port) as (stream,):
            await stream.answered.wait()
            limits = await _flip(gateway, prober, [(with_limit(1), "429"), (with_limit(2), "a")], flips)
        gateway.publish(with_weight(0.0))
        await gateway.has_everything()
        weights = await _flip(
            gateway, prober, [(with_weight(1.0), "a-small"), (with_weight(0.0), "a")], flips
        )
        gateway.publish(with_canary(0))
        await gateway.has_everything()
        canaries = await _flip(
            gateway, prober, [(with_canary(100), "a@canary"), (with_canary(0), "a")], flips
        )
    figures = []
    changes = (("limit", limits), ("weight", weights), ("canary's weight", canaries))
    for name, (seconds, void) in changes:
        for p, goal in ((0.5, None), (0.99, (Goal.BELOW, 50.0))):
            label = f"{name} change to first effect, {count} services, p{100 * p:.0f}"
            figures.append(
                Figure(SECTION, label, float(np.quantile(seconds, p)) * 1e3, "ms", ENVOY, goal, void)
            )
    return figures


def _all_answer(ports: Sequence[int]) -> None:
    """Return when every service answers: until then the proxy is busy warming up, which is not a change."""
    until = time.monotonic() + _WARM_SECONDS
    for each in ports:
        connection = KeepAlive(each)
        while True:
            try:
                if connection.ask(request_bytes(stream_path(1, 0))).status == 200:
                    break
            except OSError:
                connection.close()
            if time.monotonic() > until:
                raise TimeoutError(f"a service does not answer {_WARM_SECONDS:g} s after it was published")
            time.sleep(0.05)
        connection.close()


async def _flip(
    gateway: Gateway, prober: _Prober, sides: list[tuple[list[RouteState], str]], flips: int
) -> tuple[list[float], str]:
    """Return seconds to each first effect, and why they are void."""
    random = np.random.default_rng(flips)
    effects, late = [], []
    for number in range(flips):
        states, expected = sides[number % 2]
        # At any moment of the proxy's pause between two questions.
        pause = float(random.uniform(0.02, 0.15))
        due = time.perf_counter() + pause
        await asyncio.sleep(pause)
        late.append(time.perf_counter() - due)
        async with gateway.reading:
            began = time.perf_counter()
            gateway.publish(states)
            effects.append(await prober.answers(expected) - began)
    usual = float(np.quantile(late, 0.9))
    if usual > _LATE_SECONDS:
        return effects, f"timers fired {usual * 1e3:.0f} ms late: the machine was the bottleneck"
    return effects, ""


async def falling_limits(gateway: Gateway, upstream: Upstream, port: int, *, seconds: float) -> list[Figure]:
    """Return by how much requests in progress at the engines exceeded the larger of old and new limit."""

    def with_limit(running: int) -> list[RouteState]:
        # No queue: what is in flight is what runs. Connections above a lowered limit stay open while they are
        # used, so of limits with a queue the engines may get running + queued for a while, never more.
        limit = FleetLimit(running, 0)
        return [route("a", listen_port=port, upstream_ports=(upstream.port,), limit=limit)]

    gateway.publish(with_limit(FALLING[0]))
    await gateway.has_everything()
    over_larger, over_new, used = [], [], []
    async with _persistent_clients(3 * max(FALLING), port):
        await asyncio.sleep(seconds)
        for old, new in pairwise(FALLING):
            gateway.publish(with_limit(new))
            upstream.state()
            await asyncio.sleep(seconds)
            over_larger.append(upstream.state()["most"] - max(old, new))
            await asyncio.sleep(seconds / 2)
            most = upstream.state()["most"]
            over_new.append(most - new)
            used.append(most / new)
    name = "falling limits, requests at engines"
    return [
        Figure(SECTION, f"{name} beyond max(old, new)", max(over_larger), "", ENVOY, (Goal.AT_MOST, 0)),
        Figure(
            SECTION, f"{name} beyond new, {seconds:g} s later", max(over_new), "", ENVOY, (Goal.AT_MOST, 0)
        ),
        Figure(
            SECTION, "falling limits, least of the peaks / limit", min(used), "", ENVOY, (Goal.AT_LEAST, 1)
        ),
    ]


@contextlib.asynccontextmanager
async def _persistent_clients(count: int, port: int) -> AsyncIterator[None]:
    request = request_bytes(stream_path(16, 25))

    async def insist() -> None:
        while True:
            stream = await Stream(request).start(port)
            try:
                await stream.done.wait()
            finally:
                stream.close()
            if stream.status != 200:
                await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(insist()) for _ in range(count)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def exact_bursts(
    gateway: Gateway, upstreams: tuple[Upstream, Upstream], port: int, bursts: int
) -> list[Figure]:
    """Return the share of bursts that were split as planned: running and queued, fallback, shed."""
    own, small = upstreams
    state = route(
        "burst",
        listen_port=port,
        upstream_ports=(own.port,),
        limit=BURST_LIMIT,
        fallback_ports=(small.port,),
        fallback_limit=BURST_FALLBACK,
    )
    gateway.publish([state])
    await gateway.has_everything()
    request = request_bytes(stream_path(10, 40))
    planned = {
        "burst": BURST_LIMIT.in_flight,
        "burst-small": BURST_FALLBACK,
        "429": BURST - BURST_LIMIT.in_flight - BURST_FALLBACK,
        "most": BURST_LIMIT.running,
    }
    splits: Counter[tuple[tuple[str, int], ...]] = Counter()
    for _ in range(bursts):
        own.state()
        async with many([request] * BURST, port) as streams, asyncio.timeout(20):
            await asyncio.gather(*(stream.done.wait() for stream in streams))
        split = Counter(
            stream.headers.get(SERVED_BY, "") if stream.status == 200 else str(stream.status)
            for stream in streams
        )
        split["most"] = own.state()["most"]
        splits[tuple(sorted(split.items()))] += 1
        await asyncio.sleep(0.2)
    exact = splits[tuple(sorted(planned.items()))]
    label = (
        f"bursts of {BURST}: {BURST_LIMIT.running} + {BURST_LIMIT.queued}, {BURST_FALLBACK} fallback, "
        f"{planned['429']} shed, share split so"
    )
    others = [f"{number} x {dict(split)}" for split, number in splits.most_common() if dict(split) != planned]
    figure = Figure(
        SECTION,
        label + "".join(f"; {each}" for each in others[:2]),
        exact / bursts,
        "",
        ENVOY,
        (Goal.EXACTLY, 1),
    )
    return [figure]
