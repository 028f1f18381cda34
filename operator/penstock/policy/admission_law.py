"""What admission does to a pool: c* and q of one replica, and the share that they turn away.

    load a = lambda / (N mu(c*));   shed = 1 - carried(a)/a,   carried(a) = a (1 - p_K(a)),   K = N (c* + q)

`carried` rises smoothly from a to 1, so a few solved chains interpolate it within 0.2 points of shed
where the shed fraction itself bends too sharply near a = 1. Solved with the capacity table, read at
every tick: 10,000 services must not each solve a chain of thousands of states.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

import numpy as np

from penstock.policy.count_grid import bracket
from penstock.queueing.balancer import Balancer
from penstock.queueing.engine_model import EngineModel

_LOADS = (
    0.0,
    0.25,
    0.5,
    0.7,
    0.8,
    0.88,
    0.94,
    0.97,
    0.985,
    1.0,
    1.015,
    1.03,
    1.06,
    1.12,
    1.2,
    1.32,
    1.5,
    1.8,
    2.4,
    4.0,
)
_LIGHT = 0.5  # it and its half are among the loads
_NOTHING = 1e-9  # share


@dataclass(frozen=True, slots=True)
class AdmissionLaw:
    """Limits per replica and what they do; `carried[count][load]` in units of N mu(c*)."""

    running: int  # c*
    queued: int  # q
    completion_rate_per_second: float  # mu(c*) of one replica
    counts: tuple[int, ...]
    carried: tuple[tuple[float, ...], ...]
    loads: tuple[float, ...] = _LOADS

    def shed_ratio(self, replicas: int, rate_per_second: float) -> float:
        """Return the share (0..1) of `rate_per_second` that `replicas` with these limits turn away.

        None that is ready counts as one: that is whose limit is in force then.
        """
        replicas = max(1, replicas)
        load = rate_per_second / (replicas * self.completion_rate_per_second)
        if load >= _LIGHT:
            return self._shed_at(load, replicas)
        # There blocking is nearly a power of the load, which bends too much for lines: a replica with
        # c* = q = 1 sheds 1 of 7 at half its load, 1 of 16 at 0.3.
        light = self._shed_at(_LIGHT, replicas)
        if light <= _NOTHING or load <= 0:
            return 0.0
        lighter = max(self._shed_at(_LIGHT / 2, replicas), _NOTHING * light)
        return light * float((load / _LIGHT) ** math.log2(light / lighter))

    def _shed_at(self, load: float, replicas: int) -> float:
        if load >= self.loads[-1]:
            return 1 - self.carried[-1][-1] / load
        k = bisect.bisect_right(self.loads, load) - 1
        share = (load - self.loads[k]) / (self.loads[k + 1] - self.loads[k])
        below, above, weight = bracket(self.counts, replicas)
        low = self.carried[below]
        carried = low[k] + share * (low[k + 1] - low[k])
        if weight:
            high = self.carried[above]
            carried += weight * (high[k] + share * (high[k + 1] - high[k]) - carried)
        return max(0.0, 1 - carried / load)


def queue_per_endpoint(queued: int) -> int:
    """Return how many may wait per replica where each endpoint has a queue of its own, as in Envoy.

    A proxy's balancer counts requests that run, not those that wait: among full endpoints the choice is
    random, and the longest queues hold q' + 1.65 sqrt(q') where q' do on average. That must not exceed
    q. At 3 times the load of 8 replicas q = 9 kept 76 % of the best goodput, q' = 5 keeps 89 %; at full
    size q = 3 kept 92 %, q' = 1 keeps 99 % (tests/bench/dataplane.py simulated).
    """
    root = (math.sqrt(1.65**2 + 4 * queued) - 1.65) / 2  # of q' + 1.65 sqrt(q') = q
    return max(1, math.floor(root * root + 1e-9))


def admission_law(
    model: EngineModel, *, running: int, queued: int, counts: tuple[int, ...], balancer: Balancer
) -> AdmissionLaw:
    """Solve the chains of `counts` replicas (ascending, from 1) with these limits per replica."""
    completion = model.completion_rate(running)
    # Separate queues, which a random split leaves, shed alike whatever their number.
    counts = (1,) if balancer in (Balancer.RANDOM, Balancer.ROUND_ROBIN) else counts

    def carried(count: int, load: float) -> float:
        if load == 0:
            return 0.0
        shed = model.shed_fraction(
            count,
            load * count * completion,
            running_limit=running,
            queue_limit=queued,
            balancer=balancer,
        )
        return load * (1 - shed)

    rows = np.array([[carried(count, load) for load in _LOADS] for count in counts])
    rows = np.maximum.accumulate(np.maximum.accumulate(rows, axis=1), axis=0)
    return AdmissionLaw(running, queued, completion, counts, tuple(tuple(row) for row in rows.tolist()))
