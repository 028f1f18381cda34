"""What a balancer does to the load of one replica: shared fluctuations, and regular or bursty gaps.

Two scales matter. Over seconds, the number of sequences in service: `RANDOM` and `ROUND_ROBIN` leave
each replica its own chain, the load-aware balancers make one chain of all. Over one step
(milliseconds), how regular one replica's arrivals are: Gamma gaps of shape k, so that prompts collide
in a step less often. k = 1 for a random split and N for round robin; for the load-aware balancers
counts change only when steps end, and k was measured by simulation (tests/queueing_engine).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from penstock.queueing.balancer import Arrivals, Balancer, replica_interarrival_scv


@dataclass(frozen=True, slots=True)
class Pooling:
    """`shared_replicas` behave as one chain; one replica's gaps have shape `gap_shape` within a step.

    `count_scv` is the variance over mean of arrival counts over many steps, of the chain's stream.
    """

    shared_replicas: int
    count_scv: float
    gap_shape: float


def pooling(balancer: Balancer, arrivals: Arrivals, replicas: int) -> Pooling:
    """Return how `replicas` replicas behind a balancer share a stream of arrivals."""
    if replicas == 1 or balancer in (Balancer.RANDOM, Balancer.ROUND_ROBIN):
        scv = replica_interarrival_scv(balancer, arrivals, replicas)
        return Pooling(1, scv, 1 / scv if scv else math.inf)
    scv = 1.0 if arrivals is Arrivals.POISSON else 0.0
    if balancer is Balancer.POWER_OF_TWO:
        return Pooling(replicas, scv, 1.5)
    return Pooling(replicas, scv, math.sqrt(replicas) * (1.0 if scv else 2.0))
