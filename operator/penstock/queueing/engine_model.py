"""What every model of a serving engine answers, whether it generates tokens or answers whole requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from penstock.queueing.balancer import Arrivals, Balancer
from penstock.queueing.distribution import Distribution


@dataclass(frozen=True, slots=True)
class PoolPrediction:
    """Steady state of a pool. Latencies are of admitted requests; TPOT is per request.

    `ttft` and `tpot` are None for request/response services. `utilization` is arrival rate over
    saturation rate of the pool (above 1 the pool is unstable unless it sheds).
    """

    latency: Distribution
    utilization: float
    shed_fraction: float
    running_mean: float  # sequences being served, per replica
    ttft: Distribution | None = None
    tpot: Distribution | None = None


class EngineModel(Protocol):
    """One replica of an engine under a traffic shape, and pools of it."""

    @property
    def saturation_rate_per_second(self) -> float:
        """Highest throughput of one replica, requests per second."""

    @property
    def kv_concurrency(self) -> float | None:
        """Sequences for which KV memory has room; None where there is no such memory."""

    def completion_rate(self, running: float) -> float:
        """Return the completions per second of one replica that serves `running` requests."""

    def tpot_within(self, latency_seconds: float, percentile: float) -> float:
        """Return the TPOT (s) at which this percentile (0..1) of the requests decode within the latency.

        inf where no tokens follow the first.
        """

    def wait_within(self, latency_seconds: float, percentile: float, running: int) -> float:
        """Return what of a latency is left to wait (s) for this percentile of requests beside `running`."""

    def running_limit(self, tpot_p95_seconds: float | None) -> int:
        """Return c*: how many requests a replica may serve at once within the TPOT objective."""

    def queue_limit(self, running_limit: int, ttft_seconds: float | None) -> int:
        """Return q: how many requests may wait per replica within the TTFT objective."""

    def shed_fraction(
        self,
        replicas: int,
        arrival_rate: float,
        *,
        running_limit: int,
        queue_limit: int,
        balancer: Balancer,
    ) -> float:
        """Return the share of offered requests that limits of c* + q per replica turn away."""

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
        """Return latencies and load of `replicas` replicas at `arrival_rate` (1/s, whole pool)."""

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
        """Return what `pool` returns in a tenth of its time, less exactly: for searches and tables."""
