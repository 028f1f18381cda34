"""What the model says a scenario's replicas carry; equal problems are solved once for all runs."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from penstock.model.spec import Balancer, Metric, Objective, Slo
from penstock.policy.capacity_problem import CapacityProblem, Engine, solve
from penstock.policy.capacity_table import CapacityTable
from penstock.policy.lengths import LengthMoments, ShapeCell
from penstock.policy.step_factors import AS_PROFILED
from penstock.queueing.domain import FloatArray
from penstock.queueing.engine_profile import EngineProfile
from penstock.sim.scenario import IntArray, Objectives, Routing, Scenario

_Number = TypeVar("_Number", bound=np.generic)
_BALANCERS = {
    Routing.RANDOM: Balancer.RANDOM,
    Routing.ROUND_ROBIN: Balancer.ROUND_ROBIN,
    Routing.POWER_OF_TWO: Balancer.POWER_OF_TWO,
    Routing.LEAST_REQUESTS: Balancer.LEAST_REQUESTS,
    Routing.LEAST_TOKENS: Balancer.LEAST_REQUESTS,  # the resource has no closer word for it
}


def balancer_of(routing: Routing) -> Balancer:
    """Return the balancer that the resource names for a simulated one."""
    return _BALANCERS[routing]


def slo_of(objectives: Objectives, percentile: float) -> Slo:
    """Return objectives per request as a service's: `percentile` (0..1) of TTFT and of TPOT."""
    return Slo(
        (
            Objective(Metric.TTFT, percentile, objectives.ttft_seconds),
            Objective(Metric.TPOT, percentile, objectives.tpot_seconds),
        )
    )


@lru_cache(maxsize=1024)
def solved(problem: CapacityProblem) -> CapacityTable:
    """Return the table; a second of one core for each new problem.

    Raises ValueError or ArithmeticError for a problem that cannot be solved.
    """
    return solve(problem)


def table_of(
    scenario: Scenario, *, percentile: float = 0.95, profile: EngineProfile | None = None
) -> CapacityTable:
    """Return what the scenario's replicas carry, for the true lengths of all its requests."""
    problem = CapacityProblem(
        engine=Engine(profile or scenario.profile),
        cell=ShapeCell(_moments(scenario.input_tokens), _moments(scenario.output_tokens)),
        factors=AS_PROFILED,
        slo=slo_of(scenario.slo, percentile),
        balancer=balancer_of(scenario.routing),
        max_replicas=scenario.max_replicas,
        turns_away=scenario.admission is not None,
    )
    return solved(problem)


def true_rates(scenario: Scenario, *, window_seconds: float, step_seconds: float) -> FloatArray:
    """Return requests per second around 0, step, 2 step, .. of the trace, in requests of mean weight.

    Each is counted over `window_seconds` with its instant in the middle; at the ends over what there is.
    """
    weight = Engine(scenario.profile).output_weight
    work = scenario.input_tokens + weight * scenario.output_tokens
    total = np.concatenate([[0.0], np.cumsum(work / work.mean())])
    end = scenario.end_seconds or float(scenario.arrivals_seconds[-1])
    middles = np.arange(0.0, end + step_seconds, step_seconds)
    starts = np.clip(middles - window_seconds / 2, 0.0, max(0.0, end - window_seconds / 2))
    ends = np.clip(middles + window_seconds / 2, min(end, window_seconds / 2), end)
    first, last = (np.searchsorted(scenario.arrivals_seconds, each) for each in (starts, ends))
    return np.asarray((total[last] - total[first]) / np.maximum(ends - starts, 1e-9))


def highest_ahead(values: NDArray[_Number], ahead: int) -> NDArray[_Number]:
    """Return the highest of each value and the `ahead` after it; beyond the end the last one stays."""
    padded = np.concatenate([values, np.repeat(values[-1:], ahead)])
    highest: NDArray[_Number] = np.lib.stride_tricks.sliding_window_view(padded, ahead + 1).max(axis=1)
    return highest


def _moments(tokens: IntArray) -> LengthMoments:
    mean = float(tokens.mean())
    return LengthMoments(mean, float(tokens.var()) / mean**2)
