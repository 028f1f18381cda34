"""Canaries that go through their steps while latency depends on load: what unequal load per replica does.

R requests/s reach s stable replicas and the canary's ceil(s p / (100 - p)) at steps of 5, 20 and 50 %. Load
moves both arms (exp(AR(1)), sd 10 %, 5 minutes), pods the canary (3 %, 10 minutes). A step is passed as in
the operator: by evidence after its warm-up and four scrapes, else after 20 minutes (ours: 10 at less load).
`before`: evidence in favour counts at any load, and nothing is excused; `ours`: policy.canary_load, with a
table or without.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bench.canary_load_judged import BoolArray, Counted, Judged
from bench.canary_load_law import law, replica
from bench.canary_peers import NEVER
from bench.canary_streams import (
    GOOD_ERRORS,
    NOISE_MEMORY_SECONDS,
    SCRAPE_SECONDS,
    slow_requests,
    wander,
)
from penstock.controller.canary_step import SETTLING_SCRAPES
from penstock.model.canary_counts import Metric
from penstock.model.canary_spec import CanarySpec
from penstock.model.spec import Metric as Objected
from penstock.model.spec import Objective, Slo
from penstock.policy.canary_latency import log_latency_for, log_latency_for_alike
from penstock.policy.canary_load import LEAST_LOAD_RATIO, ArmsLoad, Comparison, compare
from penstock.policy.canary_situation import LEANING_RATIO, LEAST_STEP_SCRAPES, UNLIKE_STEP_RATIO
from penstock.policy.canary_sizing import bearable_percent, replicas_for
from penstock.policy.canary_thresholds import may_roll_back
from penstock.policy.capacity_table import CapacityTable, capacity_table
from penstock.queueing.balancer import Balancer
from penstock.queueing.domain import FloatArray

IntArray: TypeAlias = NDArray[np.intp]
STEPS = CanarySpec().step_percents
STEP_SCRAPES = int(CanarySpec().max_duration_seconds / len(STEPS) / SCRAPE_SECONDS)
WARM_UP_SCRAPES = int(CanarySpec().warm_up_seconds / SCRAPE_SECONDS)
SCRAPES = len(STEPS) * STEP_SCRAPES
LOAD_SD, LOAD_MEMORY_SECONDS, POD_SD = 0.10, 300.0, 0.03
SMALL, LARGE = "llama-3.1-8b-h100", "llama-3.1-70b-a100-x4"
OBJECTIVES = {SMALL: 0.5, LARGE: 3.0}  # p95 TTFT, seconds: both are met at every load here
BALANCED = {Balancer.RANDOM: "random", Balancer.LEAST_REQUESTS: "least requests"}


class Rule(Enum):
    """What is made of the loads: nothing; their ratio; what the model says."""

    BEFORE = "before"
    BY_LOAD = "ours, by load"
    BY_MODEL = "ours, by model"


@dataclass(frozen=True, slots=True)
class LoadCell:
    """A pool at a load, and a canary so many times as slow."""

    slower: float
    replicas: int
    utilization: float
    balancer: Balancer = Balancer.RANDOM
    profile: str = SMALL

    @property
    def rate(self) -> float:
        """Requests a second of both arms, on average."""
        one = replica(self.profile).saturation_rate_per_second
        return self.replicas * self.utilization * one

    @property
    def name(self) -> str:
        """The cell in words."""
        model = self.profile.split("-")[2]
        canary = "good" if self.slower == 1 else f"+{100 * (self.slower - 1):.0f} %"
        load = f"{model} x {self.replicas} at {100 * self.utilization:.0f} %"
        return f"{canary}, {load}, {BALANCED[self.balancer]}"


POOLS = (
    (SMALL, 4, 0.7, Balancer.RANDOM),
    (SMALL, 4, 0.7, Balancer.LEAST_REQUESTS),
    (LARGE, 2, 0.7, Balancer.LEAST_REQUESTS),
    (LARGE, 4, 0.7, Balancer.LEAST_REQUESTS),
    (LARGE, 4, 0.3, Balancer.LEAST_REQUESTS),
)
LOAD_CELLS = tuple(
    LoadCell(slower, replicas, utilization, balancer, profile)
    for profile, replicas, utilization, balancer in POOLS
    for slower in (1.0, 1.2)
)


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Each step's share and canary replicas, whether load is alike there, and what is excused."""

    weights: FloatArray
    sizes: IntArray
    alike: BoolArray
    excused: FloatArray
    lasting: FloatArray  # shares of a step's time

    @property
    def last(self) -> int:
        """Return the index of the last step, where nothing more alike is to come: all counts."""
        return self.weights.size - 1


