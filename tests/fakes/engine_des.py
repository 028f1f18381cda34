"""A small, honest discrete-event simulation of a pool of continuous-batching engines.

Token by token, as vLLM V1 schedules: running sequences first in order of admission (decodes, and the
rest of chunked prompts), then waiting ones first come first served while there is a slot, token budget
and KV room for the whole prompt; when a decode finds no KV block the sequence admitted last is
preempted and recomputed. It shares nothing with the models under test but the step law.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from penstock.queueing.balancer import Balancer
from penstock.queueing.engine_profile import EngineProfile

BLOCK = 16


@dataclass(slots=True, eq=False)
class Request:
    arrival: float
    prompt: int
    output: int
    made: int = 0  # output tokens
    held: int = 0  # tokens whose KV is computed
    blocks: int = 0
    decodes: bool = False  # else a token that is left to compute belongs to the prompt, or to what was known
    first: float = math.nan
    last: float = math.nan
    shed: bool = False


@dataclass(slots=True, eq=False)
class Replica:
    profile: EngineProfile
    slots: int
    free: int
    waiting: deque[Request] = field(default_factory=deque)
    running: list[Request] = field(default_factory=list)
    work: list[tuple[Request, int]] = field(default_factory=list)
    busy: bool = False
    preemptions: int = 0

    def count(self) -> int:
        return len(self.waiting) + len(self.running)

    def begin(self) -> float | None:
        """Choose a step's work; return its duration, or None when there is nothing to do."""
        profile, law = self.profile, self.profile.step_law
        budget, work, preempted, index = profile.step_token_budget, [], False, 0
        while index < len(self.running) and budget > 0:
            request = self.running[index]
            chunk = min(request.prompt + request.made - request.held, budget)
            while not self.reserve(request, request.held + chunk):
                victim = self.running.pop()
                self.free += victim.blocks
                victim.blocks = victim.held = 0
                victim.decodes = False
                self.waiting.appendleft(victim)
                self.preemptions += 1
                preempted = True
                if victim is request:
                    break
            else:
                work.append((request, chunk))
                budget -= chunk
                index += 1
                continue
            break
        while not preempted and self.waiting and budget > 0 and len(self.running) < self.slots:
            request = self.waiting[0]
            known = request.prompt + request.made
            if not self.reserve(request, known):
                break
            self.waiting.popleft()
            self.running.append(request)
            chunk = min(known, budget)
            work.append((request, chunk))
            budget -= chunk
        self.work = work
        if not work:
            return None
        prefill = decoding = kv = 0
        pairs = 0.0
        for request, chunk in work:
            if request.decodes:
                decoding += 1
                kv += request.held
            else:
                prefill += chunk
                pairs += chunk * (request.held + chunk / 2)
        tokens = prefill + decoding
        experts = law.experts_seconds * -math.expm1(-tokens / law.experts_tokens)
        return (
            law.base_seconds
            + max(law.weights_seconds, law.per_token_seconds * tokens)
            + law.per_token_pair_seconds * pairs
            + law.per_kv_token_seconds * kv
            + law.per_sequence_seconds * decoding
            + experts
        )

    def finish(self, now: float) -> None:
        done = False
        for request, chunk in self.work:
            request.held += chunk
            if request.held < request.prompt + request.made:
                continue
            request.made += 1
            request.decodes = True
            if request.made == 1:
                request.first = now
            if request.made >= request.output:
                request.last = now
                done = True
        if done:
            for request in self.running:
                if request.made >= request.output:
                    self.free += request.blocks
                    request.blocks = 0
            self.running = [request for request in self.running if request.made < request.output]

    def reserve(self, request: Request, tokens: int) -> bool:
        needed = -(-tokens // BLOCK) - request.blocks
        if needed > self.free:
            return False
        if needed > 0:
            request.blocks += needed
            self.free -= needed
        return True


@dataclass(frozen=True, slots=True)
class Measured:
    """Per request, after the warm-up, in seconds."""

    ttft: np.ndarray
    tpot: np.ndarray
    latency: np.ndarray
    shed_fraction: float
    running_mean: float  # per replica, over time
    throughput: float
    preemptions: int


def simulate(
    profile: EngineProfile,
    arrivals: np.ndarray,
    inputs: np.ndarray,
    outputs: np.ndarray,
    *,
    replicas: int = 1,
    balancer: Balancer = Balancer.RANDOM,
    seed: int = 0,
    warm_up_ratio: float = 0.2,
    running_limit: int | None = None,
    queue_limit: int | None = None,
) -> Measured:
    """Run the pool over a list of requests until all are answered."""
    random = np.random.default_rng(seed)
    slots = min(profile.max_sequences, running_limit or profile.max_sequences)
    pool = [Replica(profile, slots, int(profile.kv_capacity_tokens) // BLOCK) for _ in range(replicas)]
    requests = [Request(float(t), int(i), int(o)) for t, i, o in zip(arrivals, inputs, outputs, strict=True)]
    draws = random.integers(0, replicas, size=(len(requests), 2))
    events: list[tuple[float, int]] = []
    running_area, last_time = 0.0, 0.0
    warm_time = requests[int(len(requests) * warm_up_ratio)].arrival
    end_time = requests[-1].arrival

    def start(index: int, now: float) -> None:
        duration = pool[index].begin()
        pool[index].busy = duration is not None
        if duration is not None:
            heapq.heappush(events, (now + duration, index))

    def advance(until: float) -> None:
        nonlocal running_area, last_time
        while events and events[0][0] <= until:
            now, index = heapq.heappop(events)
            low, high = max(last_time, warm_time), min(now, end_time)
            if high > low:
                running_area += (high - low) * sum(len(each.running) for each in pool)
            last_time = now
            pool[index].finish(now)
            start(index, now)

    for number, request in enumerate(requests):
        advance(request.arrival)
        if balancer is Balancer.RANDOM:
            index = int(draws[number, 0])
        elif balancer is Balancer.ROUND_ROBIN:
            index = number % replicas
        elif balancer is Balancer.POWER_OF_TWO:
            one = int(draws[number, 0])
            two = int((one + 1 + draws[number, 1] % (replicas - 1)) % replicas) if replicas > 1 else one
            index = one if pool[one].count() <= pool[two].count() else two
        else:
            fewest = min(each.count() for each in pool)
            tied = [k for k, each in enumerate(pool) if each.count() == fewest]
            index = tied[int(draws[number, 0]) % len(tied)]
        replica = pool[index]
        if queue_limit is not None and replica.count() >= slots + queue_limit:
            request.shed = True
            continue
        replica.waiting.append(request)
        if not replica.busy:
            start(index, request.arrival)
    advance(math.inf)
    kept = [each for each in requests[int(len(requests) * warm_up_ratio) :] if not each.shed]
    arrival = np.array([each.arrival for each in kept])
    first, last = (np.array([getattr(each, name) for each in kept]) for name in ("first", "last"))
    steps = np.array([each.output - 1 for each in kept])
    many = steps > 0
    offered = len(requests) - int(len(requests) * warm_up_ratio)
    span = end_time - warm_time
    return Measured(
        ttft=first - arrival + profile.frontend_seconds,
        tpot=(last - first)[many] / steps[many],
        latency=last - arrival + profile.frontend_seconds,
        shed_fraction=1 - len(kept) / offered,
        running_mean=running_area / span / replicas,
        throughput=float(np.sum((last >= warm_time) & (last <= end_time))) / span,
        preemptions=sum(each.preemptions for each in pool),
    )
