"""A fallback that has seen no requests: what it can take of ours is solved from our lengths."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from fakes.builders import pool, seen
from fakes.traffic import LimitedCapacity, believed, routed, to
from penstock.controller.cache import FleetCache
from penstock.controller.fallbacks import Fallbacks
from penstock.controller.service_state import Outcome, ServiceState
from penstock.controller.tables import CapacityTables
from penstock.model.decision import Decision, Reason, TrafficReason
from penstock.model.spec import EngineSpec, ProfileType, ServiceSpec
from penstock.policy.capacity_problem import CapacityProblem, resolve_engine
from penstock.policy.decisions import ALONE
from penstock.policy.estimate import Estimate, NothingToCarry
from penstock.policy.fallback_room import FallbackRoom
from penstock.policy.lengths import LengthMemory, observe_means

NAMED = EngineSpec(profile_type=ProfileType.NAMED, profile_name="llama-3.1-8b-h100")
# No model names promised: the check of /v1/models is another test's.
OURS = replace(routed(fallback=to()), model_names=(), engine=NAMED)
THEIRS = replace(routed(name="chat-small"), model_names=(), engine=NAMED)


class SolvedTables:
    """Solves every problem at once, and remembers which were asked."""

    def __init__(self) -> None:
        self.asked: list[CapacityProblem] = []

    def get(self, problem: CapacityProblem) -> LimitedCapacity:
        self.asked.append(problem)
        return LimitedCapacity()


def state(spec: ServiceSpec, believing: Estimate) -> ServiceState:
    outcome = Outcome(
        spec=spec,
        seen=seen(0.0, pool(2)),
        around=ALONE,
        estimate=believing,
        decision=Decision(2, Reason.AT_MINIMUM, ""),
        admission=Decision(None, TrafficReason.LEARNING, ""),
        fallback=Decision(None, TrafficReason.NO_FALLBACK, ""),
    )
    return ServiceState(uid=spec.uid, engine=resolve_engine(NAMED), outcome=outcome)


def room(tables: SolvedTables | None, lengths: LengthMemory) -> FallbackRoom | None:
    known: Any = {each.key: SimpleNamespace(spec=each) for each in (OURS, THEIRS)}
    states = {
        OURS.key: state(OURS, believed(92.0)),
        THEIRS.key: state(THEIRS, believed(0.0, capacity=NothingToCarry())),
    }
    states[OURS.key].memory = replace(states[OURS.key].memory, lengths=lengths)
    fallbacks = Fallbacks(
        cast("FleetCache", SimpleNamespace(services=known)),
        states,
        tables=cast("CapacityTables | None", tables),
    )
    found, refusal = fallbacks.look(OURS, None)
    assert refusal is None
    return found


SEEN = observe_means(LengthMemory(), input_mean=1155.0, output_mean=211.0, requests=100.0)


def test_it_is_sized_for_requests_like_ours() -> None:
    tables = SolvedTables()
    assert room(tables, SEEN) == FallbackRoom("chat-small", 196, 36.0)
    (problem,) = tables.asked
    assert problem.cell == SEEN.cell
    assert problem.slo == THEIRS.slo


def test_where_nobody_has_seen_a_request_it_learns_from_one_a_replica() -> None:
    assert room(SolvedTables(), LengthMemory()) == FallbackRoom("chat-small", 2, 0.0, learning=True)
    assert room(None, SEEN) == FallbackRoom("chat-small", 2, 0.0, learning=True)
