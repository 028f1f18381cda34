"""What is said about a service: its conditions, from the same values that were decided on.

A condition is written for the person who reads `kubectl describe`: what is wrong, and what to do.
Times and transitions are added by whoever writes them down.
"""

from __future__ import annotations

from functools import lru_cache

from penstock.model.conditions import Finding, Status
from penstock.model.decision import Decision, Reason
from penstock.model.observation import Load, Observation
from penstock.model.reading import Absence, Reading
from penstock.model.spec import Metric, Mode, Objective, ServiceSpec, WorkloadType
from penstock.policy import wording
from penstock.policy.canary_conditions import CANARY_HEALTHY, NO_CANARY
from penstock.policy.estimate import Estimate
from penstock.policy.model_condition import MODEL_TRUSTED, NO_MODEL, model_finding
from penstock.policy.traffic_conditions import ADMISSION_LIMITED, FALLBACK_ACTIVE

# A percentile of fewer requests than this moves by itself; it neither meets nor misses anything.
FEWEST_REQUESTS = 20.0
# Once missed, an objective is met again only 5 % below it: a percentile that sits on its objective
# would otherwise turn the condition over at every scrape.
RECOVERY_RATIO = 0.95
_AVAILABLE = Finding("MetricsAvailable", Status.TRUE, "Available", "every signal was read")
_NOT_LIMITED = Finding(
    "ScalingLimited", Status.FALSE, "NotLimited", "nothing but the objectives decides the replica count"
)


def findings(
    spec: ServiceSpec,
    seen: Observation,
    estimate: Estimate,
    decision: Decision[int],
    *,
    refusal: tuple[str, str] | None,
    write_error: tuple[str, str] | None,
    missed_before: bool,
    window_seconds: float,
    traffic: tuple[Finding, ...] = (),
    canary: Finding = NO_CANARY,
) -> tuple[Finding, ...]:
    """Return all conditions.

    `refusal` and `write_error` are (reason, message): what the spec asks in vain, and why the API
    server refused the last write to /scale. `traffic` is what ``policy/traffic_conditions.py`` found,
    `canary` what ``policy/canary_conditions.py`` did.
    """
    if refusal is None and seen.pool is not None and not seen.conflict:
        ready, accepted = _in_order(spec.mode, str(spec.target))
    else:
        accepted = _accepted(spec, seen, refusal)
        ready = _ready(spec, accepted)
    return (
        ready,
        accepted,
        _metrics_available(seen, estimate, window_seconds),
        _objectives_met(
            spec, seen.load, estimate, missed_before=missed_before, window_seconds=window_seconds
        ),
        _scaling_limited(seen, decision, write_error),
        NO_MODEL if estimate.calibration is None else model_finding(estimate.calibration),
        *traffic,
        canary,
    )


def not_accepted(reason: str, message: str) -> tuple[Finding, ...]:
    """Return the conditions of a resource that cannot be acted upon at all."""
    waiting = "the spec is not accepted, see Accepted"
    return (
        Finding("Ready", Status.FALSE, "NotAccepted", waiting),
        Finding("Accepted", Status.FALSE, reason, message),
        Finding("MetricsAvailable", Status.UNKNOWN, "NotAccepted", waiting),
        Finding("ObjectivesMet", Status.UNKNOWN, "NotAccepted", waiting),
        Finding("ScalingLimited", Status.UNKNOWN, "NotAccepted", waiting),
        Finding(MODEL_TRUSTED, Status.UNKNOWN, "NotAccepted", waiting),
        Finding(ADMISSION_LIMITED, Status.UNKNOWN, "NotAccepted", waiting),
        Finding(FALLBACK_ACTIVE, Status.UNKNOWN, "NotAccepted", waiting),
        Finding(CANARY_HEALTHY, Status.UNKNOWN, "NotAccepted", waiting),
    )


# By strings and numbers, here and below: a dataclass as the key is hashed in a microsecond.
@lru_cache(maxsize=32_768)
def _in_order(mode: Mode, target: str) -> tuple[Finding, Finding]:
    """Return Ready and Accepted of a service without any trouble: the same ones at every tick."""
    does = {
        Mode.ENFORCE: ("Enforcing", f"replicas of {target} follow the decision"),
        Mode.OBSERVE: ("Observing", f"decisions are published, {target} is not touched"),
        Mode.PAUSED: ("Paused", f"nothing is decided, {target} keeps its replicas"),
    }
    accepted = Finding("Accepted", Status.TRUE, "Accepted", f"{target} found, the spec is valid")
    return Finding("Ready", Status.TRUE, *does[mode]), accepted


