"""From the counters of both arms to a verdict, tick by tick, in one run of a canary.

A run begins with an empty judge. Counters are looked at before the first request, so that none is missed;
they are evidence from the end of the warm-up on, and only while both arms get requests (`plan.judged`).
Who counts errors is chosen once a run: two counters would count some requests twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog

from penstock.controller.canary_state import CanaryState, Evidence
from penstock.metrics_source.arms import ArmsRead, ErrorSource
from penstock.model.canary import CANARY_ANNOTATION, CanaryPhase, CanaryPlan
from penstock.model.canary_counts import LATENCY_METRICS, ArmIncrement, Increments, Metric
from penstock.model.canary_spec import CanarySpec, CheckType
from penstock.model.canary_verdict import CanaryReason, JudgeLimits, ThresholdCheck, Verdict, VerdictKind
from penstock.model.spec import RoutingType, ServiceSpec
from penstock.policy.canary_counts import advance, exclude_until
from penstock.policy.canary_errors import error_limits
from penstock.policy.canary_judge import JudgeMemory, judge

log = structlog.get_logger(__name__)
NOTHING = ArmIncrement()
_MISSING = (CanaryReason.CANARY_METRICS_MISSING, CanaryReason.STABLE_METRICS_MISSING)
# Longer than the gateways' window, so that the rate is not that of a single scrape.
RATE_WINDOW_SECONDS = 60.0
FAILED = "a canary could not be judged"


def is_counted(spec: ServiceSpec, plan: CanaryPlan | None) -> bool:
    """Whether the counters of both arms are to be read for what comes next."""
    if spec.canary is None or plan is None or not plan.run:
        return False
    return plan.judged or plan.weight_percent > 0 or plan.phase is CanaryPhase.WARMING


def judged_metrics(spec: ServiceSpec) -> tuple[Metric, ...]:
    """Return what a canary is judged by: errors, and the latencies that have objectives."""
    named = dict.fromkeys(Metric(each.metric.value) for each in spec.slo.objectives)
    return (Metric.ERRORS, *named)


def error_source(spec: ServiceSpec) -> ErrorSource:
    """Return who counts errors: gateways see a refused connection too, engines only what they answered."""
    return ErrorSource.GATEWAY if spec.routing.type is RoutingType.ENVOY else ErrorSource.ENGINE


def judge_limits(
    spec: ServiceSpec, canary: CanarySpec, *, deadline_seconds: float | None, load: LoadSeen
) -> JudgeLimits:
    """Return what counts as worse for a service."""
    increase, stop_loss = error_limits(spec.slo.availability_ratio)
    return JudgeLimits(
        metrics=judged_metrics(spec),
        max_regression_ratio=1.0 + canary.max_regression_percent / 100.0,
        error_increase=increase,
        error_stop_loss=stop_loss,
        expected_ratio=load.expected_ratio,
        unlike=load.unlike,
        load_ratio=load.ratio,
        counter_checks=tuple(each.name for each in canary.checks if each.type is CheckType.COUNTERS),
        threshold_checks=tuple(
            ThresholdCheck(each.name, each.at_least, each.at_most, each.failures_allowed)
            for each in canary.checks
            if each.type is CheckType.THRESHOLD
        ),
        deadline_seconds=deadline_seconds,
    )


@dataclass(frozen=True, slots=True)
class LoadSeen:
    """What the loads of both arms mean for a block, in the terms of JudgeLimits."""

    ratio: float | None
    unlike: frozenset[Metric]
    expected_ratio: Mapping[Metric, float]


def _load_seen(state: CanaryState, began: float) -> LoadSeen:
    """Return what is known of the loads of a block that `began` then (Unix seconds).

    Right after a restart nothing is: no block counts in favour until the load has been looked at.
    """
    alike = (metric for metric, since in state.alike_from.items() if began >= since)
    expected = {metric: each.expected_ratio for metric, each in state.compared.items()}
    return LoadSeen(state.load_ratio, frozenset(LATENCY_METRICS).difference(alike), expected)


def take_evidence(spec: ServiceSpec, state: CanaryState, now: float) -> Verdict | None:
    """Let the judge see what came since the last tick; return its verdict on the run under way.

    `state.plan` is what was in force meanwhile. `now` in Unix seconds.
    """
    plan, evidence = state.plan, state.evidence
    if spec.canary is not None and plan is None and evidence.run and evidence.verdict is None:
        # A new process: what was counted before says what it said then.
        limits = judge_limits(spec, spec.canary, deadline_seconds=None, load=_load_seen(state, now))
        evidence.verdict, _ = _judged(spec, evidence, Increments(now, 0.0, NOTHING, NOTHING), limits, now)
    if spec.canary is None or plan is None or not plan.run:
        return evidence.verdict if plan is None and evidence.run else None
    if evidence.run != plan.run:
        evidence = state.evidence = Evidence(run=plan.run)
    if plan.evidence_from is not None and plan.evidence_from != evidence.excluded_until:
        evidence.counts = exclude_until(evidence.counts, plan.evidence_from)
        evidence.excluded_until = plan.evidence_from
        evidence.added = ()  # at another share, and nothing is added before the warm-up is over
    read = state.read
    if read is None:
        return evidence.verdict
    increments, evidence.counts = advance(evidence.counts, read.stable, read.canary)
    added = increments.canary.requests if increments.canary is not None else None
    if added is not None:
        _count(evidence, increments.at, added)
    left = None if plan.deadline_at is None else max(0.0, plan.deadline_at - now)
    load = _load_seen(state, increments.at - increments.seconds)
    limits = judge_limits(spec, spec.canary, deadline_seconds=left, load=load)
    if plan.judged:
        verdict, evidence.judge = _judged(spec, evidence, increments, limits, now)
        evidence.verdict = _with_cause(verdict, read)
    elif plan.phase is CanaryPhase.WARMING:
        # Nothing of the canary's is evidence yet; the stable arm's level is learned for the first block.
        alone = replace(increments, canary=None)
        _, evidence.judge = _judged(spec, evidence, alone, limits, now)
    return evidence.verdict


def _judged(
    spec: ServiceSpec, evidence: Evidence, increments: Increments, limits: JudgeLimits, now: float
) -> tuple[Verdict, JudgeMemory]:
    """Return the judge's verdict and memory; where it fails a verdict that says so, and an empty one."""
    try:
        return judge(evidence.judge, increments, limits, now)
    except Exception as error:
        # A defect met by one canary must not stop the decisions about all other services.
        log.exception(FAILED, service=str(spec.key))
        message = (
            f"a defect of Penstock, {error!r:.200}: the evidence begins anew; report it with the log line "
            f'"{FAILED}", or annotate {CANARY_ANNOTATION} with promote or abort'
        )
        return Verdict(VerdictKind.INSUFFICIENT, CanaryReason.JUDGE_FAILED, message), JudgeMemory()


