"""What moves a canary on: each event with the fact that it is, asked of a `Situation`.

Mode Paused freezes everything but the way into the pause; commands of the annotation are obeyed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final

from penstock.model.canary import CanaryCommand, CanaryPhase
from penstock.model.canary_spec import OnInsufficientEvidence
from penstock.model.spec import Mode
from penstock.policy.canary_situation import Situation


class Event(Enum):
    """What moves a canary on; each is a fact of the situation."""

    WANTED = auto()
    WANTED_UNTESTED = auto()  # a changed template without spec.canary: no test
    NOT_WANTED = auto()
    SUPERSEDED = auto()
    NEVER_READY = auto()
    READY = auto()
    REGRESSED = auto()
    STEP_PASSED = auto()  # by evidence, or its time is over and nothing leans against it
    PASSED = auto()  # the last step, by evidence
    PASSED_ADOPTED = auto()
    TIME_OVER = auto()  # hold
    TIME_OVER_PROMOTE = auto()
    TIME_OVER_PROMOTE_ADOPTED = auto()
    TIME_OVER_ROLL_BACK = auto()
    PAUSE = auto()
    RESUME_WARMING = auto()
    RESUME_TESTING = auto()
    RESUME_PROMOTING = auto()
    RESUME = auto()
    PROMOTE = auto()
    PROMOTE_ADOPTED = auto()
    ABORT = auto()
    HANDED_OVER = auto()
    DRAINED = auto()  # and it may be tried again
    DRAINED_REJECTED = auto()


P, E = CanaryPhase, Event


def _active(s: Situation) -> bool:
    return s.spec.mode is Mode.ENFORCE


def _told(s: Situation, command: CanaryCommand) -> bool:
    """Whether a command is there that was not obeyed yet: an annotation that stays acts once."""
    return _active(s) and s.seen.command is command and s.memory.obeyed is not command


def _test_removed(s: Situation) -> bool:
    """Whether spec.canary went away during a test: from then on the template takes over untested."""
    return _active(s) and not s.tested and s.seen.command is not CanaryCommand.PAUSE


def _leaves(s: Situation) -> bool:
    """Whether the run may still be given up: not while the Services change, nor once it is the stable one."""
    if s.memory.phase is P.PROMOTED:
        return _active(s) and not s.owned
    return _active(s) and not s.memory.handing_over


def _regressed(s: Situation) -> bool:
    if s.memory.phase is P.PAUSED and s.memory.resume_to is P.WARMING:
        return False
    # Whoever promotes by hand knows better, and beside an arm without requests nothing can be compared.
    return _leaves(s) and s.regressed() and not s.memory.by_command and s.memory.shifted_at is None


def _never_ready(s: Situation) -> bool:
    return _leaves(s) and s.memory.phase is not P.PROMOTED and s.never_ready()


def _superseded(s: Situation) -> bool:
    return _leaves(s) and s.memory.shifted_at is None and s.superseded()


def _paused(s: Situation) -> bool:
    if s.memory.shifted_at is not None:
        return False
    return s.spec.mode is Mode.PAUSED or s.seen.command is CanaryCommand.PAUSE


def _resumed(to: CanaryPhase) -> Callable[[Situation], bool]:
    return lambda s: _active(s) and s.seen.command is not CanaryCommand.PAUSE and s.memory.resume_to is to


def _over(choice: OnInsufficientEvidence, s: Situation) -> bool:
    return _active(s) and s.canary.on_insufficient_evidence is choice and s.time_over()


def _over_promote(s: Situation) -> bool:
    # Promoted on little evidence where the user allows it; never on none: Flagger passed a wrong metric name.
    return _over(OnInsufficientEvidence.PROMOTE, s) and s.looks_harmless() and s.last_step


FACTS: Final[Mapping[Event, Callable[[Situation], bool]]] = {
    E.WANTED: lambda s: _active(s) and s.tested and s.to_be_tried(),
    E.WANTED_UNTESTED: lambda s: _active(s) and not s.tested and s.to_be_tried(),
    E.NOT_WANTED: lambda s: _leaves(s) and s.withdrawn(),
    E.SUPERSEDED: _superseded,
    E.NEVER_READY: _never_ready,
    E.READY: lambda s: _active(s) and s.ready(),
    E.REGRESSED: _regressed,
    E.STEP_PASSED: lambda s: _active(s) and not s.last_step and (s.passed() or s.step_over()),
    E.PASSED: lambda s: _active(s) and s.owned and s.last_step and s.passed(),
    E.PASSED_ADOPTED: lambda s: _active(s) and not s.owned and s.last_step and s.passed(),
    E.TIME_OVER: lambda s: _active(s) and s.time_over(),
    E.TIME_OVER_PROMOTE: lambda s: s.owned and _over_promote(s),
    E.TIME_OVER_PROMOTE_ADOPTED: lambda s: not s.owned and _over_promote(s),
    E.TIME_OVER_ROLL_BACK: lambda s: _over(OnInsufficientEvidence.ROLLBACK, s),
    E.PAUSE: _paused,
    E.RESUME_WARMING: _resumed(P.WARMING),
    E.RESUME_TESTING: _resumed(P.TESTING),
    E.RESUME_PROMOTING: _resumed(P.PROMOTING),
    E.RESUME: lambda s: _told(s, CanaryCommand.RESUME),
    E.PROMOTE: lambda s: s.owned and (_told(s, CanaryCommand.PROMOTE) or _test_removed(s)),
    E.PROMOTE_ADOPTED: lambda s: not s.owned and _told(s, CanaryCommand.PROMOTE),
    E.ABORT: lambda s: _leaves(s) and _told(s, CanaryCommand.ABORT),
    E.HANDED_OVER: lambda s: _active(s) and s.handed_over(),
    E.DRAINED: lambda s: _active(s) and s.drained(),
    E.DRAINED_REJECTED: lambda s: _active(s) and s.drained() and s.rejects(),
}
