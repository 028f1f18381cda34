"""When the load may be under-counted, so that no scale-down follows from it."""

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


def believed(spec: ServiceSpec, load: Load) -> Estimate:
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
    load = Load(arrival_rate=Reading(20.0), queue_growth=growth)
    assert believed(spec, load).partial == partial


GONE = "the query failed: time-out"
READ_WHOLE = Load(
    arrival_rate=Reading(20.0),
    queue_growth=Reading(0.0),
    waiting=Reading(0.0),
    running=Reading(4.0),
    reporting_pods=Reading(12.0),
    sample_age_seconds=Reading(5.0),
)


@pytest.mark.parametrize(
    ("signal", "absence", "partial"),
    [
        ("waiting", Absence.QUERY_FAILED, GONE),
        ("waiting", Absence.NOT_A_NUMBER, GONE),
        ("waiting", Absence.SEVERAL_SERIES, GONE),
        ("waiting", Absence.NO_SERIES, GONE),
        ("waiting", Absence.PARTIAL, GONE),
        # An engine without the metric, or one that has just begun to show it, is scaled down all the same.
        ("waiting", Absence.NOT_EXPOSED, ""),
        ("waiting", Absence.TOO_FEW_SAMPLES, ""),
        ("reporting_pods", Absence.QUERY_FAILED, GONE),
        ("reporting_pods", Absence.NOT_EXPOSED, ""),
        ("sample_age_seconds", Absence.QUERY_FAILED, GONE),
        ("sample_age_seconds", Absence.PARTIAL, GONE),
        ("sample_age_seconds", Absence.NOT_EXPOSED, ""),
        # No count follows from it but the one of measured concurrency, which is not made without it.
        ("running", Absence.NOT_A_NUMBER, ""),
        # Lengths and speed are what was learned before.
        ("output_token_rate", Absence.QUERY_FAILED, ""),
        ("tpot_mean", Absence.NO_REQUESTS, ""),
    ],
)
def test_a_signal_that_could_not_be_read_makes_the_load_of_an_engine_partial(
    signal: str, absence: Absence, partial: str
) -> None:
    spec = classifier()
    spec = replace(spec, engine=replace(spec.engine, type=EngineType.VLLM))
    load = replace(READ_WHOLE, **{signal: Reading.missing(absence, GONE)})  # type: ignore[arg-type]
    assert believed(spec, load).partial == partial
    counted_at_a_gateway = replace(load, offered_rate=Reading(21.0))
    assert believed(spec, counted_at_a_gateway).partial == partial


@pytest.mark.parametrize("signal", ["waiting", "reporting_pods", "sample_age_seconds"])
def test_own_queries_say_by_the_growth_of_the_queue_what_they_lack(signal: str) -> None:
    missing = {signal: Reading.missing(Absence.QUERY_FAILED, GONE)}
    load = replace(READ_WHOLE, **missing)  # type: ignore[arg-type]
    assert believed(classifier(), load).partial == ""


def test_pods_that_are_known_to_be_silent_are_told_before_what_is_missing() -> None:
    spec = classifier()
    spec = replace(spec, engine=replace(spec.engine, type=EngineType.VLLM))
    age = Reading.missing(Absence.PARTIAL, "the answer may be incomplete")
    load = replace(READ_WHOLE, reporting_pods=Reading(11.0), sample_age_seconds=age)
    assert believed(spec, load).partial == "11 of 12 ready pods report"


def test_the_sample_for_requests_and_responses_asks_for_all_that_its_objectives_and_scaling_need() -> None:
    spec = classifier()
    assert {each.signal for each in spec.engine.queries} == {
        Signal.ARRIVAL_RATE,
        Signal.QUEUE_DEPTH,
        Signal.RUNNING,
        *(Signal(f"LatencyP{round(each.percentile * 100)}") for each in spec.slo.objectives),
    }
