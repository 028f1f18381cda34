"""The sentences of a canary: where it stands, what holds it, what ended it, and what to do."""

from __future__ import annotations

from penstock.model.canary import CANARY_ANNOTATION, CanaryMemory, CanaryPhase, CanaryPlan
from penstock.model.decision import AnyReason, Decision, RolloutReason
from penstock.model.spec import Mode
from penstock.policy import wording
from penstock.policy.canary_situation import UNMEASURED, Situation, canary_requests

NONE_SET: Decision[CanaryPlan] = Decision(None, RolloutReason.NO_CANARY, "spec.canary is not set")
Said = tuple[AnyReason, str]


def first_revision(revision: str, plan: CanaryPlan) -> Decision[CanaryPlan]:
    """Say that the first revision of an owned workload is the stable one at once."""
    message = f"revision {revision} is the first one and has nothing to be compared with"
    return Decision(plan, RolloutReason.FIRST_REVISION, message)


def observing(s: Situation) -> Decision[CanaryPlan]:
    """Say what would be tried."""
    would = "there is nothing to try"
    if s.seen.refusal is not None:
        return Decision(None, *s.seen.refusal)
    if s.to_be_tried():
        steps = ", ".join(str(each) for each in s.canary.step_percents)
        how = f"at {steps} % of the requests" if s.tested else "without a test"
        would = f"revision {s.seen.wanted} would be tried {how}"
    return Decision(None, RolloutReason.OBSERVING, f"observing: {would}")


def decision(s: Situation, plan: CanaryPlan) -> Decision[CanaryPlan]:
    """Return the decision: the plan, its reason and its sentence."""
    reason, message = _SAID[s.memory.phase](s, plan)
    if s.seen.command_fault:
        message += f"; {s.seen.command_fault}"
    inputs = {
        "weight_percent": float(plan.weight_percent),
        "canary_ready": float(s.seen.canary_ready),
        "stable_ready": float(s.seen.stable_ready),
        "canary_requests": canary_requests(s.seen.verdict),
    }
    return Decision(plan, reason, message, inputs)


def ending(s: Situation, reason: RolloutReason) -> str:
    """Say what ended a run, where no verdict did."""
    seen, memory = s.seen, s.memory
    if reason is RolloutReason.ABORTED:
        return f"annotation {CANARY_ANNOTATION} says abort"
    if reason is RolloutReason.CANARY_NOT_READY:
        return f"{_ready(s)} for {wording.span(s.now - (memory.unready_since or s.now))}{_cause(s)}"
    if reason is RolloutReason.INCONCLUSIVE:
        return f"no verdict after {wording.span(s.canary.max_duration_seconds)}: {_verdict(s)}"
    if reason is RolloutReason.PROMOTED:
        time = wording.span(s.canary.max_duration_seconds)
        return f"without a verdict in {time}, as onInsufficientEvidence says"
    if reason is RolloutReason.SUPERSEDED:
        if seen.wanted != memory.revision:
            return f"revision {seen.wanted} is wanted meanwhile"
        return f"the stable arm went from revision {memory.against} to {seen.stable_revision} meanwhile"
    if seen.refusal is not None:
        return seen.refusal[1]
    return f"revision {seen.wanted} is the stable one" if seen.wanted else "no revision is wanted any more"


def _idle(s: Situation, plan: CanaryPlan) -> Said:
    seen, rejected = s.seen, s.memory.rejected
    if seen.refusal is not None:
        return seen.refusal
    if not seen.wanted or seen.wanted == seen.stable_revision:
        same = f"revision {seen.stable_revision} is the stable one" if seen.stable_revision else "no revision"
        return RolloutReason.NOTHING_TO_TRY, f"nothing to try: {same}"
    if rejected is not None and rejected.revision == seen.wanted:
        return RolloutReason.REJECTED_REVISION, _not_again(rejected.revision, rejected.message)
    if s.memory.rejects(seen.wanted):
        return RolloutReason.REJECTED_REVISION, _not_again(seen.wanted, "others were since")
    if not s.owned and s.memory.promoted == seen.wanted:
        change = f"change the pod template of {s.canary.target} to try another"
        return RolloutReason.PROMOTED, f"revision {seen.wanted} was promoted before; {change}"
    if s.spec.mode is Mode.PAUSED:
        return RolloutReason.PAUSED, f"revision {seen.wanted} is not tried while spec.mode is Paused"
    if s.to_be_tried():  # one transition a tick: this one ended the run before
        return RolloutReason.WARMING, f"revision {seen.wanted} is tried from the next tick on"
    message = f"revision {seen.wanted} waits: {s.spec.target} has no replicas to compare it with"
    return RolloutReason.STABLE_MISSING, message


