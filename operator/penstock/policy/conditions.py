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
from penstock.model.references import is_service
from penstock.model.spec import Mode, ServiceSpec, WorkloadType
from penstock.policy.beliefs import NO_FAILURE
from penstock.policy.canary_conditions import CANARY_HEALTHY, NO_CANARY
from penstock.policy.estimate import Estimate
from penstock.policy.model_condition import MODEL_TRUSTED, NO_MODEL, model_finding
from penstock.policy.objectives_condition import FEWEST_REQUESTS, measured
from penstock.policy.traffic_conditions import ADMISSION_LIMITED, FALLBACK_ACTIVE

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
    objectives: Finding,
    window_seconds: float,
    traffic: tuple[Finding, ...] = (),
    canary: Finding = NO_CANARY,
) -> tuple[Finding, ...]:
    """Return all conditions.

    `refusal` and `write_error` are (reason, message): what the spec asks in vain, and why the API
    server refused the last write to /scale. `objectives` is what ``policy/objectives_condition.py``
    found, `traffic` what ``policy/traffic_conditions.py`` did, `canary` what
    ``policy/canary_conditions.py`` did.
    """
    if refusal is None and seen.pool is not None and not seen.conflict:
        ready, accepted = _in_order(spec.mode, str(spec.target))
    else:
        accepted = _accepted(spec, seen, refusal)
        ready = _ready(spec, accepted)
    return (
        ready,
        accepted,
        _metrics_available(spec, seen.load, estimate, objectives, window_seconds),
        objectives,
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
    if is_service(seen.conflict) and spec.mode is Mode.ENFORCE:
        message = (
            f"{seen.conflict} scales {spec.target} and was there first: name another workload in "
            "workload.targetRef, delete one of the two, or set mode: Observe to only look"
        )
        return Finding("Accepted", Status.FALSE, Reason.TARGET_CLAIMED.value, message)
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


def _metrics_available(
    spec: ServiceSpec, load: Load, estimate: Estimate, objectives: Finding, window_seconds: float
) -> Finding:
    for reading in (load.arrival_rate, load.waiting, load.running):
        if reading.absence is not None:
            return Finding("MetricsAvailable", Status.FALSE, reading.absence.value, reading.detail)
    for reading in (load.queue_growth, load.input_token_rate, load.output_token_rate, load.reporting_pods):
        if reading.absence is not None and reading.absence not in NO_FAILURE:
            return Finding("MetricsAvailable", Status.FALSE, reading.absence.value, reading.detail)
    age = load.sample_age_seconds
    if age.absence is Absence.PARTIAL:  # a Custom engine's ages may fail beside values that need none
        return Finding("MetricsAvailable", Status.FALSE, age.absence.value, age.detail)
    if estimate.partial and estimate.partial_seconds >= window_seconds:
        # Every scale-up is partial until the new pods are scraped; that is no trouble.
        return Finding("MetricsAvailable", Status.FALSE, Absence.PARTIAL.value, estimate.partial)
    # What is met is measured: most services are not looked at twice.
    for objective in () if objectives.status is Status.TRUE else spec.slo.objectives:
        percentile = measured(load, objective)
        if percentile is None or percentile.absence is None:
            continue
        if not _of_no_requests(percentile, load, window_seconds):
            return Finding("MetricsAvailable", Status.FALSE, percentile.absence.value, percentile.detail)
    if load.warnings:
        return Finding("MetricsAvailable", Status.TRUE, "Warnings", "; ".join(load.warnings))
    return _AVAILABLE


def _of_no_requests(percentile: Reading, load: Load, window_seconds: float) -> bool:
    """Whether a percentile is missing because there is next to nothing to take it of.

    A user's own ``histogram_quantile`` is NaN then, an engine's histogram begins with the first request
    that ends, and of few requests nothing is judged anyway.
    """
    if percentile.absence in (Absence.NOT_A_NUMBER, Absence.TOO_FEW_SAMPLES):
        return load.arrival_rate.otherwise(0.0) * window_seconds < FEWEST_REQUESTS
    return percentile.absence is Absence.NO_REQUESTS


def _scaling_limited(
    seen: Observation, decision: Decision[int], write_error: tuple[str, str] | None
) -> Finding:
    if write_error is not None:
        return Finding("ScalingLimited", Status.TRUE, *write_error)
    pool = seen.pool
    # Before the bounds: who raises replicas.max while pods wait for nodes gets more pods that wait.
    if pool is not None and pool.stuck:
        reason = "Unschedulable" if pool.unschedulable else "PodsStuck"
        if "quota" in pool.stuck_cause:
            reason = "QuotaExceeded"
        message = f"{pool.stuck} of {pool.target} replicas will not start: {pool.stuck_cause}"
        if decision.reason is Reason.AT_MAXIMUM:
            message += f"; {decision.message}"
        return Finding("ScalingLimited", Status.TRUE, reason, message)
    if decision.reason in (Reason.AT_MAXIMUM, Reason.RATE_LIMITED):
        return Finding("ScalingLimited", Status.TRUE, decision.reason.value, decision.message)
    if decision.value is None or pool is None:
        return Finding("ScalingLimited", Status.UNKNOWN, decision.reason.value, decision.message)
    return _NOT_LIMITED
