"""One continuous-batching replica under a traffic shape, and pools of it.

    c = min(slots, KV room / kvres, step budget / (1 + E[i]/E[o-1]))
    mu(n) = n / (E[o-1] T(n));   saturation rate = mu(c)
    c* = max n with T(n) <= 0.85 x the p95 TPOT objective and n kvres + 2.33 sqrt(n) SD[kv] <= KV room
    q = max(1, 0.5 x the TTFT objective x mu(c*) - 1)

A latency objective is a TPOT of it over its percentile of o-1, and what T(c*) leaves of it to wait.
0.85 pays for the spread of TPOT between requests, 2.33 leaves memory for 99 % of the mixes of lengths: full
on average, it preempts, and p95 TTFT at 1.5 times the load was 2.7 s where this limit gave 0.8 s (prompts of
2,000 tokens; 4.1 and 0.9 s at SCV 3). A queue of q keeps TTFT at half its objective when full; twice that
length already breaks a p95 of 500 ms in simulation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from penstock.queueing.balancer import Arrivals, Balancer
from penstock.queueing.distribution import Distribution
from penstock.queueing.domain import FloatArray
from penstock.queueing.engine_model import PoolPrediction
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.errors import InvalidParameter
from penstock.queueing.fluid import FluidLaw
from penstock.queueing.number_in_service import NumberInService, blocking, number_in_service
from penstock.queueing.pooling import Pooling, pooling
from penstock.queueing.replayed_pool import replay_pool
from penstock.queueing.token_latency import RequestSample, sample_requests
from penstock.queueing.traffic import TrafficShape

TPOT_SHARE = 0.85
TTFT_SHARE = 0.5
MEMORY_DEVIATIONS = 2.33  # of the normal law: one in 100 beyond
PROMPTS_DOMINATE = 0.66  # share of a saturated replica's time
FEW_KV_SLOTS = 64
REQUESTS, QUICK_REQUESTS = 40_000, 6_000  # replayed; p99 is good to 2 % and 5 %
_LARGEST_CHAIN = 256  # replicas: beyond, the spread of the number in service is below 1 %
_MOST_RUNNING = 100_000  # in one chain: the same, for engines of thousands of slots
# Common random numbers: neighbouring loads and pools see the same requests, so curves are smooth.
_SEED = 20_231_116


@dataclass(frozen=True)
class ReplicaModel:
    """A replica: `profile` says how fast and how big it is, `shape` what is asked of it."""

    profile: EngineProfile
    shape: TrafficShape
    fluid: FluidLaw = field(init=False, repr=False, compare=False)
    concurrency_limit: float = field(init=False, compare=False)  # c
    _completion: FloatArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        profile, shape = self.profile, self.shape
        steps = max(shape.decode_steps_mean, 1e-9)
        limit = min(
            float(profile.max_sequences),
            profile.kv_capacity_tokens / shape.kv_resident_tokens,
            profile.step_token_budget / (1 + shape.input_mean / steps),
        )
        fluid = FluidLaw(profile, shape)
        running = np.arange(max(1, math.floor(limit)) + 1.0)
        completion = running / (steps * fluid.balanced_step_seconds(running))
        object.__setattr__(self, "fluid", fluid)
        object.__setattr__(self, "concurrency_limit", limit)
        object.__setattr__(self, "_completion", completion)

    @property
    def saturation_rate_per_second(self) -> float:
        """Highest throughput of one replica, mu(c)."""
        return self.completion_rate(self.concurrency_limit)

    @property
    def kv_concurrency(self) -> float:
        """Sequences for which KV memory has room on average (KV capacity / kvres)."""
        return self.profile.kv_capacity_tokens / self.shape.kv_resident_tokens

    @property
    def memory_limit(self) -> float:
        """Sequences that KV memory holds in 99 % of the mixes of lengths."""
        mean, spread = self.shape.kv_resident_tokens, MEMORY_DEVIATIONS * self.shape.kv_resident_sd_tokens
        root = (math.sqrt(spread**2 + 4 * mean * self.profile.kv_capacity_tokens) - spread) / (2 * mean)
        return root * root

    def mean_step_seconds(self, running: float) -> float:
        """Return T(n): the mean step while n sequences run and prompts replace those that end."""
        return float(self.fluid.balanced_step_seconds(np.array([running]))[0])

    def completion_rate(self, running: float) -> float:
        """Return mu(n), completions per second, constant beyond the concurrency limit."""
        n = min(running, self.concurrency_limit)
        return n / (max(self.shape.decode_steps_mean, 1e-9) * self.mean_step_seconds(n))

    def tpot_within(self, latency_seconds: float, percentile: float) -> float:
        """Return the TPOT (s) at which this percentile (0..1) of the lengths decodes within the latency."""
        steps = self._decode_steps(percentile)
        return latency_seconds / steps if steps else math.inf

    def wait_within(self, latency_seconds: float, percentile: float, running: int) -> float:
        """Return what decoding beside `running` sequences leaves of a latency, s.

        With all that an idle replica leaves p95 in an overload was 16.8 s of 15 s, with this it is 13.3 s.
        """
        decoding = self._decode_steps(percentile) * self.mean_step_seconds(running)
        return max(0.0, latency_seconds - decoding)

    def _decode_steps(self, percentile: float) -> float:
        return float(np.quantile(self.shape.output_lengths, percentile)) - 1

    def running_limit(self, tpot_p95_seconds: float | None) -> int:
        """Return c*; at least 1, also where T(1) is already too long (sizing then says so)."""
        top = max(1, math.floor(min(self.concurrency_limit, self.memory_limit)))
        if tpot_p95_seconds is None:
            return top
        n = np.arange(1.0, top + 1)
        within = self.fluid.balanced_step_seconds(n) <= TPOT_SHARE * tpot_p95_seconds
        return max(1, int(np.count_nonzero(within)))

    def queue_limit(self, running_limit: int, ttft_seconds: float | None) -> int:
        """Return q, whole requests per replica; without a TTFT objective one running batch may wait."""
        if ttft_seconds is None:
            return max(1, running_limit)
        return max(1, math.floor(TTFT_SHARE * ttft_seconds * self.completion_rate(running_limit) - 1))

    def shed_fraction(
        self,
        replicas: int,
        arrival_rate: float,
        *,
        running_limit: int,
        queue_limit: int,
        balancer: Balancer,
    ) -> float:
        """Return the blocking of the chain with c* + q places per replica (per pool that acts as one)."""
        shared = pooling(balancer, Arrivals.POISSON, replicas).shared_replicas
        rate = arrival_rate * shared / replicas
        limit = max(1, math.floor(min(running_limit, self.concurrency_limit)))
        completion = self._completion[: limit + 1]
        return blocking(
            rate,
            lambda running: np.interp(running, np.arange(completion.size), completion),
            replicas=shared,
            limit=limit,
            places=shared * (running_limit + queue_limit),
        )

    def pool(
        self,
        replicas: int,
        arrival_rate: float,
        *,
        balancer: Balancer,
        arrivals: Arrivals = Arrivals.POISSON,
        running_limit: int | None = None,
        queue_limit: int | None = None,
    ) -> PoolPrediction:
        """Return latencies of `replicas` replicas at `arrival_rate` (1/s, whole pool), by replay: 0.3 s.

        Without `queue_limit` nothing is shed, and a pool at or beyond saturation has no steady state:
        its times are infinite. With it the percentiles are of the admitted.
        """
        state = self._state(replicas, arrival_rate, balancer, arrivals, running_limit, queue_limit)
        if state.chain is None:
            return _unbounded(state)
        sample = self._replay(
            state.chain,
            replicas,
            arrival_rate / replicas,
            balancer,
            arrivals,
            running_limit=running_limit,
            queue_limit=queue_limit,
            requests=REQUESTS,
        )
        return _predicted(state, state.chain, sample)

    def quick_pool(
        self,
        replicas: int,
        arrival_rate: float,
        *,
        balancer: Balancer,
        arrivals: Arrivals = Arrivals.POISSON,
        running_limit: int | None = None,
        queue_limit: int | None = None,
    ) -> PoolPrediction:
        """Return what `pool` returns, from chain and gated cycle: 10 ms, good to a few percent.

        Where those are not (see `formulas_hold`), by a short replay: 0.1 s, good to 5 to 10 %.
        """
        state = self._state(replicas, arrival_rate, balancer, arrivals, running_limit, queue_limit)
        if state.chain is None:
            return _unbounded(state)
        rate = arrival_rate / replicas
        if not self.formulas_hold:
            sample = self._replay(
                state.chain,
                replicas,
                rate,
                balancer,
                arrivals,
                running_limit=running_limit,
                queue_limit=queue_limit,
                requests=QUICK_REQUESTS,
            )
            return _predicted(state, state.chain, sample)
        sample = sample_requests(
            self.fluid,
            state.chain,
            self._completion[: math.floor(state.chain.limit) + 1],
            rate=rate * (1 - state.shed),
            pooling=pooling(balancer, arrivals, replicas),
            random=np.random.default_rng(_SEED),
        )
        return _predicted(state, state.chain, sample)

    @property
    def formulas_hold(self) -> bool:
        """Whether chain and gated cycle describe this engine and shape.

        They take the running sequences as given while prompts come and go, and KV room as an average.
        With prompts taking two thirds of a full replica's time TPOT was 40 % short; with KV room for
        fewer than 64 sequences p95 TTFT was 60 % short at 80 % of saturation.
        """
        prompts = self.saturation_rate_per_second * self.fluid.further_prompt_seconds
        kv_binds = self.kv_concurrency <= self.concurrency_limit
        return prompts < PROMPTS_DOMINATE and not (kv_binds and self.kv_concurrency < FEW_KV_SLOTS)

    def _replay(
        self,
        chain: NumberInService,
        replicas: int,
        rate: float,
        balancer: Balancer,
        arrivals: Arrivals,
        *,
        running_limit: int | None,
        queue_limit: int | None,
        requests: int,
    ) -> RequestSample:
        return replay_pool(
            self.profile,
            self.shape,
            chain,
            replicas=replicas,
            rate=rate,
            balancer=balancer,
            arrivals=arrivals,
            running_limit=running_limit,
            queue_limit=queue_limit,
            requests=requests,
            random=np.random.default_rng(_SEED),
        )

    def _state(
        self,
        replicas: int,
        arrival_rate: float,
        balancer: Balancer,
        arrivals: Arrivals,
        running_limit: int | None,
        queue_limit: int | None,
    ) -> _PoolState:
        if replicas < 1 or not 0 < arrival_rate < math.inf:
            raise InvalidParameter(
                "replicas, arrival_rate", f"must be >= 1 and > 0, got {replicas}, {arrival_rate!r}"
            )
        limit = (
            self.concurrency_limit if running_limit is None else min(running_limit, self.concurrency_limit)
        )
        rate = arrival_rate / replicas
        utilization = rate / self.saturation_rate_per_second
        shares = pooling(balancer, arrivals, replicas)
        pooled = min(shares.shared_replicas, _LARGEST_CHAIN, max(1.0, _MOST_RUNNING / limit))
        spread = pooled / self._dispersion(rate, shares)
        if queue_limit is None:
            if rate >= self.completion_rate(limit):
                return _PoolState(None, utilization, 0.0, limit)
            return _PoolState(self._chain(rate * spread, spread, limit, None), utilization, 0.0, limit)
        shed = self.shed_fraction(
            replicas,
            arrival_rate,
            running_limit=math.floor(limit),
            queue_limit=queue_limit,
            balancer=balancer,
        )
        places = math.floor(spread * (limit + queue_limit))
        return _PoolState(self._chain(rate * spread, spread, limit, places), utilization, shed, limit)

    def _chain(self, rate: float, replicas: float, limit: float, places: int | None) -> NumberInService:
        whole = max(1, math.floor(limit))
        completion = self._completion[: whole + 1]
        return number_in_service(rate, completion, replicas=replicas, limit=whole, places=places)

    def _dispersion(self, rate: float, shares: Pooling) -> float:
        """Return Var[number in service] against a chain with Poisson arrivals."""
        steps = np.sort(self.shape.output_lengths) - 1.0
        ranks = 2.0 * (steps.size - np.arange(steps.size)) - 1.0
        share = float(steps @ ranks) / (steps.size * max(steps.sum(), 1e-9))  # E[min(o, o')]/E[o]
        mean, variance = self.fluid.prompt_seconds
        stalled = min(rate * mean, 0.95)
        births = (shares.count_scv + rate * rate * variance) / (1 - stalled) ** 2
        # What comes while one replica is stalled goes to others where the balancer sees it.
        births = shares.count_scv + (births - shares.count_scv) / shares.shared_replicas
        return float(max(0.02, (1 - stalled) * (share * births + 1 - share)))


@dataclass(frozen=True, slots=True)
class _PoolState:
    """The number in service of a pool (None: it grows without bound) and what is turned away."""

    chain: NumberInService | None
    utilization: float
    shed: float
    limit: float


def _unbounded(state: _PoolState) -> PoolPrediction:
    endless = Distribution.unbounded()
    return PoolPrediction(endless, state.utilization, state.shed, state.limit, endless, endless)


def _predicted(state: _PoolState, chain: NumberInService, sample: RequestSample) -> PoolPrediction:
    return PoolPrediction(
        latency=Distribution.of_samples(sample.latency),
        utilization=state.utilization,
        shed_fraction=state.shed,
        running_mean=chain.running_mean,
        ttft=Distribution.of_samples(sample.ttft),
        tpot=Distribution.of_samples(sample.tpot) if sample.tpot.size else None,
    )
