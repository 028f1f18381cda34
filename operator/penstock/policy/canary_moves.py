"""What a transition remembers: the memory with which a phase begins."""

from __future__ import annotations

from dataclasses import replace

from penstock.model.canary import CanaryMemory, CanaryPhase, Ending
from penstock.model.decision import RolloutReason
from penstock.policy import canary_explanation as explanation
from penstock.policy.canary_events import Event
from penstock.policy.canary_situation import Situation, canary_requests

_BY_HAND = (Event.PROMOTE, Event.PROMOTE_ADOPTED, Event.WANTED_UNTESTED)
_BY_TIME = (Event.TIME_OVER_PROMOTE, Event.TIME_OVER_PROMOTE_ADOPTED)
_REJECT_NOTHING = (Event.NOT_WANTED, Event.SUPERSEDED, *_BY_TIME)
_REASONS = {
    Event.NOT_WANTED: RolloutReason.WITHDRAWN,
    Event.SUPERSEDED: RolloutReason.SUPERSEDED,
    Event.ABORT: RolloutReason.ABORTED,
    Event.NEVER_READY: RolloutReason.CANARY_NOT_READY,
    Event.TIME_OVER_ROLL_BACK: RolloutReason.INCONCLUSIVE,
    **dict.fromkeys(_BY_TIME, RolloutReason.PROMOTED),
}


def moved(event: Event, phase: CanaryPhase, s: Situation) -> CanaryMemory:
    """Return the memory with which `phase` begins, after `event`."""
    memory = s.memory
    if event in (Event.WANTED, Event.WANTED_UNTESTED):
        memory = _new_run(s)
    elif memory.phase is CanaryPhase.PAUSED:
        memory = _clocks_moved_on(memory, s.now)
    memory = replace(
        memory,
        phase=phase,
        since=s.now,
        resume_to=s.memory.phase if phase is CanaryPhase.PAUSED else None,
        by_command=memory.by_command or event in _BY_HAND,
    )
    if event in _BY_TIME:
        # Not `by_command`: who allows little evidence in favour has not said that none against it counts.
        memory = replace(memory, ending=_ending(event, s))
    if phase is CanaryPhase.TESTING:
        return _testing(event, memory, s)
    if phase is CanaryPhase.ROLLING_BACK:
        return replace(memory, weight_percent=0, shifted_at=None, ending=_ending(event, s))
    if phase is CanaryPhase.ROLLED_BACK:
        return replace(memory.rejecting(memory.ending), replicas=0, unready_since=None)
    if phase is CanaryPhase.PROMOTED:
        return _promoted(memory, s)
    if phase is CanaryPhase.IDLE:
        return CanaryMemory(
            since=s.now,
            replicas=_left(s),
            rejected=memory.rejected,
            rejected_before=memory.rejected_before,
            promoted=memory.promoted,
            obeyed=memory.obeyed,
        )
    return memory


def _left(s: Situation) -> int | None:
    """Return the replicas of a second workload whose run is over: none, unless it goes on or is not ours."""
    # Those of an owned revision go with its Deployment; a handed-over canary kept three for ever.
    ours = not s.owned and s.memory.replicas is not None and s.seen.refusal is None
    return 0 if ours and not s.to_be_tried() else None


def _new_run(s: Situation) -> CanaryMemory:
    """Begin with a revision; what was rejected or promoted before is kept."""
    before = s.memory
    return CanaryMemory(
        revision=s.seen.wanted,
        against=s.seen.stable_revision,
        began=s.now,
        rejected=before.rejected,
        rejected_before=before.rejected_before,
        promoted=before.promoted,
        obeyed=before.obeyed,
    )


def _clocks_moved_on(memory: CanaryMemory, now: float) -> CanaryMemory:
    """Return the memory as if the pause had not been: no time of the test is lost by looking."""
    paused = now - (now if memory.since is None else memory.since)

    def later(at: float | None) -> float | None:
        return None if at is None else at + paused

    return replace(
        memory,
        testing_since=later(memory.testing_since),
        step_since=later(memory.step_since),
        reached_at=later(memory.reached_at),
    )


def _testing(event: Event, memory: CanaryMemory, s: Situation) -> CanaryMemory:
    if event is Event.RESUME_TESTING:
        return memory
    if event is Event.RESUME:  # of an inconclusive one: the user gives it the whole time again
        return replace(memory, testing_since=s.now, step_since=s.now)
    began = memory.testing_since
    step = 0 if event is Event.READY else memory.step + 1
    # A step is never begun without time for it, though the whole may last longer for that.
    latest = s.now - s.canary.max_duration_seconds + s.share_seconds
    return replace(
        memory,
        step=step,
        step_since=s.now,
        testing_since=s.now if began is None else max(began, latest),
        reached_at=None,
        requests_before=canary_requests(s.seen.verdict),
    )


def _promoted(memory: CanaryMemory, s: Situation) -> CanaryMemory:
    if not s.owned:  # goes on at its step until its owner has handed over
        return replace(memory, promoted=memory.revision, rejected=None, rejected_before=())
    return CanaryMemory(
        phase=CanaryPhase.PROMOTED,
        since=s.now,
        revision=memory.revision,
        against=memory.against,
        began=memory.began,
        by_command=memory.by_command,
        ending=memory.ending,
        rejected=memory.rejected,
        rejected_before=memory.rejected_before,
        promoted=memory.revision,
        obeyed=memory.obeyed,
    )


def _ending(event: Event, s: Situation) -> Ending:
    """Say what ended the run."""
    verdict, revision = s.seen.verdict, s.memory.revision
    if event is Event.REGRESSED and verdict is not None:
        return Ending(revision, verdict.reason, verdict.message)
    reason = _REASONS[event]
    return Ending(revision, reason, explanation.ending(s, reason), rejects=event not in _REJECT_NOTHING)
