"""The verdict on a canary: errors, latencies and the user's checks together.

Rollback where any evidence reaches its threshold, in the order stop-loss, errors, TTFT, TPOT, latency,
checks; promotion where every metric is shown to be good and nothing speaks against the canary now.
Evidence may be looked at after every block, and a regression that begins late is found as well
(`canary_bets.start_weight`). Below 0.5 requests/s, or where the deadline comes first, the verdict is that
evidence is insufficient, with how much more it takes: 0.2 requests/s give 480 in 40 minutes, a p95 that
rose by 20 % takes about 1,000.
"""

from __future__ import annotations

import math

from penstock.model.canary_counts import Increments, Metric
from penstock.model.canary_verdict import CanaryReason, Evidence, JudgeLimits, Verdict, VerdictKind
from penstock.policy import canary_words, wording
from penstock.policy.canary_evidence import BUCKETS_TOO_COARSE, NO_STABLE, STOP_LOSS, Row, rows_of
from penstock.policy.canary_judge_memory import JudgeMemory
from penstock.policy.canary_observe import observe
from penstock.policy.canary_thresholds import NOTHING_AGAINST, may_promote, thresholds

__all__ = ["JudgeMemory", "judge"]

LEAST_RATE_PER_SECOND = 0.5
# Below, a rate is a matter of chance, and a metric may just be late.
SETTLING_SECONDS = 60.0
_REGRESSED = {
    STOP_LOSS: CanaryReason.ERROR_STOP_LOSS,
    Metric.ERRORS.value: CanaryReason.ERRORS_REGRESSED,
    Metric.TTFT.value: CanaryReason.TTFT_REGRESSED,
    Metric.TPOT.value: CanaryReason.TPOT_REGRESSED,
    Metric.LATENCY.value: CanaryReason.LATENCY_REGRESSED,
}


def judge(
    memory: JudgeMemory, increments: Increments, limits: JudgeLimits, now: float
) -> tuple[Verdict, JudgeMemory]:
    """Return the verdict after `increments`, and what to remember. `now` in Unix seconds.

    `limits.deadline_seconds` counts from `now`. Call it while the canary warms up as well: the stable
    arm's level is learned from then on (without, the first block of the test goes into that).
    """
    memory = observe(memory, increments, limits)
    rows = rows_of(memory, limits, thresholds(limits))
    found = _regressed(rows, memory, limits) or _missing(increments, rows, memory)
    found = found or _promoted(rows, memory, limits) or _so_far_good(rows, memory, limits)
    return found or _undecided(rows, memory, limits), memory


def _regressed(rows: tuple[Row, ...], memory: JudgeMemory, limits: JudgeLimits) -> Verdict | None:
    order = sorted(rows, key=lambda row: row.evidence.metric != STOP_LOSS)
    for row in order:
        evidence = row.evidence
        if not evidence.against_threshold or evidence.log10_against < evidence.against_threshold:
            continue
        reason = _REGRESSED.get(evidence.metric, CanaryReason.CHECK_FAILED)
        say = canary_words.stop_loss if evidence.metric == STOP_LOSS else canary_words.regression
        return _verdict(VerdictKind.ROLLBACK, reason, say(evidence, limits), rows)
    for check in limits.threshold_checks:
        seen = memory.checks[check.name]
        if seen.in_a_row >= check.failures_allowed:
            message = canary_words.failed_check(check, seen)
            return _verdict(VerdictKind.ROLLBACK, CanaryReason.CHECK_FAILED, message, rows)
    return None


def _missing(increments: Increments, rows: tuple[Row, ...], memory: JudgeMemory) -> Verdict | None:
    """Say that an arm or a metric cannot be seen: not decided, whatever was seen before."""
    for arm, added, reason in (
        ("canary", increments.canary, CanaryReason.CANARY_METRICS_MISSING),
        ("stable", increments.stable, CanaryReason.STABLE_METRICS_MISSING),
    ):
        if added is None:
            message = f"counters of the {arm} arm could not be read: nothing is decided without them"
            return _verdict(VerdictKind.INSUFFICIENT, reason, message, rows)
    if memory.seconds < SETTLING_SECONDS or memory.requests < 1:
        return None
    for row in rows:
        evidence = row.evidence
        if evidence.metric != STOP_LOSS and evidence.missing:
            reason = CanaryReason.CANARY_METRICS_MISSING
            if evidence.missing == NO_STABLE:
                reason = CanaryReason.STABLE_METRICS_MISSING
            if evidence.missing == BUCKETS_TOO_COARSE:
                reason = CanaryReason.BUCKETS_TOO_COARSE
            message = (
                f"{evidence.metric}: {evidence.missing}, while {memory.requests:,.0f} requests reached the "
                "canary; what is not measured cannot pass"
            )
            return _verdict(VerdictKind.INSUFFICIENT, reason, message, rows)
    return None


