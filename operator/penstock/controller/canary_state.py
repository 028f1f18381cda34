"""What is kept of one service whose revisions are tried, beside the policy's memory; None for all others.

Plain mutable state, owned by the loop. `memory` and `judge` survive a restart in status.canary; the rest is
seen again within two ticks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.controller.pod_state import NONE_STUCK, StuckPods
from penstock.metrics_source.arms import ArmsRead, ErrorSource
from penstock.model.canary import NO_CANARY_MEMORY, CanaryMemory, CanaryPhase, CanaryPlan
from penstock.model.canary_counts import Metric
from penstock.model.canary_verdict import Verdict
from penstock.model.references import TargetRef
from penstock.policy.canary_counts import CountsMemory
from penstock.policy.canary_judge import JudgeMemory
from penstock.policy.canary_load import Comparison
from penstock.policy.canary_memory import restored_canary

Problem = tuple[str, str]  # reason, message


@dataclass(slots=True)
class Evidence:
    """What was counted in one run, and what the judge said last."""

    run: str = ""
    counts: CountsMemory = field(default_factory=CountsMemory)
    judge: JudgeMemory = field(default_factory=JudgeMemory)
    excluded_until: float | None = None  # the canary's warm-up, Unix seconds
    errors_from: ErrorSource | None = None  # who counts errors in this run
    verdict: Verdict | None = None
    # (Unix seconds, requests the canary added until then) of the last readings: its rate.
    added: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """What was told last in an Event and a log line."""

    phase: CanaryPhase = CanaryPhase.IDLE
    step: int = 0
    reason: str = ""


@dataclass(slots=True)
class CanaryState:
    """Mutable state of one service's canary."""

    memory: CanaryMemory = NO_CANARY_MEMORY
    dry_run: bool = False  # nothing that is decided is done
    evidence: Evidence = field(default_factory=Evidence)
    plan: CanaryPlan | None = None  # of the last tick
    read: ArmsRead | None = None  # both arms, as of this tick
    # Of the load that the plan gives the arms: its ratio, what it means for each latency, and from when on
    # (Unix seconds) counters show nothing but like load; no such time: it is not alike.
    load_ratio: float | None = None
    compared: Mapping[Metric, Comparison] = field(default_factory=dict)
    alike_from: dict[Metric, float] = field(default_factory=dict)
    # Revisions: the stable one of an owned workload; both of an adopted canary, as its templates say.
    stable: str = ""
    wanted: str = ""
    switched_at: float = 0.0  # when `stable` last changed, or since when this process looks
    problem: Problem | None = None  # what hinders the objects of the arms
    defect: str = ""  # what went wrong where the last tick could not act
    # A target that was written, where, and that the watch may not have shown yet.
    written: int | None = None
    written_to: TargetRef | None = None
    written_version: str = ""
    stuck: StuckPods = NONE_STUCK
    unready_since: float | None = None
    pods_listed_at: float = 0.0
    said: Said = field(default_factory=Said)
    shown: CanaryMemory = NO_CANARY_MEMORY  # as status has it


def restored_state(status: Mapping[str, Any], now: float) -> CanaryState:
    """Return the state with which a process begins: what the status remembers."""
    memory, judge = restored_canary(status)
    state = CanaryState(memory=memory, shown=memory, switched_at=now)
    if memory.began is not None:
        state.evidence = Evidence(run=run_of(memory), judge=judge)
    state.said = Said(memory.phase, memory.step)
    return state


def run_of(memory: CanaryMemory) -> str:
    """Return the name of a run as plans have it; "" while there is none."""
    return "" if memory.began is None else f"{memory.revision}@{memory.began:.0f}"
