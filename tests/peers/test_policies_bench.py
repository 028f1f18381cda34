"""The arithmetic of `make bench-policies`: frontiers, savings, loads made of traces, the way back."""

from __future__ import annotations

import numpy as np
import pytest

from bench.dataplane_report import Goal
from bench.policies_ablations import PerfectForecast
from bench.policies_frontier import cost_at, default_cost, frontier
from bench.policies_llmd import FLOOR, STAGES, back_at_floor, published_profile
from bench.policies_matched import _Savings, cheapest
from bench.policies_run import Result
from bench.policies_traces import APART_SECONDS, around_peak, multiplied
from fakes.sim_scenarios import every, scenario
from penstock.sim.policies.penstock import Settings
from penstock.sim.policies.token_aware import prefill_tokens_per_second
from penstock.sim.policy_port import Signals
from penstock.sim.run import PoolTimeline, Run
from penstock.sim.simulate import simulate
from penstock.traces.reading import Trace

LOADED = sum(seconds for _, seconds in STAGES)


def a_result(attainment: float, replica_hours: float) -> Result:
    return Result("b", "a load", "a peer", {}, attainment, replica_hours, 1.0, 0, 3600.0, 0.1, 0.01)


# One setting is dearer and worse than another and is never chosen.
SETTINGS = [a_result(0.95, 12.0), a_result(0.90, 10.0), a_result(0.93, 15.0), a_result(0.99, 20.0)]


def test_a_frontier_is_what_no_other_setting_beats_in_both() -> None:
    assert [(each.attainment, each.replica_hours) for each in frontier(SETTINGS)] == [
        (0.90, 10.0),
        (0.95, 12.0),
        (0.99, 20.0),
    ]
    # As dear and worse is not on it either.
    assert frontier([a_result(0.8, 10.0), a_result(0.9, 10.0)]) == [a_result(0.9, 10.0)]


@pytest.mark.parametrize(
    ("attainment", "expected"),
    [
        (0.50, 10.0),  # its cheapest does more
        (0.90, 10.0),
        (0.925, 11.0),  # halfway on the line
        (0.95, 12.0),
        (0.97, 16.0),
        (0.99, 20.0),
        (0.991, None),
    ],
)
def test_the_cost_at_an_attainment_is_read_off_the_frontier(
    attainment: float, expected: float | None
) -> None:
    assert cost_at(SETTINGS, attainment) == (None if expected is None else pytest.approx(expected))


def test_nothing_was_run_has_no_cost() -> None:
    assert cost_at([], 0.5) is None


def test_documented_defaults_cost_what_they_cost_where_they_attain_enough() -> None:
    assert default_cost(a_result(0.95, 12.0), 0.95) == 12.0
    assert default_cost(a_result(0.95, 12.0), 0.951) is None


def test_the_cheapest_is_chosen_among_those_that_attain_as_much() -> None:
    assert cheapest(SETTINGS, 0.92) == a_result(0.95, 12.0)
    assert cheapest(SETTINGS, 0.995) is None


def test_savings_are_a_median_and_a_worst_and_say_where_nobody_attains_as_much() -> None:
    savings, ours = _Savings(), a_result(0.99, 8.0)
    savings.add("documented defaults", ours, a_result(0.99, 10.0))  # a fifth cheaper
    savings.add("documented defaults", ours, a_result(0.99, 16.0))  # half
    savings.add("documented defaults", ours, a_result(0.99, 6.4))  # a quarter dearer
    savings.add("documented defaults", ours, None)
    savings.add_hindsight("a load", ours, 8.0)
    savings.add_hindsight("another", ours, None)

    assert [(each.name, pytest.approx(each.value), each.goal) for each in savings.figures()] == [
        (
            "median: cheaper than the best peer at our attainment, documented defaults, 3 workloads "
            "(and 1 where no peer attains as much)",
            20.0,
            (Goal.AT_LEAST, 25.0),
        ),
        (
            "worst: cheaper than the best peer at our attainment, documented defaults, 3 workloads "
            "(and 1 where no peer attains as much)",
            -25.0,
            (Goal.AT_LEAST, 0.0),
        ),
        (
            "median: cheaper than the best peer at our attainment, knob set in hindsight, 1 workload "
            "(and 1 where no peer attains as much)",
            0.0,
            None,
        ),
        (
            "worst: cheaper than the best peer at our attainment, knob set in hindsight, 1 workload "
            "(and 1 where no peer attains as much)",
            0.0,
            (Goal.AT_LEAST, 0.0),
        ),
    ]


def a_run(end: float, *paid: tuple[float, int]) -> Run:
    """Return a run of which only the replicas paid for are known: from when, how many."""
    at, count = np.array([when for when, _ in paid]), np.array([many for _, many in paid])
    nothing = np.zeros(0)
    timeline = PoolTimeline(at, count, count, count)
    return Run("", "", end, nothing, nothing, nothing, np.zeros(0, np.int8), timeline, (), 0)


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (a_run(9000.0, (0.0, FLOOR)), LOADED),  # never above it
        (a_run(9000.0, (0.0, FLOOR), (400.0, 8), (1000.0, FLOOR)), LOADED),  # back before the load's end
        (a_run(9000.0, (0.0, FLOOR), (400.0, 8), (2900.0, 5), (3100.0, FLOOR)), 3100.0),
        (a_run(9000.0, (0.0, 5), (2900.0, FLOOR), (3000.0, 4), (3200.0, FLOOR)), 3200.0),  # the last time
        (a_run(9000.0, (0.0, FLOOR), (400.0, 8), (2900.0, FLOOR), (3000.0, 4)), 9000.0),  # never came back
        (a_run(9000.0, (0.0, 8), (2900.0, FLOOR - 1)), 2900.0),
    ],
)
def test_the_published_profile_counts_until_the_pool_is_back_at_its_floor(run: Run, expected: float) -> None:
    assert back_at_floor(run) == expected