def _warming(s: Situation, plan: CanaryPlan) -> Said:
    revision, pool = s.memory.revision, s.seen.canary
    start = f"revision {revision} gets no requests yet: {_ready(s)}"
    if pool is not None and pool.stuck:
        return RolloutReason.CANARY_NOT_READY, f"{start}{_cause(s)}{_until_rolled_back(s)}"
    if s.seen.canary_ready < (plan.canary_replicas or 1):
        return RolloutReason.WARMING, start
    if s.ready():
        return RolloutReason.WARMING, f"{start}; the first come with the next tick"
    if s.seen.acknowledged is not True:
        return RolloutReason.WAITING_FOR_GATEWAYS, f"{start}, not all gateways know them yet"
    return RolloutReason.WARMING, f"{start}; the rollout of a workload's owner has to end first"


def _testing(s: Situation, plan: CanaryPlan) -> Said:
    verdict, at = s.seen.verdict, f"revision {s.memory.revision} has {_share(s, plan)}"
    if plan.weight_percent < s.step_percent:
        if s.seen.canary_ready < (plan.canary_replicas or 1):
            return RolloutReason.WAITING_FOR_REPLICAS, f"{at}: {_ready(s)}{_cause(s)}{_until_rolled_back(s)}"
        if s.seen.acknowledged is not True:
            return RolloutReason.WAITING_FOR_GATEWAYS, f"{at}: not all gateways know its endpoints yet"
    if verdict is None:
        return RolloutReason.NOT_MEASURED, f"{at}; both arms have not been counted yet"
    if not s.measured():
        return verdict.reason, f"{at}, held: {verdict.message}"
    if not canary_requests(verdict) and plan.weight_percent and s.step_seen():
        message = (
            f"{at}, held: not one request of it was counted; send requests through the gateway, and look "
            "whether the canary's pods are scraped"
        )
        return RolloutReason.NO_TRAFFIC, message
    return RolloutReason.TESTING, f"{at}: {verdict.message}"


def _inconclusive(s: Situation, plan: CanaryPlan) -> Said:
    message = (
        f"no verdict on revision {s.memory.revision} after {wording.span(s.canary.max_duration_seconds)}, "
        f"held at {plan.weight_percent} %: {_verdict(s)}; set annotation {CANARY_ANNOTATION} to promote, "
        "abort or resume (the same time again)"
    )
    return RolloutReason.INCONCLUSIVE, message


def _paused(s: Situation, plan: CanaryPlan) -> Said:
    what = f"revision {s.memory.revision} held at {plan.weight_percent} %"
    if s.spec.mode is Mode.PAUSED:
        return RolloutReason.PAUSED, f"{what}: spec.mode is Paused, nothing is decided"
    return RolloutReason.PAUSED, f"{what}: remove annotation {CANARY_ANNOTATION}: pause, or write resume"


def _promoting(s: Situation, plan: CanaryPlan) -> Said:
    memory, pool = s.memory, s.seen.canary
    if memory.handing_over:
        return RolloutReason.PROMOTING, f"revision {memory.revision} becomes the stable one"
    if memory.shifted_at is not None:
        rest = s.seen.stable_in_flight
        streams = "an unknown number of" if rest is None else f"{rest:.0f}"
        message = (
            f"revision {memory.revision} has {plan.weight_percent} % of the requests; {streams} requests in "
            f"flight on revision {memory.against}"
        )
        return RolloutReason.PROMOTING, message
    message = (
        f"revision {memory.revision} is sized for the whole load before it takes the rest of the requests, "
        f"now {plan.weight_percent} %: {_ready(s)}{_cause(s)}"
    )
    stuck = pool is not None and pool.stuck
    return RolloutReason.CANARY_NOT_READY if stuck else RolloutReason.PROMOTING, message


