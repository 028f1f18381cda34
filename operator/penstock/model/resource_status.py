"""``status`` of an InferenceService, built from values: rounded, and without what is not known.

When a status is worth a write: ``model/status_change.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from penstock.model.canary_status import CanaryShown, canary_status
from penstock.model.conditions import Condition, timestamp, truncated
from penstock.model.decision import Decision
from penstock.model.duration import format_duration
from penstock.model.objective_counts import Days, format_days, format_percent
from penstock.model.observation import Load, Pool
from penstock.model.reading import Reading
from penstock.model.spec import Mode, Objective

SIGNIFICANT_DIGITS = 3
NO_DAYS: Days = {}
_MOST_REPLICAS = 1_000_000
_MOST_IN_FLIGHT = 1_000_000_000
_LARGEST_NUMBER = 1e9  # a rate beyond it is a broken query, and does not fit the field


class LoadSource(StrEnum):
    """Where requests are counted."""

    ENGINE = "Engine"
    GATEWAY = "Gateway"


@dataclass(frozen=True, slots=True)
class ObjectiveProgress:
    """An objective as status shows it; None for what is not known."""

    name: str
    target: str
    measured: str | None = None
    budget_remaining_ratio: float | None = None
    days: Days = field(default_factory=dict)  # what the budget is counted from


@dataclass(frozen=True, slots=True)
class LengthsShown:
    """Mean lengths in tokens and their squared coefficients of variation, as decisions go by them."""

    input_tokens: float
    input_scv: float
    output_tokens: float
    output_scv: float


@dataclass(frozen=True, slots=True)
class FactorsShown:
    """Fitted factors on the profile's step times, as decisions go by them: above 1 slower."""

    overhead: float
    compute: float
    memory: float


@dataclass(frozen=True, slots=True)
class Learned:
    """What was measured of a workload, most of which must survive a restart; None until it was."""

    warm_start_seconds: float | None = None
    new_node_start_seconds: float | None = None
    speed_ratio: float | None = None
    lengths: LengthsShown | None = None
    factors: FactorsShown | None = None


@dataclass(frozen=True, slots=True)
class Floor:
    """A target that somebody else raised, kept as a minimum until `until` (Unix seconds)."""

    replicas: int
    until: float


@dataclass(frozen=True, slots=True)
class AdmissionShown:
    """The limit on requests in flight. `in_flight_limit` None: the replicas it is for are not known."""

    in_flight_limit: int | None
    running_per_replica: int
    queued_per_replica: int
    enforced: bool  # else only shown
    shed_ratio: float | None = None  # of the offered requests


@dataclass(frozen=True, slots=True)
class FallbackShown:
    """Where the excess goes, and which share of the offered requests."""

    backend: str
    ratio: float


@dataclass(frozen=True, slots=True)
class StatusValues:
    """All that status shows of one service."""

    generation: int
    conditions: tuple[Condition, ...]
    decision: Decision[int] | None = None  # None: the spec is not accepted, nothing is decided
    decided_at: float = 0.0  # when its reason or value last changed, Unix seconds
    pool: Pool | None = None
    load: Load | None = None
    offered_per_second: float | None = None  # as decisions go by it; None: only what is served is known
    load_source: LoadSource = LoadSource.ENGINE
    utilization_ratio: float | None = None
    objectives: tuple[ObjectiveProgress, ...] = ()
    learned: Learned = Learned()
    floor: Floor | None = None
    admission: AdmissionShown | None = None  # None: there is no limit
    fallback: FallbackShown | None = None  # None: there is none that may be used
    canary: CanaryShown | None = None  # None: no revision can be tried


def latency_progress(
    objective: Objective,
    measured: Reading | None,
    budget_remaining_ratio: float | None = None,
    days: Days = NO_DAYS,
) -> ObjectiveProgress:
    """Return the progress of a latency objective."""
    seconds = measured.value if measured is not None else None
    target = format_duration(objective.seconds)
    return ObjectiveProgress(objective.name, target, _duration(seconds), budget_remaining_ratio, days)


def availability_progress(
    target_ratio: float,
    measured_ratio: float | None = None,
    budget_remaining_ratio: float | None = None,
    days: Days = NO_DAYS,
) -> ObjectiveProgress:
    """Return the progress of the availability objective."""
    measured = None if measured_ratio is None else f"{measured_ratio * 100:.4g}%"
    target = format_percent(target_ratio)
    return ObjectiveProgress("availability", target, measured, budget_remaining_ratio, days)


