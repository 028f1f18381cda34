"""Latency of a token-generating pool, as a sample of requests: who arrives when, and what they then see.

Each lane is a replica at one quantile of the number in service (Poisson arrivals see time averages); the
gated cycle gives its TTFTs. A request's decode then lasts

    W = D + stalls,   D = (o-1) tau(B),   E[stalls] = D r/(1-r),   Var = D rate E*[p^2]/(1-r)^3

because prompts (time p, share r of all time) stop the decoding of the others; stalls are taken as
Gamma. B is the average over the request's life of a process that forgets with the chain's relaxation
time: a long request sees the mean, a short one what it found. TPOT = W/(o-1), latency = TTFT + W.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from penstock.queueing.domain import FloatArray
from penstock.queueing.fluid import FluidLaw
from penstock.queueing.gated_cycle import first_token_waits
from penstock.queueing.number_in_service import NumberInService
from penstock.queueing.pooling import Pooling

LANES = 512
_ARRIVALS = 60  # per lane
_SETTLING = 20  # first arrivals of a lane, which do not count: they find no earlier prompts


@dataclass(frozen=True, slots=True)
class RequestSample:
    """One entry per sampled request, in seconds; `tpot` only of those with two tokens or more."""

    ttft: FloatArray
    tpot: FloatArray
    latency: FloatArray


def sample_requests(
    fluid: FluidLaw,
    chain: NumberInService,
    completion: FloatArray,
    *,
    rate: float,
    pooling: Pooling,
    random: np.random.Generator,
    lanes: int = LANES,
) -> RequestSample:
    """Return a sample of the requests of one replica that gets `rate` (1/s).

    `completion[j]` is mu(j), 1/s, for j = 0..limit; `chain` the number in service it belongs to.
    """
    profile, shape, limit = fluid.profile, fluid.shape, completion.size - 1
    levels = (np.arange(lanes) + 0.5) / lanes
    states = chain.quantile_states(levels)
    full = int(np.floor(chain.replicas * chain.limit))
    found = np.minimum(states / chain.replicas, limit)
    pool_completion = chain.replicas * completion[-1]
    ahead = np.maximum(states - full + 1, 0)
    slot_wait = np.where(ahead > 0, random.gamma(np.maximum(ahead, 1)) / pool_completion, 0.0)

    # A load-aware balancer sends an arrival to a replica with fewer; else the fraction is a coin's.
    coin = 0.0 if pooling.shared_replicas > 1 else random.random(lanes)
    running = np.minimum(np.floor(found + coin), limit)
    context, spread = fluid.context_tokens
    kv = np.maximum(0.0, running * context + random.standard_normal(lanes) * np.sqrt(running) * spread)
    gaps = pooling.gaps(rate, lanes, _ARRIVALS, random)
    inputs, outputs = (each.reshape(lanes, _ARRIVALS) for each in shape.sample(lanes * _ARRIVALS, random))
    waits = first_token_waits(
        profile.step_law,
        step_token_budget=profile.step_token_budget,
        running=running,
        kv_tokens=kv,
        gaps=gaps,
        prompts=inputs,
        held_back=pooling.held_back(rate, gaps, random),
        early_phase=pooling.early_phase(rate * float(fluid.balanced_step_seconds(found).mean())),
    )
    ttft = (waits + slot_wait[:, None] + profile.frontend_seconds)[:, _SETTLING:]
    steps = outputs[:, _SETTLING:] - 1.0
    batch = _batch_over_life(fluid, found[:, None], steps, rate=rate, pooling=pooling, random=random)
    batch = np.minimum(batch, limit)
    decode = _decode_seconds(fluid, batch, steps, rate=rate, pooling=pooling, random=random)
    many = steps > 0
    return RequestSample(ttft.ravel(), (decode[many] / steps[many]), (ttft + decode).ravel())


def _batch_over_life(
    fluid: FluidLaw,
    found: FloatArray,
    steps: FloatArray,
    *,
    rate: float,
    pooling: Pooling,
    random: np.random.Generator,
) -> FloatArray:
    """Return the running sequences a request decodes with, itself included, averaged over its life."""
    mean, spread = float(found.mean()), float(found.std())
    around = np.array([max(mean - 0.5, 0.0), mean, mean + 0.5])
    step = fluid.driven_step_seconds(around, np.array(rate))
    ends = around / step  # sequences x steps a second; over E[o-1]: completions a second
    forgets = float(ends[2] - ends[0]) / (around[2] - around[0]) / max(fluid.shape.decode_steps_mean, 1e-9)
    # Average of an Ornstein-Uhlenbeck path over u relaxation times, given where it starts.
    u = np.maximum(steps * float(step[1]) * forgets, 1e-6)
    keeps = -np.expm1(-u) / u
    variance = np.maximum(2 * (u + np.expm1(-u)) / u**2 - keeps**2, 0.0)
    others = mean + (found - mean) * keeps + spread * np.sqrt(variance) * random.standard_normal(u.shape)
    return np.asarray(np.maximum(others + pooling.own_share, 1.0))


def _decode_seconds(
    fluid: FluidLaw,
    batch: FloatArray,
    steps: FloatArray,
    *,
    rate: float,
    pooling: Pooling,
    random: np.random.Generator,
) -> FloatArray:
    """Return the time from the first token to the last."""
    grid = np.arange(np.ceil(batch.max()) + 1.0)
    idle = np.interp(batch, grid, fluid.idle_step_seconds(grid))
    step = np.interp(batch, grid, fluid.driven_step_seconds(grid, np.array(rate), pooling.gap_scv))
    share = np.clip(1 - idle / step, 0.0, 0.999)
    # The contexts of the others: they stay about as long as the request itself, so no averaging.
    _, spread = fluid.context_tokens
    context = fluid.profile.step_law.per_kv_token_seconds * spread * np.sqrt(batch)
    idle = np.maximum(idle + context * random.standard_normal(batch.shape), 0.5 * idle)
    busy = steps * idle
    stalls = busy * share / (1 - share)
    mean_prompt, var_prompt = fluid.prompt_seconds
    variance = busy * rate * (var_prompt + pooling.gap_scv * mean_prompt**2) / (1 - share) ** 3
    shape = np.clip(stalls**2 / np.maximum(variance, 1e-300), 1e-6, 1e8)
    return np.asarray(busy + np.where(stalls > 0, random.gamma(shape) / shape * stalls, 0.0))
