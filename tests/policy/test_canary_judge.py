"""Verdicts on canaries: reasons and whole sentences; what is missing; what is left after a restart."""

from __future__ import annotations

import json

import pytest

from fakes.judged_arms import arm, histogram, judge_blocks
from penstock.model.canary_counts import ArmIncrement, Metric, Trials
from penstock.model.canary_verdict import CanaryReason, JudgeLimits, ThresholdCheck, VerdictKind
from penstock.policy.canary_judge import JudgeMemory

LIMITS = JudgeLimits(metrics=(Metric.ERRORS, Metric.TTFT))
# +20 %: 46 % more requests above 250 ms.
SLOW = (680.0, 218.0, 38.0, 3.0)
WARM_UP = (arm(675), None)
Blocks = list[tuple[ArmIncrement | None, ArmIncrement | None]]
CHECKED = JudgeLimits(
    metrics=LIMITS.metrics,
    counter_checks=("empty",),
    threshold_checks=(ThresholdCheck("gpu", at_most=90.0),),
)


def checked(failures: float, gpu: float | None) -> tuple[ArmIncrement, ArmIncrement]:
    stable = arm(675, checks={"empty": Trials(1, 675)})
    return stable, arm(75, checks={"empty": Trials(failures, 75)}, thresholds={"gpu": gpu})


@pytest.mark.parametrize(
    ("blocks", "limits", "kind", "reason", "message"),
    [
        pytest.param(
            [(arm(675, errors=1), arm(75))] * 60,
            LIMITS,
            VerdictKind.PROMOTE,
            CanaryReason.NO_WORSE,
            "no worse than the stable arm; errors: 0 % of 4,500 canary requests failed, 0.15 % of 40,500 "
            "stable ones, 0.07 times as many (95 %: 0.00 to 1.20); TTFT: 15 % of 4,500 canary requests "
            "slower than 250 ms, 15 % of 40,500 stable ones, 1.00 times as many (95 %: 0.93 to 1.08); "
            "excluded at 95 %: 1.15 times as many slow requests and 0.25 points more errors",
            id="as good as the stable arm",
        ),
        pytest.param(
            [(arm(675), arm(75, ttft=SLOW))] * 16,
            LIMITS,
            VerdictKind.ROLLBACK,
            CanaryReason.TTFT_REGRESSED,
            "TTFT: 22 % of 1,200 canary requests slower than 250 ms, 15 % of 10,800 stable ones, 1.46 "
            "times as many (95 %: 1.30 to 1.63); 1.15 times are allowed; evidence 10^2.8, 10^1.5 decides",
            id="20 % slower",
        ),
        pytest.param(
            [(arm(675, errors=1), arm(75))] * 40 + [(arm(675), arm(75, ttft=(800, 400, 120, 20)))] * 3,
            LIMITS,
            VerdictKind.ROLLBACK,
            CanaryReason.TTFT_REGRESSED,
            "TTFT: 40 % of 225 canary requests slower than 250 ms, 15 % of 2,025 stable ones, 2.67 times "
            "as many (95 %: 2.21 to 3.23); 1.15 times are allowed; evidence 10^7.6, 10^1.5 decides",
            id="slower after ten good minutes: told since then",
        ),
        pytest.param(
            [(arm(675, errors=1), arm(75, errors=2))] * 6,
            LIMITS,
            VerdictKind.ROLLBACK,
            CanaryReason.ERRORS_REGRESSED,
            "errors: 2.7 % of 450 canary requests failed, 0.15 % of 4,050 stable ones, 17 times as many "
            "(95 %: 6.74 to 44); 1.15 times are allowed; evidence 10^6.5, 10^1.7 decides",
            id="more errors",
        ),
        pytest.param(
            [(arm(675, errors=200), arm(75, errors=20))] * 3,
            LIMITS,
            VerdictKind.ROLLBACK,
            CanaryReason.ERROR_STOP_LOSS,
            "errors: 60 of 225 canary requests failed; above 5 % no canary goes on; evidence 10^24.5, "
            "10^2.1 decides",
            id="both arms fail",
        ),
        pytest.param(
            [(arm(675), arm(75))] * 6,
            LIMITS,
            VerdictKind.CONTINUE,
            CanaryReason.GATHERING,
            "450 canary requests at 5 req/s: a verdict takes about 1,600 more, 5m10s",
            id="undecided",
        ),
        pytest.param(
            [(arm(27), arm(3))] * 12,
            LIMITS,
            VerdictKind.INSUFFICIENT,
            CanaryReason.TOO_LITTLE_TRAFFIC,
            "less than 0.5 req/s reach the canary; 36 canary requests at 0.2 req/s: a verdict takes about "
            "2,000 more, 2h45m",
            id="0.2 requests/s",
        ),
        pytest.param(
            [(arm(675), arm(0))] * 6,
            LIMITS,
            VerdictKind.INSUFFICIENT,
            CanaryReason.TOO_LITTLE_TRAFFIC,
            "less than 0.5 req/s reach the canary; 0 canary requests at 0 req/s: a verdict takes about "
            "1,900 more",
            id="no traffic",
        ),
        pytest.param(
            [(arm(90), arm(10))] * 12,
            JudgeLimits(metrics=LIMITS.metrics, deadline_seconds=60.0),
            VerdictKind.INSUFFICIENT,
            CanaryReason.TOO_SLOW,
            "no verdict is to be expected in the 1m left; 120 canary requests at 0.667 req/s: a verdict "
            "takes about 1,800 more, 45m",
            id="the deadline comes first",
        ),
        pytest.param(
            [checked(6, 50.0)] * 3,
            CHECKED,
            VerdictKind.ROLLBACK,
            CanaryReason.CHECK_FAILED,
            "check empty: 8 % of 225 canary requests failed, 0.15 % of 2,025 stable ones, 47 times as "
            "many (95 %: 15 to 148); 1.15 times are allowed; evidence 10^13.0, 10^1.7 decides",
            id="a user's counter pair",
        ),
        pytest.param(
            [checked(0, 95.0)] * 3,
            CHECKED,
            VerdictKind.ROLLBACK,
            CanaryReason.CHECK_FAILED,
            "check gpu: 95 is above 90, 3 times in a row",
            id="a user's threshold",
        ),
    ],
)
def test_verdicts(
    blocks: Blocks, limits: JudgeLimits, kind: VerdictKind, reason: CanaryReason, message: str
) -> None:
    verdict, _ = judge_blocks([WARM_UP, *blocks], limits)
    assert (verdict.kind, verdict.reason, verdict.message) == (kind, reason, message)


