"""How many replicas keep every objective: one model, one concurrency limit, one answer.

A count is feasible when every latency percentile holds *and* the chain that admits c* running and q
waiting requests per replica sheds no more than 1 - availability. Admission uses the same c* and q.
What binds is what one replica fewer would break.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from penstock.model.spec import Metric, Objective, Slo
from penstock.queueing.balancer import Arrivals, Balancer
from penstock.queueing.distribution import Distribution
from penstock.queueing.engine_model import EngineModel, PoolPrediction
from penstock.queueing.errors import QueueingError

AVAILABILITY, SATURATION, MINIMUM = "availability", "saturation", "minimum"
LOWEST_LOAD = 0.01  # of saturation: what an idle pool gives is the best any count can
_HALVINGS = 12  # of the bracket in which the highest rate lies: 1/4096 of it


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
    """What admission allows per replica: c* running and q waiting requests."""

    running: int
    queue: int


@dataclass(frozen=True, slots=True)
class Sizing:
    """A replica count and what it gives (`prediction`, without the spare). Rates are per second."""

    replicas: int
    replicas_with_spare: int
    binding: str
    feasible: bool
    prediction: PoolPrediction
    max_rate_per_replica: float
    saturation_rate_per_replica: float
    running_limit: int
    queue_limit: int
    kv_concurrency: float | None
    shed_fraction: float


def admission_limits(model: EngineModel, slo: Slo) -> Limits:
    """Return c* and q per replica from the tightest TPOT and TTFT objectives of `slo`."""
    running = model.running_limit(_tightest(slo, Metric.TPOT))
    first = _tightest(slo, Metric.TTFT)
    if first is None and model.kv_concurrency is None:
        first = _tightest(slo, Metric.LATENCY)
    return Limits(running, model.queue_limit(running, first))


def size(
    model: EngineModel,
    slo: Slo,
    arrival_rate: float,
    *,
    balancer: Balancer,
    arrivals: Arrivals = Arrivals.POISSON,
    spare: int = 0,
    max_replicas: int = 10_000,
) -> Sizing:
    """Return the fewest replicas that keep `slo` at `arrival_rate` (1/s).

    Raises ObjectiveUnreachable for the objective that no count up to `max_replicas` meets.
    """
    require_reachable(model, slo, balancer=balancer, arrivals=arrivals)
    limits = admission_limits(model, slo)

    def broken(count: int) -> str | None:
        prediction, shed = _look(model, limits, count, arrival_rate, balancer, arrivals)
        return worst(slo, prediction, shed)

    fewest = max(1, math.ceil(arrival_rate / model.saturation_rate_per_second))
    if fewest > max_replicas or (fewest == max_replicas and broken(fewest)):
        raise _too_few(model, slo, limits, max_replicas, arrival_rate, balancer, arrivals)
    replicas = _fewest(lambda count: broken(count) is None, fewest, max_replicas)
    if replicas is None:
        raise _too_few(model, slo, limits, max_replicas, arrival_rate, balancer, arrivals)
    return evaluate(model, slo, arrival_rate, replicas, balancer=balancer, arrivals=arrivals, spare=spare)


def evaluate(
    model: EngineModel,
    slo: Slo,
    arrival_rate: float,
    replicas: int,
    *,
    balancer: Balancer,
    arrivals: Arrivals = Arrivals.POISSON,
    spare: int = 0,
) -> Sizing:
    """Return what `replicas` replicas give at `arrival_rate` (1/s), feasible or not.

    `binding` is what this count breaks; if nothing, what one fewer would break.
    """
    limits = admission_limits(model, slo)
    prediction, shed = _look(model, limits, replicas, arrival_rate, balancer, arrivals)
    fails = worst(slo, prediction, shed)
    binding = fails or MINIMUM
    if fails is None and replicas > 1:
        fewer, fewer_shed = _look(model, limits, replicas - 1, arrival_rate, balancer, arrivals)
        binding = worst(slo, fewer, fewer_shed) or MINIMUM
    return Sizing(
        replicas=replicas,
        replicas_with_spare=replicas + spare,
        binding=binding,
        feasible=fails is None,
        prediction=prediction,
        max_rate_per_replica=max_rate(model, slo, replicas, balancer=balancer, arrivals=arrivals) / replicas,
        saturation_rate_per_replica=model.saturation_rate_per_second,
        running_limit=limits.running,
        queue_limit=limits.queue,
        kv_concurrency=model.kv_concurrency,
        shed_fraction=shed,
    )


def max_rate(
    model: EngineModel,
    slo: Slo,
    replicas: int,
    *,
    balancer: Balancer,
    arrivals: Arrivals = Arrivals.POISSON,
) -> float:
    """Return the highest rate (1/s) that `replicas` replicas carry within `slo`; 0 if they carry none."""
    limits = admission_limits(model, slo)
    low, high = 0.0, replicas * model.saturation_rate_per_second
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        prediction, shed = _look(model, limits, replicas, middle, balancer, arrivals)
        if worst(slo, prediction, shed) is None:
            low = middle
        else:
            high = middle
    return low


def require_reachable(
    model: EngineModel, slo: Slo, *, balancer: Balancer, arrivals: Arrivals = Arrivals.POISSON
) -> None:
    """Raise ObjectiveUnreachable for the first objective that even an idle replica breaks."""
    rate = LOWEST_LOAD * model.saturation_rate_per_second
    idle = model.pool(1, rate, balancer=balancer, arrivals=arrivals)
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


def worst(slo: Slo, prediction: PoolPrediction, shed: float) -> str | None:
    """Return the name of what is broken by the largest factor; None when everything holds."""
    if math.isinf(prediction.latency.mean):
        return SATURATION
    excess = {each.name: (percentile(prediction, each) or 0.0) / each.seconds for each in slo.objectives}
    allowed = max(1 - slo.availability_ratio, 1e-9)
    name = max(excess, key=lambda each: excess[each], default=AVAILABILITY)
    if excess.get(name, 0.0) > 1:
        return name
    return AVAILABILITY if shed > allowed else None


def _look(
    model: EngineModel,
    limits: Limits,
    replicas: int,
    rate: float,
    balancer: Balancer,
    arrivals: Arrivals,
) -> tuple[PoolPrediction, float]:
    """Return the latencies of a pool that nothing is turned away from, and what admission would turn away."""
    shed = model.shed_fraction(
        replicas, rate, running_limit=limits.running, queue_limit=limits.queue, balancer=balancer
    )
    return model.pool(replicas, rate, balancer=balancer, arrivals=arrivals), shed


def _fewest(holds: Callable[[int], bool], least: int, most: int) -> int | None:
    """Return the smallest count in least..most for which `holds` (monotone); None if there is none."""
    step, broken = 1, least - 1
    count = least
    while not holds(count):
        if count == most:
            return None
        broken, count, step = count, min(count + step, most), step * 2
    while count - broken > 1:
        middle = (count + broken) // 2
        if holds(middle):
            count = middle
        else:
            broken = middle
    return count


def _tightest(slo: Slo, metric: Metric) -> float | None:
    return min((each.seconds for each in slo.objectives if each.metric is metric), default=None)


def _too_few(
    model: EngineModel,
    slo: Slo,
    limits: Limits,
    most: int,
    rate: float,
    balancer: Balancer,
    arrivals: Arrivals,
) -> ObjectiveUnreachable:
    prediction, shed = _look(model, limits, most, rate, balancer, arrivals)
    name = worst(slo, prediction, shed) or SATURATION
    objective = next((each for each in slo.objectives if each.name == name), None)
    best = (percentile(prediction, objective) if objective else None) or math.inf
    target = objective.seconds if objective else 0.0
    return ObjectiveUnreachable(name, target, best, f"with {most} replicas, the most allowed")
