"""Memory after a restart, from what the cluster and Prometheus still know."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from penstock.model.conditions import ConditionType, read_conditions
from penstock.model.decision import Decision, Reason
from penstock.model.objective_counts import parse_days
from penstock.model.spec import Mode, ServiceSpec
from penstock.model.traffic import FleetLimit
from penstock.policy.admission import AdmissionMemory
from penstock.policy.beliefs import LoopTimes
from penstock.policy.calibration import CalibrationMemory
from penstock.policy.demand import begun_demand, observe_rate
from penstock.policy.error_budget import BudgetMemory
from penstock.policy.forecast import ForecastMemory
from penstock.policy.lead_time import LeadTimeMemory, lead_seconds
from penstock.policy.memory import ServiceMemory
from penstock.policy.replicas import ReplicaMemory
from penstock.policy.season import restored_season
from penstock.policy.speed import SpeedMemory

HISTORY_SECONDS = 5400.0  # as much as the forecast keeps
# And an hour: the quarter of an hour under way is not in today's mean yet, so yesterday's is looked up.
DAY_SECONDS = 86_400.0 + 3600.0


def restored_memory(status: Mapping[str, Any], now: float) -> ServiceMemory:
    """Read learned start-up times, speed and an emergency floor back from a status; {} is none."""
    learned = status.get("learned") or {}
    warm, new_node = learned.get("warmStartSeconds"), learned.get("newNodeStartSeconds")
    lead = LeadTimeMemory(
        warm_seconds=() if warm is None else (float(warm),),
        new_node_seconds=() if new_node is None else (float(new_node),),
    )
    speed, calibration = SpeedMemory(), CalibrationMemory()
    ratio = _positive(learned.get("speedRatio"))
    if ratio is not None:
        speed, calibration = SpeedMemory.restored(ratio), CalibrationMemory.restored(ratio)
    replicas = ReplicaMemory(said=_said(status))
    floor = status.get("foreignFloor") or {}
    until = _unix_seconds(str(floor.get("until", "")))
    if until is not None and until > now:
        replicas = replace(replicas, floor=int(floor.get("replicas", 0)), floor_until=until)
    return ServiceMemory(
        lead=lead, speed=speed, replicas=replicas, admission=_admission(status), calibration=calibration
    )


def restored_budget(status: Mapping[str, Any]) -> BudgetMemory:
    """Read back what the error budgets were counted from."""
    found = {
        (str(each.get("name")), str(each.get("target"))): parse_days(each.get("days") or ())
        for each in status.get("objectives") or ()
    }
    return BudgetMemory({key: days for key, days in found.items() if days})


def with_history(
    memory: ServiceMemory,
    spec: ServiceSpec,
    rates: Iterable[tuple[float, float]],
    times: LoopTimes,
    day: Iterable[tuple[float, float]] = (),
) -> ServiceMemory:
    """Let the demand estimate see past arrival rates, (Unix seconds, 1/s) oldest first.

    `rates` are one a cell, of the last hour and a half; `day` one a quarter of an hour, of the last day.
    """
    demand = begun_demand(str(spec.key), times.cell_seconds)
    demand = replace(demand, forecast=ForecastMemory(season=restored_season(day)))
    for at, rate in rates:
        ahead = lead_seconds(
            memory.lead,
            initial_seconds=spec.replicas.initial_startup_seconds,
            now=at,
            tick_seconds=times.tick_seconds,
        )
        demand = observe_rate(
            demand,
            rate,
            at,
            lead_seconds=ahead,
            window_seconds=times.rate_window_seconds,
            cell_seconds=times.cell_seconds,
        )
    return replace(memory, demand=demand)


def _admission(status: Mapping[str, Any]) -> AdmissionMemory:
    """Return the limits of a replica that were shown: gateways keep them until the model is solved again."""
    shown = status.get("admission") or {}
    running, queued = shown.get("runningPerReplica"), shown.get("queuedPerReplica")
    if not isinstance(running, int) or not isinstance(queued, int) or running < 1 or queued < 0:
        return AdmissionMemory()
    mode = Mode.ENFORCE if shown.get("mode") == Mode.ENFORCE.value else Mode.OBSERVE
    reasons = {each.type: each.reason for each in read_conditions(status)}
    reason = reasons.get(ConditionType.ADMISSION_LIMITED.value, "")
    return AdmissionMemory.restored(FleetLimit(running, queued), mode, reason)


def _said(status: Mapping[str, Any]) -> Decision[int] | None:
    """Return the decision that the status shows, so that a restart does not rewrite its sentence."""
    decision = status.get("decision") or {}
    try:
        reason = Reason(decision.get("reason", ""))
    except ValueError:
        return None
    return Decision((status.get("replicas") or {}).get("desired"), reason, str(decision.get("message", "")))


def _positive(text: object) -> float | None:
    """Parse a positive number; None for anything else."""
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _unix_seconds(text: str) -> float | None:
    """Parse an RFC 3339 time; None for anything else."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
