"""A canary's memory in each phase, and what a case of the transition table consists of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fakes.builders import pool
from fakes.canary import BEGAN, NEW, OLD, looked_at, owned
from penstock.model.canary import CanaryMemory, CanaryObservation, CanaryPhase, Ending
from penstock.model.canary_verdict import CanaryReason
from penstock.model.decision import RolloutReason
from penstock.model.spec import ServiceSpec
from penstock.policy.canary_events import Event

P = CanaryPhase
NOW = BEGAN + 600.0


def at(phase: CanaryPhase, **fields: object) -> CanaryMemory:
    """A memory as the machine leaves it in a phase, 600 s after the run began."""
    known: dict[str, object] = {
        "phase": phase,
        "since": BEGAN + 300.0,
        "revision": NEW,
        "against": OLD,
        "began": BEGAN,
        "replicas": 1,
        "ready": 1,
        "step": 0,
    }
    if phase not in (P.WARMING, P.IDLE):
        known |= {
            "weight_percent": 5,
            "ever_routed": True,
            "testing_since": BEGAN + 60.0,
            "step_since": BEGAN + 60.0,
            "reached_at": BEGAN + 60.0,
            "evidence_from": BEGAN + 90.0,
        }
    if phase is P.IDLE:
        known = {}
    return CanaryMemory(**(known | fields))  # type: ignore[arg-type]


LAST = {"step": 2, "weight_percent": 50, "replicas": 4, "ready": 4}
ENDED = Ending(NEW, CanaryReason.TTFT_REGRESSED, "31 % more requests above 250 ms")
SUPERSEDED = Ending(NEW, RolloutReason.SUPERSEDED, "another", rejects=False)
CRASHED = {"canary": pool(1, ready=0, stuck=1, stuck_cause="engine: CrashLoopBackOff"), "canary_ready": 0}
FOUR = {"canary": pool(4), "canary_ready": 4}
HOUR = 3600.0


@dataclass(frozen=True)
class Case:
    """Memory and what is seen; the row of the table that is to be taken."""

    memory: CanaryMemory
    seen: dict[str, Any]
    event: Event | None
    to: CanaryPhase
    spec: ServiceSpec = field(default_factory=owned)
    now: float = NOW

    def look(self) -> CanaryObservation:
        return looked_at(**self.seen)
