"""A line of decisions has every field that its schema names, and no other."""

from __future__ import annotations

from pathlib import Path

import orjson

from fakes.json_schema import faults
from penstock.model.decision import Decision, Reason, TrafficReason
from penstock.policy.admission import Admission
from penstock.policy.fallback import FallbackShare
from penstock.records.decision import decision_line

SCHEMA = orjson.loads((Path(__file__).parents[2] / "docs" / "decision.schema.json").read_bytes())
NO_LIMIT: Decision[Admission] = Decision(None, TrafficReason.NO_GATEWAY, "no limit")


def test_a_share_of_the_fallback_is_told_of_those_that_may_go_and_of_all() -> None:
    share = FallbackShare(0.5, 40, enforced=True, offered_ratio=0.1)
    decided = Decision(share, TrafficReason.FALLBACK_ACTIVE, "half of the batch requests")
    line = decision_line(15.0, "prod/chat", Decision(2, Reason.LEARNING, "held"), NO_LIMIT, decided)
    assert line["fallback"]["value"] == {
        "planned_ratio": 0.5,
        "offered_ratio": 0.1,
        "in_flight_limit": 40,
        "enforced": True,
    }
    assert list(faults(line, SCHEMA, SCHEMA)) == []