@dataclass(slots=True)
class Walk:
    """Where each canary stands: its step, the scrape it began, and the first after its warm-up."""

    step: IntArray
    since: FloatArray
    warm_until: FloatArray
    alike_from: FloatArray

    @classmethod
    def begin(cls, runs: int) -> Walk:
        """Return the first step, with pods that have just become ready."""
        warm = np.full(runs, float(WARM_UP_SCRAPES))
        return cls(np.zeros(runs, dtype=np.intp), np.zeros(runs), warm, warm)

    def advance(self, at: int, steps: Steps, good: BoolArray, calm: BoolArray) -> None:
        """Pass the steps that are over after the scrape `at`: evidence does early, time late."""
        late = (at + 1 - self.since >= STEP_SCRAPES * steps.lasting[self.step]) & calm
        passes = (self.step < steps.last) & self.seen(at) & (good | late)
        grows = passes & (steps.sizes[np.minimum(self.step + 1, steps.last)] > steps.sizes[self.step])
        self.step = self.step + passes
        self.since = np.where(passes, at + 1, self.since)
        self.warm_until = np.where(grows, at + 1 + WARM_UP_SCRAPES, self.warm_until)
        self.alike_from = np.where(passes, at + 1 + SETTLING_SCRAPES, self.alike_from)

    def seen(self, at: int) -> BoolArray:
        """Return whether the step has had its least time after the scrape `at`."""
        result: BoolArray = at + 1 >= np.maximum(self.since, self.warm_until) + LEAST_STEP_SCRAPES
        return result


@cache
def table(profile: str, replicas: int, balancer: Balancer) -> CapacityTable:
    """Return what the operator knows of the stable arm."""
    slo = Slo((_objective(profile),))
    return capacity_table(replica(profile), slo, balancer=balancer, max_replicas=2 * replicas)


def _objective(profile: str) -> Objective:
    return Objective(Objected.TTFT, 0.95, OBJECTIVES[profile])


def steps_of(cell: LoadCell, rule: Rule) -> Steps:
    """Return the steps of a cell as a rule sees them."""
    weights, sizes, compared = [], [], []
    for percent in STEPS:
        sizes.append(replicas_for(percent, cell.replicas))
        weights.append(min(percent, bearable_percent(sizes[-1], cell.replicas)) / 100.0)
        if rule is Rule.BEFORE:
            compared.append(Comparison(alike=True))
            continue
        known = table(cell.profile, cell.replicas, cell.balancer) if rule is Rule.BY_MODEL else None
        load = ArmsLoad(weights[-1], sizes[-1], cell.replicas)
        compared.append(compare((_objective(cell.profile),), load, known, cell.rate)[Metric.TTFT])
    ratios = [ArmsLoad(each, size, cell.replicas).ratio for each, size in zip(weights, sizes, strict=True)]
    shorter = np.array(ratios) < (0.0 if rule is Rule.BEFORE else LEAST_LOAD_RATIO)
    return Steps(
        np.array(weights),
        np.array(sizes),
        np.array([each.alike for each in compared]),
        np.array([each.expected_ratio for each in compared]),
        np.where(shorter, UNLIKE_STEP_RATIO, 1.0),
    )


def endings(cell: LoadCell, rule: Rule, runs: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return the scrapes of rollback and promotion per canary (NEVER: none)."""
    random = np.random.default_rng([seed, zlib.crc32(cell.name.encode())])
    load = np.exp(wander(random, SCRAPES, runs, LOAD_SD, LOAD_MEMORY_SECONDS))
    noise = np.exp(wander(random, SCRAPES, runs, POD_SD, NOISE_MEMORY_SECONDS))
    steps, walk, judged = steps_of(cell, rule), Walk.begin(runs), Judged.begin(runs)
    rolled_back, promoted = np.full(runs, NEVER), np.full(runs, NEVER)
    for at in range(SCRAPES):
        stable, canary = _counts(random, cell, steps, walk.step, load[at], noise[at])
        canary = canary.where(at >= walk.warm_until)
        alike = (steps.alike[walk.step] | (walk.step == steps.last)) & (at >= walk.alike_from)
        judged.advance(at, (stable, canary), alike, steps.excused[walk.step])
        against = judged.against()
        undecided = (rolled_back == NEVER) & (promoted == NEVER)
        bad = undecided & may_roll_back(against)
        good = judged.good(log_latency_for_alike(judged.latency))
        rolled_back = np.where(bad, at, rolled_back)
        last = walk.step == steps.last
        promoted = np.where(undecided & ~bad & last & walk.seen(at) & good, at, promoted)
        calm = np.stack([value <= LEANING_RATIO * bar for value, bar in against]).all(axis=0)
        walk.advance(at, steps, judged.good(log_latency_for(judged.latency)), calm)
    return rolled_back, promoted


def _counts(
    random: np.random.Generator,
    cell: LoadCell,
    steps: Steps,
    step: IntArray,
    load: FloatArray,
    noise: FloatArray,
) -> tuple[Counted, Counted]:
    """Return what a scrape adds to both arms."""
    one = replica(cell.profile).saturation_rate_per_second
    rates, weights, sizes = cell.rate * load, steps.weights[step], steps.sizes[step]
    pool = law(cell.profile, cell.replicas, cell.balancer)
    above = pool.above(rates * (1 - weights) / (cell.replicas * one), np.ones(noise.shape))
    theirs = np.empty(above.shape)
    for size in np.unique(sizes):
        here = sizes == size
        arm = law(cell.profile, int(size), cell.balancer)
        theirs[here] = arm.above((rates * weights)[here] / (size * one), cell.slower * noise[here])
    return (
        _counted(random, rates * (1 - weights) * SCRAPE_SECONDS, above),
        _counted(random, rates * weights * SCRAPE_SECONDS, theirs),
    )


def _counted(random: np.random.Generator, expected: FloatArray, above: FloatArray) -> Counted:
    requests = random.poisson(expected)
    failed = random.binomial(requests, GOOD_ERRORS)
    return Counted(
        requests.astype(np.float64), failed.astype(np.float64), slow_requests(random, requests, above)
    )
