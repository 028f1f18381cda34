"""Every row of the transition table: the event that takes it, and what is remembered."""

from __future__ import annotations

import pytest

from fakes.canary import (
    BAD,
    BEGAN,
    GATHERING,
    GOOD,
    NEW,
    OLD,
    OTHER,
    SO_FAR_GOOD,
    adopted,
    looked_at,
    missing,
    owned,
    said,
)
from fakes.canary_cases import CRASHED, ENDED, FOUR, HOUR, LAST, NOW, SUPERSEDED, Case, at
from penstock.model.canary import CanaryCommand, CanaryPhase
from penstock.model.canary_spec import OnInsufficientEvidence
from penstock.model.canary_verdict import VerdictKind
from penstock.model.decision import RolloutReason
from penstock.model.spec import Mode
from penstock.policy.canary import TRANSITIONS, decide_canary
from penstock.policy.canary_events import FACTS, Event

P, E = CanaryPhase, Event

ROLL_BACK = {"on_insufficient_evidence": OnInsufficientEvidence.ROLLBACK}
PROMOTE = {"on_insufficient_evidence": OnInsufficientEvidence.PROMOTE}
COMMON_ENDS = {
    "the stable revision is wanted again": ({"wanted": OLD}, E.NOT_WANTED),
    "nothing may be tried any more": ({"refusal": (RolloutReason.NO_GATEWAY, "no gateway")}, E.NOT_WANTED),
    "another revision is wanted": ({"wanted": OTHER}, E.SUPERSEDED),
    "the stable arm has changed": ({"stable_revision": OTHER}, E.SUPERSEDED),
    "aborted": ({"command": CanaryCommand.ABORT}, E.ABORT),
}
ENDS = {
    f"{phase.value}: {name}": Case(at(phase, **extra), seen, event, P.ROLLING_BACK)
    for phase, extra in (
        (P.WARMING, {}),
        (P.TESTING, {}),
        (P.INCONCLUSIVE, {}),
        (P.PAUSED, {"resume_to": P.TESTING}),
        (P.PROMOTING, LAST),
    )
    for name, (seen, event) in COMMON_ENDS.items()
}
REGRESSIONS = {
    f"{phase.value}: regressed": Case(at(phase, **extra), {"verdict": BAD}, E.REGRESSED, P.ROLLING_BACK)
    for phase, extra in (
        (P.TESTING, {}),
        (P.INCONCLUSIVE, {}),
        (P.PAUSED, {"resume_to": P.TESTING}),
        (P.PROMOTING, LAST),
    )
}
CRASHES = {
    f"{phase.value}: crashing for five minutes": Case(
        at(phase, unready_since=NOW - 300, **extra), CRASHED, E.NEVER_READY, P.ROLLING_BACK
    )
    for phase, extra in (
        (P.WARMING, {}),
        (P.TESTING, {}),
        (P.INCONCLUSIVE, {}),
        (P.PAUSED, {"resume_to": P.TESTING}),
        (P.PROMOTING, LAST),
    )
}
BEGINNINGS = {
    f"{phase.value}: {name}": Case(memory, {"wanted": OTHER}, event, to, spec)
    for phase, memory in (
        (P.IDLE, at(P.IDLE)),
        (P.ROLLED_BACK, at(P.ROLLED_BACK, rejected=ENDED, ending=ENDED)),
        (P.PROMOTED, at(P.PROMOTED)),
    )
    for name, event, to, spec in (
        ("a new revision", E.WANTED, P.WARMING, owned()),
        ("a new template without a test", E.WANTED_UNTESTED, P.PROMOTING, owned(tested=False)),
    )
}
FORWARD = {
    "ready": Case(at(P.WARMING), {}, E.READY, P.TESTING),
    "paused while warming": Case(at(P.WARMING), {"command": CanaryCommand.PAUSE}, E.PAUSE, P.PAUSED),
    "paused": Case(at(P.TESTING), {"command": CanaryCommand.PAUSE}, E.PAUSE, P.PAUSED),
    "the service is paused": Case(at(P.TESTING), {}, E.PAUSE, P.PAUSED, owned(mode=Mode.PAUSED)),
    "paused while promoting": Case(
        at(P.PROMOTING, **LAST), {"command": CanaryCommand.PAUSE}, E.PAUSE, P.PAUSED
    ),
    "resumed to warming": Case(at(P.PAUSED, resume_to=P.WARMING), {}, E.RESUME_WARMING, P.WARMING),
    "resumed to testing": Case(at(P.PAUSED, resume_to=P.TESTING), {}, E.RESUME_TESTING, P.TESTING),
    "resumed by its name": Case(
        at(P.PAUSED, resume_to=P.TESTING), {"command": CanaryCommand.RESUME}, E.RESUME_TESTING, P.TESTING
    ),
    "resumed to promoting": Case(at(P.PAUSED, resume_to=P.PROMOTING), {}, E.RESUME_PROMOTING, P.PROMOTING),
    "promoted by hand while warming": Case(
        at(P.WARMING), {"command": CanaryCommand.PROMOTE, "canary_ready": 0}, E.PROMOTE, P.PROMOTING
    ),
    "promoted by hand": Case(at(P.TESTING), {"command": CanaryCommand.PROMOTE}, E.PROMOTE, P.PROMOTING),
    "spec.canary is removed in the middle": Case(
        at(P.TESTING), {}, E.PROMOTE, P.PROMOTING, owned(tested=False)
    ),
    "promoted by hand from a pause": Case(
        at(P.PAUSED, resume_to=P.TESTING), {"command": CanaryCommand.PROMOTE}, E.PROMOTE, P.PROMOTING
    ),
    "promoted by hand without a verdict": Case(
        at(P.INCONCLUSIVE), {"command": CanaryCommand.PROMOTE}, E.PROMOTE, P.PROMOTING
    ),
    "an adopted one promoted by hand": Case(
        at(P.TESTING), {"command": CanaryCommand.PROMOTE}, E.PROMOTE_ADOPTED, P.PROMOTED, adopted()
    ),
    "a step passed by evidence": Case(at(P.TESTING), {"verdict": GOOD}, E.STEP_PASSED, P.TESTING),
    "a step passed under less load": Case(at(P.TESTING), {"verdict": SO_FAR_GOOD}, E.STEP_PASSED, P.TESTING),
    "a step whose time is over": Case(
        at(P.TESTING), {"verdict": GATHERING}, E.STEP_PASSED, P.TESTING, now=BEGAN + 60 + 1200
    ),
    "a step passed after four quick scrapes, and 15 s": Case(
        at(P.TESTING, reached_at=NOW - 15),
        {"verdict": GOOD, "scrape_interval_seconds": 1.0},
        E.STEP_PASSED,
        P.TESTING,
    ),
    "the last step passed": Case(at(P.TESTING, **LAST), FOUR | {"verdict": GOOD}, E.PASSED, P.PROMOTING),
    "an adopted one passed": Case(
        at(P.TESTING, **LAST), FOUR | {"verdict": GOOD}, E.PASSED_ADOPTED, P.PROMOTED, adopted()
    ),
    "evidence after all": Case(at(P.INCONCLUSIVE), {"verdict": GOOD}, E.STEP_PASSED, P.TESTING),
    "evidence after all, at the last step": Case(
        at(P.INCONCLUSIVE, **LAST), FOUR | {"verdict": GOOD}, E.PASSED, P.PROMOTING
    ),
    "the same time again": Case(
        at(P.INCONCLUSIVE), {"command": CanaryCommand.RESUME}, E.RESUME, P.TESTING, now=BEGAN + 2 * HOUR
    ),
    "time is over": Case(
        at(P.TESTING, **LAST),
        FOUR | {"verdict": GATHERING},
        E.TIME_OVER,
        P.INCONCLUSIVE,
        now=BEGAN + 60 + HOUR,
    ),
    "time is over, roll back": Case(
        at(P.TESTING, **LAST),
        FOUR | {"verdict": GATHERING},
        E.TIME_OVER_ROLL_BACK,
        P.ROLLING_BACK,
        owned(**ROLL_BACK),
        BEGAN + 60 + HOUR,
    ),
    "time is over, promote": Case(
        at(P.TESTING, **LAST),
        FOUR | {"verdict": GATHERING},
        E.TIME_OVER_PROMOTE,
        P.PROMOTING,
        owned(**PROMOTE),
        BEGAN + 60 + HOUR,
    ),
    "time is over, promote an adopted one": Case(
        at(P.TESTING, **LAST),
        FOUR | {"verdict": GATHERING},
        E.TIME_OVER_PROMOTE_ADOPTED,
        P.PROMOTED,
        adopted(**PROMOTE),
        BEGAN + 60 + HOUR,
    ),
    "time was over while an arm could not be read, promote": Case(
        at(P.INCONCLUSIVE, **LAST),
        FOUR | {"verdict": GATHERING},
        E.TIME_OVER_PROMOTE,
        P.PROMOTING,
        owned(**PROMOTE),
        BEGAN + 60 + HOUR + 15,
    ),
    "time was over while an arm could not be read, promote an adopted one": Case(
        at(P.INCONCLUSIVE, **LAST),
        FOUR | {"verdict": GATHERING},
        E.TIME_OVER_PROMOTE_ADOPTED,
        P.PROMOTED,
        adopted(**PROMOTE),
        BEGAN + 60 + HOUR + 15,
    ),
    "time is over, promote what was not measured": Case(
        at(P.TESTING, **LAST),
        FOUR | {"verdict": missing()},
        E.TIME_OVER,
        P.INCONCLUSIVE,
        owned(**PROMOTE),
        BEGAN + 60 + HOUR,
    ),
    "time is over, promote what something leans against": Case(
        at(P.TESTING, **LAST),
        FOUR | {"verdict": said(VerdictKind.CONTINUE, leaning=0.6)},
        E.TIME_OVER,
        P.INCONCLUSIVE,
        owned(**PROMOTE),
        BEGAN + 60 + HOUR,
    ),
    "the new revision is the stable one": Case(
        at(P.PROMOTING, **LAST, handing_over=True, shifted_at=BEGAN),
        FOUR | {"stable_revision": NEW},
        E.HANDED_OVER,
        P.PROMOTED,
    ),
    "its owner has changed the stable arm": Case(
        at(P.PROMOTED, **LAST, promoted=NEW),
        FOUR | {"stable_revision": OTHER},
        E.SUPERSEDED,
        P.ROLLING_BACK,
        adopted(),
    ),
    "its owner has taken it over": Case(
        at(P.PROMOTED, **LAST, promoted=NEW),
        FOUR | {"stable_revision": NEW},
        E.NOT_WANTED,
        P.ROLLING_BACK,
        adopted(),
    ),
    "an adopted one regresses after it passed": Case(
        at(P.PROMOTED, **LAST, promoted=NEW), FOUR | {"verdict": BAD}, E.REGRESSED, P.ROLLING_BACK, adopted()
    ),
    "an adopted one aborted after it passed": Case(
        at(P.PROMOTED, **LAST, promoted=NEW),
        {"command": CanaryCommand.ABORT},
        E.ABORT,
        P.ROLLING_BACK,
        adopted(),
    ),
    "drained": Case(at(P.ROLLING_BACK, ending=ENDED), {}, E.DRAINED_REJECTED, P.ROLLED_BACK),
    "drained, to be tried again": Case(at(P.ROLLING_BACK, ending=SUPERSEDED), {}, E.DRAINED, P.IDLE),
    "what was rejected is not wanted any more": Case(
        at(P.ROLLED_BACK, rejected=ENDED, ending=ENDED), {"wanted": OLD}, E.NOT_WANTED, P.IDLE
    ),
}
CASES = ENDS | REGRESSIONS | CRASHES | BEGINNINGS | FORWARD


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_row_of_the_table_that_is_taken(case: Case) -> None:
    decision, memory = decide_canary(case.spec, case.look(), case.memory, case.now)
    assert decision.value is not None
    assert (memory.phase, decision.value.phase) == (case.to, case.to)
    assert memory.since == case.now
    assert (case.event, case.to) in TRANSITIONS[case.memory.phase]