UNMEASURED = "while 375 requests reached the canary; what is not measured cannot pass"


@pytest.mark.parametrize(
    ("blocks", "reason", "message"),
    [
        pytest.param(
            [WARM_UP, (arm(675), arm(75)), (arm(675), None)],
            CanaryReason.CANARY_METRICS_MISSING,
            "counters of the canary arm could not be read: nothing is decided without them",
            id="canary unread",
        ),
        pytest.param(
            [WARM_UP, (None, arm(75))],
            CanaryReason.STABLE_METRICS_MISSING,
            "counters of the stable arm could not be read: nothing is decided without them",
            id="stable unread",
        ),
        pytest.param(
            [WARM_UP, *[(arm(675), arm(75, ttft=None))] * 5],
            CanaryReason.CANARY_METRICS_MISSING,
            f"ttft: no canary request was counted, {UNMEASURED}",
            id="canary without TTFT",
        ),
        pytest.param(
            [(arm(675, ttft=None), arm(75))] * 5,
            CanaryReason.STABLE_METRICS_MISSING,
            f"ttft: no stable request was counted, {UNMEASURED}",
            id="stable without TTFT",
        ),
        pytest.param(
            [WARM_UP, *[(arm(675), arm(75, errors=None))] * 5],
            CanaryReason.CANARY_METRICS_MISSING,
            f"errors: no canary request was counted, {UNMEASURED}",
            id="canary without errors: not a canary without errors",
        ),
        pytest.param(
            [WARM_UP, *[(arm(675, errors=None), arm(75))] * 5],
            CanaryReason.STABLE_METRICS_MISSING,
            f"errors: no stable request was counted, {UNMEASURED}",
            id="stable without errors",
        ),
        pytest.param(
            [(arm(675, ttft=(1000, 1000, 990, 900)), arm(75, ttft=(1000, 1000, 990, 900)))] * 5,
            CanaryReason.BUCKETS_TOO_COARSE,
            f"ttft: most requests are slower than the highest bucket edge, {UNMEASURED}",
            id="no edge to compare at",
        ),
    ],
)
def test_what_is_not_measured_is_not_decided(blocks: Blocks, reason: CanaryReason, message: str) -> None:
    verdict, _ = judge_blocks(blocks, LIMITS)
    assert (verdict.kind, verdict.reason, verdict.message) == (VerdictKind.INSUFFICIENT, reason, message)


