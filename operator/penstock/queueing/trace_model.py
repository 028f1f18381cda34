"""A replica under the requests of a trace: every question is answered by replaying its busiest minute.

Same interface as `ReplicaModel`, so that sizing is the same code. The window's requests count; those
before it fill the engines and those after it keep them busy. A rate other than the window's own
stretches time and keeps bursts and their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penstock.queueing.balancer import Arrivals, Balancer
from penstock.queueing.distribution import Distribution
from penstock.queueing.domain import FloatArray
from penstock.queueing.engine_model import PoolPrediction
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.errors import InvalidParameter
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.traffic import TrafficShape
from penstock.queueing.twin import Replay, replay

WINDOW_SECONDS = 60.0
# A conversation's request lives 5 to 20 s: enough before the window to fill the engines.
_BEFORE_SECONDS = 120.0
_AFTER_SECONDS = 60.0
_REPLAYS = 4  # with other random choices of the balancer
_SEED = 20_231_116


@dataclass(frozen=True, slots=True, eq=False)
class TraceModel:
    """`base` has the window's lengths; the arrays are requests from before the window to after it."""

    base: ReplicaModel
    arrivals: FloatArray
    inputs: FloatArray
    outputs: FloatArray
    counted: slice  # the window's requests
    rate_per_second: float

    @classmethod
    def busiest(
        cls,
        profile: EngineProfile,
        arrivals_seconds: Sequence[float] | FloatArray,
        input_tokens: Sequence[float] | FloatArray,
        output_tokens: Sequence[float] | FloatArray,
        window_seconds: float = WINDOW_SECONDS,
    ) -> TraceModel:
        """Return the model of the `window_seconds` with most requests; of a shorter trace all of it.

        Arrivals ascending (s), lengths in tokens. Raises InvalidParameter where there is no rate.
        """
        times, inputs, outputs = (
            np.asarray(each, dtype=np.float64) for each in (arrivals_seconds, input_tokens, output_tokens)
        )
        if times.size < 2 or not times.size == inputs.size == outputs.size or times[-1] <= times[0]:
            raise InvalidParameter("arrivals_seconds", "must hold two instants or more, with lengths each")
        if (np.diff(times) < 0).any():
            raise InvalidParameter("arrivals_seconds", "must be sorted")
        span = times[-1] - times[0]
        ends = np.searchsorted(times, times + window_seconds, side="left")
        first = int(np.argmax(ends - np.arange(times.size)))
        last = int(ends[first])
        # n arrivals over the span of n - 1 gaps: the rate of a short trace is that of its gaps.
        length = window_seconds if span >= window_seconds else span * times.size / (times.size - 1)
        low = int(np.searchsorted(times, times[first] - _BEFORE_SECONDS))
        high = int(np.searchsorted(times, times[first] + length + _AFTER_SECONDS))
        shape = TrafficShape.from_lengths(inputs[first:last], outputs[first:last])
        return cls(
            base=ReplicaModel(profile, shape),
            arrivals=times[low:high] - times[low],
            inputs=inputs[low:high],
            outputs=outputs[low:high],
            counted=slice(first - low, last - low),
            rate_per_second=(last - first) / length,
        )

    @property
    def saturation_rate_per_second(self) -> float:
        """Highest throughput of one replica with the window's lengths."""
        return self.base.saturation_rate_per_second

    @property
    def kv_concurrency(self) -> float | None:
        """Sequences for which KV memory has room on average."""
        return self.base.kv_concurrency

    def completion_rate(self, running: float) -> float:
        """Return mu(n) with the window's lengths."""
        return self.base.completion_rate(running)

    def tpot_within(self, latency_seconds: float, percentile: float) -> float:
        """Return the TPOT within a latency with the window's lengths."""
        return self.base.tpot_within(latency_seconds, percentile)

    def wait_within(self, latency_seconds: float, percentile: float, running: int) -> float:
        """Return what of a latency is left to wait with the window's lengths."""
        return self.base.wait_within(latency_seconds, percentile, running)

    def running_limit(self, tpot_p95_seconds: float | None) -> int:
        """Return c* with the window's lengths."""
        return self.base.running_limit(tpot_p95_seconds)

    def queue_limit(self, running_limit: int, ttft_seconds: float | None) -> int:
        """Return q with the window's lengths."""
        return self.base.queue_limit(running_limit, ttft_seconds)

    def shed_fraction(
        self,
        replicas: int,
        arrival_rate: float,
        *,
        running_limit: int,
        queue_limit: int,
        balancer: Balancer,
    ) -> float:
        """Return the blocking of the chain at the window's mean rate; bursts shed more for seconds."""
        return self.base.shed_fraction(
            replicas,
            arrival_rate,
            running_limit=running_limit,
            queue_limit=queue_limit,
            balancer=balancer,
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
        """Return the latencies of the window's requests when they come at `arrival_rate` (1/s).

        `arrivals` is the trace's own. Finite also beyond saturation: the window ends.
        """
        del arrivals
        times = self.arrivals * (self.rate_per_second / arrival_rate)
        deterministic = replicas == 1 or balancer is Balancer.ROUND_ROBIN
        runs = [
            replay(
                self.base.profile,
                times,
                self.inputs,
                self.outputs,
                replicas=replicas,
                balancer=balancer,
                random=np.random.default_rng(_SEED + run),
                running_limit=running_limit,
                queue_limit=queue_limit,
            )
            for run in range(1 if deterministic else _REPLAYS)
        ]
        return self._prediction(runs, replicas, arrival_rate)

    quick_pool = pool

    def _prediction(self, runs: list[Replay], replicas: int, rate: float) -> PoolPrediction:
        ttft, tpot, latency = (
            np.concatenate([getattr(run, name)[self.counted] for run in runs])
            for name in ("ttft", "tpot", "latency")
        )
        shed = float(np.isnan(latency).mean())
        if shed == 1:
            raise InvalidParameter("queue_limit", "turns away every request of the window")
        several = tpot[~np.isnan(tpot)]
        return PoolPrediction(
            latency=Distribution.of_samples(latency[~np.isnan(latency)]),
            utilization=rate / (replicas * self.saturation_rate_per_second),
            shed_fraction=shed,
            running_mean=min(
                float(np.mean([run.present_mean for run in runs])), math.floor(self.base.concurrency_limit)
            ),
            ttft=Distribution.of_samples(ttft[~np.isnan(ttft)]),
            tpot=Distribution.of_samples(several) if several.size else None,
        )