def test_every_row_of_the_table_has_a_case() -> None:
    tested = {(case.memory.phase, case.event, case.to) for case in CASES.values()}
    rows = {(phase, event, to) for phase, rows in TRANSITIONS.items() for event, to in rows}
    # An owned workload is never judged, nor too late to start, once it is the stable one; nor are adopted
    # ones, which pass without Promoting, promoted so.
    never = {(P.PROMOTED, E.NEVER_READY, P.ROLLING_BACK)}
    same_for_adopted = {
        (phase, event, P.PROMOTED)
        for phase in (P.WARMING, P.PAUSED, P.INCONCLUSIVE)
        for event in (E.PROMOTE_ADOPTED, E.PASSED_ADOPTED)
    }
    assert rows - tested - never - same_for_adopted == set()


def test_every_event_has_a_fact_and_a_row() -> None:
    used = {event for rows in TRANSITIONS.values() for event, _ in rows}
    assert used == set(Event) == set(FACTS)


def test_every_phase_can_be_left_and_entered() -> None:
    entered = {to for rows in TRANSITIONS.values() for _, to in rows}
    assert set(TRANSITIONS) == set(CanaryPhase)
    assert entered == set(CanaryPhase)
    for phase, rows in TRANSITIONS.items():
        assert {to for _, to in rows} - {phase}, f"{phase} has no way out"


def test_an_adopted_canary_passes_without_promoting_from_everywhere() -> None:
    for phase in (P.WARMING, P.PAUSED, P.INCONCLUSIVE):
        memory = at(phase, resume_to=P.TESTING if phase is P.PAUSED else None)
        _, after = decide_canary(adopted(), looked_at(command=CanaryCommand.PROMOTE), memory, NOW)
        assert after.phase is P.PROMOTED
        assert after.by_command