def test_a_failing_canary_is_rolled_back_without_a_stable_reading() -> None:
    verdict, _ = judge_blocks([WARM_UP, *[(None, arm(75, errors=40))] * 2], LIMITS)
    assert (verdict.kind, verdict.reason) == (VerdictKind.ROLLBACK, CanaryReason.ERROR_STOP_LOSS)


def test_a_threshold_without_values_blocks_promotion_and_does_not_fail() -> None:
    verdict, _ = judge_blocks([WARM_UP, *[checked(0, None)] * 80], CHECKED)
    assert verdict.kind is VerdictKind.INSUFFICIENT
    assert verdict.message.startswith("gpu: no value came back")


def test_a_threshold_counts_failures_in_a_row_only() -> None:
    values = [95.0, 95.0, 10.0, 95.0, None, 95.0]
    verdict, memory = judge_blocks([WARM_UP, *[checked(0, value) for value in values]], CHECKED)
    assert memory.checks["gpu"].in_a_row == 2
    assert verdict.kind is not VerdictKind.ROLLBACK


def test_present_suspicion_stops_a_promotion_that_was_earned_before() -> None:
    blocks: Blocks = [WARM_UP, *[(arm(675, errors=1), arm(75))] * 60]
    verdict, memory = judge_blocks(blocks, LIMITS)
    assert verdict.kind is VerdictKind.PROMOTE
    verdict, _ = judge_blocks([(arm(675), arm(75, ttft=(780, 320, 80, 9)))] * 2, LIMITS, memory, began=915.0)
    assert verdict.kind is not VerdictKind.PROMOTE


def test_a_restarted_operator_goes_on_where_it_was() -> None:
    blocks: Blocks = [(arm(675), arm(75, ttft=SLOW, errors=float(at == 3))) for at in range(9)]
    _, memory = judge_blocks([WARM_UP, *blocks], LIMITS)
    text = json.dumps(memory.to_status(), allow_nan=False)
    assert len(text) < 4_000
    restored = JudgeMemory.from_status(json.loads(text))
    before, _ = judge_blocks([(arm(675), arm(75, ttft=SLOW))], LIMITS, memory, began=150.0)
    after, _ = judge_blocks([(arm(675), arm(75, ttft=SLOW))], LIMITS, restored, began=150.0)
    assert after.message == before.message
    for one, other in zip(before.evidence, after.evidence, strict=True):
        assert other.log10_against == pytest.approx(one.log10_against, abs=1e-3)
        assert other.log10_for == pytest.approx(one.log10_for, abs=1e-3)


def test_a_metric_that_appears_late_is_judged_as_from_the_beginning() -> None:
    _, memory = judge_blocks([WARM_UP, *[(arm(675), arm(75, ttft=None))] * 20], LIMITS)
    blocks: Blocks = [(arm(675), arm(75, ttft=SLOW))] * 16
    late, _ = judge_blocks(blocks, LIMITS, memory, began=315.0)
    assert (late.kind, late.reason) == (VerdictKind.ROLLBACK, CanaryReason.TTFT_REGRESSED)
    _, memory = judge_blocks([(arm(675, ttft=None), arm(75, ttft=None))] * 20, LIMITS)
    assert not memory.latencies
    _, memory = judge_blocks([(arm(675), arm(75))] * 2, LIMITS, memory, began=300.0)
    assert float(memory.latencies[Metric.TTFT].state.begun) > 0.9


def test_an_empty_memory_survives_too() -> None:
    status = JudgeMemory().to_status()
    assert JudgeMemory.from_status(json.loads(json.dumps(status))).to_status() == status


@pytest.mark.parametrize(
    "broken", [{}, {"format": 0}, {"format": 1, "startedAt": None}, {"format": 1, "minute": "x"}]
)
def test_a_status_that_is_no_memory_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="memory"):
        JudgeMemory.from_status(broken)


def test_another_bucket_layout_keeps_the_evidence_of_the_edges_that_stay() -> None:
    _, memory = judge_blocks([WARM_UP, *[(arm(675), arm(75, ttft=SLOW))] * 8], LIMITS)
    before = memory.latencies[Metric.TTFT]
    edges = (0.25, 0.5, 0.8)
    stable, canary = (
        ArmIncrement(total, Trials(0, total), {Metric.TTFT: histogram(total, slow, edges)}, pods=1)
        for total, slow in ((675.0, (101, 13, 2)), (75.0, (16, 3, 0)))
    )
    _, memory = judge_blocks([(stable, canary)], LIMITS, memory, began=135.0)
    after = memory.latencies[Metric.TTFT]
    assert after.edges == edges
    kept = before.edges.index(0.25)
    assert after.state.log_against[0].tolist() == before.state.log_against[kept].tolist()