def test_the_published_profile_prefills_as_fast_as_llm_d_measured() -> None:
    # At the published knee's speed too: 15,928 tokens/s, Qwen3-32B on two H100.
    assert prefill_tokens_per_second(published_profile().profile) == pytest.approx(15_928.0, rel=0.05)


def a_trace(arrivals: list[float]) -> Trace:
    """Return requests that are told apart by their lengths."""
    number = np.arange(len(arrivals), dtype=np.int64)
    return Trace(np.array(arrivals), 100 + number, 1 + number)


def test_a_trace_at_a_whole_multiple_has_every_request_that_often_seconds_apart() -> None:
    trace = a_trace([float(second) for second in range(0, 1000, 10)])
    load = multiplied(trace, 3.0)

    assert (np.bincount(load.inputs - 100) == 3).all()
    assert (load.outputs == load.inputs - 99).all()  # lengths stay together
    assert (np.diff(load.arrivals) >= 0).all()
    assert (load.arrivals >= 0).all()
    assert (load.arrivals <= 990.0).all()
    apart = np.abs(load.arrivals - trace.arrivals[load.inputs - 100])
    assert apart.max() <= APART_SECONDS
    # One of the three comes when it came.
    assert (np.bincount((load.inputs - 100)[apart == 0.0], minlength=100) >= 1).all()


def test_a_trace_at_a_broken_multiple_has_the_rest_by_chance() -> None:
    trace = a_trace([float(second) for second in range(10_000)])
    assert multiplied(trace, 2.3).arrivals.size == pytest.approx(23_000, rel=0.02)
    fewer = multiplied(trace, 0.4)
    assert fewer.arrivals.size == pytest.approx(4_000, rel=0.05)
    assert set(fewer.arrivals) <= set(trace.arrivals)  # what is left comes when it came
    assert set(np.bincount(multiplied(trace, 2.3).inputs - 100)) == {2, 3}


def test_a_trace_multiplied_by_one_is_itself_and_of_nothing_nothing() -> None:
    trace = a_trace([0.0, 1.0, 5.0])
    assert multiplied(trace, 1.0).arrivals.tolist() == [0.0, 1.0, 5.0]
    assert multiplied(trace, 1.0).inputs.tolist() == [100, 101, 102]
    assert multiplied(trace, 0.0).arrivals.size == 0


def busy(peak: float, last: float) -> Trace:
    """Return one request a minute until `last`, and thirty in the half minute from `peak` on."""
    calm = np.arange(0.0, last + 1, 60.0)
    return a_trace(sorted([*calm.tolist(), *(peak + np.arange(30.0)).tolist()]))


@pytest.mark.parametrize(
    ("peak", "start"),
    [
        (10_010.0, 8_250.0),  # half an hour before the middle of 9,900 to 10,200 s
        (310.0, 0.0),  # half an hour before it there is nothing
        (20_010.0, 18_000.0),  # half an hour after it there is nothing: the last hour
    ],
)
def test_the_hour_around_the_busiest_five_minutes_is_taken(peak: float, start: float) -> None:
    trace = busy(peak, 21_600.0)
    part = around_peak(trace, 1.0)

    inside = (trace.arrivals >= start) & (trace.arrivals < start + 3600)
    assert part.arrivals.tolist() == (trace.arrivals[inside] - start).tolist()
    assert part.inputs.tolist() == trace.inputs[inside].tolist()
    assert part.outputs.tolist() == trace.outputs[inside].tolist()


def test_a_trace_no_longer_than_asked_for_is_taken_whole() -> None:
    trace = busy(1000.0, 3600.0)
    assert around_peak(trace, 1.0) is trace
    assert around_peak(trace, None) is trace


def test_a_perfect_forecast_knows_a_step_a_lead_time_before_it_and_no_sooner() -> None:
    bounds, measured = {}, {}

    class Watched(PerfectForecast):
        def decide(self, seen: Signals) -> int:
            wanted = super().decide(seen)
            if self.estimate is not None and self.estimate.demand is not None:
                bounds[seen.at] = self.estimate.demand.bound_per_second
                measured[seen.at] = seen.arrival_rate
            return wanted

    # 10 requests a second, from second 600 on 50; a start-up of 60 s and a tick of 15 are looked ahead.
    load = scenario(np.concatenate([every(0.1, 600.0), 600.0 + every(0.02, 300.0)]))
    simulate(load, Watched(load, Settings()), seed=1)
    assert bounds[480.0] == pytest.approx(10, rel=0.05)
    assert (bounds[570.0], measured[570.0]) == (pytest.approx(50, rel=0.05), pytest.approx(10, rel=0.05))
