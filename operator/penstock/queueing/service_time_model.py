"""A replica of a request/response service: `concurrency` servers with a measured service time.

    P(W > 0) = Erlang C,   E[W] = E[W of M/M/m] (ca2 + cs2)/2      (Allen & Cunneen)
    Var[W | W > 0]: Whitt 1993, from the first three moments of a Gamma service time

m servers pooled by the balancer. With batching a server takes up to `max_batch` waiting requests at
once; T(b) = mean x (1 + (ratio - 1)(b - 1)/(max_batch - 1)). The batch in force is what arrives during
one service, so its forming costs (b - 1)/(2 rate): the batching tax with b instead of max_batch, which
a server that never waits for a full batch does not pay.
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
from penstock.queueing.number_in_service import number_in_service

_Z95 = 1.645
_SIDE = 160  # of the lattice of (wait, service) quantiles
_LARGEST_POOL = 4096  # servers in one Erlang C; larger pools wait no longer


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

    def running_limit(self, tpot_p95_seconds: float | None) -> int:
        """Return what can run at once: servers x batch (there is no TPOT to limit it)."""
        del tpot_p95_seconds
        return self.concurrency * self.max_batch

    def queue_limit(self, running_limit: int, ttft_seconds: float | None) -> int:
        """Return how many may wait per replica, so that the last in a full queue keeps `ttft_seconds`.

        n services take n + 1.645 sqrt(n scv) mean times in 95 of 100 cases.
        """
        if ttft_seconds is None:
            return max(1, running_limit)
        room = max(0.0, ttft_seconds - self.batch_seconds(self.max_batch)) * self.completion_rate(
            running_limit
        )
        spread = _Z95 * math.sqrt(self.scv)
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
        """Return the blocking of the chain with room for limit + queue per replica."""
        shared, _ = self._shared(replicas, balancer, Arrivals.POISSON, 1.0)
        # Regular service fills a queue less: q places are worth those of M/M/c/K times this (Kimura 1996).
        rho = min(1.0, arrival_rate / (replicas * self.saturation_rate_per_second))
        worth = 2 / (2 + math.sqrt(rho) * (self.scv - 1))
        running = np.arange(running_limit + 1.0)
        return number_in_service(
            arrival_rate * shared / replicas,
            np.array([self.completion_rate(n) for n in running]),
            replicas=float(shared),
            limit=float(running_limit),
            places=round(shared * (running_limit + queue_limit * worth)),
        ).blocking

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
        rate = arrival_rate * (1 - shed) / replicas
        if rate >= self.saturation_rate_per_second * (1 - 1e-9):
            return PoolPrediction(Distribution.unbounded(), utilization, shed, float(limit))
        batch = self._batch(rate)
        service = self.batch_seconds(batch)
        shared, gap_scv = self._shared(replicas, balancer, arrivals, utilization * (1 - shed))
        servers = min(shared * self.concurrency, _LARGEST_POOL)
        load = servers * rate * service / (batch * self.concurrency)
        wait = self._wait_quantiles(servers, load, service, gap_scv / batch)
        latency = self._latency(wait, service, forming=(batch - 1) / rate)
        return PoolPrediction(latency, utilization, shed, min(rate * service, limit))

    quick_pool = pool

    def _batch(self, rate: float) -> float:
        """Return b = what arrives at a server during its service of b, at least 1."""
        per_server = rate / self.concurrency
        if per_server * self.mean_seconds <= 1 or self.max_batch == 1:
            return 1.0
        growth = self.mean_seconds * (self.batch_scaling_ratio - 1) / (self.max_batch - 1)
        balance = per_server * (self.mean_seconds - growth) / max(1 - per_server * growth, 1e-12)
        return (
            min(max(balance, 1.0), float(self.max_batch))
            if per_server * growth < 1
            else float(self.max_batch)
        )

    def _shared(
        self, replicas: int, balancer: Balancer, arrivals: Arrivals, utilization: float
    ) -> tuple[int, float]:
        """Return how many replicas act as one queue, and the SCV of that queue's gaps."""
        even = arrivals is Arrivals.CONSTANT
        if balancer is Balancer.LEAST_REQUESTS:
            return replicas, 0.0 if even else 1.0
        if balancer is Balancer.POWER_OF_TWO:
            # The supermarket model's mean wait (Mitzenmacher 2001) at .5/.7/.9 is that of
            # 2.3/2.8/5 pooled servers.
            group = min(replicas, max(2, round(1.0 / max(1 - utilization, 1e-3) ** 0.7)))
            return group, 1.0 - group / replicas if even else 1.0
        return 1, replica_interarrival_scv(balancer, arrivals, replicas)

    def _wait_quantiles(self, servers: int, load: float, service: float, gap_scv: float) -> FloatArray:
        rho = load / servers
        delayed = float(erlang_c(servers, load))
        mean = delayed * service / (servers - load) * (gap_scv + self.scv) / 2
        levels = (np.arange(_SIDE) + 0.5) / _SIDE
        if mean <= 0 or delayed <= 0:
            return np.zeros(_SIDE)
        third = (1 + self.scv) * (1 + 2 * self.scv)  # E[S^3]/E[S]^3 of a Gamma law
        residual_scv = 4 * third / (3 * (1 + self.scv) ** 2) - 1
        # Given a wait, M/G/1 waits a geometric number of residual services: scv = rho + (1-rho) x.
        scv = max(1e-3, rho + (1 - rho) * residual_scv)
        given = np.clip((levels - (1 - delayed)) / delayed, 0.0, 1.0)
        waits = special.gammaincinv(1 / scv, given) * scv * mean / delayed
        return np.asarray(np.where(given > 0, waits, 0.0))

    def _latency(self, wait: FloatArray, service: float, forming: float) -> Distribution:
        levels = (np.arange(_SIDE) + 0.5) / _SIDE
        times = np.full(_SIDE, service)
        if self.scv > 0:
            times = special.gammaincinv(1 / self.scv, levels) * self.scv * service
        total = np.add.outer(wait, times)
        if forming > 0:
            # Where in the forming batch a request comes is even over 0..forming.
            spread = np.tile((np.arange(16) + 0.5) / 16, total.size // 16).reshape(total.shape)
            total = total + forming * spread
        return Distribution.of_samples(total)
