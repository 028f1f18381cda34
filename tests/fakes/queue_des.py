"""A small discrete-event simulation of request/response replicas: c servers each, greedy batching."""

from __future__ import annotations

import heapq
from collections import deque

import numpy as np

from penstock.queueing.balancer import Balancer
from penstock.queueing.service_time_model import RequestModel


def simulate_requests(
    model: RequestModel,
    arrivals: np.ndarray,
    *,
    replicas: int = 1,
    balancer: Balancer = Balancer.RANDOM,
    seed: int = 0,
    queue_limit: int | None = None,
) -> tuple[np.ndarray, float]:
    """Return latencies of the answered requests after a fifth of warm-up, and the share turned away.

    Service times are Gamma with the model's mean and SCV; a batch of b takes one draw x T(b)/T(1).
    """
    random = np.random.default_rng(seed)
    count = arrivals.size
    works = random.gamma(1 / model.scv, model.scv, count) if model.scv else np.ones(count)
    draws = random.integers(0, replicas, (count, 2))
    queues: list[deque[int]] = [deque() for _ in range(replicas)]
    idle = [model.concurrency] * replicas
    present = [0] * replicas
    ends: list[tuple[float, int, tuple[int, ...]]] = []
    done = np.full(count, np.nan)

    def start(index: int, now: float) -> None:
        while idle[index] and queues[index]:
            size = min(model.max_batch, len(queues[index]))
            batch = tuple(queues[index].popleft() for _ in range(size))
            idle[index] -= 1
            heapq.heappush(ends, (now + works[batch[0]] * model.batch_seconds(size), index, batch))

    def finish(until: float) -> None:
        while ends and ends[0][0] <= until:
            now, index, batch = heapq.heappop(ends)
            for request in batch:
                done[request] = now
            present[index] -= len(batch)
            idle[index] += 1
            start(index, now)

    places = np.inf if queue_limit is None else model.concurrency * model.max_batch + queue_limit
    for number, now in enumerate(arrivals):
        finish(now)
        one = int(draws[number, 0])
        if balancer is Balancer.ROUND_ROBIN:
            index = number % replicas
        elif balancer is Balancer.RANDOM or replicas == 1:
            index = one
        elif balancer is Balancer.POWER_OF_TWO:
            two = int((one + 1 + draws[number, 1] % (replicas - 1)) % replicas)
            index = one if present[one] <= present[two] else two
        else:
            fewest = min(present)
            tied = [k for k, each in enumerate(present) if each == fewest]
            index = tied[one % len(tied)]
        if present[index] >= places:
            continue
        present[index] += 1
        queues[index].append(number)
        start(index, now)
    finish(np.inf)
    kept = slice(count // 5, None)
    latency = (done - arrivals)[kept]
    turned_away = float(np.isnan(latency).mean())
    return latency[~np.isnan(latency)], turned_away
