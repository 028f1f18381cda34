"""What a balancer does to the load of one replica: shared fluctuations, and arrivals that avoid each other.

Two scales matter. Over seconds, the number of sequences in service: `RANDOM` and `ROUND_ROBIN` leave
each replica its own chain, the load-aware balancers make one chain of all. Over one step
(milliseconds), how prompts collide in a step, and when in a step they come:

* round robin of a Poisson stream gives Erlang-N gaps;
* a load-aware balancer sends the next request elsewhere until something ends here: for a mean gap
  after an arrival the replica gets only `early_hazard` of its rate, and `crowding` of that for each
  arrival that came early all the same (simulated, 2 to 64 replicas, 30 to 90 % of saturation);
* with least requests a replica becomes the shortest when a step ends, and of N replicas about
  N/4 + 3/4 are tied: the place is filled after u = (N/4 + 3/4)/(N x) steps (x prompts a step), so
  arrivals come early in a step and wait for more of it (phase 0.35 instead of 0.5 at N = 16, 90 %).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.queueing.balancer import Arrivals, Balancer, replica_interarrival_scv
from penstock.queueing.domain import FloatArray


@dataclass(frozen=True, slots=True)
class Pooling:
    """How one replica of a pool gets its share of the arrivals."""

    shared_replicas: int  # that behave as one chain
    count_scv: float  # variance over mean of the chain's arrivals, over many steps
    gap_shape: float = 1.0  # of Gamma gaps between one replica's arrivals; inf: evenly spaced
    early_hazard: float = 1.0  # share of the rate for one mean gap after an arrival
    crowding: float = 1.0  # what is left of that after an arrival that came early
    avoids_long_steps: float = 0.0  # share of the later arrivals that a long step keeps away
    fills_shortest: float = 0.0  # ties among the shortest queues over N; 0: phases are uniform

    @property
    def own_share(self) -> float:
        """How much fuller a request finds its replica because it is there itself."""
        return self.count_scv if self.shared_replicas == 1 else 1.0 / self.shared_replicas

    @property
    def gap_scv(self) -> float:
        """Variance over mean of one replica's arrivals, over a few steps."""
        return self.early_hazard / self.gap_shape

    def held_back(
        self, rate: float, gaps: FloatArray, random: np.random.Generator
    ) -> NDArray[np.bool_] | None:
        """Return which arrivals a long step keeps away (mask of the shape of `gaps`); None: none."""
        if not self.avoids_long_steps:
            return None
        return (gaps * rate > 1) & (random.random(gaps.shape) < self.avoids_long_steps)

    def early_phase(self, prompts_per_step: float) -> float:
        """Return by how much (0..1) arrivals are drawn to the beginning of a step."""
        if not self.fills_shortest or prompts_per_step <= 0:
            return 0.0
        u = self.fills_shortest / prompts_per_step
        if u > 50:
            return 0.0
        mean_phase = u - 1 / math.expm1(1 / u)
        return max(0.0, 1 - 2 * mean_phase) * (1 - 1 / self.shared_replicas)

    def gaps(self, rate: float, lanes: int, count: int, random: np.random.Generator) -> FloatArray:
        """Return `count` gaps (s) between the arrivals of each of `lanes` replicas that get `rate` (1/s)."""
        if math.isinf(self.gap_shape):
            gaps = np.full((lanes, count), 1 / rate)
            gaps[:, 0] *= random.random(lanes)
            return gaps
        if self.gap_shape != 1:
            return random.gamma(self.gap_shape, 1 / (self.gap_shape * rate), (lanes, count))
        draws = random.standard_exponential((lanes, count))
        if self.early_hazard == 1:
            return np.asarray(draws / rate)
        early = np.full(lanes, self.early_hazard)
        for j in range(count):
            late = np.exp(-early) / (1 + np.expm1(-early) / early)  # keeps the mean
            draw = draws[:, j]
            gap = np.where(draw < early, draw / early, 1 + (draw - early) / late)
            early = np.where(gap < 1, np.maximum(early * self.crowding, 0.01), self.early_hazard)
            draws[:, j] = gap
        return np.asarray(draws / rate)


def pooling(balancer: Balancer, arrivals: Arrivals, replicas: int) -> Pooling:
    """Return how `replicas` replicas behind a balancer share a stream of arrivals."""
    if replicas == 1 or balancer in (Balancer.RANDOM, Balancer.ROUND_ROBIN):
        scv = replica_interarrival_scv(balancer, arrivals, replicas)
        return Pooling(1, scv, gap_shape=1 / scv if scv else math.inf)
    count_scv, steadier = (1.0, 1.0) if arrivals is Arrivals.POISSON else (0.0, 1 - 1 / replicas)
    if balancer is Balancer.POWER_OF_TWO:
        return Pooling(replicas, count_scv, early_hazard=0.85 * steadier, crowding=0.9)
    early = (0.5 + 0.5 / replicas**0.75) * steadier
    crowding = 0.4 + 0.6 / replicas
    ties = 0.25 + 0.75 / replicas
    return Pooling(
        replicas,
        count_scv,
        early_hazard=early,
        crowding=crowding,
        avoids_long_steps=0.24 * max(0.0, 1 - 2.6 / replicas),
        fills_shortest=ties,
    )
