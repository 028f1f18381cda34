"""Builders for tests of canaries, and a small world in which plans are carried out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fakes.builders import pool, service
from penstock.model.canary import CanaryCommand, CanaryMemory, CanaryObservation, CanaryPlan
from penstock.model.canary_spec import CanarySpec
from penstock.model.canary_verdict import CanaryReason, Evidence, Verdict, VerdictKind
from penstock.model.decision import Decision, RolloutReason
from penstock.model.observation import Pool
from penstock.model.references import TargetRef
from penstock.model.revision import owned_target
from penstock.model.spec import Mode, RoutingSpec, RoutingType, ServiceSpec, WorkloadType
from penstock.policy.canary import decide_canary

NEW, OLD, OTHER = "bbbbbbbbbb", "cccccccccc", "dddddddddd"
CANARY_TARGET = TargetRef("apps", "Deployment", "chat-canary")
BEGAN = 1_000_000.0
TICK = 15.0


def owned(
    *,
    mode: Mode = Mode.ENFORCE,
    routing: RoutingType = RoutingType.ENVOY,
    tested: bool = True,
    **canary: object,
) -> ServiceSpec:
    """A service ``prod/chat`` of a pod template; keyword arguments are fields of CanarySpec."""
    return replace(
        service(mode=mode),
        workload_type=WorkloadType.TEMPLATE,
        target=owned_target("chat", OLD),
        routing=RoutingSpec(routing),
        canary=CanarySpec(**canary) if tested else None,  # type: ignore[arg-type]
    )


def adopted(*, mode: Mode = Mode.ENFORCE, **canary: object) -> ServiceSpec:
    """A service ``prod/chat`` beside ``Deployment/chat-canary``."""
    fields: dict[str, object] = {"target": CANARY_TARGET} | canary
    return replace(
        service(mode=mode),
        routing=RoutingSpec(RoutingType.ENVOY),
        canary=CanarySpec(**fields),  # type: ignore[arg-type]
    )


def said(
    kind: VerdictKind, *, requests: float = 500.0, reason: CanaryReason | None = None, leaning: float = 0.0
) -> Verdict:
    """A verdict on so many requests of the canary; `leaning` is evidence against it, 1 being a rollback."""
    reasons = {
        VerdictKind.PROMOTE: CanaryReason.NO_WORSE,
        VerdictKind.NEXT_STEP: CanaryReason.NO_WORSE_AT_LESS_LOAD,
        VerdictKind.ROLLBACK: CanaryReason.TTFT_REGRESSED,
        VerdictKind.CONTINUE: CanaryReason.GATHERING,
        VerdictKind.INSUFFICIENT: CanaryReason.TOO_LITTLE_TRAFFIC,
    }
    words = {
        VerdictKind.PROMOTE: "no worse than 15 %",
        VerdictKind.NEXT_STEP: "no worse so far",
        VerdictKind.ROLLBACK: "31 % more requests above 250 ms",
        VerdictKind.CONTINUE: "640 more requests at this rate",
        VerdictKind.INSUFFICIENT: "0.2 requests/s are too few",
    }
    row = Evidence("ttft", canary_total=requests, log10_against=leaning * 1.6, against_threshold=1.6)
    return Verdict(kind, reason or reasons[kind], words[kind], (row,))


def missing(reason: CanaryReason = CanaryReason.CANARY_METRICS_MISSING) -> Verdict:
    """A verdict while an arm is not measured."""
    row = Evidence("ttft", missing="no series of the canary's pods")
    return Verdict(VerdictKind.INSUFFICIENT, reason, "no series of the canary's pods", (row,))


GATHERING = said(VerdictKind.CONTINUE)
GOOD = said(VerdictKind.PROMOTE)
BAD = said(VerdictKind.ROLLBACK)
SO_FAR_GOOD = said(VerdictKind.NEXT_STEP)  # under less load per replica


def looked_at(**fields: object) -> CanaryObservation:
    """Both arms in order: 4 stable replicas, 1 of the canary ready, everything acknowledged."""
    known: dict[str, object] = {
        "wanted": NEW,
        "stable_revision": OLD,
        "canary": pool(1),
        "stable": pool(4),
        "canary_ready": 1,
        "stable_ready": 4,
        "needed": 4,
        "acknowledged": True,
        "canary_in_flight": 0.0,
        "stable_in_flight": 0.0,
    }
    return CanaryObservation(**(known | fields))  # type: ignore[arg-type]


@dataclass
class CanaryWorld:
    """A cluster with two arms: what is planned is there after a while, and the data plane tells.

    Replicas of the canary become ready `startup_ticks` after they were asked for; weights are in force in
    the next tick. A revision that is promoted becomes the stable one a tick later.
    """

    spec: ServiceSpec = field(default_factory=owned)
    wanted: str = NEW
    stable: str = OLD
    needed: int = 4
    startup_ticks: int = 2
    most_canary_replicas: int = 1000  # nodes have no room for more
    crashing: bool = False
    acknowledged: bool | None = True
    verdict: Verdict | None = None
    canary_in_flight: float | None = 0.0
    stable_in_flight: float | None = 0.0
    command: CanaryCommand | None = None
    memory: CanaryMemory = field(default_factory=CanaryMemory)
    now: float = BEGAN
    asked: list[int] = field(default_factory=list)
    stable_ready: int = 4
    plans: list[CanaryPlan | None] = field(default_factory=list)
    decision: Decision[CanaryPlan] | None = None
    refusal: tuple[RolloutReason, str] | None = None

    @property
    def canary_ready(self) -> int:
        """Replicas that were asked for long enough ago, and that are still asked for."""
        if self.crashing or not self.asked:
            return 0
        lately = self.asked[-1 - self.startup_ticks :]
        return min(*lately, self.most_canary_replicas) if len(lately) > self.startup_ticks else 0

    def _canary(self) -> Pool:
        target = self.asked[-1] if self.asked else 0
        if self.crashing and target:
            return pool(target, ready=0, stuck=target, stuck_cause="engine: CrashLoopBackOff")
        short = max(0, target - self.most_canary_replicas)
        cause = "0/3 nodes have room" if short else ""
        return pool(target, ready=self.canary_ready, stuck=short, unschedulable=short, stuck_cause=cause)

    def look(self) -> CanaryObservation:
        """What is seen now."""
        return CanaryObservation(
            wanted=self.wanted,
            stable_revision=self.stable,
            canary=self._canary(),
            stable=pool(self.needed),
            canary_ready=self.canary_ready,
            stable_ready=self.stable_ready,
            needed=self.needed,
            acknowledged=self.acknowledged,
            verdict=self.verdict,
            canary_in_flight=self.canary_in_flight,
            stable_in_flight=self.stable_in_flight,
            command=self.command,
            refusal=self.refusal,
        )

    def tick(self) -> CanaryPlan:
        """Decide, carry it out, and let a tick pass."""
        self.decision, self.memory = decide_canary(self.spec, self.look(), self.memory, self.now)
        plan = self.decision.value
        self.plans.append(plan)
        if plan is not None:
            self.asked.append(plan.canary_replicas or 0)
            if plan.promote:
                self.stable, self.stable_ready = plan.promote, max(self.stable_ready, self.canary_ready)
        self.now += TICK
        return plan if plan is not None else CanaryPlan(self.memory.phase)

    def ticks(self, count: int) -> CanaryPlan:
        """Let several ticks pass; the last plan."""
        for _ in range(count):
            plan = self.tick()
        return plan

    def until(self, phase: str, most: int = 400) -> CanaryPlan:
        """Tick until a phase; fails when it does not come."""
        for _ in range(most):
            plan = self.tick()
            if plan.phase == phase:
                return plan
        raise AssertionError(f"still {self.memory.phase} after {most} ticks, not {phase}")

    @property
    def phases(self) -> list[str]:
        """The phases so far, without repetitions."""
        found: list[str] = []
        for plan in self.plans:
            if plan is not None and (not found or found[-1] != plan.phase.value):
                found.append(plan.phase.value)
        return found
