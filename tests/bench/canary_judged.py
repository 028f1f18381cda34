"""Simulated streams through `canary_judge.judge` itself, one canary at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bench.canary_ours import LIMITS
from bench.canary_streams import EDGES, SCRAPE_SECONDS, SCRAPES, Arm, Stream, cells, simulate
from penstock.model.canary_counts import ArmIncrement, Histogram, Increments, Metric, Trials
from penstock.model.canary_verdict import JudgeLimits, Verdict, VerdictKind
from penstock.policy.canary_judge import JudgeMemory, judge

SLOW_RATE, SLOW_RUNS = 0.2, 20
# After this many scrapes a rate can be told.
SETTLED_SCRAPES = 8


def increments_of(stream: Stream, run: int) -> Iterator[Increments]:
    """What one canary's arms count: the stable one's in the warm-up, then both in every scrape."""
    yield Increments(0.0, 0.0, _added(stream.stable, 0, run), None)
    for at in range(SCRAPES):
        both = _added(stream.stable, at + 1, run), _added(stream.canary, at, run)
        yield Increments((at + 1) * SCRAPE_SECONDS, SCRAPE_SECONDS, *both)


def _added(arm: Arm, at: int, run: int) -> ArmIncrement:
    total = float(arm.requests[at, run])
    below = [total - float(slow) for slow in arm.slow[at, run]]
    return ArmIncrement(
        requests=total,
        errors=Trials(float(arm.errors[at, run]), total),
        latencies={Metric.TTFT: Histogram((*map(float, EDGES), math.inf), (*below, total))},
        pods=1,
    )


def judged(stream: Stream, run: int, limits: JudgeLimits = LIMITS) -> Iterator[tuple[Verdict, JudgeMemory]]:
    """The judge's verdict and memory after every scrape of one canary, verdicts ignored."""
    memory = JudgeMemory()
    for index, increments in enumerate(increments_of(stream, run)):
        verdict, memory = judge(memory, increments, limits, increments.at)
        if index:
            yield verdict, memory


def undecided_says_so(seed: int) -> float:
    """Return how many undecided verdicts at 0.2 req/s say that evidence is insufficient and what it takes."""
    told = undecided = 0
    for cell in cells():
        if cell.rate != SLOW_RATE or cell.name not in ("null waves", "p95 +20 %"):
            continue
        stream = simulate(cell, SLOW_RUNS, seed)
        for run in range(SLOW_RUNS):
            for at, (verdict, _) in enumerate(judged(stream, run)):
                if verdict.kind in (VerdictKind.ROLLBACK, VerdictKind.PROMOTE):
                    break
                if at < SETTLED_SCRAPES:
                    continue
                undecided += 1
                told += verdict.kind is VerdictKind.INSUFFICIENT and verdict.requests_needed is not None
    return told / undecided
