"""Increments of two arms in one line, for the tests of the judge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from penstock.model.canary_counts import ArmIncrement, Histogram, Increments, Metric, Trials
from penstock.model.canary_verdict import JudgeLimits, Verdict
from penstock.policy.canary_judge import JudgeMemory, judge

EDGES = (0.1, 0.25, 0.5, 1.0)
# Requests slower than each edge, of 1,000: 60 %, 15 %, 2 %, 0.1 %.
USUAL = (600.0, 150.0, 20.0, 1.0)


def histogram(total: float, slow: Sequence[float], edges: Sequence[float] = EDGES) -> Histogram:
    """A histogram in which `slow[i]` of `total` observations exceed `edges[i]`."""
    return Histogram((*edges, math.inf), (*(total - each for each in slow), total))


def arm(
    total: float,
    *,
    errors: float | None = 0.0,
    ttft: Sequence[float] | None = USUAL,
    checks: Mapping[str, Trials] | None = None,
    thresholds: Mapping[str, float | None] | None = None,
) -> ArmIncrement:
    """One arm's block; `ttft` is of 1,000 requests and scaled; None: not measured."""
    latencies = {}
    if ttft is not None:
        latencies[Metric.TTFT] = histogram(total, [each * total / 1000 for each in ttft])
    return ArmIncrement(
        requests=total,
        errors=None if errors is None else Trials(errors, total),
        latencies=latencies,
        checks=checks or {},
        thresholds=thresholds or {},
        pods=1,
    )


def judge_blocks(
    blocks: Sequence[tuple[ArmIncrement | None, ArmIncrement | None]],
    limits: JudgeLimits,
    memory: JudgeMemory | None = None,
    *,
    seconds: float = 15.0,
    began: float = 0.0,
) -> tuple[Verdict, JudgeMemory]:
    """Judge blocks of `seconds` each, one after another; return the last verdict and the memory."""
    memory = memory or JudgeMemory()
    at = began
    verdict = None
    for stable, canary in blocks:
        at += seconds
        counted = seconds if canary is not None else 0.0
        verdict, memory = judge(memory, Increments(at, counted, stable, canary), limits, at)
    assert verdict is not None
    return verdict, memory