def _accepted(spec: ServiceSpec, seen: Observation, refusal: tuple[str, str] | None) -> Finding:
    if refusal is not None:
        return Finding("Accepted", Status.FALSE, *refusal)
    if seen.pool is None and spec.workload_type is WorkloadType.TEMPLATE:
        message = f"{spec.target} is being made from workload.template; CanaryHealthy says what hinders that"
        return Finding("Accepted", Status.UNKNOWN, "CreatingRevision", message)
    if seen.pool is None:
        where = f"{spec.target} does not exist in namespace {spec.key.namespace}"
        message = f"{where}: create it or correct workload.targetRef"
        return Finding("Accepted", Status.FALSE, "TargetNotFound", message)
    if seen.conflict and spec.mode is Mode.ENFORCE:
        message = (
            f"{seen.conflict} scales {spec.target} too: delete it and Penstock takes over from the count it "
            "finds, or set mode: Observe to only look"
        )
        return Finding("Accepted", Status.FALSE, Reason.CONFLICTING_AUTOSCALER.value, message)
    if seen.conflict:
        message = f"{seen.conflict} scales {spec.target} and goes on doing so in mode {spec.mode}"
        return Finding("Accepted", Status.TRUE, "OtherAutoscaler", message)
    return _in_order(spec.mode, str(spec.target))[1]


def _ready(spec: ServiceSpec, accepted: Finding) -> Finding:
    if accepted.status is not Status.TRUE:
        return Finding("Ready", Status.FALSE, "NotAccepted", f"{accepted.reason}: see condition Accepted")
    return _in_order(spec.mode, str(spec.target))[0]


def _metrics_available(seen: Observation, estimate: Estimate, window_seconds: float) -> Finding:
    load = seen.load
    for reading in (load.arrival_rate, load.waiting, load.running):
        if reading.absence is not None:
            return Finding("MetricsAvailable", Status.FALSE, reading.absence.value, reading.detail)
    if estimate.partial and estimate.partial_seconds >= window_seconds:
        # Every scale-up is partial until the new pods are scraped; that is no trouble.
        return Finding("MetricsAvailable", Status.FALSE, Absence.PARTIAL.value, estimate.partial)
    if load.warnings:
        return Finding("MetricsAvailable", Status.TRUE, "Warnings", "; ".join(load.warnings))
    return _AVAILABLE


def _objectives_met(
    spec: ServiceSpec, load: Load, estimate: Estimate, *, missed_before: bool, window_seconds: float
) -> Finding:
    if load.arrival_rate.value is None:
        return Finding(
            "ObjectivesMet",
            Status.UNKNOWN,
            "MetricsMissing",
            "requests cannot be counted, see MetricsAvailable",
        )
    if load.arrival_rate.value * window_seconds < FEWEST_REQUESTS:
        return Finding(
            "ObjectivesMet", Status.UNKNOWN, "FewRequests", "too few requests to judge a percentile"
        )
    met: list[str] = []
    missed: list[str] = []
    unknown: list[str] = []
    allowed_ratio = RECOVERY_RATIO if missed_before else 1.0
    for objective in spec.slo.objectives:
        name, limit = _words(objective.metric, objective.percentile, objective.seconds)
        reading = measured(load, objective)
        if reading is None or reading.value is None:
            unknown.append(f"{name} is not measured")
            continue
        text = f"{name} {wording.seconds(reading.value)} of {limit}"
        (missed if reading.value > objective.seconds * allowed_ratio else met).append(text)
    if missed:
        reason = "ObjectiveUnreachable" if estimate.unreachable else "ObjectiveMissed"
        return Finding("ObjectivesMet", Status.FALSE, reason, "; ".join([*missed, *estimate.unreachable]))
    if unknown:
        return Finding("ObjectivesMet", Status.UNKNOWN, "NotMeasured", "; ".join([*unknown, *met]))
    return Finding("ObjectivesMet", Status.TRUE, "ObjectivesMet", "; ".join(met))


@lru_cache(maxsize=4096)
def _words(metric: Metric, percentile: float, seconds: float) -> tuple[str, str]:
    """Return an objective's name and limit; a fleet has a handful of them, and asks at every tick."""
    return wording.objective(Objective(metric, percentile, seconds)), wording.seconds(seconds)


def _scaling_limited(
    seen: Observation, decision: Decision[int], write_error: tuple[str, str] | None
) -> Finding:
    if write_error is not None:
        return Finding("ScalingLimited", Status.TRUE, *write_error)
    if decision.reason in (Reason.AT_MAXIMUM, Reason.RATE_LIMITED):
        return Finding("ScalingLimited", Status.TRUE, decision.reason.value, decision.message)
    pool = seen.pool
    if pool is not None and pool.stuck:
        reason = "Unschedulable" if pool.unschedulable else "PodsStuck"
        if "quota" in pool.stuck_cause:
            reason = "QuotaExceeded"
        message = f"{pool.stuck} of {pool.target} replicas will not start: {pool.stuck_cause}"
        return Finding("ScalingLimited", Status.TRUE, reason, message)
    if decision.value is None or pool is None:
        return Finding("ScalingLimited", Status.UNKNOWN, decision.reason.value, decision.message)
    return _NOT_LIMITED


def measured(load: Load, objective: Objective) -> Reading | None:
    """Return the reading that an objective is about; None where it was not read."""
    if objective.metric is Metric.TTFT:
        return load.ttft.get(objective.percentile)
    family = load.tpot if objective.metric is Metric.TPOT else load.latency
    return family.get(objective.percentile)
