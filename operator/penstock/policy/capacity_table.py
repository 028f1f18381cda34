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
from penstock.policy.sizing import (
    AVAILABILITY,
    MINIMUM,
    SATURATION,
    Limits,
    admission_limits,
    percentile,
    require_reachable,
)
from penstock.queueing.balancer import Balancer
from penstock.queueing.domain import FloatArray
from penstock.queueing.engine_model import EngineModel

# Solved counts; between them curves are smooth in log N (1 % of p95 TTFT).
_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 40, 64, 128, 256, 1024, 4096, 10_000)
_EXACT = 16  # counts whose highest rate is stored, not interpolated
_UTILIZATIONS = (0.02, 0.15, 0.3, 0.45, 0.6, 0.7, 0.78, 0.85, 0.9, 0.94, 0.97, 0.99)
_HALVINGS = 20


@dataclass(frozen=True, slots=True)
class CapacityTable:
    """Percentiles of every objective and highest rates, on a grid of replica counts."""

    slo: Slo
    limits: Limits
    saturation_rate_per_second: float  # of one replica
    max_replicas: int
    counts: tuple[int, ...]
    utilizations: tuple[float, ...]
    seconds: tuple[tuple[tuple[float, ...], ...], ...]  # objective x count x utilization
    rates: tuple[float, ...]  # highest rate per replica, at `counts`
    shed_rates: tuple[float, ...]  # rate per replica at which admission sheds what the SLO allows
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
        if replicas < 1:
            return 0.0
        return replicas * _along(self.counts, self.rates, replicas)

    def replicas_for(self, rate_per_second: float) -> int:
        """Return the fewest replicas that keep every objective at this rate; may exceed `max_replicas`."""
        if rate_per_second <= self.max_rate(1):
            return 1
        most = self.counts[-1]
        if rate_per_second > self.max_rate(most):
            return math.ceil(rate_per_second / self.rates[-1] - 1e-9)
        low, high = 1, most
        while high - low > 1:
            middle = (low + high) // 2
            if self.max_rate(middle) >= rate_per_second:
                high = middle
            else:
                low = middle
        return high

    def binding(self, replicas: int, rate_per_second: float) -> str:
        """Return what breaks at this count or, if it holds, with one replica fewer."""
        broken = self._broken(replicas, rate_per_second)
        if broken is None and replicas > 1:
            broken = self._broken(replicas - 1, rate_per_second)
        return broken or MINIMUM

    def predict(self, objective: Objective, replicas: int, rate_per_second: float) -> float:
        """Return the objective's percentile in seconds; inf at and beyond saturation.

        Raises KeyError for an objective the table was not solved for.
        """
        index = next((k for k, each in enumerate(self.slo.objectives) if each == objective), None)
        if index is None:
            raise KeyError(objective.name)
        if replicas < 1:
            return math.inf
        utilization = rate_per_second / (replicas * self.saturation_rate_per_second)
        if utilization >= 1:
            return math.inf
        below, above, weight = _bracket(self.counts, replicas)
        rows = self.seconds[index]
        low, high = self._at(rows[below], utilization), self._at(rows[above], utilization)
        return low if weight == 0 else low * (high / low) ** weight

    def _at(self, row: tuple[float, ...], utilization: float) -> float:
        grid = self.utilizations
        if utilization <= grid[0]:
            return row[0]
        if utilization >= grid[-1]:
            # The wait in a stable queue grows as 1/(1 - rho); join that to the last point.
            return row[-1] * (1 - grid[-1]) / (1 - utilization)
        k = bisect.bisect_right(grid, utilization) - 1
        share = (utilization - grid[k]) / (grid[k + 1] - grid[k])
        return row[k] + share * (row[k + 1] - row[k])

    def _broken(self, replicas: int, rate: float) -> str | None:
        if rate >= replicas * self.saturation_rate_per_second:
            return SATURATION
        excess = {
            each.name: self.predict(each, replicas, rate) / each.seconds for each in self.slo.objectives
        }
        name = max(excess, key=lambda each: excess[each], default=AVAILABILITY)
        if excess.get(name, 0.0) > 1:
            return name
        return AVAILABILITY if rate > replicas * _along(self.counts, self.shed_rates, replicas) else None


def capacity_table(model: EngineModel, slo: Slo, *, balancer: Balancer, max_replicas: int) -> CapacityTable:
    """Solve the table for 1..`max_replicas`; about a second of one core for 64.

    Raises ObjectiveUnreachable for an objective that no count meets.
    """
    require_reachable(model, slo, balancer=balancer)
    limits = admission_limits(model, slo)
    saturation = model.saturation_rate_per_second
    counts = (*(each for each in _COUNTS if each < max_replicas), max_replicas)
    solved = {1: _row(model, slo, 1, balancer)}
    for count in counts[1:]:
        # A random split leaves N separate replicas: the first row is every row.
        solved[count] = solved[1] if balancer is Balancer.RANDOM else _row(model, slo, count, balancer)
    seconds = np.array([solved[count] for count in counts])  # count x objective x utilization
    if seconds.size:
        seconds = np.maximum.accumulate(seconds, axis=2)
        seconds = np.minimum.accumulate(seconds, axis=0)
    allowed = max(1 - slo.availability_ratio, 1e-9)

    def admits(count: int, utilization: float) -> bool:
        shed = model.shed_fraction(
            count,
            utilization * count * saturation,
            running_limit=limits.running,
            queue_limit=limits.queue,
            balancer=balancer,
        )
        return shed <= allowed

    shed_rates = [saturation * _highest(partial(admits, count)) for count in counts]
    shed_rates = np.maximum.accumulate(shed_rates).tolist()
    draft = CapacityTable(
        slo=slo,
        limits=limits,
        saturation_rate_per_second=saturation,
        max_replicas=max_replicas,
        counts=counts,
        utilizations=_UTILIZATIONS,
        seconds=tuple(tuple(tuple(row) for row in each) for each in seconds.transpose(1, 0, 2).tolist())
        if seconds.size
        else (),
        rates=(),
        shed_rates=tuple(shed_rates),
    )

    def carries(count: int, utilization: float) -> bool:
        return draft._broken(count, utilization * count * saturation) is None

    rates = [saturation * _highest(partial(carries, count)) for count in counts]
    return replace(draft, rates=tuple(np.maximum.accumulate(rates).tolist()))


def _row(model: EngineModel, slo: Slo, count: int, balancer: Balancer) -> FloatArray:
    columns = []
    for utilization in _UTILIZATIONS:
        rate = utilization * count * model.saturation_rate_per_second
        prediction = model.pool(count, rate, balancer=balancer)
        columns.append([percentile(prediction, each) or 0.0 for each in slo.objectives])
    return np.array(columns).T


def _highest(holds: Callable[[float], bool]) -> float:
    """Return the highest utilization below 1 at which `holds` (monotone)."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def _bracket(counts: tuple[int, ...], replicas: int) -> tuple[int, int, float]:
    """Return the neighbours of `replicas` among `counts` and its place between them on a log scale."""
    if replicas >= counts[-1]:
        return len(counts) - 1, len(counts) - 1, 0.0
    k = bisect.bisect_right(counts, replicas) - 1
    if counts[k] == replicas:
        return k, k, 0.0
    return k, k + 1, math.log(replicas / counts[k]) / math.log(counts[k + 1] / counts[k])


def _along(counts: tuple[int, ...], values: tuple[float, ...], replicas: int) -> float:
    below, above, weight = _bracket(counts, replicas)
    return values[below] + weight * (values[above] - values[below])
