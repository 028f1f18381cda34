"""A pool of engines behind an admission policy, simulated event by event at full size.

The engines are `EngineLoop`s; requests go to the replica with the fewest present. A policy sees what a
gate in its place would see: in flight per replica, prompt tokens without a first token, first tokens,
ends. One with a `running_limit` holds what it admitted beyond that at the gate, as the proxy does: in a
queue for each replica, chosen on arrival by what runs there. Clients may retry what was refused.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.limiters import RetryingClient
from penstock.queueing.domain import FloatArray
from penstock.queueing.engine_loop import EngineLoop, Requests
from penstock.queueing.engine_profile import EngineProfile

ARRIVAL, STEP = 0, 1


@dataclass(slots=True)
class Pool:
    """What a policy may look at, kept up to date by the simulation."""

    in_flight: list[int]  # per replica, those held at the gate not counted
    held: int = 0
    tokens_in_prefill: list[int] = field(default_factory=list)  # per replica

    @property
    def total(self) -> int:
        """Everything admitted and not ended."""
        return sum(self.in_flight) + self.held


class Policy(Protocol):
    """Decides over each request at its arrival."""

    running_limit: float  # of the pool: what is admitted beyond waits at the gate

    def admits(self, now: float, pool: Pool, replica: int, prompt_tokens: int) -> bool:
        """Whether the request may enter; `replica` is where it would go."""

    def first_token(self, now: float, replica: int, seconds: float, in_flight_at_start: int) -> None:
        """Take in a TTFT (seconds)."""

    def ended(self, now: float, replica: int, seconds: float, in_flight_at_start: int) -> None:
        """Take in a whole latency (seconds)."""


@dataclass(frozen=True, slots=True)
class Offered:
    """Requests in order of arrival."""

    arrivals: FloatArray
    prompts: NDArray[np.int64]
    outputs: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Per request: TTFT and TPOT in seconds, NaN where it was refused for good; requests engines got."""

    ttft: FloatArray
    tpot: FloatArray
    reached_engines: int
    attempts: int
    most_in_flight: int

    def good(self, ttft_seconds: float, tpot_seconds: float) -> NDArray[np.bool_]:
        """Return which requests were answered within both objectives."""
        with np.errstate(invalid="ignore"):
            tpot = np.isnan(self.tpot) | (self.tpot <= tpot_seconds)
            return np.asarray((self.ttft <= ttft_seconds) & tpot)


class _Noted(list[float]):
    """Times by request number; remembers which were set since it was last asked."""

    def __init__(self, values: list[float]) -> None:
        super().__init__(values)
        self.fresh: list[int] = []

    def __setitem__(self, index, value) -> None:  # type: ignore[no-untyped-def]
        super().__setitem__(index, value)
        self.fresh.append(index)


def simulate(
    profile: EngineProfile,
    offered: Offered,
    policy: Policy,
    *,
    replicas: int,
    client: RetryingClient | None = None,
    retry_after_seconds: float | None = None,
    random: np.random.Generator,
) -> Outcome:
    """Run all requests until each is answered, refused for good or given up."""
    return _Run(profile, offered, policy, replicas, client, retry_after_seconds, random).run()


class _Run:
    def __init__(
        self,
        profile: EngineProfile,
        offered: Offered,
        policy: Policy,
        replicas: int,
        client: RetryingClient | None,
        retry_after_seconds: float | None,
        random: np.random.Generator,
    ) -> None:
        self.offered, self.policy, self.client = offered, policy, client
        self.retry_after_seconds, self.random = retry_after_seconds, random
        self.frontend = profile.frontend_seconds
        count = offered.arrivals.size
        self.requests = Requests.of(offered.prompts.tolist(), offered.outputs.tolist())
        self.first = self.requests.first = _Noted([math.nan] * count)
        self.last = self.requests.last = _Noted([math.nan] * count)
        self.loops = [EngineLoop(profile, self.requests, profile.max_sequences) for _ in range(replicas)]
        self.pool = Pool([0] * replicas, 0, [0] * replicas)
        self.held: list[deque[int]] = [deque() for _ in range(replicas)]
        self.asked_at = offered.arrivals.tolist()  # of the attempt that was admitted
        self.place = [-1] * count
        self.found = [0] * count
        self.attempts = [0] * count
        self.reached = self.most = 0
        self.events: list[tuple[float, int, int]] = [
            (at, ARRIVAL, number) for number, at in enumerate(self.asked_at)
        ]
        heapq.heapify(self.events)

    def run(self) -> Outcome:
        while self.events:
            now, kind, number = heapq.heappop(self.events)
            if kind == ARRIVAL:
                self._arrive(number, now)
            elif self.loops[number].ends == now:  # else a stretch that was cut
                self._step(number, now)
        asked = np.array(self.asked_at)
        first, last = np.array(self.first), np.array(self.last)
        with np.errstate(invalid="ignore", divide="ignore"):
            tpot = np.where(self.offered.outputs > 1, (last - first) / (self.offered.outputs - 1), np.nan)
        ttft = first - asked + self.frontend
        return Outcome(ttft, tpot, self.reached, int(sum(self.attempts)), self.most)

    def _arrive(self, number: int, now: float) -> None:
        pool, prompt = self.pool, self.requests.prompt[number]
        replica = self._fewest()
        attempt = self.attempts[number]
        self.attempts[number] += 1
        if not self.policy.admits(now, pool, replica, prompt):
            self._refuse(number, attempt, now)
            return
        self.asked_at[number] = now
        if sum(pool.in_flight) < self.policy.running_limit and not self.held[replica]:
            self._enter(number, replica, now)
        else:
            self.held[replica].append(number)
            pool.held += 1
        self.most = max(self.most, pool.total)

    def _refuse(self, number: int, attempt: int, now: float) -> None:
        if self.client is None:
            return
        wait = self.client.wait_seconds(attempt, self.retry_after_seconds, float(self.random.random()))
        if wait is not None:
            heapq.heappush(self.events, (now + wait, ARRIVAL, number))

    def _enter(self, number: int, replica: int, now: float) -> None:
        loop, pool = self.loops[replica], self.pool
        self.reached += 1
        self.place[number] = replica
        self.found[number] = pool.in_flight[replica] + 1
        pool.in_flight[replica] += 1
        pool.tokens_in_prefill[replica] += self.requests.prompt[number]
        before = loop.ends
        loop.arrive(number, now)
        if loop.ends != before:
            heapq.heappush(self.events, (loop.ends, STEP, replica))

    def _step(self, replica: int, now: float) -> None:
        loop, pool, policy = self.loops[replica], self.pool, self.policy
        loop.finish()
        if loop.ends != math.inf:
            heapq.heappush(self.events, (loop.ends, STEP, replica))
        for number in self.first.fresh:
            pool.tokens_in_prefill[replica] -= self.requests.prompt[number]
            policy.first_token(now, replica, now - self.asked_at[number], self.found[number])
        for number in self.last.fresh:
            pool.in_flight[replica] -= 1
            policy.ended(now, replica, now - self.asked_at[number], self.found[number])
        ended = len(self.last.fresh)
        self.first.fresh.clear()
        self.last.fresh.clear()
        for _ in range(ended):
            # Its connection is free, and only who waits for this replica can have it.
            if self.held[replica] and sum(pool.in_flight) < policy.running_limit:
                pool.held -= 1
                self._enter(self.held[replica].popleft(), replica, now)

    def _fewest(self) -> int:
        counts = self.pool.in_flight
        start = int(self.random.integers(len(counts)))  # ties are broken evenly
        turned = counts[start:] + counts[:start]
        return (start + turned.index(min(turned))) % len(counts)
