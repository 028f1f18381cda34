"""What an SLO allows: limits per replica, whether a pool breaks it, and whether any count can keep it.

A count is feasible when every latency percentile holds *and* the chain that admits c* running and q
waiting requests per replica sheds no more than 1 - availability. Admission uses the same c*, and the q
that queues of single endpoints keep (`enforced_limits`). Where nothing enforces them nobody is shed:
who waits shows in the latencies (`sized_slo`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from penstock.model.spec import Metric, Objective, Slo
from penstock.policy.admission_law import queue_per_endpoint
from penstock.queueing.balancer import Arrivals, Balancer
from penstock.queueing.distribution import Distribution
from penstock.queueing.engine_model import EngineModel, PoolPrediction
from penstock.queueing.errors import QueueingError

AVAILABILITY, SATURATION, MINIMUM = "availability", "saturation", "minimum"
LOWEST_LOAD = 0.01  # of saturation: what an idle pool gives is the best any count can
# Round robin over so many takes apart even 40 requests of a trace with one time stamp, which a single
# idle replica would serve one behind the other.
_IDLE_REPLICAS = 256


class ObjectiveUnreachable(QueueingError):  # noqa: N818 - named for what it says, like its neighbours
    """No replica count meets `objective` (its name): `best_seconds` is the best there is."""

    def __init__(self, objective: str, target_seconds: float, best_seconds: float, why: str) -> None:
        self.objective = objective
        self.target_seconds = target_seconds
        self.best_seconds = best_seconds
        self.why = why
        super().__init__(
            f"no replica count meets {objective} <= {target_seconds * 1e3:.4g} ms: "
            f"the best is {best_seconds * 1e3:.4g} ms, {why}"
        )

    def __reduce__(self) -> tuple[type, tuple[str, float, float, str]]:
        return type(self), (self.objective, self.target_seconds, self.best_seconds, self.why)


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests per replica: c* (or fewer) running, and how many wait beyond those."""

    running: int
    queue: int


def sized_slo(slo: Slo, *, turns_away: bool) -> Slo:
    """Return what a replica count has to keep: where nobody is turned away, any count keeps availability.

    It stays where no objective bounds the wait: TPOT alone would let a pool be sized to saturation.
    """
    wait_bounded = any(each.metric is not Metric.TPOT for each in slo.objectives)
    return replace(slo, availability_ratio=0.0) if wait_bounded and not turns_away else slo


def admission_limits(model: EngineModel, slo: Slo) -> Limits:
    """Return c* and q per replica from the tightest objectives of `slo`.

    A latency bounds both: the TPOT at which the longest requests that count decode within it, and the wait
    that this leaves. With TTFT and TPOT alone a service of 15 s had c* = 256, and 42 s in an overload.
    """
    whole = [each for each in slo.objectives if each.metric is Metric.LATENCY]
    tpots = [model.tpot_within(each.seconds, each.percentile) for each in whole]
    running = model.running_limit(min((*_seconds(slo, Metric.TPOT), *tpots), default=None))
    waits = [model.wait_within(each.seconds, each.percentile, running) for each in whole]
    return Limits(
        running, model.queue_limit(running, min((*_seconds(slo, Metric.TTFT), *waits), default=None))
    )


def enforced_limits(allowed: Limits, static_in_flight: int | None = None) -> Limits:
    """Return what gateways let in per replica: c* and each endpoint's own queue, or the user's number.

    Sized with q where the gateways kept q' = 1 of q = 3, a pool shed 4.2 % of the 0.5 % that were allowed.
    """
    if static_in_flight is None:
        return Limits(allowed.running, queue_per_endpoint(allowed.queue))
    running = min(allowed.running, static_in_flight)
    return Limits(running, static_in_flight - running)


def require_reachable(model: EngineModel, slo: Slo, *, arrivals: Arrivals = Arrivals.POISSON) -> None:
    """Raise ObjectiveUnreachable for the first objective that even idle replicas break."""
    rate = LOWEST_LOAD * model.saturation_rate_per_second
    idle = model.quick_pool(
        _IDLE_REPLICAS, _IDLE_REPLICAS * rate, balancer=Balancer.ROUND_ROBIN, arrivals=arrivals
    )
    for objective in slo.objectives:
        best = percentile(idle, objective)
        if best is not None and best > objective.seconds:
            raise ObjectiveUnreachable(
                objective.name, objective.seconds, best, "of a replica with nothing else to do"
            )


def percentile(prediction: PoolPrediction, objective: Objective) -> float | None:
    """Return the objective's percentile in seconds; None where the model has no such metric."""
    distribution: Distribution | None = {
        Metric.TTFT: prediction.ttft,
        Metric.TPOT: prediction.tpot,
        Metric.LATENCY: prediction.latency,
    }[objective.metric]
    return None if distribution is None else distribution.quantile(objective.percentile)


def allowed_shed(slo: Slo) -> float:
    """Return the share (0..1) that may be turned away; never zero, which no chain with limits reaches."""
    return max(1 - slo.availability_ratio, 1e-9)


def worst(slo: Slo, prediction: PoolPrediction, shed: float) -> str | None:
    """Return the name of what is broken by the largest factor; None when everything holds."""
    if math.isinf(prediction.latency.mean):
        return SATURATION
    factors = {each.name: (percentile(prediction, each) or 0.0) / each.seconds for each in slo.objectives}
    name = max(factors, key=lambda each: factors[each], default=AVAILABILITY)
    if factors.get(name, 0.0) > 1:
        return name
    return AVAILABILITY if shed > allowed_shed(slo) else None


def excess(slo: Slo, prediction: PoolPrediction) -> float:
    """Return the largest percentile over its objective; inf where the pool is saturated."""
    if math.isinf(prediction.latency.mean):
        return math.inf
    return max(((percentile(prediction, each) or 0.0) / each.seconds for each in slo.objectives), default=0.0)


def shed_by(limits: Limits, model: EngineModel, replicas: int, rate: float, balancer: Balancer) -> float:
    """Return the share (0..1) of `rate` (1/s) that `replicas` with these limits each turn away."""
    return model.shed_fraction(
        replicas, rate, running_limit=limits.running, queue_limit=limits.queue, balancer=balancer
    )


def _seconds(slo: Slo, metric: Metric) -> list[float]:
    return [each.seconds for each in slo.objectives if each.metric is metric]