def canary_rate(evidence: Evidence, now: float, *, stale_seconds: float) -> float | None:
    """Return the requests a second that the canary's engines finished lately.

    None until it is known, and once nothing was added for `stale_seconds` before `now` (Unix seconds).
    """
    if len(evidence.added) < 2:
        return None
    (first, before), (last, after) = evidence.added[0], evidence.added[-1]
    if now - last > stale_seconds:
        return None  # its series are gone: what it finished ten minutes ago is no rate of today
    return (after - before) / (last - first) if last > first else None


def _count(evidence: Evidence, at: float, added: float) -> None:
    total = (evidence.added[-1][1] if evidence.added else 0.0) + added
    kept = tuple(each for each in evidence.added if each[0] >= at - RATE_WINDOW_SECONDS)
    evidence.added = (*kept, (at, total))


def _with_cause(verdict: Verdict, read: ArmsRead) -> Verdict:
    """Return a verdict on missing metrics with why they are missing."""
    if verdict.reason not in _MISSING:
        return verdict
    arm = "Canary" if verdict.reason is CanaryReason.CANARY_METRICS_MISSING else "Stable"
    why = next((each.message for each in read.lacks if each.arm.value == arm), "")
    return replace(verdict, message=f"{verdict.message}: {why}") if why else verdict