def build_status(values: StatusValues) -> dict[str, Any]:
    """Return ``status`` as the API stores it; what is not known is absent, never zero or null."""
    decision = values.decision
    status = {
        "observedGeneration": values.generation,
        "replicas": _replicas(values.pool, None if decision is None else decision.value),
        "load": _load(values),
        "admission": _admission(values.admission),
        "fallback": _fallback(values.fallback),
        "canary": canary_status(values.canary),
        "objectives": [_objective(each) for each in values.objectives],
        "budgetRemainingPercent": _budget(values.objectives),
        "learned": _learned(values.learned),
        "conditions": [condition.to_dict() for condition in values.conditions],
    }
    if decision is not None:
        status["decision"] = {
            "reason": decision.reason.value,
            "message": truncated(decision.message),
            "time": timestamp(values.decided_at),
        }
    if values.floor is not None:
        status["foreignFloor"] = {"replicas": values.floor.replicas, "until": timestamp(values.floor.until)}
    return {name: value for name, value in status.items() if value is not None and value not in ({}, [])}


def _replicas(pool: Pool | None, desired: int | None) -> dict[str, Any]:
    ready = None if pool is None else _count(pool.ready)
    counts = _present(
        current=None if pool is None else _count(pool.current), ready=ready, desired=_count(desired)
    )
    if not counts:
        return {}
    ready_text, desired_text = (str(counts.get(name, "-")) for name in ("ready", "desired"))
    return counts | {"summary": f"{ready_text}/{desired_text}"}


def _load(values: StatusValues) -> dict[str, Any]:
    load, offered = values.load, values.offered_per_second
    if load is None:
        return {}

    def p95(readings: Mapping[float, Reading]) -> str | None:
        reading = readings.get(0.95)
        return None if reading is None else _duration(reading.value)

    signals = _present(
        arrivalRate=_number(load.arrival_rate.value if offered is None else offered),
        utilizationPercent=_percent(values.utilization_ratio, lowest=0, highest=100_000),
        ttftP95=p95(load.ttft),
        tpotP95=p95(load.tpot),
        latencyP95=p95(load.latency),
    )
    return signals | {"source": values.load_source.value} if signals else {}


def _learned(learned: Learned) -> dict[str, Any]:
    lengths, factors = learned.lengths, learned.factors
    return _present(
        warmStartSeconds=_count(learned.warm_start_seconds),
        newNodeStartSeconds=_count(learned.new_node_start_seconds),
        speedRatio=_number(learned.speed_ratio),
        overheadRatio=None if factors is None else _number(factors.overhead),
        computeRatio=None if factors is None else _number(factors.compute),
        memoryRatio=None if factors is None else _number(factors.memory),
        inputTokens=None if lengths is None else _count(lengths.input_tokens),
        inputScv=None if lengths is None else _number(lengths.input_scv),
        outputTokens=None if lengths is None else _count(lengths.output_tokens),
        outputScv=None if lengths is None else _number(lengths.output_scv),
    )


def _admission(shown: AdmissionShown | None) -> dict[str, Any]:
    if shown is None:
        return {}
    return _present(
        mode=(Mode.ENFORCE if shown.enforced else Mode.OBSERVE).value,
        maxInFlight=None if shown.in_flight_limit is None else min(shown.in_flight_limit, _MOST_IN_FLIGHT),
        runningPerReplica=_count(shown.running_per_replica),
        queuedPerReplica=_count(shown.queued_per_replica),
        shedPercent=_percent(shown.shed_ratio, lowest=0, highest=100),
    )


def _fallback(shown: FallbackShown | None) -> dict[str, Any]:
    if shown is None:
        return {}
    return _present(backend=shown.backend, percent=_percent(shown.ratio, lowest=0, highest=100))


def _objective(progress: ObjectiveProgress) -> dict[str, Any]:
    return _present(
        name=progress.name,
        target=progress.target,
        measured=progress.measured,
        budgetRemainingPercent=_percent(progress.budget_remaining_ratio, lowest=-10_000, highest=100),
        days=list(format_days(progress.days)) or None,
    )


def _budget(objectives: tuple[ObjectiveProgress, ...]) -> int | None:
    known = [each.budget_remaining_ratio for each in objectives if each.budget_remaining_ratio is not None]
    return _percent(min(known), lowest=-10_000, highest=100) if known else None


def _present(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _count(value: float | None) -> int | None:
    if value is None or not math.isfinite(value):
        return None
    return min(max(0, round(value)), _MOST_REPLICAS)


def _percent(ratio: float | None, *, lowest: int, highest: int) -> int | None:
    if ratio is None or not math.isfinite(ratio):
        return None
    return round(min(max(lowest, ratio * 100), highest))


def _rounded(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _number(value: float | None) -> str | None:
    if value is None or not abs(value) < _LARGEST_NUMBER:
        return None
    # 12345.0 reads "12300", 0.0001 reads "0.0001": no exponents, as the schema's other decimals.
    return f"{_rounded(value):.6f}".rstrip("0").rstrip(".")


def _duration(seconds: float | None) -> str | None:
    if seconds is None or not 0 <= seconds < 1e8:
        return None
    # Below half a millisecond is not "0s": that would read as nothing measured.
    return format_duration(max(_rounded(seconds), 0.001) if seconds else 0.0)
