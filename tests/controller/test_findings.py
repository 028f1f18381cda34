"""The conditions of one service from look to look: what was missed is remembered for each objective."""

from __future__ import annotations

from fakes.builders import TTFT_500MS, estimate, pool, seen, service
from penstock.controller.findings import found_of
from penstock.controller.service_state import Outcome, ServiceState
from penstock.model.decision import Decision, Reason, TrafficReason
from penstock.model.observation import Load
from penstock.model.reading import Reading
from penstock.model.spec import Metric, Objective
from penstock.policy.decisions import ALONE

TPOT_40MS = Objective(Metric.TPOT, 0.95, 0.04)


def outcome(ttft: float, tpot: float) -> Outcome:
    """A tick of a service without gateways, with these percentiles in seconds."""
    load = Load(arrival_rate=Reading(10.0), ttft={0.95: Reading(ttft)}, tpot={0.95: Reading(tpot)})
    return Outcome(
        spec=service(objectives=(TTFT_500MS, TPOT_40MS)),
        seen=seen(0.0, pool(3), load=load),
        around=ALONE,
        estimate=estimate(10.0),
        decision=Decision(3, Reason.LATENCY_OBJECTIVE, "3 replicas"),
        admission=Decision(None, TrafficReason.LEARNING, ""),
        fallback=Decision(None, TrafficReason.NO_FALLBACK, ""),
    )


def test_an_objective_that_was_missed_keeps_no_other_one_missed() -> None:
    state, told = ServiceState("u-1"), []
    for ttft, tpot in [(0.9, 0.039), (0.49, 0.039), (0.31, 0.039)]:
        found = found_of(outcome(ttft, tpot), state, window_seconds=60.0)
        told += [(each.status.value, each.message) for each in found if each.type == "ObjectivesMet"]
    assert told == [
        ("False", "p95 TTFT 900 ms of 500 ms"),
        ("False", "p95 TTFT 490 ms of 500 ms (met again below 475 ms)"),
        ("True", "p95 TTFT 310 ms of 500 ms; p95 TPOT 39 ms of 40 ms"),
    ]
