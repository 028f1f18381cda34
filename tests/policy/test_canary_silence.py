"""Silence is no approval: what a user's queries count are no requests of the canary."""

from __future__ import annotations

import pytest

from fakes.canary import NEW, CanaryWorld, owned
from fakes.judged_arms import arm, judge_blocks
from penstock.model.canary import CanaryPhase
from penstock.model.canary_counts import ArmIncrement, Metric, Trials
from penstock.model.canary_spec import OnInsufficientEvidence
from penstock.model.canary_verdict import JudgeLimits, ThresholdCheck
from penstock.policy.canary_judge import JudgeMemory

P = CanaryPhase
LIMITS = JudgeLimits(
    metrics=(Metric.ERRORS, Metric.TTFT),
    counter_checks=("empty",),
    threshold_checks=(ThresholdCheck("gpu", at_most=90.0),),
)
STABLE = arm(675, checks={"empty": Trials(1, 675)})


@pytest.mark.parametrize("choice", OnInsufficientEvidence)
@pytest.mark.parametrize(
    "canary",
    [
        pytest.param(arm(0, thresholds={"gpu": 50.0}), id="a threshold is read in every tick"),
        pytest.param(arm(0, checks={"empty": Trials(0, 75)}), id="a user's counter counts something else"),
    ],
)
def test_a_canary_without_requests_passes_no_step(
    canary: ArmIncrement, choice: OnInsufficientEvidence
) -> None:
    world, judged = CanaryWorld(spec=owned(on_insufficient_evidence=choice)), JudgeMemory()
    seen = set()
    for _ in range(300):
        if world.memory.phase is P.TESTING:
            world.verdict, judged = judge_blocks([(STABLE, canary)], LIMITS, judged, began=world.now)
        plan = world.tick()
        seen.add((plan.step, plan.weight_percent))
    assert seen == {(0, 0), (0, 5)}
    assert world.memory.phase is (
        P.ROLLED_BACK if choice is OnInsufficientEvidence.ROLLBACK else P.INCONCLUSIVE
    )


def test_it_is_said_that_no_request_was_counted() -> None:
    world = CanaryWorld()
    blocks = [(STABLE, arm(0, thresholds={"gpu": 50.0}))] * 40
    world.verdict, _ = judge_blocks(blocks, LIMITS)
    world.ticks(30)
    assert world.decision is not None
    assert (world.decision.reason, world.decision.inputs["canary_requests"]) == ("NoTraffic", 0.0)
    assert world.decision.message.startswith(
        f"revision {NEW} has 5 % (step 1 of 3), held: not one request of it"
    )


def test_a_threshold_shows_no_requests() -> None:
    verdict, _ = judge_blocks(
        [(STABLE, arm(75, thresholds={"gpu": value})) for value in (95.0, 95.0)], LIMITS
    )
    row = next(each for each in verdict.evidence if each.metric == "gpu")
    assert (row.canary_total, row.canary_failures, row.missing) == (0.0, 2, "")
