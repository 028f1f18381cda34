"""Differences of a canary's counters, pod by pod.

* A value below the last one is a restart: the new value counts (Prometheus's own rule).
* A pod that was absent and is back: the difference counts, once.
* A pod first seen sets its baseline; what it counted before is no evidence. A restarted process counts
  from zero under the same name, so nothing is lost there.
* A changed bucket layout, a NaN or a count that falls along the edges: a new baseline, nothing counts.
* Warm-up: readings until `excluded_until` only move the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.model.canary_counts import ArmIncrement, ArmReading, CheckCounters, Increments, PodCounters


@dataclass(frozen=True, slots=True)
class ArmMemory:
    """The last counters of every pod of an arm, and when it was read last (Unix seconds)."""

    pods: Mapping[str, PodCounters] = field(default_factory=dict)
    checks: Mapping[tuple[str, str], CheckCounters] = field(default_factory=dict)
    at: float | None = None
    excluded_until: float | None = None


@dataclass(frozen=True, slots=True)
class CountsMemory:
    """Baselines of both arms. Not kept across a restart of the operator: the first reading is a new one."""

    stable: ArmMemory = ArmMemory()
    canary: ArmMemory = ArmMemory()


def exclude_until(memory: CountsMemory, at: float) -> CountsMemory:
    """Return the memory with the canary's counts before `at` (Unix seconds, its warm-up) left out."""
    raise NotImplementedError


def advance(
    memory: CountsMemory, stable: ArmReading | None, canary: ArmReading | None
) -> tuple[Increments, CountsMemory]:
    """Return what both arms added since the readings before, and the new baselines.

    An arm that could not be read is None: its increment is None and its baseline stays.
    """
    raise NotImplementedError