def _promoted(s: Situation, plan: CanaryPlan) -> Said:
    memory, canary = s.memory, s.canary.target
    untested = _without_verdict(memory)
    if s.owned or canary is None:
        reason = RolloutReason.PROMOTED_BY_HAND if memory.by_command else RolloutReason.PROMOTED
        return reason, f"revision {memory.revision} is the stable one, {untested or 'by the evidence'}"
    how = f"was promoted {untested}" if untested else "passed"
    message = (
        f"revision {memory.revision} of {canary} {how} and keeps {plan.weight_percent} %: give "
        f"{s.spec.target} its pod template; or, if the Service selects the pods of both, set "
        f"workload.targetRef.name: {canary.name} and remove spec.canary"
    )
    return RolloutReason.HAND_OVER, message


def _without_verdict(memory: CanaryMemory) -> str:
    """Say what promoted in place of the evidence; "" where the evidence did."""
    if memory.by_command:
        return "without a verdict"
    return memory.ending.message if memory.ending is not None else ""


def _rolling_back(s: Situation, plan: CanaryPlan) -> Said:
    end, left = s.memory.ending, s.seen.canary_in_flight
    if end is None:  # a status that somebody has edited
        return RolloutReason.WITHDRAWN, f"revision {s.memory.revision} is taken back"
    streams = "requests in flight" if left is None else f"{left:.0f} requests in flight"
    return end.reason, f"revision {end.revision} gets no new requests, {streams} end first: {end.message}"


def _rolled_back(s: Situation, plan: CanaryPlan) -> Said:
    end = s.memory.ending or s.memory.rejected
    if end is None:
        return RolloutReason.WITHDRAWN, f"revision {s.memory.revision} was taken back"
    return end.reason, _not_again(end.revision, end.message)


_SAID = {
    CanaryPhase.IDLE: _idle,
    CanaryPhase.WARMING: _warming,
    CanaryPhase.TESTING: _testing,
    CanaryPhase.INCONCLUSIVE: _inconclusive,
    CanaryPhase.PAUSED: _paused,
    CanaryPhase.PROMOTING: _promoting,
    CanaryPhase.PROMOTED: _promoted,
    CanaryPhase.ROLLING_BACK: _rolling_back,
    CanaryPhase.ROLLED_BACK: _rolled_back,
}


def _not_again(revision: str, why: str) -> str:
    return f"revision {revision} was rolled back and is not tried again until its template changes: {why}"


def _share(s: Situation, plan: CanaryPlan) -> str:
    count, weight = len(s.canary.step_percents), plan.weight_percent
    short = "" if weight == s.step_percent else f" of {s.step_percent} %"
    return f"{weight} %{short} (step {s.memory.step + 1} of {count})"


def _ready(s: Situation) -> str:
    asked = s.memory.replicas
    return f"{s.seen.canary_ready} of {'?' if asked is None else wording.replicas(asked)} ready"


def _cause(s: Situation) -> str:
    pool = s.seen.canary
    return f": {pool.stuck_cause}" if pool is not None and pool.stuck_cause else ""


def _until_rolled_back(s: Situation) -> str:
    """Say how patient we are where patience will end."""
    pool, since = s.seen.canary, s.memory.unready_since
    if since is None or pool is None or not pool.stuck or s.memory.phase is not CanaryPhase.WARMING:
        return ""
    return f"; rolled back after {wording.span(s.patience_seconds)}"


def _verdict(s: Situation) -> str:
    verdict = s.seen.verdict
    if verdict is None:
        return "both arms have not been counted"
    if verdict.reason not in UNMEASURED and not canary_requests(verdict):
        return "not one request of the canary was counted"
    return verdict.message
