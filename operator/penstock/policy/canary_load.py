"""Load per replica of a canary beside the stable arm's, and what it does to latencies.

The arms are compared at like load: a canary replica with less of it has shorter queues and smaller batches,
and looks faster than it is. Whether that matters says the model where there is one,

    alone = L(c, w R) / L(c, (1-w) R c/s)    the same c replicas at either arm's load per replica
    both  = L(c, w R) / L(s, (1-w) R)        and a pool of c has longer queues than one of s

with L an objective's predicted percentile, w the canary's share of R requests/s; else the load itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.model.canary_counts import Metric
from penstock.model.spec import Objective
from penstock.policy.capacity_table import CapacityTable

# Latencies within 5 % are alike: in the law of docs/canary-judge.md 10 % of the slow requests, less than a
# margin of 15 %.
LEAST_EXPECTED_RATIO = 0.95
# Without a model. A replica at 65 instead of 70 % of its saturation has a p95 TTFT of 182 instead of 195 ms.
LEAST_LOAD_RATIO = 0.93


@dataclass(frozen=True, slots=True)
class ArmsLoad:
    """Ready replicas of both arms, and the canary's share of the requests, 0..1."""

    weight_ratio: float
    canary_ready: int
    stable_ready: int

    @property
    def ratio(self) -> float:
        """Return the load per replica, canary / stable; 0 where an arm gets nothing."""
        if not 0 < self.weight_ratio < 1 or self.canary_ready < 1 or self.stable_ready < 1:
            return 0.0
        each = self.weight_ratio / self.canary_ready
        return each * self.stable_ready / (1.0 - self.weight_ratio)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a load means for one latency: whether it counts in favour, and the ratio that is excused."""

    alike: bool
    expected_ratio: float = 1.0


def compare(
    objectives: Sequence[Objective],
    load: ArmsLoad,
    table: CapacityTable | None,
    rate_per_second: float | None,
) -> Mapping[Metric, Comparison]:
    """Return one comparison per latency of the `objectives`.

    `rate_per_second` of both arms together; None: not known, as is what the model says without a `table`.
    """
    found = {}
    for name in dict.fromkeys(each.metric for each in objectives):
        metric, stated = Metric(name.value), [each for each in objectives if each.metric is name]
        ratios = None
        if table is not None and rate_per_second and load.ratio:
            ratios = _expected(stated, load, table, rate_per_second)
        if ratios is None:
            found[metric] = Comparison(load.ratio >= LEAST_LOAD_RATIO)
            continue
        alone, both = ratios
        hindered = both > 1 / LEAST_EXPECTED_RATIO
        found[metric] = Comparison(alone >= LEAST_EXPECTED_RATIO and not hindered, both if hindered else 1.0)
    return found


def _expected(
    objectives: Sequence[Objective], load: ArmsLoad, table: CapacityTable, rate_per_second: float
) -> tuple[float, float] | None:
    """Return (alone, both) of the objective that load changes most; None where the model cannot say."""
    try:
        found = [_ratios(each, load, table, rate_per_second) for each in objectives]
    except KeyError:  # an objective that no count of replicas meets is not in the table
        return None
    if not all(math.isfinite(ratio) for pair in found for ratio in pair):
        return None  # beyond saturation
    return min(pair[0] for pair in found), min(pair[1] for pair in found)


def _ratios(
    objective: Objective, load: ArmsLoad, table: CapacityTable, rate_per_second: float
) -> tuple[float, float]:
    theirs, ours = load.weight_ratio * rate_per_second, (1 - load.weight_ratio) * rate_per_second
    canary = table.predict(objective, load.canary_ready, theirs)
    same = table.predict(objective, load.canary_ready, ours * load.canary_ready / load.stable_ready)
    stable = table.predict(objective, load.stable_ready, ours)
    if min(same, stable) <= 0:
        return math.nan, math.nan
    return canary / same, canary / stable
