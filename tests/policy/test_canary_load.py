"""Load per replica of two arms: what is alike, what flatters, and what a verdict makes of it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from fakes.judged_arms import arm, judge_blocks
from penstock.model.canary_counts import Metric
from penstock.model.canary_verdict import CanaryReason, JudgeLimits, VerdictKind
from penstock.model.spec import Metric as Objected
from penstock.model.spec import Objective
from penstock.policy.canary_judge import JudgeMemory
from penstock.policy.canary_load import ArmsLoad, Comparison, compare
from penstock.policy.capacity_table import CapacityTable

TTFT = Objective(Objected.TTFT, 0.95, 0.5)
LIKE = JudgeLimits(metrics=(Metric.ERRORS, Metric.TTFT))
LESS = replace(LIKE, unlike=frozenset({Metric.TTFT}), load_ratio=0.21)
GOOD = (arm(675, errors=1), arm(75))
WARM_UP = (arm(675), None)


@dataclass(frozen=True)
class Law:
    """A table whose replicas saturate at 20 requests/s: M/M/1 for one, shorter queues for more."""

    flat: bool = False

    def predict(self, objective: Objective, replicas: int, rate_per_second: float) -> float:
        if objective != TTFT:
            raise KeyError(objective.name)
        spare = 1 - rate_per_second / (20.0 * replicas)
        if spare <= 0:
            return math.inf
        return 0.1 if self.flat else 0.1 / spare ** (1 / replicas)


def judged(load: ArmsLoad, *, table: Law | None, rate: float | None) -> Comparison:
    return compare((TTFT,), load, cast("CapacityTable | None", table), rate)[Metric.TTFT]


@pytest.mark.parametrize(
    ("percent", "canary", "stable", "ratio"),
    [(50, 4, 4, 1.0), (20, 1, 4, 1.0), (5, 1, 4, 0.2105), (30, 3, 5, 0.7143), (0, 1, 4, 0.0), (5, 1, 0, 0.0)],
)
def test_the_load_of_a_canary_replica_is_told_in_those_of_a_stable_one(
    percent: int, canary: int, stable: int, ratio: float
) -> None:
    assert ArmsLoad(percent / 100, canary, stable).ratio == pytest.approx(ratio, abs=1e-4)


@pytest.mark.parametrize(
    ("load", "table", "rate", "alike", "excused"),
    [
        pytest.param(ArmsLoad(0.5, 4, 4), None, None, True, False, id="halves"),
        pytest.param(ArmsLoad(0.05, 1, 4), None, 50.0, False, False, id="1 of 5 at 5 %, and no model"),
        pytest.param(ArmsLoad(0.5, 4, 4), Law(), 120.0, True, False, id="halves at 75 % of saturation"),
        pytest.param(ArmsLoad(0.05, 1, 4), Law(), 50.0, False, False, id="1 of 5 at 5 %"),
        pytest.param(ArmsLoad(0.05, 1, 4), Law(), 4.0, True, False, id="little load: latency is what it is"),
        pytest.param(ArmsLoad(0.05, 1, 4), Law(flat=True), 50.0, True, False, id="a law without queues"),
        pytest.param(ArmsLoad(0.2, 1, 4), Law(), 60.0, False, True, id="one has a longer queue than four"),
        pytest.param(ArmsLoad(0.05, 1, 4), Law(), 90.0, False, False, id="the stable arm beyond saturation"),
        pytest.param(ArmsLoad(0.5, 1, 1), Law(), 90.0, True, False, id="both beyond it: the load itself"),
        pytest.param(ArmsLoad(0.05, 1, 4), Law(), None, False, False, id="the rate is not known"),
    ],
)
def test_what_counts_in_favour(
    load: ArmsLoad, table: Law | None, rate: float | None, alike: bool, excused: bool
) -> None:
    found = judged(load, table=table, rate=rate)
    assert found.alike is alike
    assert (found.expected_ratio > 1) is excused


def test_one_replica_beside_four_is_excused_for_what_its_queue_costs() -> None:
    """At 60 % of saturation: 0.1 / 0.4 s alone, 0.1 / 0.4^(1/4) s in a pool of four."""
    found = judged(ArmsLoad(0.2, 1, 4), table=Law(), rate=60.0)
    assert found.expected_ratio == pytest.approx((1 / 0.4) / (1 / 0.4**0.25))


def test_an_objective_that_the_table_lacks_goes_by_the_load_itself() -> None:
    tpot = Objective(Objected.TPOT, 0.95, 0.03)
    found = compare((TTFT, tpot), ArmsLoad(0.05, 1, 4), cast("Any", Law(flat=True)), 50.0)
    assert (found[Metric.TTFT].alike, found[Metric.TPOT].alike) == (True, False)


def test_a_canary_that_is_good_under_less_load_may_take_the_next_step_and_no_more() -> None:
    verdict, memory = judge_blocks([WARM_UP, *[GOOD] * 60], LESS)
    assert (verdict.kind, verdict.reason) == (VerdictKind.NEXT_STEP, CanaryReason.NO_WORSE_AT_LESS_LOAD)
    assert verdict.message == (
        "no worse than the stable arm so far at 21 % of its load per replica: enough for the next step; "
        "a verdict takes about 1,900 more, 6m10s at like load"
    )
    verdict, memory = judge_blocks([GOOD] * 4, LIKE, memory, began=915.0)
    assert verdict.kind is VerdictKind.NEXT_STEP
    verdict, _ = judge_blocks([GOOD] * 40, LIKE, memory, began=975.0)
    assert verdict.kind is VerdictKind.PROMOTE


def test_a_promotion_under_less_load_says_so() -> None:
    verdict, _ = judge_blocks([WARM_UP, *[GOOD] * 60], replace(LIKE, load_ratio=0.71))
    assert verdict.kind is VerdictKind.PROMOTE
    assert verdict.message.startswith(
        "no worse than the stable arm at 71 % of its load per replica; errors: "
    )


def test_less_load_hides_nothing_that_speaks_against() -> None:
    slow = (arm(675), arm(75, ttft=(680.0, 218.0, 38.0, 3.0)))
    verdict, _ = judge_blocks([WARM_UP, *[slow] * 16], LESS)
    assert (verdict.kind, verdict.reason) == (VerdictKind.ROLLBACK, CanaryReason.TTFT_REGRESSED)


def test_what_was_in_favour_survives_a_restart_apart() -> None:
    _, memory = judge_blocks([WARM_UP, *[GOOD] * 40], LESS)
    _, memory = judge_blocks([GOOD] * 8, LIKE, memory, began=615.0)
    restored = JudgeMemory.from_status(json.loads(json.dumps(memory.to_status())))
    one, other = (judge_blocks([GOOD], LIKE, each, began=735.0)[0].evidence[2] for each in (memory, restored))
    assert other.log10_for == pytest.approx(one.log10_for, abs=1e-3)
    assert other.log10_for_step == pytest.approx(one.log10_for_step, abs=1e-3)
    assert other.log10_for_step > other.log10_for + 1


def test_a_status_of_before_the_two_were_kept_apart_counts_for_steps_only() -> None:
    _, memory = judge_blocks([WARM_UP, *[GOOD] * 60], LIKE)
    status = memory.to_status()
    for name in ("forAlike", "weightAlike"):
        del status["latencies"]["ttft"][name]
    verdict, _ = judge_blocks([GOOD], LIKE, JudgeMemory.from_status(status), began=915.0)
    assert verdict.kind is VerdictKind.NEXT_STEP
