"""The judge after a restart that came before there was anything to keep."""

from __future__ import annotations

from penstock.model.canary_counts import ArmIncrement, Increments, Metric
from penstock.model.canary_verdict import JudgeLimits, VerdictKind
from penstock.policy.canary_judge import JudgeMemory, judge
from penstock.policy.canary_judge_memory import LatencyMemory


def test_latencies_of_which_no_edge_was_kept_are_no_evidence_yet() -> None:
    memory = JudgeMemory(latencies={Metric.TTFT: LatencyMemory.empty(())})
    nothing = Increments(0.0, 0.0, ArmIncrement(), ArmIncrement())
    verdict, _ = judge(JudgeMemory.from_status(memory.to_status()), nothing, JudgeLimits(), 0.0)
    assert verdict.kind is VerdictKind.CONTINUE
    assert {row.metric for row in verdict.evidence if row.missing} >= {"ttft"}