def _promoted(rows: tuple[Row, ...], memory: JudgeMemory, limits: JudgeLimits) -> Verdict | None:
    tested = _tested(rows)
    if not _good(rows, [row.log10_for for row in tested], memory, limits):
        return None
    message = canary_words.promotion(tested, limits)
    return _verdict(VerdictKind.PROMOTE, CanaryReason.NO_WORSE, message, rows, needed=0.0, seconds=0.0)


def _so_far_good(rows: tuple[Row, ...], memory: JudgeMemory, limits: JudgeLimits) -> Verdict | None:
    """Say that it is good at the load it has had: enough for the next step, which shows it under more."""
    if not _good(rows, [row.log10_for_step for row in _tested(rows)], memory, limits):
        return None
    needed, seconds = _time_needed(rows, memory)
    say = canary_words.so_far_good(limits, needed, seconds)
    kind, reason = VerdictKind.NEXT_STEP, CanaryReason.NO_WORSE_AT_LESS_LOAD
    return _verdict(kind, reason, say, rows, needed=needed, seconds=seconds)


def _tested(rows: tuple[Row, ...]) -> list[Evidence]:
    return [row.evidence for row in rows if row.evidence.for_threshold > 0]


def _good(rows: tuple[Row, ...], log10_for: list[float], memory: JudgeMemory, limits: JudgeLimits) -> bool:
    """Whether `log10_for` of every metric is enough, checks pass, and nothing speaks against it now."""
    against = [(row.against, row.evidence.against_threshold) for row in rows]
    in_favour = [each * math.log(10) for each in log10_for]
    passing = all(
        memory.checks[check.name].readings > 0 and memory.checks[check.name].in_a_row == 0
        for check in limits.threshold_checks
    )
    good = bool(in_favour) and bool(may_promote(in_favour, against, thresholds(limits).promotion))
    return good and passing


def _undecided(rows: tuple[Row, ...], memory: JudgeMemory, limits: JudgeLimits) -> Verdict:
    worst, rate = _worst(rows), memory.rate
    needed, seconds = _time_needed(rows, memory)
    say = canary_words.gathering(
        memory.requests,
        rate,
        needed=needed,
        seconds=seconds,
        worst=worst.evidence if worst else None,
    )
    kind, reason = VerdictKind.CONTINUE, CanaryReason.GATHERING
    deadline = limits.deadline_seconds
    if rate is None or memory.seconds < SETTLING_SECONDS:
        return _verdict(kind, reason, say, rows, needed=needed, seconds=seconds)
    if rate < LEAST_RATE_PER_SECOND:
        kind, reason = VerdictKind.INSUFFICIENT, CanaryReason.TOO_LITTLE_TRAFFIC
        say = f"less than {LEAST_RATE_PER_SECOND} req/s reach the canary; {say}"
    elif seconds is not None and deadline is not None and seconds > deadline:
        kind, reason = VerdictKind.INSUFFICIENT, CanaryReason.TOO_SLOW
        say = f"no verdict is to be expected in the {wording.span(deadline)} left; {say}"
    return _verdict(kind, reason, say, rows, needed=needed, seconds=seconds)


def _time_needed(rows: tuple[Row, ...], memory: JudgeMemory) -> tuple[float | None, float | None]:
    """Return how many more canary requests a verdict takes, and how long that is at the present rate."""
    needed, rate = _needed(rows, _worst(rows)), memory.rate
    return needed, needed / rate if needed is not None and rate else None


def _worst(rows: tuple[Row, ...]) -> Row | None:
    """Return the row that comes next to a rollback, None where nothing speaks against the canary."""
    leaning = [row for row in rows if row.against > NOTHING_AGAINST and row.evidence.ratio is not None]
    return max(
        leaning, key=lambda row: row.evidence.log10_against - row.evidence.against_threshold, default=None
    )


def _needed(rows: tuple[Row, ...], worst: Row | None) -> float | None:
    if worst is not None and worst.needed is not None:
        return worst.needed
    needed = [row.needed for row in rows if row.evidence.for_threshold > 0]
    known = [each for each in needed if each is not None]
    return max(known) if known and len(known) == len(needed) else None


def _verdict(
    kind: VerdictKind,
    reason: CanaryReason,
    message: str,
    rows: tuple[Row, ...],
    *,
    needed: float | None = None,
    seconds: float | None = None,
) -> Verdict:
    table: tuple[Evidence, ...] = tuple(row.evidence for row in rows)
    return Verdict(kind, reason, message, table, needed, seconds)
