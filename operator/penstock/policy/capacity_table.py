"""The solved model of one service: what N replicas carry, answered in microseconds at every tick.

Solved once per (profile, shape cell, SLO, balancer) in a process pool, by `capacity_table`: every
objective's percentile on a grid of replica counts x utilizations, made monotone (more load is never
faster, more replicas at the same utilization never slower), then interpolated.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from penstock.model.spec import Objective, Slo
from penstock.policy.admission_law import AdmissionLaw, admission_law
from penstock.policy.count_grid import bracket
from penstock.policy.feasibility import (
    AVAILABILITY,
    MINIMUM,
    SATURATION,
    Limits,
    ObjectiveUnreachable,
    admission_limits,
    allowed_shed,
    enforced_limits,
    percentile,
    require_reachable,
    shed_by,
)
from penstock.queueing.balancer import Balancer
from penstock.queueing.domain import FloatArray
from penstock.queueing.engine_model import EngineModel

# Counts whose curves are solved; between them they are smooth in log N, beyond them they stay.
_SOLVED = (1, 2, 4, 8, 16, 64, 256, 1024)
# Counts whose highest rate is stored: each one up to 16, then 5/4 apart.
_STORED = (*range(1, 17), 20, 25, 32, 40, 50, 64, 80, 100, 128, 160, 200, 256, 512, 1024)
_UTILIZATIONS = (0.02, 0.2, 0.4, 0.55, 0.68, 0.78, 0.86, 0.92, 0.96, 0.985)
_HALVINGS = 14  # of utilization 0..1: 0.006 %


@dataclass(frozen=True, slots=True)
class Curves:
    """Percentiles of the objectives: `seconds[objective][count][utilization]`."""

    counts: tuple[int, ...]
    utilizations: tuple[float, ...]
    seconds: tuple[tuple[tuple[float, ...], ...], ...]

    def at(self, objective: int, replicas: int, utilization: float) -> float:
        """Return seconds, interpolated in log N and linearly in utilization; inf from 1 on."""
        if utilization >= 1:
            return math.inf
        below, above, weight = bracket(self.counts, replicas)
        rows = self.seconds[objective]
        low = self._along(rows[below], utilization)
        if not weight or low <= 0:
            return low
        high = self._along(rows[above], utilization)
        # As a power, not by logarithms: between equal rows it is that value to the last digit.
        return low * float((high / low) ** weight)

    def _along(self, row: tuple[float, ...], utilization: float) -> float:
        grid = self.utilizations
        if utilization <= grid[0]:
            return row[0]
        if utilization >= grid[-1]:
            # The wait in a stable queue grows as 1/(1 - rho); join that to the last point.
            return row[-1] * (1 - grid[-1]) / (1 - utilization)
        k = bisect.bisect_right(grid, utilization) - 1
        share = (utilization - grid[k]) / (grid[k + 1] - grid[k])
        return row[k] + share * (row[k + 1] - row[k])


@dataclass(frozen=True, slots=True)
class CapacityTable:
    """What 1, 2, .. replicas carry within an SLO. Rates are requests per second."""

    slo: Slo
    limits: Limits
    admission: AdmissionLaw  # of what gateways enforce, as `admitted` where they do
    saturation_rate_per_second: float  # of one replica
    max_replicas: int
    curves: Curves
    counts: tuple[int, ...]
    admitted: tuple[float, ...]  # rate per replica at which admission sheds what the SLO allows, at `counts`
    rates: tuple[float, ...] = ()  # highest rate per replica within the whole SLO, at `counts`
    unreachable: tuple[str, ...] = ()

    @property
    def running_limit(self) -> int:
        """c* per replica."""
        return self.limits.running

    @property
    def queue_limit(self) -> int:
        """q per replica: how many may wait."""
        return self.limits.queue

    def without(self, unreachable: tuple[str, ...]) -> CapacityTable:
        """Return the table of the objectives that can be met, naming those that were left out."""
        return replace(self, unreachable=unreachable)

    def max_rate(self, replicas: int) -> float:
        """Return the highest rate (1/s) that `replicas` carry within the objectives."""
        return replicas * _between(self.counts, self.rates, replicas) if replicas >= 1 else 0.0

    def replicas_for(self, rate_per_second: float) -> int:
        """Return the fewest replicas that keep every objective at this rate; may exceed `max_replicas`."""
        if rate_per_second <= self.rates[0]:
            return 1
        if rate_per_second > self.counts[-1] * self.rates[-1]:
            return math.ceil(rate_per_second / self.rates[-1] - 1e-9)
        # Among the stored counts first, without a call: up to 16 all are stored, and every service asks
        # at every tick.
        below, above = 0, len(self.counts) - 1
        while above - below > 1:
            middle = (below + above) // 2
            if self.counts[middle] * self.rates[middle] >= rate_per_second:
                above = middle
            else:
                below = middle
        low, high = self.counts[below], self.counts[above]
        while high - low > 1:
            middle = (low + high) // 2
            if self.max_rate(middle) >= rate_per_second:
                high = middle
            else:
                low = middle
        return high

    def binding(self, replicas: int, rate_per_second: float) -> str:
        """Return what breaks at this count or, if it holds, with one replica fewer."""
        broken = self.broken(replicas, rate_per_second)
        if broken is None and replicas > 1:
            broken = self.broken(replicas - 1, rate_per_second)
        return broken or MINIMUM

    def predict(self, objective: Objective, replicas: int, rate_per_second: float) -> float:
        """Return the objective's percentile in seconds; inf at and beyond saturation.

        Raises KeyError for an objective the table was not solved for.
        """
        for index, each in enumerate(self.slo.objectives):
            if each == objective:
                return self._seconds(index, replicas, rate_per_second)
        raise KeyError(objective.name)

    def broken(self, replicas: int, rate_per_second: float) -> str | None:
        """Return the name of what is broken by the largest factor; None when everything holds."""
        if replicas < 1 or rate_per_second >= replicas * self.saturation_rate_per_second:
            return SATURATION
        name, largest = AVAILABILITY, 1.0
        for index, each in enumerate(self.slo.objectives):
            factor = self._seconds(index, replicas, rate_per_second) / each.seconds
            if factor > largest:
                name, largest = each.name, factor
        if largest > 1:
            return name
        within = rate_per_second <= replicas * _between(self.counts, self.admitted, replicas)
        return None if within else AVAILABILITY

    def _seconds(self, objective: int, replicas: int, rate_per_second: float) -> float:
        if replicas < 1:
            return math.inf
        utilization = rate_per_second / (replicas * self.saturation_rate_per_second)
        return self.curves.at(objective, replicas, utilization)


def capacity_table(
    model: EngineModel,
    slo: Slo,
    *,
    balancer: Balancer,
    max_replicas: int,
    turns_away: bool = True,
    static_in_flight: int | None = None,
) -> CapacityTable:
    """Solve the table for 1..`max_replicas`; about a second of one core for 64.

    `turns_away`: whether gateways refuse what exceeds a limit; `static_in_flight` is the user's own per
    replica, None: the model's. Raises ObjectiveUnreachable for an objective that no count meets.
    """
    require_reachable(model, slo)
    limits = admission_limits(model, slo)
    enforced = enforced_limits(limits, static_in_flight)
    kept = enforced if turns_away else limits  # where nothing is enforced, c* and q bound the wait
    saturation = model.saturation_rate_per_second
    counts = _up_to(_STORED, max_replicas)
    allowed = allowed_shed(slo)

    def admits(count: int, utilization: float) -> bool:
        # Where any share may be shed there is nothing to ask; batching services would replay it.
        return (
            allowed >= 1 or shed_by(kept, model, count, utilization * count * saturation, balancer) <= allowed
        )

    # The highest utilization changes smoothly: solved on the curves' grid, interpolated between.
    solved = _up_to(_SOLVED, max_replicas)
    highest = np.maximum.accumulate([saturation * _highest(partial(admits, count)) for count in solved])
    draft = CapacityTable(
        slo=slo,
        limits=limits,
        admission=admission_law(
            model,
            running=enforced.running,
            queued=enforced.queue,
            counts=solved,
            balancer=balancer,
        ),
        saturation_rate_per_second=saturation,
        max_replicas=max_replicas,
        curves=_curves(model, slo, solved, balancer),
        counts=counts,
        admitted=tuple(_between(solved, tuple(highest.tolist()), count) for count in counts),
    )

    def carries(count: int, utilization: float) -> bool:
        return draft.broken(count, utilization * count * saturation) is None

    rates = np.maximum.accumulate([saturation * _highest(partial(carries, count)) for count in counts])
    if rates[-1] <= 0:
        raise _unreachable(draft, counts[-1])
    return replace(draft, rates=tuple(rates.tolist()))


def _unreachable(table: CapacityTable, count: int) -> ObjectiveUnreachable:
    """Name what the largest count breaks at the lightest load of the curves, though an idle replica meets it.

    That is 2 % of saturation, where a random split makes two requests meet now and then.
    """
    best = [table.curves.at(index, count, 0.0) for index, _ in enumerate(table.slo.objectives)]
    factors = [seconds / each.seconds for seconds, each in zip(best, table.slo.objectives, strict=True)]
    worst = factors.index(max(factors))
    objective = table.slo.objectives[worst]
    return ObjectiveUnreachable(objective.name, objective.seconds, best[worst], "under the lightest load")


def _curves(model: EngineModel, slo: Slo, counts: tuple[int, ...], balancer: Balancer) -> Curves:
    # A random split leaves N separate replicas: the first row is every row.
    counts = (1,) if balancer is Balancer.RANDOM else counts
    rows = np.array(
        [_row(model, slo, count, balancer) for count in counts]
    )  # count x objective x utilization
    rows = np.minimum.accumulate(np.maximum.accumulate(rows, axis=2), axis=0)
    seconds = tuple(tuple(tuple(row) for row in each) for each in rows.transpose(1, 0, 2).tolist())
    return Curves(counts, _UTILIZATIONS, seconds)


def _row(model: EngineModel, slo: Slo, count: int, balancer: Balancer) -> FloatArray:
    columns = []
    for utilization in _UTILIZATIONS:
        rate = utilization * count * model.saturation_rate_per_second
        prediction = model.quick_pool(count, rate, balancer=balancer)
        columns.append([percentile(prediction, each) or 0.0 for each in slo.objectives])
    return np.array(columns).reshape(len(_UTILIZATIONS), len(slo.objectives)).T


def _highest(holds: Callable[[float], bool]) -> float:
    """Return the highest utilization below 1 at which `holds` (monotone)."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _up_to(counts: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Return the counts below `most`, and `most` unless it is beyond the largest."""
    return (*(each for each in counts if each < most), *((most,) if most <= counts[-1] else ()))


def _between(counts: tuple[int, ...], values: tuple[float, ...], replicas: int) -> float:
    below, above, weight = bracket(counts, replicas)
    return values[below] + weight * (values[above] - values[below])
