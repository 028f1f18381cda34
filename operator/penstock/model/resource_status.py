"""``status`` of an InferenceService: built from values, and written only when that tells something.

At once when a condition, a reason, the wanted count or a floor changes; otherwise at most once in 60
seconds, and only if a replica count or a wording changed, a signal came or went, or a number moved by
more than 10 %. Every write is a revision in etcd and an event for everybody who watches.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.model.conditions import Condition, differ, read_conditions, timestamp, truncated
from penstock.model.decision import Decision
from penstock.model.duration import format_duration, parse_duration
from penstock.model.observation import Load, Pool
from penstock.model.reading import Reading
from penstock.model.spec import Objective

NUMBERS_EVERY_SECONDS = 60.0
MOVED_RATIO = 0.1
SIGNIFICANT_DIGITS = 3
_MOST_REPLICAS = 1_000_000
_LARGEST_NUMBER = 1e9  # a rate beyond it is a broken query, and does not fit the field


@dataclass(frozen=True, slots=True)
class ObjectiveProgress:
    """An objective as status shows it; None for what is not known."""

    name: str
    target: str
    measured: str | None = None
    budget_remaining_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Learned:
    """What was measured of a workload and must survive a restart; None until it was."""

    warm_start_seconds: float | None = None
    new_node_start_seconds: float | None = None
    speed_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Floor:
    """A target that somebody else raised, kept as a minimum until `until` (Unix seconds)."""

    replicas: int
    until: float


@dataclass(frozen=True, slots=True)
class StatusValues:
    """All that status shows of one service."""

    generation: int
    conditions: tuple[Condition, ...]
    decision: Decision[int] | None = None  # None: the spec is not accepted, nothing is decided
    decided_at: float = 0.0  # when its reason or value last changed, Unix seconds
    pool: Pool | None = None
    load: Load | None = None
    utilization_ratio: float | None = None
    objectives: tuple[ObjectiveProgress, ...] = ()
    learned: Learned = Learned()
    floor: Floor | None = None


def latency_progress(
    objective: Objective, measured: Reading | None, budget_remaining_ratio: float | None = None
) -> ObjectiveProgress:
    """Return the progress of a latency objective."""
    seconds = measured.value if measured is not None else None
    return ObjectiveProgress(
        objective.name, format_duration(objective.seconds), _duration(seconds), budget_remaining_ratio
    )


def availability_progress(
    target_ratio: float, measured_ratio: float | None = None, budget_remaining_ratio: float | None = None
) -> ObjectiveProgress:
    """Return the progress of the availability objective."""
    measured = None if measured_ratio is None else f"{measured_ratio * 100:.4g}%"
    return ObjectiveProgress("availability", f"{target_ratio * 100:.6g}%", measured, budget_remaining_ratio)


def build_status(values: StatusValues) -> dict[str, Any]:
    """Return ``status`` as the API stores it; what is not known is absent, never zero or null."""
    decision = values.decision
    status = {
        "observedGeneration": values.generation,
        "replicas": _replicas(values.pool, None if decision is None else decision.value),
        "load": _load(values.load, values.utilization_ratio),
        "objectives": [_objective(each) for each in values.objectives],
        "budgetRemainingPercent": _budget(values.objectives),
        "learned": _present(
            warmStartSeconds=_count(values.learned.warm_start_seconds),
            newNodeStartSeconds=_count(values.learned.new_node_start_seconds),
            speedRatio=_number(values.learned.speed_ratio),
        ),
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


def meaningful_change(old: Mapping[str, Any], new: Mapping[str, Any], *, seconds_since_write: float) -> bool:
    """Whether `new` is worth a write now. `old` is what the API server has, {} when it has none."""
    if differ(read_conditions(old), read_conditions(new)):
        return True
    if any(old.get(name) != new.get(name) for name in ("observedGeneration", "foreignFloor")):
        return True
    if _decided(old) != _decided(new):
        return True
    if seconds_since_write < NUMBERS_EVERY_SECONDS:
        return False
    before, after = dict(_numbers(old)), dict(_numbers(new))
    if before.keys() != after.keys() or old.get("replicas") != new.get("replicas"):
        return True
    if _wordings(old) != _wordings(new):
        return True
    # Negated so that NaN, a number which nobody can read, counts as moved.
    return not all(abs(after[name] - before[name]) <= MOVED_RATIO * abs(before[name]) for name in after)


def status_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch (RFC 7386) that makes `old` into `new`: null for what is gone."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        known = old.get(name)
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            if inner := status_patch(known, value):
                patch[name] = inner
        elif known != value:
            patch[name] = value
    return patch


def _replicas(pool: Pool | None, desired: int | None) -> dict[str, Any]:
    ready = None if pool is None else _count(pool.ready)
    counts = _present(
        current=None if pool is None else _count(pool.current), ready=ready, desired=_count(desired)
    )
    if not counts:
        return {}
    ready_text, desired_text = (str(counts.get(name, "-")) for name in ("ready", "desired"))
    return counts | {"summary": f"{ready_text}/{desired_text}"}


def _load(load: Load | None, utilization_ratio: float | None) -> dict[str, Any]:
    if load is None:
        return {}

    def p95(readings: Mapping[float, Reading]) -> str | None:
        reading = readings.get(0.95)
        return None if reading is None else _duration(reading.value)

    signals = _present(
        arrivalRate=_number(load.arrival_rate.value),
        utilizationPercent=_percent(utilization_ratio, lowest=0, highest=100_000),
        ttftP95=p95(load.ttft),
        tpotP95=p95(load.tpot),
        latencyP95=p95(load.latency),
    )
    return signals | {"source": "Engine"} if signals else {}


def _objective(progress: ObjectiveProgress) -> dict[str, Any]:
    return _present(
        name=progress.name,
        target=progress.target,
        measured=progress.measured,
        budgetRemainingPercent=_percent(progress.budget_remaining_ratio, lowest=-10_000, highest=100),
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


def _decided(status: Mapping[str, Any]) -> tuple[object, ...]:
    decision, replicas = status.get("decision") or {}, status.get("replicas") or {}
    return decision.get("reason"), replicas.get("desired")


def _wordings(status: Mapping[str, Any]) -> list[str]:
    """Return all messages without their numbers: those move at every look and are compared apart."""
    messages = [(status.get("decision") or {}).get("message", "")]
    messages += [entry.get("message", "") for entry in status.get("conditions") or ()]
    return [re.sub(r"[0-9][0-9.,]*( ?m?s)?", "#", message) for message in messages]


def _numbers(status: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield every published number by its path."""
    for section in ("load", "learned"):
        for name, value in (status.get(section) or {}).items():
            if name != "source":
                yield f"{section}.{name}", _value(value)
    for objective in status.get("objectives") or ():
        for name in ("measured", "budgetRemainingPercent"):
            if name in objective:
                yield f"objectives.{objective['name']}.{name}", _value(objective[name])


def _value(published: object) -> float:
    """Return a published number; NaN for what somebody else wrote there."""
    text = str(published)
    try:
        return parse_duration(text) if text.endswith(("s", "m", "h")) else float(text.removesuffix("%"))
    except ValueError:
        return math.nan
