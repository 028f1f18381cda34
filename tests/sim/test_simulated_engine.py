"""One simulated engine: walked by hand, against a token-by-token simulation, and what always holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import engine_des
from fakes.sim_scenarios import TENTH, scenario
from penstock.model.profiles import profile_named
from penstock.queueing.step_law import StepLaw
from penstock.sim.fleet import LEAST_REQUESTS, NO_LIMIT, Span, advance
from penstock.sim.run import Run
from penstock.sim.scenario import Scenario
from penstock.sim.series import (
    FINISHED,
    GENERATION_TOKENS,
    INTER_TOKEN,
    LATENCY,
    PREEMPTIONS,
    PROMPT_TOKENS,
    REQUESTS,
    engine_counts,
)
from penstock.sim.simulate import simulate
from penstock.sim.state import Fleet, new_fleet, place
from penstock.sim.static import Static


def alone(given_scenario: Scenario) -> Run:
    return simulate(given_scenario, Static(1), seed=1)


def ms(values: np.ndarray) -> list[float]:
    return [round(1e3 * value, 6) for value in values.tolist()]


def test_a_lone_request_takes_one_step_a_token():
    run = alone(scenario([1.0], 100, 10))
    assert ms(run.ttft_seconds) == [10.0]
    assert ms(run.tpot_seconds) == [10.0]
    assert ms(run.latency_seconds) == [100.0]


def test_the_front_end_counts_in_ttft_and_latency_and_not_in_tpot():
    run = alone(scenario([0.0], 100, 11, profile=replace(TENTH, frontend_seconds=0.005)))
    assert (ms(run.ttft_seconds), ms(run.tpot_seconds), ms(run.latency_seconds)) == ([15.0], [10.0], [115.0])


def test_every_term_of_the_step_law_is_paid():
    law = StepLaw(
        base_seconds=1.0,
        weights_seconds=0.5,
        per_token_seconds=0.1,
        per_token_pair_seconds=0.01,
        per_kv_token_seconds=0.001,
        per_sequence_seconds=0.25,
        experts_seconds=2.0,
        experts_tokens=4.0,
    )
    run = alone(scenario([0.0], 20, 3, profile=replace(TENTH, step_law=law)))
    prefill = 1.0 + 2.0 + 0.01 * 200 + 2.0 * (1 - np.exp(-20 / 4))
    decodes = [1.0 + 0.5 + 0.001 * held + 0.25 + 2.0 * (1 - np.exp(-1 / 4)) for held in (20, 21)]
    assert run.ttft_seconds[0] == pytest.approx(prefill)
    assert run.latency_seconds[0] == pytest.approx(prefill + sum(decodes))


def test_a_prompt_longer_than_the_step_budget_is_cut():
    run = alone(scenario([0.0], 100, 1, profile=replace(TENTH, step_token_budget=40, max_sequences=8)))
    assert ms(run.ttft_seconds) == [30.0]
    assert np.isnan(run.tpot_seconds).all()


def test_decodes_come_before_prompts_in_the_budget():
    # One sequence decodes while a prompt of 78 tokens has 39 of the 40 left: two steps.
    profile = replace(TENTH, step_token_budget=40, max_sequences=8)
    run = alone(scenario([0.0, 0.015], [10, 78], [20, 1], profile=profile))
    assert ms(run.ttft_seconds) == [10.0, 25.0]
    one_more = alone(scenario([0.0, 0.015], [10, 79], [20, 1], profile=profile))
    assert ms(one_more.ttft_seconds) == [10.0, 35.0]


def test_prompts_that_come_during_a_step_enter_together_in_the_next():
    run = alone(scenario([0.0, 0.001, 0.009], 100, 1))
    assert ms(run.ttft_seconds) == [10.0, 19.0, 11.0]


def test_a_large_request_is_not_overtaken_by_a_small_one_that_would_fit():
    profile = replace(TENTH, kv_capacity_tokens=160.0)  # 10 blocks
    run = alone(scenario([0.0, 0.001, 0.002], [96, 96, 16], [4, 1, 1], profile=profile))
    # The second needs 6 blocks, 4 are free (3 once the first decodes): it and the third wait for its end.
    assert ms(run.ttft_seconds) == [10.0, 49.0, 48.0]


def test_the_slots_bound_what_runs_at_once():
    run = alone(scenario([0.0, 0.0, 0.0], 16, 5, profile=replace(TENTH, max_sequences=2)))
    # A sleeping engine starts with whoever comes first, if only by a hair.
    assert ms(run.ttft_seconds) == [10.0, 20.0, 60.0]


def test_the_last_admitted_is_preempted_and_computes_all_it_knew_again():
    # Four blocks: both enter at 10 ms with two of them full; their next tokens need one more each.
    profile = replace(TENTH, kv_capacity_tokens=64.0)
    run = alone(scenario([0.0, 0.001, 0.001], [16, 32, 32], [1, 3, 3], profile=profile))
    assert run.preemptions == 1
    # The last comes back at 40 ms, when the other has left: 33 tokens again and its second, then its third.
    assert ms(run.latency_seconds) == [10.0, 39.0, 59.0]
    assert ms(run.tpot_seconds[1:]) == [10.0, 20.0]


lengths = st.tuples(st.floats(0, 0.06), st.integers(1, 300), st.integers(1, 60))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(lengths, min_size=1, max_size=40),
    blocks=st.integers(24, 80),
    slots=st.integers(1, 20),
    budget=st.integers(20, 400),
)
def test_times_are_those_of_a_token_by_token_simulation(
    rows: list[tuple[float, int, int]], blocks: int, slots: int, budget: int
):
    gaps, inputs, outputs = (np.array(column) for column in zip(*rows, strict=True))
    profile = replace(
        profile_named("llama-3.1-8b-h100"),
        kv_capacity_tokens=16.0 * blocks,
        max_sequences=slots,
        step_token_budget=budget,
    )
    # The other simulation divides by the time between first and last arrival: one comes much later.
    arrivals = np.append(np.cumsum(gaps), 1e3)
    inputs, outputs = np.append(inputs, 1), np.append(outputs, 2)
    run = alone(scenario(arrivals, inputs, outputs, profile=profile))
    truth = engine_des.simulate(profile, arrivals, inputs, outputs, warm_up_ratio=0.0)
    np.testing.assert_allclose(run.ttft_seconds, truth.ttft, rtol=1e-9)
    np.testing.assert_allclose(run.latency_seconds, truth.latency, rtol=1e-9)
    assert run.preemptions == truth.preemptions


def engine_of(drawn: Scenario) -> tuple[Fleet, Span]:
    fleet = new_fleet(
        drawn.arrivals_seconds,
        drawn.input_tokens,
        drawn.output_tokens,
        rows=1,
        random=np.random.default_rng(1),
    )
    place(fleet.replicas, 0, drawn.profile, None, np.inf)
    row = np.zeros(1, np.int64)
    return fleet, Span(row, row, np.zeros(0, np.int64), LEAST_REQUESTS, NO_LIMIT, 0, 0.0, 15.0)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(lengths, min_size=1, max_size=60), blocks=st.integers(24, 60))
def test_work_is_conserved_nobody_is_lost_and_memory_is_never_overfull(
    rows: list[tuple[float, int, int]], blocks: int
):
    gaps, inputs, outputs = (np.array(column) for column in zip(*rows, strict=True))
    drawn = scenario(
        np.cumsum(gaps), inputs, outputs, profile=replace(TENTH, kv_capacity_tokens=16.0 * blocks)
    )
    fleet, span = engine_of(drawn)
    replica = fleet.replicas[0]
    for now in np.arange(0.0, float(gaps.sum()) + 1.0, 0.0037):
        advance(fleet, span, float(now))
        assert 0 <= replica["free_blocks"] <= blocks
        assert replica["running"] <= replica["present"]
        assert np.isinf(replica["ends"]) == (replica["present"] == 0)  # it works while there is work
        held = blocks - replica["free_blocks"]
        assert replica["context"] <= 16 * held
    advance(fleet, span, np.inf)
    requests, series = fleet.requests, replica["series"]
    assert (requests["last"] >= requests["first"]).all()
    assert (np.diff(requests["first"]) >= 0).all()  # first come, first served
    assert (np.diff(requests["admitted"]) >= 0).all()
    assert replica["free_blocks"] == blocks
    assert not replica["block_phase"].any()
    assert (replica["present"], replica["outstanding"], replica["context"]) == (0, 0, 0)
    assert (fleet.leaving == -1).all()
    assert series[REQUESTS] == series[FINISHED] == len(rows)
    assert series[PROMPT_TOKENS] == inputs.sum()
    assert series[GENERATION_TOKENS] == outputs.sum()
    counts = engine_counts(series)
    assert counts.inter_token_seconds.count == (outputs - 1).sum()
    assert counts.ttft_seconds.count == counts.tpot_seconds.count == len(rows)
    assert counts.input_lengths.total == inputs.sum()
    assert series[LATENCY] == pytest.approx((requests["last"] - requests["arrival"]).sum())
    waits = (requests["admitted"] - requests["arrival"]).sum()
    assert counts.queue_seconds.total == pytest.approx(waits)
    assert series[PREEMPTIONS] == requests["preemptions"].sum()
    gaps_between_tokens = (requests["last"] - requests["first"]).sum()
    assert series[INTER_TOKEN] == pytest.approx(gaps_between_tokens)
