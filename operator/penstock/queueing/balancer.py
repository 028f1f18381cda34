"""How a pool's requests are spread over its replicas and how they arrive: inputs of every pooled model.

Pooling is only as good as the balancer: with kube-proxy (`RANDOM`) N replicas are N separate queues,
with a full least-requests scan they behave nearly as one. Measured p95 TTFT of 16 replicas at 90 % of
saturation: random 275 ms, power of two 234, least requests 187, round robin 166.
"""

from __future__ import annotations

from enum import StrEnum


class Balancer(StrEnum):
    """How requests are spread over replicas; an input of the model (kube-proxy is Random)."""

    RANDOM = "Random"
    ROUND_ROBIN = "RoundRobin"
    POWER_OF_TWO = "PowerOfTwo"
    LEAST_REQUESTS = "LeastRequests"


class Arrivals(StrEnum):
    """The arrival process of the whole pool."""

    POISSON = "poisson"
    CONSTANT = "constant"  # evenly spaced, as load generators send them


def replica_interarrival_scv(balancer: Balancer, arrivals: Arrivals, replicas: int) -> float:
    """Return the squared coefficient of variation of the gaps between one replica's arrivals.

    Every N-th of a Poisson stream is Erlang-N (scv 1/N); a random 1/N thinning of an even stream has
    scv 1 - 1/N. The two load-aware balancers are treated in `pooling`; here they count as Poisson.
    """
    if balancer is Balancer.ROUND_ROBIN or replicas == 1:
        return 1.0 / replicas if arrivals is Arrivals.POISSON else 0.0
    return 1.0 if arrivals is Arrivals.POISSON else 1.0 - 1.0 / replicas
