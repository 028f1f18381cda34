"""Decide what becomes of a canary: (spec, observation, memory, now) -> (decision, memory).

                      Paused <--pause / resume--> Warming, Testing, Promoting
    Idle --wanted--> Warming --ready--> Testing(0) --passed--> Testing(1) ... --> Promoting --> Promoted
                        |                   |  time over                              |
                        |                   +--> Inconclusive --evidence, by hand-----+
                        +---- never ready, regressed, aborted, not wanted any more ---+
                                                   v
                            RollingBack (weight 0 at once) --streams ended--> RolledBack, Idle

`TRANSITIONS` is all of it: of each phase's rows the first whose fact holds is taken, one in a tick.
What a transition remembers: ``policy/canary_moves.py``; weights and replicas: ``policy/canary_arms.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from penstock.model.canary import (
    NO_CANARY_MEMORY,
    CanaryMemory,
    CanaryObservation,
    CanaryPhase,
    CanaryPlan,
)
from penstock.model.canary_spec import CanarySpec
from penstock.model.decision import Decision
from penstock.model.spec import Mode, ServiceSpec, WorkloadType
from penstock.policy import canary_explanation as explanation
from penstock.policy.canary_arms import advance_arms, canary_plan
from penstock.policy.canary_events import FACTS, Event
from penstock.policy.canary_moves import moved
from penstock.policy.canary_situation import Situation
from penstock.policy.modes import weaker

_UNTESTED = CanarySpec()


P, E = CanaryPhase, Event
_GONE = ((E.NOT_WANTED, P.ROLLING_BACK), (E.SUPERSEDED, P.ROLLING_BACK), (E.ABORT, P.ROLLING_BACK))
_FAILED = (*_GONE, (E.REGRESSED, P.ROLLING_BACK), (E.NEVER_READY, P.ROLLING_BACK))
_BY_HAND = ((E.PROMOTE, P.PROMOTING), (E.PROMOTE_ADOPTED, P.PROMOTED))
_PASSED = ((E.PASSED, P.PROMOTING), (E.PASSED_ADOPTED, P.PROMOTED), (E.STEP_PASSED, P.TESTING))
# Also of what is Inconclusive already: in the very tick of the deadline an arm may have been unreadable.
_TIME_OVER_PROMOTE = ((E.TIME_OVER_PROMOTE, P.PROMOTING), (E.TIME_OVER_PROMOTE_ADOPTED, P.PROMOTED))
_BEGIN = ((E.WANTED_UNTESTED, P.PROMOTING), (E.WANTED, P.WARMING))

TRANSITIONS: Final[Mapping[CanaryPhase, tuple[tuple[Event, CanaryPhase], ...]]] = {
    P.IDLE: _BEGIN,
    P.WARMING: (
        *_GONE,
        (E.NEVER_READY, P.ROLLING_BACK),
        *_BY_HAND,
        (E.PAUSE, P.PAUSED),
        (E.READY, P.TESTING),
    ),
    P.TESTING: (
        *_FAILED,
        *_BY_HAND,
        (E.PAUSE, P.PAUSED),
        *_PASSED,
        (E.TIME_OVER_ROLL_BACK, P.ROLLING_BACK),
        *_TIME_OVER_PROMOTE,
        (E.TIME_OVER, P.INCONCLUSIVE),
    ),
    P.INCONCLUSIVE: (*_FAILED, *_BY_HAND, *_PASSED, *_TIME_OVER_PROMOTE, (E.RESUME, P.TESTING)),
    P.PAUSED: (
        *_FAILED,
        *_BY_HAND,
        (E.RESUME_WARMING, P.WARMING),
        (E.RESUME_TESTING, P.TESTING),
        (E.RESUME_PROMOTING, P.PROMOTING),
    ),
    P.PROMOTING: ((E.HANDED_OVER, P.PROMOTED), *_FAILED, (E.PAUSE, P.PAUSED)),
    P.PROMOTED: (*_FAILED, *_BEGIN),
    P.ROLLING_BACK: ((E.DRAINED_REJECTED, P.ROLLED_BACK), (E.DRAINED, P.IDLE)),
    P.ROLLED_BACK: (*_BEGIN, (E.NOT_WANTED, P.IDLE)),
}


def decide_canary(
    spec: ServiceSpec, seen: CanaryObservation, memory: CanaryMemory, now: float
) -> tuple[Decision[CanaryPlan], CanaryMemory]:
    """Return the plan for both arms and the memory to keep. `value` None: there is no second arm to touch.

    `now` in Unix seconds. Without spec.canary a changed `workload.template` goes the same way untested.
    """
    canary, owned = spec.canary, spec.workload_type is WorkloadType.TEMPLATE
    if canary is None and not owned:
        return explanation.NONE_SET, _at_rest(memory)
    if owned and not seen.stable_revision and seen.wanted and spec.mode is Mode.ENFORCE:
        plan = CanaryPlan(CanaryPhase.IDLE, promote=seen.wanted)
        return explanation.first_revision(seen.wanted, plan), _at_rest(memory)
    mode = weaker(spec.mode, canary.mode if canary is not None else Mode.ENFORCE)
    situation = Situation(spec, canary or _UNTESTED, canary is not None, seen, memory, now)
    if mode is Mode.OBSERVE:
        return explanation.observing(situation), _at_rest(memory)
    begun = False
    for event, phase in TRANSITIONS[memory.phase]:
        if FACTS[event](situation):
            memory = moved(event, phase, situation)
            begun = event in (E.WANTED, E.WANTED_UNTESTED)
            break
    if not begun and spec.mode is not Mode.PAUSED and memory.obeyed is not seen.command:
        # What was said before a run began is no order about it; what came with its template is.
        memory = replace(memory, obeyed=seen.command)
    if spec.mode is not Mode.PAUSED:
        memory = advance_arms(replace(situation, memory=memory))
    situation = replace(situation, memory=memory)
    plan = canary_plan(situation)
    return explanation.decision(situation, plan), memory


def _at_rest(memory: CanaryMemory) -> CanaryMemory:
    """Return the memory without the run: what was rejected stays rejected."""
    if memory is NO_CANARY_MEMORY or (memory.phase is P.IDLE and not memory.revision):
        return memory
    return CanaryMemory(
        rejected=memory.rejected,
        rejected_before=memory.rejected_before,
        promoted=memory.promoted,
        obeyed=memory.obeyed,
    )
