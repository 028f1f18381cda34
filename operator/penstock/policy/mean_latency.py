"""Mean TTFT and TPOT of a replica at the measured batch and rate: what calibration compares with.

    T = D(B) + (1-q) p1 + (x - 1 + q) p2        x = lambda T prompts a step, q = exp(-x)
    TPOT = T,   TTFT = L/2 + D(B) + p1 + c lambda L p2 + front end

D is a step without a prompt, p1 and p2 what the first and a further prompt add. A prompt arrives in a step
of length-biased mean L = T + c x E[p^2]/T, waits for half of it, and enters with those that came in the
same one (gated cycle, mean value). c, variance over mean of the replica's arrivals, is the balancer's
doing. Against the replayed pools (1155/211, 20 to 85 % load) TPOT is within 3 %, TTFT within 5 % behind a
balancer and 12 % short alone. Taken at the *measured* batch the ratio does not feed back on itself: a slow
engine also runs a larger batch. Plain floats: 2 microseconds, and a filter asks four times.
"""

from __future__ import annotations

import math
from functools import lru_cache

from penstock.model.observation import Load
from penstock.model.value import value
from penstock.policy.lengths import ShapeCell
from penstock.policy.step_factors import AS_PROFILED, StepFactors
from penstock.queueing.balancer import Arrivals, Balancer
from penstock.queueing.pooling import pooling
from penstock.queueing.step_law import StepLaw

_ITERATIONS = 12
MOST_PROMPTS = 0.45  # of the time: beyond it mean values miss TTFT by a fifth and more


@value(frozen=True, slots=True)
class ReplicaLoad:
    """What one replica does: prompts per second, sequences running, moments of lengths in tokens."""

    arrival_rate: float
    running: float
    input_mean: float
    input_square: float
    context_tokens: float  # that a running sequence holds
    gap_scv: float = 1.0  # variance over mean of its arrivals, over a few steps


@value(frozen=True, slots=True)
class MeanLatency:
    """Seconds; `ttft` without what the front end adds."""

    ttft: float
    tpot: float


def replica_load(load: Load, cell: ShapeCell, ready: int, balancer: Balancer) -> ReplicaLoad | None:
    """Return the mean load of the ready replicas; None where it is not known or nothing runs."""
    running, arrival, inputs = load.running.value, load.arrival_rate.value, load.input_token_rate.value
    if running is None or arrival is None or running <= 0 or arrival <= 0 or ready < 1:
        return None
    mean = cell.input.mean if inputs is None or inputs <= 0 else inputs / arrival
    return ReplicaLoad(
        arrival_rate=arrival / ready,
        running=running / ready,
        input_mean=mean,
        input_square=mean * mean * (1 + cell.input.scv),
        context_tokens=cell.input.mean + cell.output.mean * (1 + cell.output.scv) / 2,
        gap_scv=_gap_scv(balancer, ready),
    )


def expected_step_seconds(law: StepLaw, seen: ReplicaLoad, step_seconds: float) -> float:
    """Return the mean step of `law` with the prompts that come in a measured mean step, in seconds.

    Over that step it is the factor of an engine that is slower as a whole. With the law's own step fewer
    prompts would come: at 40 % of the time for prompts an engine slower by 1.3 would look slower by 1.6.
    """
    idle, first, further = _parts(law, seen)
    prompts = seen.arrival_rate * step_seconds
    some = -math.expm1(-prompts)
    return idle + some * first + (prompts - some) * further


def mean_latency(law: StepLaw, seen: ReplicaLoad, factors: StepFactors = AS_PROFILED) -> MeanLatency | None:
    """Return the means that `law` with `factors` gives under this load.

    None where prompts take most of the time.
    """
    rate = seen.arrival_rate
    idle, first, further = _parts(law, seen, factors)
    room = 1 - rate * further
    if room <= 1 - MOST_PROMPTS:
        return None
    step = idle / room
    for _ in range(_ITERATIONS):
        before = step
        step = (idle - math.expm1(-rate * step) * (first - further)) / room
        if abs(step - before) < 1e-4 * step:
            break
    token = law.per_token_seconds * factors.compute
    pairs = law.per_token_pair_seconds * factors.compute * seen.input_square / 2
    spread = seen.gap_scv * rate * step * (token**2 * seen.input_square + pairs * pairs)
    biased = (step * step + spread) / step
    ttft = biased / 2 + idle + first + seen.gap_scv * rate * biased * further
    return MeanLatency(ttft, step)


def _parts(law: StepLaw, seen: ReplicaLoad, factors: StepFactors = AS_PROFILED) -> tuple[float, float, float]:
    """Return the seconds of a step without a prompt, and what a first and a further prompt add to it.

    As ``with_factors(law, factors).seconds_of_one`` does, but a law made for each question of the filter
    took longer than the answer.
    """
    batch, prompt = seen.running, seen.input_mean
    overhead, memory = factors.overhead, factors.memory
    weights, token = law.weights_seconds * memory, law.per_token_seconds * factors.compute
    pairs = law.per_token_pair_seconds * factors.compute * seen.input_square / 2
    idle = max(weights, token * batch)
    with_one = max(weights, token * (batch + prompt))
    if law.experts_seconds:
        idle -= law.experts_seconds * memory * math.expm1(-batch / law.experts_tokens)
        with_one -= law.experts_seconds * memory * math.expm1(-(batch + prompt) / law.experts_tokens)
    first, further = with_one - idle + pairs, token * prompt + pairs
    host = (law.base_seconds + law.per_sequence_seconds * batch) * overhead
    return host + idle + law.per_kv_token_seconds * memory * batch * seen.context_tokens, first, further


@lru_cache(maxsize=4096)
def _gap_scv(balancer: Balancer, replicas: int) -> float:
    return pooling(balancer, Arrivals.POISSON, replicas).gap_scv
