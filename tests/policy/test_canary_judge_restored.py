"""The judge after a restart that came before there was much to keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from penstock.model.canary_counts import ArmIncrement, Histogram, Increments, Metric, Trials
from penstock.model.canary_verdict import JudgeLimits, VerdictKind
from penstock.policy.canary_judge import JudgeMemory, judge
from penstock.policy.canary_judge_memory import LatencyMemory

EDGES = (0.1, 0.2, 0.5, 1.0)
LIMITS = JudgeLimits(metrics=(Metric.ERRORS, Metric.TTFT))
NOTHING = Increments(0.0, 0.0, ArmIncrement(), ArmIncrement())


def restored(memory: JudgeMemory) -> JudgeMemory:
    return JudgeMemory.from_status(memory.to_status())


def arm(*slow: int, total: int = 30) -> ArmIncrement:
    """An arm of which `slow` requests were slower than each edge."""
    below = tuple(float(total - each) for each in slow)
    histogram = Histogram((*EDGES, float("inf")), (*below, float(total)))
    return ArmIncrement(float(total), Trials(0, total), {Metric.TTFT: histogram}, pods=1)


def test_latencies_of_which_no_edge_was_kept_are_no_evidence_yet() -> None:
    memory = JudgeMemory(latencies={Metric.TTFT: LatencyMemory.empty(())})
    verdict, _ = judge(restored(memory), NOTHING, LIMITS, 0.0)
    assert verdict.kind is VerdictKind.CONTINUE
    assert {row.metric for row in verdict.evidence if row.missing} == {"errors", "ttft"}


@pytest.mark.parametrize("edge", range(len(EDGES)))
def test_a_single_edge_that_carries_something_keeps_its_neighbour(edge: int) -> None:
    """One alone has no slope; on a cluster with 3 requests a second that was the state after 20 s."""
    memory = LatencyMemory.empty(EDGES)
    slow = np.zeros(len(EDGES))
    slow[edge] = 5.0
    state = replace(memory.state, level_slow=slow, level_total=np.asarray(30.0))
    found = restored(JudgeMemory(latencies={Metric.TTFT: replace(memory, state=state)}))
    assert len(found.latencies[Metric.TTFT].edges) == 2
    assert EDGES[edge] in found.latencies[Metric.TTFT].edges
    more = Increments(15.0, 15.0, arm(20, 5, 2, 0), arm(20, 6, 1, 0))
    verdict, after = judge(found, more, LIMITS, 15.0)
    assert verdict.kind is not VerdictKind.ROLLBACK
    assert judge(restored(after), more, LIMITS, 30.0)[0].evidence
