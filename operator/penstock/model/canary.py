"""A canary at one instant: what is seen of both arms, what is to be done, and what must be remembered.

An arm is the pods of one revision behind one Service. The stable arm keeps the replicas of the whole load
until a promotion is done: nothing here can lower them. How one state follows from another:
``policy/canary.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from penstock.model.canary_verdict import CanaryReason, Verdict
from penstock.model.decision import RolloutReason
from penstock.model.observation import Pool

CANARY_ANNOTATION = "serving.penstock.dev/canary"

# Remembered, so that a GitOps tool that goes back past a bad revision does not try an older bad one again.
MOST_REJECTED = 10


class CanaryPhase(StrEnum):
    """Where a canary stands."""

    IDLE = "Idle"
    WARMING = "Warming"  # its pods start; no requests
    TESTING = "Testing"  # it has the share of its step, and is judged
    PROMOTING = "Promoting"  # sized for the whole load, then all requests, then the old arm drains
    PROMOTED = "Promoted"
    ROLLING_BACK = "RollingBack"  # no new requests; its streams drain
    ROLLED_BACK = "RolledBack"
    PAUSED = "Paused"  # by annotation: the share is held, the clock stands, a regression still ends it
    INCONCLUSIVE = "Inconclusive"  # its time is over without a verdict: held


class CanaryCommand(StrEnum):
    """What the annotation `CANARY_ANNOTATION` may say. Each is obeyed once; pause while it is there."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    PROMOTE = "promote"


@dataclass(frozen=True, slots=True)
class CanaryObservation:
    """What one decision may look at.

    `wanted` is the revision to try: of `workload.template`, or of the pod template of `canary.targetRef`;
    "" where there is none. `stable_revision` "": nothing serves yet. `canary` is the pool of the revision
    under way (`CanaryMemory.revision`), of `wanted` while none is; None: no such workload. `canary_ready`
    and `stable_ready` are endpoints that get requests, the latter of `stable_revision` only. `needed` is
    the replica decision for the whole load (None: nothing is decided). `acknowledged`: every proxy has the
    endpoints and weights that were published last; None: no proxy told. `verdict` is about the run under
    way, None before the first. In flight None: not known, which is not zero.
    """

    wanted: str
    stable_revision: str
    canary: Pool | None
    stable: Pool | None
    canary_ready: int = 0
    stable_ready: int = 0
    needed: int | None = None
    acknowledged: bool | None = None
    verdict: Verdict | None = None
    canary_in_flight: float | None = None
    stable_in_flight: float | None = None
    in_flight_per_replica: int | None = None  # the admission limit of one replica
    command: CanaryCommand | None = None
    command_fault: str = ""  # what is wrong with the annotation
    refusal: tuple[RolloutReason, str] | None = None  # why nothing may be tried: reason, message
    startup_seconds: float = 120.0  # measured, or the spec's
    scrape_interval_seconds: float = 15.0  # of the metrics that the verdict comes from


@dataclass(frozen=True, slots=True)
class CanaryPlan:
    """What is to be done. `weight_percent` of the requests go to the canary, the rest to the stable arm.

    `canary_replicas` None: the canary's workload is not touched (there is none, or its owner has it).
    `promote`: the revision that is to become the stable one now; the weight stays until
    `stable_revision` says it has. `judged`: readings of both arms are evidence now, those of the canary
    from `evidence_from` on; a new `run` starts with an empty judge. Times in Unix seconds.
    """

    phase: CanaryPhase
    revision: str = ""
    step: int = 0  # index into step_percents
    weight_percent: int = 0
    canary_replicas: int | None = None
    in_flight_limit: int | None = None  # of the canary's arm; None: no limit of its own
    promote: str = ""
    judged: bool = False
    evidence_from: float | None = None
    deadline_at: float | None = None  # of the verdict
    run: str = ""  # revision and when it began
    routed: bool = False  # the data plane needs a second arm: also at weight 0, while streams drain

    @property
    def stable_percent(self) -> int:
        """Return the share of the stable arm."""
        return 100 - self.weight_percent


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a revision was taken back: the reason and sentence of a verdict, or of what else ended it."""

    revision: str
    reason: RolloutReason | CanaryReason
    message: str
    rejects: bool = True  # else it may be tried again: superseded, withdrawn


@dataclass(frozen=True, slots=True)
class CanaryMemory:
    """What the next decision must know of the last ones. Times in Unix seconds; None: not yet.

    `to_dict` and `from_dict` lose nothing: a restarted operator continues in the middle of a step.
    """

    phase: CanaryPhase = CanaryPhase.IDLE
    since: float | None = None  # of the phase
    revision: str = ""  # under way, or the last one that was
    against: str = ""  # the stable revision it is compared with
    began: float | None = None  # this run; the judge's evidence is of it
    step: int = 0
    weight_percent: int = 0
    replicas: int | None = None  # asked for; they do not fall before the end
    ready: int = 0  # the most that were seen: each more has a warm-up
    ever_routed: bool = False  # it has had requests, so there may be streams
    testing_since: float | None = None  # the clock of maxDuration
    step_since: float | None = None
    reached_at: float | None = None  # when the weight of the step was first in force
    requests_before: float = 0.0  # counted for the canary before this step
    evidence_from: float | None = None
    unready_since: float | None = None  # since when it is not ready as it should be
    resume_to: CanaryPhase | None = None  # of a paused one
    shifted_at: float | None = None  # promoting: since when all requests go to it
    handing_over: bool = False  # promoting: the old arm has drained, the Services change
    by_command: bool = False  # promoted by the user, not by evidence
    obeyed: CanaryCommand | None = None
    ending: Ending | None = None  # of the run under way
    rejected: Ending | None = None  # not tried again
    rejected_before: tuple[str, ...] = ()  # nor these revisions, newest first
    promoted: str = ""  # the last revision that was

    @property
    def under_way(self) -> bool:
        """Whether a revision is being tried, promoted or taken back."""
        return self.phase not in (CanaryPhase.IDLE, CanaryPhase.PROMOTED, CanaryPhase.ROLLED_BACK)

    def rejects(self, revision: str) -> bool:
        """Whether a revision was turned down, now or before."""
        newest = self.rejected.revision if self.rejected is not None else ""
        return bool(revision) and revision in (newest, *self.rejected_before)

    def rejecting(self, ending: Ending | None) -> CanaryMemory:
        """Return the memory with one more revision that is not tried again; the oldest goes."""
        before = () if self.rejected is None else (self.rejected.revision,)
        known = [each for each in (*before, *self.rejected_before) if ending and each != ending.revision]
        return replace(self, rejected=ending, rejected_before=tuple(known[: MOST_REJECTED - 1]))


NO_CANARY_MEMORY = CanaryMemory()


def read_command(annotations: Mapping[str, str]) -> tuple[CanaryCommand | None, str]:
    """Return the command of an InferenceService's annotations, and what is wrong with it ("": nothing)."""
    text = str(annotations.get(CANARY_ANNOTATION) or "").strip().lower()
    if not text:
        return None, ""
    try:
        return CanaryCommand(text), ""
    except ValueError:
        names = ", ".join(each.value for each in CanaryCommand)
        return None, f'annotation {CANARY_ANNOTATION}: "{text}" is none of {names}: correct or remove it'
