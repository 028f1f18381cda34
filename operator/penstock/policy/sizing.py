"""The fewest replicas that keep every objective: searched with the exact model, for `penstock plan`.

What makes a count feasible is in ``policy/feasibility.py``. What binds is what one replica fewer would break.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from penstock.model.spec import Slo
from penstock.policy.feasibility import (
    MINIMUM,
    SATURATION,
    Limits,
    ObjectiveUnreachable,
    admission_limits,
    allowed_shed,
    enforced_limits,
    excess,
    percentile,
    require_reachable,
    shed_by,
    worst,
)
from penstock.queueing.balancer import Arrivals, Balancer
from penstock.queueing.domain import FloatArray
from penstock.queueing.engine_model import EngineModel, PoolPrediction
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.trace_model import TraceModel

_GRAINS = 250  # counts above are found to 0.4 %: each look costs a second, and the model knows no better
_HALVINGS = 12  # of the bracket in which the highest rate lies: 1/4096 of it


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


def size(
    model: EngineModel,
    slo: Slo,
    arrival_rate: float,
    *,
    balancer: Balancer,
    arrivals: Arrivals = Arrivals.POISSON,
    spare: int = 0,
    max_replicas: int = 10_000,
    turns_away: bool = True,
    static_in_flight: int | None = None,
) -> Sizing:
    """Return the fewest replicas that keep `slo` at `arrival_rate` (1/s): 1 to 3 s.

    `turns_away`: whether gateways refuse what exceeds a limit; `static_in_flight` is the user's own per
    replica, None: the model's. Raises ObjectiveUnreachable for the objective that no count up to
    `max_replicas` meets.
    """
    require_reachable(model, slo, arrivals=arrivals)
    limits = _judged_and_enforced(model, slo, turns_away=turns_away, static_in_flight=static_in_flight)
    pools = _Pools(model, slo, arrival_rate, balancer, arrivals, *limits)
    fewest = math.ceil(arrival_rate / model.saturation_rate_per_second)
    if fewest <= max_replicas:
        guess = _fewest(pools.quickly_hold, max(1, fewest), max_replicas) or max_replicas
        grain = max(1, guess // _GRAINS)
        replicas = _fewest(pools.hold, guess, max_replicas, grain)
        if replicas is not None:
            replicas = _fewest_downwards(pools.hold, max(1, fewest), replicas, grain)
            return _sizing(pools, replicas, spare)
    raise pools.too_few(max_replicas)


def evaluate(
    model: EngineModel,
    slo: Slo,
    arrival_rate: float,
    replicas: int,
    *,
    balancer: Balancer,
    arrivals: Arrivals = Arrivals.POISSON,
    spare: int = 0,
    turns_away: bool = True,
    static_in_flight: int | None = None,
) -> Sizing:
    """Return what `replicas` replicas give at `arrival_rate` (1/s), feasible or not.

    `binding` is what this count breaks; if nothing, what one fewer would break.
    """
    limits = _judged_and_enforced(model, slo, turns_away=turns_away, static_in_flight=static_in_flight)
    return _sizing(_Pools(model, slo, arrival_rate, balancer, arrivals, *limits), replicas, spare)


def size_trace(
    profile: EngineProfile,
    slo: Slo,
    arrivals_seconds: Sequence[float] | FloatArray,
    input_tokens: Sequence[float] | FloatArray,
    output_tokens: Sequence[float] | FloatArray,
    *,
    balancer: Balancer,
    spare: int = 0,
    max_replicas: int = 10_000,
) -> Sizing:
    """Return the fewest replicas that keep `slo` in the busiest 60 s of a trace (whole trace in, seconds)."""
    model = TraceModel.busiest(profile, arrivals_seconds, input_tokens, output_tokens)
    return size(model, slo, model.rate_per_second, balancer=balancer, spare=spare, max_replicas=max_replicas)


def _judged_and_enforced(
    model: EngineModel, slo: Slo, *, turns_away: bool, static_in_flight: int | None
) -> tuple[Limits, Limits]:
    """Return the limits that availability is judged by, and those that gateways would enforce.

    Where nothing is enforced (not `turns_away`), c* and q bound the wait.
    """
    allowed = admission_limits(model, slo)
    enforced = enforced_limits(allowed, static_in_flight)
    return (enforced if turns_away else allowed), enforced


@dataclass(frozen=True, slots=True)
class _Pools:
    """Pools of any size at one rate: each is looked at once."""

    model: EngineModel
    slo: Slo
    rate: float
    balancer: Balancer
    arrivals: Arrivals
    kept: Limits  # what availability is judged by, see `_judged_and_enforced`
    enforced: Limits
    _exact: dict[int, tuple[PoolPrediction, float]] = field(default_factory=dict)

    def at(self, replicas: int) -> tuple[PoolPrediction, float]:
        """Return latencies of a pool that turns nobody away, and what admission would turn away."""
        if replicas not in self._exact:
            prediction = self.model.pool(replicas, self.rate, balancer=self.balancer, arrivals=self.arrivals)
            self._exact[replicas] = prediction, self.shed(replicas, self.rate)
        return self._exact[replicas]

    def shed(self, replicas: int, rate: float) -> float:
        return shed_by(self.kept, self.model, replicas, rate, self.balancer)

    def broken(self, replicas: int) -> str | None:
        return worst(self.slo, *self.at(replicas))

    def hold(self, replicas: int) -> bool:
        # The chain is a hundred times cheaper than the latencies, and binds as often.
        return self.admits(replicas, self.rate) and self.broken(replicas) is None

    def admits(self, replicas: int, rate: float) -> bool:
        return self.shed(replicas, rate) <= allowed_shed(self.slo)

    def quickly_hold(self, replicas: int) -> bool:
        return self.admits(replicas, self.rate) and self.quick_excess(replicas, self.rate) <= 1

    def quick_excess(self, replicas: int, rate: float) -> float:
        """Return the largest percentile over its objective, from the quick model; inf when saturated."""
        prediction = self.model.quick_pool(replicas, rate, balancer=self.balancer, arrivals=self.arrivals)
        return excess(self.slo, prediction)

    def highest_rate(self, replicas: int) -> float:
        """Return the highest rate (1/s) within the SLO, by the quick model corrected at our own rate."""
        low, high = 0.0, replicas * self.model.saturation_rate_per_second
        correction = 1.0
        ours, quick = excess(self.slo, self.at(replicas)[0]), self.quick_excess(replicas, self.rate)
        if math.isfinite(ours) and math.isfinite(quick) and quick > 0:
            correction = ours / quick
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            holds = self.admits(replicas, middle) and correction * self.quick_excess(replicas, middle) <= 1
            low, high = (middle, high) if holds else (low, middle)
        return low

    def too_few(self, most: int) -> ObjectiveUnreachable:
        name = self.broken(most) or SATURATION
        objective = next((each for each in self.slo.objectives if each.name == name), None)
        best = (percentile(self.at(most)[0], objective) if objective else None) or math.inf
        target = objective.seconds if objective else 0.0
        return ObjectiveUnreachable(name, target, best, f"with {most} replicas, the most allowed")


def _sizing(pools: _Pools, replicas: int, spare: int) -> Sizing:
    model, limits = pools.model, pools.enforced
    prediction, _ = pools.at(replicas)
    fails = pools.broken(replicas)
    binding = fails
    if fails is None and replicas > 1:
        binding = pools.broken(replicas - max(1, replicas // _GRAINS))
    return Sizing(
        replicas=replicas,
        replicas_with_spare=replicas + spare,
        binding=binding or MINIMUM,
        feasible=fails is None,
        prediction=prediction,
        max_rate_per_replica=pools.highest_rate(replicas) / replicas,
        saturation_rate_per_replica=model.saturation_rate_per_second,
        running_limit=limits.running,
        queue_limit=limits.queue,
        kv_concurrency=model.kv_concurrency,
        shed_fraction=shed_by(limits, model, replicas, pools.rate, pools.balancer),
    )


def _fewest(holds: Callable[[int], bool], least: int, most: int, grain: int = 1) -> int | None:
    """Return the smallest count in least..most for which `holds`, to `grain`; None if there is none."""
    step, broken = grain, least - 1
    count = least
    while not holds(count):
        if count == most:
            return None
        broken, count, step = count, min(count + step, most), step * 2
    if broken < least:
        return count
    while count - broken > grain:
        middle = (count + broken) // 2
        if holds(middle):
            count = middle
        else:
            broken = middle
    return count


def _fewest_downwards(holds: Callable[[int], bool], least: int, holding: int, grain: int) -> int:
    """Return the smallest count in least..holding for which `holds`, to `grain`: the step doubles."""
    step = grain
    while holding > least:
        lower = max(least, holding - step)
        if not holds(lower):
            return holding if step == grain else (_fewest(holds, lower + 1, holding, grain) or holding)
        holding, step = lower, step * 2
    return holding
