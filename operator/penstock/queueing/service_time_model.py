"""A replica of a request/response service: `concurrency` servers with a measured service time.

    P(W > 0) = Erlang C,   E[W] = E[W of M/M/c] (ca2 + cs2)/2      (Allen & Cunneen)

with the corrections of Kraemer & Langenbach-Belz for arrivals more regular than Poisson, and the
variance of a wait from three moments of a Gamma service time (Whitt 1993). That is for replicas that
are alone with their arrivals; pools behind a load-aware balancer and batching are replayed.
With batching T(b) = mean x (1 + (ratio - 1)(b - 1)/(max_batch - 1)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from penstock.queueing.balancer import Arrivals, Balancer, replica_interarrival_scv
from penstock.queueing.distribution import Distribution
from penstock.queueing.domain import FloatArray, non_negative, positive, whole_number
from penstock.queueing.engine_model import PoolPrediction
from penstock.queueing.erlang import erlang_c
from penstock.queueing.errors import InvalidParameter
from penstock.queueing.number_in_service import blocking
from penstock.queueing.request_replay import measured_requests, replay_requests

_Z95 = 1.645
_EVEN = 1e-6  # an SCV below is that of a constant
_SIDE = 160  # of the lattice of (wait, service) quantiles
REQUESTS, QUICK_REQUESTS = 150_000, 10_000  # replayed
_SHED_REQUESTS = 30_000  # 0.5 % turned away are good to 0.3 points
# What a queue has to forget grows with 1 + scv: at SCV 100 10,000 requests asked for 2 replicas where 3 are
# needed (p99 33 s instead of 8 s), and a lucky count passes its luck on to all larger ones.
_QUICK_SCV = 4.0
_SEED = 20_231_116


@dataclass(frozen=True, slots=True)
class RequestModel:
    """Service time of one request alone (s), its SCV, and how many run at once per replica."""

    mean_seconds: float
    scv: float = 1.0
    concurrency: int = 1
    max_batch: int = 1
    batch_scaling_ratio: float = 1.0  # time of a full batch / time of a batch of one

    def __post_init__(self) -> None:
        positive("mean_seconds", self.mean_seconds)
        non_negative("scv", self.scv)
        whole_number("concurrency", self.concurrency)
        whole_number("max_batch", self.max_batch)
        if not self.batch_scaling_ratio >= 1:
            raise InvalidParameter("batch_scaling_ratio", f"must be >= 1, got {self.batch_scaling_ratio!r}")

    @property
    def saturation_rate_per_second(self) -> float:
        """Highest throughput of one replica: every server runs full batches."""
        return self.concurrency * self.max_batch / self.batch_seconds(self.max_batch)

    @property
    def kv_concurrency(self) -> float | None:
        """None: nothing is cached between tokens."""
        return None

    def batch_seconds(self, batch: float) -> float:
        """Return the mean service time of a batch of `batch` requests."""
        if self.max_batch == 1:
            return self.mean_seconds
        growth = (self.batch_scaling_ratio - 1) / (self.max_batch - 1)
        return self.mean_seconds * (1 + growth * (batch - 1))

    def completion_rate(self, running: float) -> float:
        """Return the completions per second while `running` requests are being served."""
        batch = min(max(running / self.concurrency, 1.0), float(self.max_batch))
        return min(running, self.concurrency * self.max_batch) / self.batch_seconds(batch)

    def _completion_rates(self, running: FloatArray) -> FloatArray:
        growth = self.batch_seconds(2) / self.mean_seconds - 1 if self.max_batch > 1 else 0.0
        batch = np.clip(running / self.concurrency, 1.0, float(self.max_batch))
        served = np.minimum(running, float(self.concurrency * self.max_batch))
        return np.asarray(served / (self.mean_seconds * (1 + growth * (batch - 1))))

    def tpot_within(self, latency_seconds: float, percentile: float) -> float:
        """Return inf: there are no tokens."""
        del latency_seconds, percentile
        return math.inf

    def wait_within(self, latency_seconds: float, percentile: float, running: int) -> float:
        """Return the whole latency: `queue_limit` leaves room for the service."""
        del percentile, running
        return latency_seconds

    def running_limit(self, tpot_p95_seconds: float | None) -> int:
        """Return what can run at once: servers x batch (there is no TPOT to limit it)."""
        del tpot_p95_seconds
        return self.concurrency * self.max_batch

    def queue_limit(self, running_limit: int, ttft_seconds: float | None) -> int:
        """Return how many may wait per replica, so that the last in a full queue keeps `ttft_seconds`.

        n services take n + 1.645 sqrt(n scv) mean times in 95 of 100 cases; requests of a batch share one, so
        n of them vary as n/batch services do. By single requests p95 of 500 ms was 700 ms in an overload.
        """
        if ttft_seconds is None:
            return max(1, running_limit)
        room = max(0.0, ttft_seconds - self.batch_seconds(self.max_batch)) * self.completion_rate(
            running_limit
        )
        spread = _Z95 * math.sqrt(self.scv * self.max_batch)
        return max(1, math.floor(((math.sqrt(spread**2 + 4 * room) - spread) / 2) ** 2))

    def shed_fraction(
        self,
        replicas: int,
        arrival_rate: float,
        *,
        running_limit: int,
        queue_limit: int,
        balancer: Balancer,
    ) -> float:
        """Return the blocking of the chain with room for limit + queue per replica; with batches, by replay.

        There places come free by the batch: at 95 % of saturation 13.5 % were shed where a chain says 3.4 %.
        """
        if self.max_batch > 1:
            answered = self._replayed(
                1 if balancer is Balancer.RANDOM else replicas,  # alone with its share, whatever their number
                arrival_rate / replicas,
                balancer,
                Arrivals.POISSON,
                running_limit + queue_limit - self.concurrency * self.max_batch,
                _SHED_REQUESTS,
            )
            return 1 - answered.size / measured_requests(_SHED_REQUESTS)
        shared = replicas if balancer in (Balancer.LEAST_REQUESTS, Balancer.POWER_OF_TWO) else 1
        # Regular service fills a queue less: q places are worth those of M/M/c/K times this (Kimura 1996).
        rho = min(1.0, arrival_rate / (replicas * self.saturation_rate_per_second))
        worth = 2 / (2 + math.sqrt(rho) * (self.scv - 1))
        return blocking(
            arrival_rate * shared / replicas,
            self._completion_rates,
            replicas=shared,
            limit=running_limit,
            places=shared * (running_limit + queue_limit * worth),
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
        """Return the latency of `replicas` replicas at `arrival_rate` (1/s, whole pool)."""
        return self._pool(replicas, arrival_rate, balancer, arrivals, running_limit, queue_limit, REQUESTS)

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
        """Return what `pool` returns, from fewer requests where it replays any: a fifteenth up to SCV 4."""
        requests = min(REQUESTS, round(QUICK_REQUESTS * max(1.0, (1 + self.scv) / (1 + _QUICK_SCV))))
        return self._pool(replicas, arrival_rate, balancer, arrivals, running_limit, queue_limit, requests)

    def _pool(
        self,
        replicas: int,
        arrival_rate: float,
        balancer: Balancer,
        arrivals: Arrivals,
        running_limit: int | None,
        queue_limit: int | None,
        requests: int,
    ) -> PoolPrediction:
        if replicas < 1 or not 0 < arrival_rate < math.inf:
            raise InvalidParameter(
                "replicas, arrival_rate", f"must be >= 1 and > 0, got {replicas}, {arrival_rate!r}"
            )
        limit = self.running_limit(None) if running_limit is None else running_limit
        utilization = arrival_rate / (replicas * self.saturation_rate_per_second)
        shed = 0.0
        if queue_limit is not None:
            shed = self.shed_fraction(
                replicas, arrival_rate, running_limit=limit, queue_limit=queue_limit, balancer=balancer
            )
        rate = arrival_rate / replicas
        running = min(rate * (1 - shed) * self.mean_seconds, limit)
        if queue_limit is None and utilization >= 1:
            return PoolPrediction(Distribution.unbounded(), utilization, shed, float(limit))
        alone = replicas == 1 or balancer in (Balancer.RANDOM, Balancer.ROUND_ROBIN)
        if alone and self.max_batch == 1 and queue_limit is None:
            gap_scv = replica_interarrival_scv(balancer, arrivals, replicas)
            return PoolPrediction(self._latency_alone(rate, gap_scv), utilization, shed, running)
        latency = self._replayed(replicas, rate, balancer, arrivals, queue_limit, requests)
        return PoolPrediction(Distribution.of_samples(latency), utilization, shed, running)

    def _replayed(
        self,
        replicas: int,
        rate: float,
        balancer: Balancer,
        arrivals: Arrivals,
        queue_limit: int | None,
        requests: int,
    ) -> FloatArray:
        return replay_requests(
            self.batch_seconds,
            scv=self.scv,
            concurrency=self.concurrency,
            max_batch=self.max_batch,
            replicas=replicas,
            rate=rate,
            balancer=balancer,
            arrivals=arrivals,
            requests=requests,
            queue_limit=queue_limit,
            random=np.random.default_rng(_SEED),
        )

    def _latency_alone(self, rate: float, gap_scv: float) -> Distribution:
        """Return wait + service of one GI/G/c replica, on a lattice of quantiles of both."""
        levels = (np.arange(_SIDE) + 0.5) / _SIDE
        times = np.full(_SIDE, self.mean_seconds)
        if self.scv > _EVEN:
            # Means of equally likely strata keep the mean exact, where quantiles lose 0.4 %.
            edges = special.gammaincinv(1 / self.scv, np.arange(_SIDE + 1) / _SIDE)
            times = self.mean_seconds * _SIDE * np.diff(special.gammainc(1 / self.scv + 1, edges))
        return Distribution.of_samples(np.add.outer(self._wait_quantiles(rate, gap_scv, levels), times))

    def _wait_quantiles(self, rate: float, gap_scv: float, levels: FloatArray) -> FloatArray:
        load, servers = rate * self.mean_seconds, self.concurrency
        rho = load / servers
        poisson_delayed = float(erlang_c(servers, load))
        variability = gap_scv + self.scv
        if variability <= 0:
            return np.zeros(levels.size)  # even arrivals, even service: nobody waits
        # Kraemer & Langenbach-Belz 1976: arrivals more regular than Poisson wait less often and less.
        regular = max(0.0, 1 - gap_scv)
        less = math.exp(-2 * (1 - rho) * regular**2 / (3 * rho * variability))
        damping = (1 + gap_scv + rho * self.scv) / (
            1 + rho * (self.scv - 1) + rho**2 * (4 * gap_scv + self.scv)
        )
        delayed = poisson_delayed * max(0.01, 1 - regular * (1 - rho) * damping)
        if delayed < 1 / (2 * levels.size):
            return np.zeros(levels.size)  # fewer wait than the last level knows
        mean = poisson_delayed * self.mean_seconds / (servers - load) * variability / 2 * less
        third = (1 + self.scv) * (1 + 2 * self.scv)  # E[S^3]/E[S]^3 of a Gamma law
        residual_scv = 4 * third / (3 * (1 + self.scv) ** 2) - 1
        # Given a wait, M/G/1 waits a geometric number of residual services: scv = rho + (1-rho) x.
        scv = max(1e-3, rho + (1 - rho) * residual_scv)
        given = np.clip((levels - (1 - delayed)) / delayed, 0.0, 1.0)
        waits = special.gammaincinv(1 / scv, given) * scv * mean / delayed
        return np.asarray(np.where(given > 0, waits, 0.0))
