"""Latency of a token-generating pool by replaying its engines on drawn requests.

The chain knows how many sequences run over minutes, the engine loop what happens within seconds. So
several short replays start from evenly spaced quantiles of the chain (residents half way through
requests drawn by their decode time), instead of one long one that would have to forget its start
and see enough of the slow fluctuation: at 90 % of saturation one replica forgets in about 1,000 requests.

A replica of a random split or of round robin is alone with its own arrivals; of a load-aware pool at
most `LARGEST_POOL` replicas are run at their share of the rate: beyond 32 nothing changes by 1 %.
"""

from __future__ import annotations

import math

import numpy as np

from penstock.queueing.balancer import Arrivals, Balancer
from penstock.queueing.domain import FloatArray
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.number_in_service import NumberInService
from penstock.queueing.token_latency import RequestSample
from penstock.queueing.traffic import TrafficShape
from penstock.queueing.twin import Resident, replay

LARGEST_POOL, LARGEST_QUICK_POOL = 32, 16
_QUICK = 10_000  # fewer measured requests than this are a quick look
_LANES = 8  # of a pool of one; fewer for larger pools, whose load fluctuates less
_LANE_REQUESTS = 3000  # at least: each pays for settling
# Arrivals before measuring: the queues of prompts, which the chain does not know, have to form.
_SETTLING = 1000
_SETTLING_PER_REPLICA = 150
_AFTER = 2.0  # mean lives for which arrivals go on after the last measured one


def replayed_replicas(balancer: Balancer, arrivals: Arrivals, replicas: int) -> int:
    """Return how many replicas have to be run together to stand for a pool of `replicas`."""
    alone = balancer is Balancer.ROUND_ROBIN or (balancer is Balancer.RANDOM and arrivals is Arrivals.POISSON)
    return 1 if alone else replicas


def replay_pool(
    profile: EngineProfile,
    shape: TrafficShape,
    chain: NumberInService,
    *,
    replicas: int,
    rate: float,
    balancer: Balancer,
    arrivals: Arrivals,
    random: np.random.Generator,
    requests: int,
    running_limit: int | None = None,
    queue_limit: int | None = None,
) -> RequestSample:
    """Return a sample of `requests` requests of a pool of `replicas` that each get `rate` (1/s).

    `chain` is the number in service of the pool that is run (see `replayed_replicas`).
    """
    largest = LARGEST_QUICK_POOL if requests < _QUICK else LARGEST_POOL
    together = min(replayed_replicas(balancer, arrivals, replicas), largest)
    lanes = max(1, round(_LANES / math.sqrt(together) * min(1.0, requests / _LANE_REQUESTS / _LANES)))
    running = max(1.0, chain.running_mean)
    measured = math.ceil(requests / lanes)
    settling = max(_SETTLING, _SETTLING_PER_REPLICA * together)
    count = settling + measured + math.ceil(min(_AFTER * running * together, measured))
    samples: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    for lane in range(lanes):
        state = float(chain.quantile_states(np.array([(lane + 0.5) / lanes]))[0]) / chain.replicas
        times = _arrivals(count, together, replicas, rate, balancer, arrivals, random)
        inputs, outputs = shape.sample(count, random)
        inputs, outputs = _fitting(profile, inputs, outputs)
        # Just below saturation the chain knows states of 100,000. A queue as long as the whole replay is
        # beyond any objective, and each longer one as well.
        backlog = min(count, max(0, round((state - chain.limit) * together)))
        result = replay(
            profile,
            np.concatenate([np.zeros(backlog), times]),
            np.concatenate([inputs[:backlog], inputs]),
            np.concatenate([outputs[:backlog], outputs]),
            replicas=together,
            balancer=balancer,
            random=random,
            residents=_residents(profile, shape, min(state, chain.limit), together, random),
            running_limit=running_limit,
            queue_limit=queue_limit,
        )
        window = slice(backlog + settling, backlog + settling + measured)
        samples.append((result.ttft[window], result.tpot[window], result.latency[window]))
    ttft, tpot, latency = (np.concatenate(parts) for parts in zip(*samples, strict=True))
    return RequestSample(ttft[~np.isnan(ttft)], tpot[~np.isnan(tpot)], latency[~np.isnan(latency)])


def _arrivals(
    count: int,
    together: int,
    replicas: int,
    rate: float,
    balancer: Balancer,
    arrivals: Arrivals,
    random: np.random.Generator,
) -> FloatArray:
    """Return the arrival times of the replicas run: every N-th of the pool's stream for round robin."""
    pool_rate = rate * together
    if arrivals is Arrivals.CONSTANT:
        return np.asarray((np.arange(count) + random.random()) / pool_rate)
    every = replicas if balancer is Balancer.ROUND_ROBIN else 1
    return np.cumsum(random.gamma(every, 1 / (every * pool_rate), count))


def _fitting(
    profile: EngineProfile, inputs: FloatArray, outputs: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return whole lengths that KV memory can hold, as an engine's maximum length enforces."""
    most = math.floor(profile.kv_capacity_tokens)
    inputs = np.clip(np.rint(inputs), 1, max(1, most - 1))
    return inputs, np.clip(np.rint(outputs), 1, np.maximum(1, most - inputs))


def _residents(
    profile: EngineProfile, shape: TrafficShape, state: float, together: int, random: np.random.Generator
) -> list[list[Resident]]:
    """Return sequences in mid-life: drawn in proportion to their decode steps, at an even point of them."""
    steps = np.rint(shape.output_lengths) - 1
    if not steps.any():
        return [[] for _ in range(together)]
    total = round(state * together)
    drawn = random.choice(steps.size, total, p=steps / steps.sum())
    done = np.floor(random.random(total) * steps[drawn])
    context = np.rint(shape.input_lengths)[drawn] + done
    fits = np.cumsum(context) <= profile.kv_capacity_tokens * together
    each: list[list[Resident]] = [[] for _ in range(together)]
    for k in np.flatnonzero(fits):
        each[k % together].append(Resident(int(context[k]), int(steps[drawn[k]] - done[k])))
    return each
