"""``status.canary``: where a new revision stands, and its evidence as people read it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from penstock.model.canary import CanaryPhase
from penstock.model.canary_verdict import Evidence
from penstock.model.conditions import timestamp, truncated
from penstock.model.duration import format_duration

MOST_ROWS = 16
_WITH_A_SHARE = (
    CanaryPhase.TESTING,
    CanaryPhase.PAUSED,
    CanaryPhase.INCONCLUSIVE,
    CanaryPhase.PROMOTING,
    CanaryPhase.PROMOTED,
)
_MOST_REQUESTS = 10**15
_MOST_PERCENT = 1000
_LARGEST_RATIO = 1e6


@dataclass(frozen=True, slots=True)
class CanaryShown:
    """What status shows of a canary; "" and None for what is not known or does not apply.

    `step` counts from 1 of `steps`, 0: none is in force. `memory` is what a restarted operator needs.
    """

    phase: CanaryPhase = CanaryPhase.IDLE
    since: float | None = None
    revision: str = ""
    stable_revision: str = ""
    rejected_revision: str = ""
    rejected_because: str = ""
    rejected_before: tuple[str, ...] = ()
    step: int = 0
    steps: int = 0
    weight_percent: int = 0
    evidence: str = ""
    rows: tuple[Evidence, ...] = ()
    memory: str = ""


def canary_status(shown: CanaryShown | None) -> dict[str, Any]:
    """Return ``status.canary``; empty while no revision can be tried."""
    if shown is None:
        return {}
    status = {
        "phase": shown.phase.value,
        "since": None if shown.since is None else timestamp(shown.since),
        "summary": summary(shown),
        "revision": shown.revision,
        "stableRevision": shown.stable_revision,
        "rejectedRevision": shown.rejected_revision,
        "rejectedBecause": truncated(shown.rejected_because),
        "rejectedBefore": list(shown.rejected_before),
        "step": f"{shown.step}/{shown.steps}" if shown.step else None,
        "weightPercent": shown.weight_percent,
        "evidence": truncated(shown.evidence),
        "rows": [evidence_row(row) for row in shown.rows[:MOST_ROWS]],
        "memory": shown.memory,
    }
    return {name: value for name, value in status.items() if value is not None and value not in ("", [])}


def summary(shown: CanaryShown) -> str:
    """Return phase and share for the printed column: ``Testing 20%``, ``RolledBack``."""
    if shown.phase in _WITH_A_SHARE and shown.weight_percent:
        return f"{shown.phase.value} {shown.weight_percent}%"
    return shown.phase.value


def evidence_row(row: Evidence) -> dict[str, Any]:
    """Return one metric's evidence; a metric that is missing has no numbers."""
    if row.missing:
        return {"metric": row.metric, "missing": truncated(row.missing, 256)}
    fields = {
        "metric": row.metric,
        "canaryRequests": _count(row.canary_total),
        "canaryBad": _count(row.canary_failures),
        "stableRequests": _count(row.stable_total),
        "stableBad": _count(row.stable_failures),
        "edge": _edge(row.edge_seconds),
        "ratio": _ratio(row.ratio),
        "interval": _interval(row.ratio_low, row.ratio_high),
        "againstPercent": reached_percent(row.log10_against, row.against_threshold),
        "forPercent": reached_percent(row.log10_for, row.for_threshold),
    }
    return {name: value for name, value in fields.items() if value is not None}


def reached_percent(log10_evidence: float, threshold: float) -> int | None:
    """Return how far evidence is towards its threshold, both logarithms to base 10; None without one."""
    if threshold <= 0 or not math.isfinite(log10_evidence):
        return None
    return round(min(max(0.0, 100 * log10_evidence / threshold), _MOST_PERCENT))


def _count(value: float) -> int | None:
    return min(max(0, round(value)), _MOST_REQUESTS) if math.isfinite(value) else None


def _edge(seconds: float | None) -> str | None:
    return None if seconds is None or not 0 < seconds < 1e6 else format_duration(seconds)


def _ratio(value: float | None) -> str | None:
    if value is None or not 0 <= value < _LARGEST_RATIO:
        return None
    return f"{float(f'{value:.3g}'):.6f}".rstrip("0").rstrip(".")


def _interval(low: float | None, high: float | None) -> str | None:
    lower, upper = _ratio(low), _ratio(high)
    return None if lower is None or upper is None else f"{lower} to {upper}"
