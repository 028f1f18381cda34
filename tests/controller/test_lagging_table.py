"""While the table of a new shape is being solved, the old one is asked in requests of the old shape."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fakes.builders import service
from penstock.controller.cache import FleetCache
from penstock.controller.service_state import ServiceState
from penstock.controller.step import StepContext, step
from penstock.model.observation import Load
from penstock.model.profiles import profile_named
from penstock.model.reading import Reading
from penstock.policy import beliefs
from penstock.policy.beliefs import LoopTimes
from penstock.policy.capacity_problem import Engine
from penstock.policy.lengths import LengthMemory, LengthMoments, ShapeCell
from penstock.policy.memory import ServiceMemory
from penstock.policy.step_factors import AS_PROFILED

ENGINE = Engine(profile_named("llama-3.1-8b-h100"))
UNSOLVED: Any = SimpleNamespace(get=lambda _: None, failure=lambda _: "")


def shape(ratio: float) -> ShapeCell:
    return ShapeCell(LengthMoments(1000 * ratio, 1.0), LengthMoments(200 * ratio, 1.0))


def bound(solved_for: ShapeCell) -> float:
    """The rate to serve at 10 requests/s of one and a half times the usual lengths."""
    spec, heavier = service(), shape(1.5)
    lengths = LengthMemory(heavier.input, heavier.output, 2000.0, 0.0, heavier)
    state = ServiceState(uid="u", engine=ENGINE, memory=ServiceMemory(lengths=lengths))
    state.solved = beliefs.problem_of(spec, ENGINE, solved_for, AS_PROFILED)
    state.table = cast("Any", SimpleNamespace(queue_limit=1.0, unreachable=(), admission=None))
    load = Load(
        arrival_rate=Reading(10.0),
        queue_growth=Reading(0.0),
        waiting=Reading(0.0),
        input_token_rate=Reading(15_000.0),
        output_token_rate=Reading(3_000.0),
    )
    outcome = step(StepContext(FleetCache(), UNSOLVED, LoopTimes()), spec, state, load, 1000.0)
    assert outcome.estimate.demand is not None
    return outcome.estimate.demand.bound_per_second


def test_a_table_is_asked_in_requests_of_the_shape_it_was_solved_for() -> None:
    """At once in those of the new one, 11 replicas were ordered where 16 to 19 were needed."""
    assert bound(shape(1.0)) == pytest.approx(1.5 * bound(shape(1.5)), rel=1e-6)
