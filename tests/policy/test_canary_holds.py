"""What no canary moves on for: each case is one look that changes nothing."""

from __future__ import annotations

import pytest

from fakes.builders import pool
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
from fakes.canary_cases import CRASHED, ENDED, FOUR, HOUR, LAST, NOW, Case, at
from penstock.model.canary import CanaryCommand, CanaryMemory, CanaryPhase
from penstock.model.canary_spec import OnInsufficientEvidence
from penstock.model.canary_verdict import VerdictKind
from penstock.model.decision import RolloutReason
from penstock.model.spec import Mode, RoutingType
from penstock.policy.canary import decide_canary

P = CanaryPhase
PROMOTE = {"on_insufficient_evidence": OnInsufficientEvidence.PROMOTE}

STAYS = {
    "nothing to try": Case(at(P.IDLE), {"wanted": OLD}, None, P.IDLE),
    "no stable replicas to compare with": Case(at(P.IDLE), {"stable": pool(0), "needed": None}, None, P.IDLE),
    "rejected before": Case(at(P.IDLE, rejected=ENDED), {}, None, P.IDLE),
    "rejected just now": Case(at(P.ROLLED_BACK, rejected=ENDED, ending=ENDED), {}, None, P.ROLLED_BACK),
    "an adopted one that passed before": Case(at(P.IDLE, promoted=NEW), {}, None, P.IDLE, adopted()),
    "not all replicas are ready": Case(
        at(P.WARMING), {"needed": 30, "stable": pool(30), "canary_ready": 1}, None, P.WARMING
    ),
    "gateways do not know them yet": Case(at(P.WARMING), {"acknowledged": False}, None, P.WARMING),
    "gateways do not answer": Case(at(P.WARMING), {"acknowledged": None}, None, P.WARMING),
    "an owner's rollout goes on": Case(
        at(P.WARMING), {"canary": pool(1, rolling_out=True)}, None, P.WARMING, adopted()
    ),
    "crashing for four minutes": Case(at(P.WARMING, unready_since=NOW - 299), CRASHED, None, P.WARMING),
    "no room on the nodes for nine minutes": Case(
        at(P.WARMING, unready_since=NOW - 599),
        {"canary": pool(1, ready=0, stuck=1, unschedulable=1), "canary_ready": 0},
        None,
        P.WARMING,
    ),
    "no room for more replicas": Case(
        at(P.TESTING, unready_since=NOW - 5000, step=2, replicas=4, reached_at=None),
        {"canary": pool(4, ready=1, stuck=3, unschedulable=3)},
        None,
        P.TESTING,
    ),
    "a step that was not seen for a minute": Case(
        at(P.TESTING, reached_at=NOW - 59), {"verdict": GOOD}, None, P.TESTING
    ),
    "a step that was seen for less than four slow scrapes": Case(
        at(P.TESTING, reached_at=NOW - 119),
        {"verdict": GOOD, "scrape_interval_seconds": 30.0},
        None,
        P.TESTING,
    ),
    "a step that was seen for 14 s of many scrapes": Case(
        at(P.TESTING, reached_at=NOW - 14), {"verdict": GOOD, "scrape_interval_seconds": 1.0}, None, P.TESTING
    ),
    "a step whose warm-up has just ended": Case(
        at(P.TESTING, evidence_from=NOW - 59), {"verdict": GOOD}, None, P.TESTING
    ),
    "a step whose weight was never reached": Case(
        at(P.TESTING, reached_at=None, weight_percent=3),
        {"verdict": GOOD, "stable_ready": 40},
        None,
        P.TESTING,
    ),
    "its time is over, and something leans against it": Case(
        at(P.TESTING),
        {"verdict": said(VerdictKind.CONTINUE, leaning=0.6)},
        None,
        P.TESTING,
        now=BEGAN + 60 + 1200,
    ),
    "the last step, and all in its favour was seen under less load": Case(
        at(P.TESTING, **LAST), FOUR | {"verdict": SO_FAR_GOOD}, None, P.TESTING
    ),
    "its time is over, with 19 requests": Case(
        at(P.TESTING),
        {"verdict": said(VerdictKind.INSUFFICIENT, requests=19)},
        None,
        P.TESTING,
        now=BEGAN + 60 + 1200,
    ),
    "its time is over, with 19 requests in this step": Case(
        at(P.TESTING, step=1, weight_percent=20, requests_before=481),
        {"verdict": said(VerdictKind.CONTINUE, requests=500)},
        None,
        P.TESTING,
        now=BEGAN + 60 + 1200,
    ),
    "its time is over, and an arm is not measured": Case(
        at(P.TESTING), {"verdict": missing()}, None, P.TESTING, now=BEGAN + 60 + 1200
    ),
    "a good verdict that waits out its step after the deadline": Case(
        at(P.TESTING, **(LAST | {"reached_at": BEGAN + 60 + HOUR})),
        FOUR | {"verdict": GOOD},
        None,
        P.TESTING,
        now=BEGAN + 60 + HOUR + 15,
    ),
    "no verdict in time, and an arm is not measured yet": Case(
        at(P.INCONCLUSIVE, **LAST),
        FOUR | {"verdict": missing()},
        None,
        P.INCONCLUSIVE,
        owned(**PROMOTE),
        BEGAN + 60 + HOUR + 15,
    ),
    "no verdict in time, and something leans against it": Case(
        at(P.INCONCLUSIVE, **LAST),
        FOUR | {"verdict": said(VerdictKind.CONTINUE, leaning=0.6)},
        None,
        P.INCONCLUSIVE,
        owned(**PROMOTE),
        BEGAN + 60 + HOUR + 15,
    ),
    "no verdict in time, before the last step": Case(
        at(P.INCONCLUSIVE),
        {"verdict": GATHERING},
        None,
        P.INCONCLUSIVE,
        owned(**PROMOTE),
        BEGAN + 60 + HOUR + 15,
    ),
    "no verdict in time, and the user is to say": Case(
        at(P.INCONCLUSIVE, **LAST),
        FOUR | {"verdict": GATHERING},
        None,
        P.INCONCLUSIVE,
        now=BEGAN + 60 + HOUR + 15,
    ),
    "promoted by hand, and the judge objects": Case(
        at(P.PROMOTING, **LAST, by_command=True), FOUR | {"verdict": BAD}, None, P.PROMOTING
    ),
    "all requests are there, and the judge objects": Case(
        at(P.PROMOTING, **LAST, shifted_at=NOW - 5), FOUR | {"verdict": BAD}, None, P.PROMOTING
    ),
    "all requests are there, and a newer template comes": Case(
        at(P.PROMOTING, **LAST, shifted_at=NOW - 5), FOUR | {"wanted": OTHER}, None, P.PROMOTING
    ),
    "the Services change, and it is aborted": Case(
        at(P.PROMOTING, **LAST, shifted_at=NOW - 5, handing_over=True),
        FOUR | {"command": CanaryCommand.ABORT},
        None,
        P.PROMOTING,
    ),
    "gateways do not know the new stable arm yet": Case(
        at(P.PROMOTING, **LAST, shifted_at=NOW - 5, handing_over=True),
        FOUR | {"stable_revision": NEW, "acknowledged": False},
        None,
        P.PROMOTING,
    ),
    "the stable arm is gone": Case(
        at(P.TESTING),
        {
            "refusal": (RolloutReason.STABLE_MISSING, "gone"),
            "stable": None,
            "stable_ready": 0,
            "needed": None,
        },
        None,
        P.TESTING,
    ),
    "the pause is still there": Case(
        at(P.PAUSED, resume_to=P.TESTING), {"command": CanaryCommand.PAUSE, "verdict": GOOD}, None, P.PAUSED
    ),
    "spec.canary is removed during a pause": Case(
        at(P.PAUSED, resume_to=P.TESTING),
        {"command": CanaryCommand.PAUSE},
        None,
        P.PAUSED,
        owned(tested=False),
    ),
    "streams go on": Case(at(P.ROLLING_BACK, ending=ENDED), {"canary_in_flight": 3.0}, None, P.ROLLING_BACK),
    "streams may go on": Case(
        at(P.ROLLING_BACK, ending=ENDED), {"canary_in_flight": None}, None, P.ROLLING_BACK
    ),
    "weight 0 has not arrived": Case(
        at(P.ROLLING_BACK, ending=ENDED), {"acknowledged": False}, None, P.ROLLING_BACK
    ),
}
STAYS |= {
    f"a command of long ago: {command}": Case(
        at(P.TESTING, obeyed=command), {"command": command}, None, P.TESTING
    )
    for command in (CanaryCommand.ABORT, CanaryCommand.PROMOTE)
}
FROZEN = {
    f"{phase.value} while the service is paused": Case(
        case.memory, case.seen, None, case.memory.phase, owned(mode=Mode.PAUSED), case.now
    )
    for phase, case in (
        (P.IDLE, Case(at(P.IDLE), {}, None, P.IDLE)),
        (P.PAUSED, Case(at(P.PAUSED, resume_to=P.TESTING), {"verdict": BAD}, None, P.PAUSED)),
        (P.INCONCLUSIVE, Case(at(P.INCONCLUSIVE), {"verdict": BAD}, None, P.INCONCLUSIVE)),
        (P.ROLLING_BACK, Case(at(P.ROLLING_BACK, ending=ENDED), {}, None, P.ROLLING_BACK)),
        (P.PROMOTED, Case(at(P.PROMOTED), {"wanted": OTHER}, None, P.PROMOTED)),
    )
}
HOLDS = STAYS | FROZEN


