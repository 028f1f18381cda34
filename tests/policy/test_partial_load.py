"""When the load may be under-counted, so that no scale-down follows from it: a Custom engine's queries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from fakes.builders import pool, seen
from penstock.model.observation import Load
from penstock.model.parse import parse_service
from penstock.model.reading import Absence, Reading
from penstock.model.spec import EngineType, ServiceSpec, Signal
from penstock.policy.beliefs import LoopTimes, estimate, observe
from penstock.policy.capacity_problem import resolve_engine
from penstock.policy.estimate import Estimate, NothingToCarry
from penstock.policy.memory import ServiceMemory

SAMPLE = Path(__file__).parents[2] / "manifests" / "samples" / "classifier.yaml"
NO_QUERY = Reading.missing(Absence.NOT_EXPOSED, "spec.engine.queries has no query for QueueDepth: add one")
FAILED = Reading.missing(Absence.QUERY_FAILED, "the query for the growth of QueueDepth failed: time-out")
KNOWN = Reading(0.0)


def classifier() -> ServiceSpec:
    return parse_service(yaml.safe_load(SAMPLE.read_text()))


def believed(spec: ServiceSpec, growth: Reading) -> Estimate:
    load = Load(arrival_rate=Reading(20.0), queue_growth=growth)
    engine, observed, times = resolve_engine(spec.engine), seen(0.0, pool(12), load=load), LoopTimes()
    memory = observe(spec, engine, observed, ServiceMemory(), times)
    return estimate(spec, engine, observed, memory, NothingToCarry(), times)


@pytest.mark.parametrize(
    ("type_", "growth", "partial"),
    [
        (EngineType.CUSTOM, KNOWN, ""),
        # Nobody asks for it, and what waits has come: ArrivalRate has it.
        (EngineType.CUSTOM, NO_QUERY, ""),
        (EngineType.CUSTOM, FAILED, f"the growth of the queue is not known: {FAILED.detail}"),
        (EngineType.VLLM, NO_QUERY, f"the growth of the queue is not known: {NO_QUERY.detail}"),
    ],
)
def test_a_queue_that_nobody_asks_for_hides_no_arrivals(
    type_: EngineType, growth: Reading, partial: str
) -> None:
    spec = classifier()
    spec = replace(spec, engine=replace(spec.engine, type=type_))
    assert believed(spec, growth).partial == partial


def test_the_sample_for_requests_and_responses_asks_for_all_that_its_objectives_and_scaling_need() -> None:
    spec = classifier()
    assert {each.signal for each in spec.engine.queries} == {
        Signal.ARRIVAL_RATE,
        Signal.QUEUE_DEPTH,
        Signal.RUNNING,
        *(Signal(f"LatencyP{round(each.percentile * 100)}") for each in spec.slo.objectives),
    }
