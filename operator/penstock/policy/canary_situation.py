"""A canary's situation at one instant: the facts that its transitions ask for, each by its name.

Facts are about what is seen and remembered; what follows from them is the table in ``policy/canary.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.model.canary import CanaryMemory, CanaryObservation, CanaryPhase
from penstock.model.canary_counts import Metric
from penstock.model.canary_spec import CanarySpec
from penstock.model.canary_verdict import CanaryReason, Verdict, VerdictKind
from penstock.model.decision import RolloutReason
from penstock.model.spec import RoutingType, ServiceSpec, WorkloadType
from penstock.policy.canary_evidence import STOP_LOSS
from penstock.policy.canary_load import LEAST_LOAD_RATIO, ArmsLoad
from penstock.policy.canary_sizing import replicas_for
from penstock.policy.drain import DRAIN_DEADLINE_SECONDS, SETTLE_SECONDS

# A new share is seen for at least so many scrapes, whatever the evidence of the last step: 60 s at 15 s.
LEAST_STEP_SCRAPES = 4
# And never for less: what a changed load does to an engine's queue takes some seconds to show.
LEAST_STEP_SECONDS = 15.0
# A step goes on for its time being over only if so many canary requests were counted in it.
LEAST_STEP_REQUESTS = 20.0
# The pause between two starts of a crashing container grows to 5 minutes: by then it has been seen twice.
CRASHING_SECONDS = 300.0
NOT_READY_SECONDS = 600.0  # progressDeadlineSeconds, Kubernetes' own patience
NOT_READY_STARTUPS = 3.0  # or so many times the measured start-up, if that is longer
# A step at less load per replica shows little for or against: so much of its share of the time. With all of
# it good canaries beside two large replicas had 20 of 60 minutes at like load, and half of them no verdict.
UNLIKE_STEP_RATIO = 0.5
# Evidence against a canary beyond this share of its threshold (on the log scale) lets no step pass by time.
LEANING_RATIO = 0.5
# What such a verdict is about was not compared, whatever was counted.
UNMEASURED = (
    CanaryReason.CANARY_METRICS_MISSING,
    CanaryReason.STABLE_METRICS_MISSING,
    CanaryReason.JUDGE_FAILED,
)
# The rows that count requests. A user's check counts what its query does: a threshold that was read 20 times
# passed the steps of a canary without one request.
_OF_REQUESTS = frozenset({*Metric, STOP_LOSS})


@dataclass(frozen=True, slots=True)
class Situation:
    """One look. `canary` is the spec's, or that of a rollout without a test (`tested` False)."""

    spec: ServiceSpec
    canary: CanarySpec
    tested: bool
    seen: CanaryObservation
    memory: CanaryMemory
    now: float

    @property
    def owned(self) -> bool:
        """Whether both arms are revisions of `workload.template`."""
        return self.spec.workload_type is WorkloadType.TEMPLATE

    @property
    def routed(self) -> bool:
        """Whether something in the request path can split requests."""
        return self.spec.routing.type is not RoutingType.NONE

    @property
    def whole(self) -> int | None:
        """Return the replicas of the whole load: decided or in force, whichever is more; None: unknown."""
        known = [self.seen.needed, self.seen.stable.target if self.seen.stable else None]
        counts = [each for each in known if each is not None and each > 0]
        return max(counts) if counts else None

    @property
    def step_percent(self) -> int:
        """Return the share of the step at hand."""
        return self.canary.step_percents[min(self.memory.step, len(self.canary.step_percents) - 1)]

    @property
    def last_step(self) -> bool:
        """Whether promotion is what follows."""
        return self.memory.step >= len(self.canary.step_percents) - 1

    @property
    def share_seconds(self) -> float:
        """Return a step's share of the time for the whole test."""
        return self.canary.max_duration_seconds / len(self.canary.step_percents)

    @property
    def step_seconds(self) -> float:
        """Return how long a step lasts that evidence does not end: less where it promotes nothing."""
        load = ArmsLoad(self.memory.weight_percent / 100.0, self.seen.canary_ready, self.seen.stable_ready)
        unlike = not self.last_step and load.ratio < LEAST_LOAD_RATIO
        return self.share_seconds * (UNLIKE_STEP_RATIO if unlike else 1.0)

    @property
    def step_replicas(self) -> int | None:
        """Return the canary's replicas for the step at hand; None where the whole is not known."""
        if self.whole is None:
            return None
        # Stable pods beyond those decided (a rollout's surge, a drain) lower the load of each of them.
        return replicas_for(self.step_percent, max(self.whole, self.seen.stable_ready))

    def deadline_at(self) -> float | None:
        """Return when the time for a verdict is over, Unix seconds."""
        since = self.memory.testing_since
        return None if since is None else since + self.canary.max_duration_seconds

    def to_be_tried(self) -> bool:
        """Whether there is a revision to begin with: wanted, another than the stable one, not turned down."""
        seen, memory = self.seen, self.memory
        if seen.refusal is not None or not seen.wanted or seen.wanted == seen.stable_revision:
            return False
        if not seen.stable_revision or self.whole is None:
            return False
        if memory.rejects(seen.wanted):
            return False
        # An adopted canary that passed waits for its owner; it is not tested against its own successor.
        return self.owned or memory.promoted != seen.wanted

    def withdrawn(self) -> bool:
        """Whether what is under way is not wanted at all any more."""
        seen = self.seen
        if seen.refusal is not None:
            # Without a stable arm the canary is all that serves: it stays what it is.
            return seen.refusal[0] is not RolloutReason.STABLE_MISSING
        return not seen.wanted or seen.wanted == seen.stable_revision

    def superseded(self) -> bool:
        """Whether another revision is wanted, or what it is compared with has changed."""
        memory, seen = self.memory, self.seen
        another_stable = bool(seen.stable_revision) and seen.stable_revision != memory.against
        return seen.wanted not in ("", memory.revision) or another_stable

    def ready(self) -> bool:
        """Whether the canary can take the share of its step, and all proxies know its endpoints."""
        needed = self.step_replicas
        # An owner's rollout mixes revisions in one arm; a revision of ours has a Deployment to itself.
        arms = (self.seen.canary, self.seen.stable)
        settled = self.owned or all(arm is not None and not arm.rolling_out for arm in arms)
        return (
            needed is not None
            and settled
            and self.seen.canary_ready >= needed
            and self.seen.acknowledged is True
        )

    def never_ready(self) -> bool:
        """Whether replicas are missing for so long, and for such a cause, that waiting is no use."""
        since, pool = self.memory.unready_since, self.seen.canary
        if since is None:
            return False
        if self._crashing() and pool is not None and pool.rollout_failed:
            return True
        return (self._crashing() or self.seen.canary_ready == 0) and self.now - since >= self.patience_seconds

    def _crashing(self) -> bool:
        """Whether pods crash or lack their image: they are stuck, and not for lack of room."""
        pool = self.seen.canary
        return pool is not None and pool.stuck > pool.unschedulable

    @property
    def patience_seconds(self) -> float:
        """Return how long replicas may be missing: less where they are known to crash."""
        if self._crashing():
            return CRASHING_SECONDS
        return max(NOT_READY_SECONDS, NOT_READY_STARTUPS * self.seen.startup_seconds)

    def measured(self) -> bool:
        """Whether there is a verdict from the metrics of both arms."""
        verdict = self.seen.verdict
        return verdict is not None and verdict.reason not in UNMEASURED

    def regressed(self) -> bool:
        """Whether the evidence is against the canary."""
        verdict = self.seen.verdict
        return verdict is not None and verdict.kind is VerdictKind.ROLLBACK

    def passed(self) -> bool:
        """Whether the evidence is for the canary, and the step has been seen for its least time.

        Gathered under less load per replica than the stable arm's, it passes every step but the last.
        """
        verdict = self.seen.verdict
        enough = (VerdictKind.PROMOTE,) if self.last_step else (VerdictKind.PROMOTE, VerdictKind.NEXT_STEP)
        return verdict is not None and verdict.kind in enough and self.measured() and self.step_seen()

    def step_seen(self) -> bool:
        """Whether the share of the step has been in force for its least time, the warm-up not counted."""
        reached = self.memory.reached_at
        if reached is None:
            return False
        least = max(LEAST_STEP_SECONDS, LEAST_STEP_SCRAPES * self.seen.scrape_interval_seconds)
        return self.now >= max(reached, self.memory.evidence_from or reached) + least

    def step_over(self) -> bool:
        """Whether the step's time is over, with requests in it and nothing that leans against the canary."""
        memory = self.memory
        return (
            memory.phase is CanaryPhase.TESTING
            and memory.step_since is not None
            and self.now - memory.step_since >= self.step_seconds
            and self.step_seen()
            and self.looks_harmless()
            and canary_requests(self.seen.verdict) - memory.requests_before >= LEAST_STEP_REQUESTS
        )

    def looks_harmless(self) -> bool:
        """Whether both arms are measured, the canary had requests, and no evidence leans against it."""
        verdict = self.seen.verdict
        return (
            verdict is not None
            and verdict.kind is not VerdictKind.ROLLBACK
            and self.measured()
            and canary_requests(verdict) >= LEAST_STEP_REQUESTS
            and not leaning(verdict)
        )

    def time_over(self) -> bool:
        """Whether the test has had its time; not while a canary that has passed only waits out its step."""
        deadline, verdict = self.deadline_at(), self.seen.verdict
        if deadline is None or self.now < deadline:
            return False
        waits = verdict is not None and verdict.kind is VerdictKind.PROMOTE and self.memory.reached_at
        return not waits

    def shifted(self) -> bool:
        """Whether all requests have gone to the new arm for long enough that the old one has drained."""
        seen, memory = self.seen, self.memory
        if memory.shifted_at is None or memory.weight_percent < 100 or seen.acknowledged is not True:
            return False
        waited = self.now - memory.shifted_at
        if waited >= DRAIN_DEADLINE_SECONDS:
            return True
        return waited >= SETTLE_SECONDS and seen.stable_in_flight == 0

    def handed_over(self) -> bool:
        """Whether the new revision is the stable one, and the data plane knows its pods as such."""
        seen = self.seen
        if not self.memory.handing_over or seen.stable_revision != self.memory.revision:
            return False
        if not self.routed:
            return True
        return seen.acknowledged is True and seen.stable_ready >= max(1, seen.canary_ready)

    def rejects(self) -> bool:
        """Whether what ended the run was the revision's own doing."""
        return self.memory.ending is not None and self.memory.ending.rejects

    def drained(self) -> bool:
        """Whether the canary's streams have ended since its weight is 0, or have had their time."""
        seen, memory = self.seen, self.memory
        waited = self.now - (self.now if memory.since is None else memory.since)
        if not memory.ever_routed or waited >= DRAIN_DEADLINE_SECONDS:
            return True
        if seen.canary is None and seen.canary_ready == 0:
            return True  # its pods are gone
        return waited >= SETTLE_SECONDS and seen.acknowledged is True and seen.canary_in_flight == 0


def canary_requests(verdict: Verdict | None) -> float:
    """Return the canary's requests that were evidence so far."""
    rows = verdict.evidence if verdict else ()
    return max((row.canary_total for row in rows if row.metric in _OF_REQUESTS), default=0.0)


def leaning(verdict: Verdict) -> bool:
    """Whether some evidence has come near to a rollback."""
    return any(row.log10_against > LEANING_RATIO * row.against_threshold > 0 for row in verdict.evidence)