@pytest.mark.parametrize("case", HOLDS.values(), ids=HOLDS.keys())
def test_nothing_begins(case: Case) -> None:
    decision, memory = decide_canary(case.spec, case.look(), case.memory, case.now)
    assert decision.value is not None
    assert (memory.phase, decision.value.phase) == (case.to, case.to)
    assert memory.since == case.memory.since


def test_what_is_said_while_the_service_is_paused_is_done_afterwards() -> None:
    seen = looked_at(command=CanaryCommand.ABORT)
    _, memory = decide_canary(owned(mode=Mode.PAUSED), seen, at(P.TESTING), NOW)
    assert memory.phase is P.PAUSED
    _, memory = decide_canary(owned(), seen, memory, NOW + 15)
    assert memory.phase is P.ROLLING_BACK


def test_a_promotion_comes_with_its_template_or_not_at_all() -> None:
    """The annotation of the last canary must not promote the next one untested."""
    order = looked_at(wanted=OLD, command=CanaryCommand.PROMOTE)
    _, memory = decide_canary(owned(), order, CanaryMemory(), NOW)
    for tick in range(3):
        seen = looked_at(command=CanaryCommand.PROMOTE, canary_ready=0)
        _, memory = decide_canary(owned(), seen, memory, NOW + 15 * tick)
    assert memory.phase is P.WARMING
    _, memory = decide_canary(owned(), looked_at(command=CanaryCommand.PROMOTE), CanaryMemory(), NOW)
    _, memory = decide_canary(owned(), looked_at(command=CanaryCommand.PROMOTE), memory, NOW + 15)
    assert memory.phase is P.PROMOTING


def test_a_template_without_a_gateway_is_refused_a_canary_but_not_a_rollout() -> None:
    untested = owned(routing=RoutingType.NONE, tested=False)
    _, memory = decide_canary(untested, looked_at(canary=None, canary_ready=0), CanaryMemory(), NOW)
    assert memory.phase is P.PROMOTING
    decision, memory = decide_canary(untested, looked_at(canary=pool(4), canary_ready=4), memory, NOW + 15)
    assert decision.value is not None
    assert (decision.value.promote, decision.value.weight_percent) == (NEW, 0)
