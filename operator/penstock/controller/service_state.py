"""What the loop keeps of one service between ticks, beside the policy's memory.

Plain mutable state, owned by the loop; nothing else writes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.controller.canary_state import CanaryState
from penstock.controller.gateway_state import GatewayState
from penstock.controller.pod_state import NONE_STUCK, StuckPods
from penstock.metrics_source.identity import Watched
from penstock.model.canary import CanaryPlan
from penstock.model.conditions import Finding
from penstock.model.decision import Decision
from penstock.model.objective_counts import Counted
from penstock.model.observation import Observation
from penstock.model.spec import Objective, ServiceSpec, TargetRef
from penstock.model.traffic import GatewayReading
from penstock.model.value import value
from penstock.policy.admission import Admission
from penstock.policy.canary_conditions import NO_CANARY
from penstock.policy.canary_explanation import NONE_SET
from penstock.policy.capacity_problem import CapacityProblem, Engine
from penstock.policy.capacity_table import CapacityTable
from penstock.policy.decisions import Surroundings
from penstock.policy.demand import ClosedAhead
from penstock.policy.error_budget import NO_BUDGET, BudgetMemory
from penstock.policy.estimate import Estimate
from penstock.policy.fallback import FallbackShare
from penstock.policy.gateway_load import GatewayRates
from penstock.policy.memory import ServiceMemory
from penstock.policy.objectives_condition import NONE_MISSED
from penstock.policy.request_classes import Refusal


@value(frozen=True, slots=True)
class Outcome:
    """The last tick of one service: everything that is shown of it."""

    spec: ServiceSpec
    seen: Observation
    around: Surroundings
    estimate: Estimate
    decision: Decision[int]
    admission: Decision[Admission]
    fallback: Decision[FallbackShare]
    canary: Decision[CanaryPlan] = NONE_SET
    canary_finding: Finding = NO_CANARY

    @property
    def rates(self) -> GatewayRates | None:
        """Return what the gateways counted; None where none serve, or they are silent."""
        return self.around.rates


@dataclass(slots=True)
class ServiceState:
    """Mutable state of one service."""

    uid: str
    memory: ServiceMemory = field(default_factory=ServiceMemory)
    budget: BudgetMemory = NO_BUDGET
    counted: dict[str, Counted] = field(default_factory=dict)  # by objective, since this process began
    offered_before: GatewayReading | None = None  # what the gateways told when that was last added to
    awaits_past: bool = False  # nothing is decided before past rates are known, or known to be missing
    generation: int = -1
    engine: Engine | None = None
    refusal: tuple[str, str] | None = None  # (reason, message) of what the spec asks in vain
    classes_refused: Refusal | None = None  # why the request classes cannot be told apart
    target_problem: str = ""  # why the target may not be read
    ambiguous: str = ""  # why the Service in front of the target cannot be told
    watched: Watched | None = None  # where its series are
    table: CapacityTable | None = None
    solved: CapacityProblem | None = None  # what `table` answers
    unsolvable: str = ""  # why what was asked last has no table
    asked: CapacityProblem | None = None  # what is being solved
    outcome: Outcome | None = None
    defect: str = ""  # what went wrong where the last tick could not decide
    unshown: str = ""  # what went wrong where it could not be shown
    ahead: ClosedAhead | None = None  # the forecast that the next tick may ask for
    findings: tuple[Finding, ...] = ()  # what is said of `outcome`, found behind its tick
    missed: frozenset[Objective] = NONE_MISSED  # when that was found: they are met again 5 % below
    # The conditions about traffic, and what they are about: they stay while that does.
    traffic_findings: tuple[Finding, ...] = ()
    traffic_findings_of: tuple[object, ...] = (None,)
    # A target that was written, where, and that the watch may not have shown yet.
    written: int | None = None
    written_to: TargetRef | None = None
    written_version: str = ""
    write_error: tuple[str, str] | None = None  # (reason, message) of the last refused write
    stuck: StuckPods = NONE_STUCK
    unready_since: float | None = None
    pods_listed_at: float = 0.0
    decided_at: float = 0.0
    # What was last looked at for showing, and when status was last written.
    shown_findings: tuple[Finding, ...] | None = None
    shown_decision: Decision[int] | None = None
    shown_generation: int = -1
    shown_at: float = 0.0
    shown_numbers: tuple[float | None, ...] = ()
    written_status_at: float = 0.0
    gateway: GatewayState = field(default_factory=GatewayState)
    canary: CanaryState | None = None  # None: no revisions are tried
    announced: dict[tuple[str, str], float] = field(default_factory=dict)  # (condition, reason) told when
