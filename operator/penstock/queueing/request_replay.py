"""Latency of request/response replicas by replaying their queues: load-aware balancers and batching.

Join-the-shortest-queue is not one pooled queue: 16 single servers at 90 % wait 20 % longer than M/M/16
says, and no closed form covers general service times. A server that falls free takes up to `max_batch`
waiting requests at once and never waits for more: forming a full batch of B at a low rate would cost
the batching tax (B - 1)/(2 rate), which no server with a time-out pays.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

import numpy as np

from penstock.queueing.balancer import Arrivals, Balancer
from penstock.queueing.domain import FloatArray

LARGEST_POOL = 32
_WARM_UP = 0.2
_EVEN = 1e-6  # an SCV below is that of a constant


def replay_requests(
    batch_seconds: Callable[[int], float],
    *,
    scv: float,
    concurrency: int,
    max_batch: int,
    replicas: int,
    rate: float,
    balancer: Balancer,
    arrivals: Arrivals,
    requests: int,
    random: np.random.Generator,
    queue_limit: int | None = None,
) -> FloatArray:
    """Return latencies (s) of the answered requests of a pool whose replicas each get `rate` (1/s).

    A batch of b takes `batch_seconds(b)` times a Gamma factor of mean 1 and the given SCV.
    """
    together = min(replicas, LARGEST_POOL)
    gaps = np.ones(requests) if arrivals is Arrivals.CONSTANT else random.standard_exponential(requests)
    factors = random.gamma(1 / scv, scv, requests) if scv > _EVEN else np.ones(requests)
    # The load of the sample is the load asked for: its luck would move waits at 90 % by 20 %.
    times = np.cumsum(gaps / gaps.mean()) / (rate * together)
    factors /= factors.mean()
    durations = [batch_seconds(size) for size in range(1, max_batch + 1)]
    choices = random.integers(0, together, (2, requests)).tolist()
    places = None if queue_limit is None else concurrency * max_batch + queue_limit
    done = _run(
        times.tolist(),
        factors.tolist(),
        durations,
        _Pool(together, concurrency, balancer, choices),
        places,
    )
    latency = (np.array(done) - times)[int(_WARM_UP * requests) :]
    return latency[~np.isnan(latency)]


def measured_requests(requests: int) -> int:
    """Return how many of `requests` are counted, answered or not: those after the warm-up."""
    return requests - int(_WARM_UP * requests)


class _Pool:
    """Queues and free servers of the replicas, and the balancer's view of them."""

    __slots__ = ("_choices", "_pick", "free", "present", "queues", "size")

    def __init__(self, size: int, concurrency: int, balancer: Balancer, choices: list[list[int]]) -> None:
        self.size = size
        self.free = [concurrency] * size
        self.present = [0] * size
        self.queues: list[deque[int]] = [deque() for _ in range(size)]
        self._choices = choices
        self._pick = {
            Balancer.RANDOM: self._random,
            Balancer.ROUND_ROBIN: self._next,
            Balancer.POWER_OF_TWO: self._of_two,
            Balancer.LEAST_REQUESTS: self._fewest,
        }[balancer]

    def choose(self, number: int) -> int:
        return self._pick(number)

    def _random(self, number: int) -> int:
        return self._choices[0][number]

    def _next(self, number: int) -> int:
        return number % self.size

    def _of_two(self, number: int) -> int:
        one = self._choices[0][number]
        if self.size == 1:
            return one
        two = (one + 1 + self._choices[1][number] % (self.size - 1)) % self.size
        return one if self.present[one] <= self.present[two] else two

    def _fewest(self, number: int) -> int:
        start = self._choices[0][number]
        counts = self.present[start:] + self.present[:start]
        return (start + counts.index(min(counts))) % self.size


def _run(
    times: list[float], factors: list[float], durations: list[float], pool: _Pool, places: int | None
) -> list[float]:
    """Return when each request is answered; NaN for those turned away."""
    done = [float("nan")] * len(times)
    ends: list[tuple[float, int, list[int]]] = []
    most = len(durations)

    def start(index: int, now: float) -> None:
        queue = pool.queues[index]
        while pool.free[index] and queue:
            batch = [queue.popleft() for _ in range(min(most, len(queue)))]
            pool.free[index] -= 1
            heapq.heappush(ends, (now + factors[batch[0]] * durations[len(batch) - 1], index, batch))

    def finish_until(time: float) -> None:
        while ends and ends[0][0] <= time:
            now, index, batch = heapq.heappop(ends)
            for request in batch:
                done[request] = now
            pool.present[index] -= len(batch)
            pool.free[index] += 1
            start(index, now)

    for number, now in enumerate(times):
        finish_until(now)
        index = pool.choose(number)
        if places is not None and pool.present[index] >= places:
            continue
        pool.present[index] += 1
        pool.queues[index].append(number)
        start(index, now)
    finish_until(float("inf"))
    return done
