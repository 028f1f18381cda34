"""TTFT under load, from the queueing core: the share of requests above each edge, for any load and slowness.

A pool of n replicas of a shipped profile under the lengths of a real hour of conversations, solved on a
grid of loads per replica x times as slow (every coefficient of the step law and the front end), and
interpolated on the normal scale. So a slower canary has longer steps and longer queues, as in life.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy.special import ndtr, ndtri

from bench.canary_streams import EDGES
from penstock.model.profiles import profile_named
from penstock.queueing.balancer import Balancer
from penstock.queueing.distribution import LEVELS
from penstock.queueing.domain import FloatArray
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.step_law import StepLaw
from penstock.queueing.traffic import TrafficShape

LENGTHS = Path(__file__).parents[1] / "data" / "azure23_conv.csv.gz"
TIMES_AS_SLOW = (0.85, 1.0, 1.2, 1.4)
UTILIZATIONS = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.96)  # of one that is not slower
MOST_UTILIZED = 0.97  # of its own saturation: beyond, admission sheds, and waits grow no further
SMALLEST = 1e-5


@dataclass(frozen=True)
class LoadLaw:
    """Shares above the edges of a pool, as normal quantiles [times as slow, load, edge]."""

    saturation_rate_per_second: float  # of a replica that is not slower
    normal: FloatArray

    def above(self, utilization: FloatArray, slower: FloatArray) -> FloatArray:
        """Return the shares above the edges (..., edges) at a load and slowness (...)."""
        low, left = _between(np.array(UTILIZATIONS), utilization)
        slow, rest = _between(np.log(TIMES_AS_SLOW), np.log(slower))
        left, rest = left[..., None], rest[..., None]
        at = [
            self.normal[slow + more, low] * (1 - left) + self.normal[slow + more, low + 1] * left
            for more in (0, 1)
        ]
        shares: FloatArray = ndtr(-(at[0] * (1 - rest) + at[1] * rest))
        return shares


def _between(grid: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    inside = np.clip(values, grid[0], grid[-1])
    below = np.minimum(np.searchsorted(grid, inside, side="right") - 1, grid.size - 2)
    return below, (inside - grid[below]) / (grid[below + 1] - grid[below])


@cache
def shape() -> TrafficShape:
    """Return the lengths of the conversations."""
    with gzip.open(LENGTHS, "rt") as lines:
        rows = [(float(row["input_tokens"]), float(row["output_tokens"])) for row in csv.DictReader(lines)]
    inputs, outputs = np.array(rows).T
    return TrafficShape.from_lengths(inputs, outputs)


def replica(profile: str, slower: float = 1.0) -> ReplicaModel:
    """Return a replica of a shipped profile, so many times as slow."""
    return ReplicaModel(_slowed(profile_named(profile), slower), shape())


@cache
def law(profile: str, replicas: int, balancer: Balancer) -> LoadLaw:
    """Return the law of a pool: 44 solutions, some seconds."""
    one = replica(profile).saturation_rate_per_second
    normal = np.empty((len(TIMES_AS_SLOW), len(UTILIZATIONS), EDGES.size))
    for row, slower in enumerate(TIMES_AS_SLOW):
        model = replica(profile, slower)
        most = MOST_UTILIZED * model.saturation_rate_per_second
        for column, utilization in enumerate(UTILIZATIONS):
            rate = replicas * min(utilization * one, most)
            ttft = model.quick_pool(replicas, rate, balancer=balancer).ttft
            assert ttft is not None
            above = 1 - np.interp(EDGES, ttft.quantiles, LEVELS, right=1.0)
            normal[row, column] = -ndtri(np.clip(above, SMALLEST, 1 - SMALLEST))
    return LoadLaw(one, normal)


def _slowed(profile: EngineProfile, times: float) -> EngineProfile:
    step = profile.step_law
    slowed = {each.name: times * getattr(step, each.name) for each in fields(StepLaw)}
    slowed["experts_tokens"] = step.experts_tokens
    return replace(profile, step_law=StepLaw(**slowed), frontend_seconds=times * profile.frontend_seconds)
