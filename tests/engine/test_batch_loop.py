"""The scheduler of one replica: what enters a step, and what leaves it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.batch_loop import (
    BLOCK_TOKENS,
    BatchLoop,
    DoesNotFitError,
    EngineLimits,
    Sequence,
    StepWork,
)


def loop(slots: int = 8, kv: int = 10_000, budget: int = 100) -> BatchLoop:
    return BatchLoop(EngineLimits(slots=slots, kv_capacity_tokens=kv, step_budget_tokens=budget))


def submit(batch: BatchLoop, *lengths: tuple[int, int], at: float = 0.0) -> list[Sequence]:
    return [batch.submit(input_tokens=i, output_tokens=o, arrived_at=at) for i, o in lengths]


def works(batch: BatchLoop, steps: int) -> list[StepWork | None]:
    seen = []
    for step in range(steps):
        seen.append(batch.begin_step(float(step)))
        batch.finish_step(step + 1.0)
    return seen


def test_a_request_takes_one_prefill_step_and_one_step_for_each_further_token():
    batch = loop()
    (sequence,) = submit(batch, (40, 3))
    assert works(batch, 4) == [
        StepWork(prefill_tokens=40, decoding=0, prefill_token_pairs=800.0, kv_tokens=0),
        StepWork(prefill_tokens=0, decoding=1, prefill_token_pairs=0.0, kv_tokens=40),
        StepWork(prefill_tokens=0, decoding=1, prefill_token_pairs=0.0, kv_tokens=41),
        None,
    ]
    assert (sequence.admitted_at, sequence.first_token_at, sequence.last_token_at) == (0.0, 1.0, 3.0)


def test_a_long_prompt_is_cut_at_the_token_budget_and_attends_to_what_came_before():
    batch = loop(budget=100)
    submit(batch, (250, 1))
    assert [(w.prefill_tokens, w.prefill_token_pairs) for w in works(batch, 3)] == [
        (100, 100 * 50),
        (100, 100 * (100 + 50)),
        (50, 50 * (200 + 25)),
    ]


def test_decodes_go_first_and_a_prompt_gets_what_is_left_of_the_budget():
    batch = loop(budget=100)
    submit(batch, (10, 9), (10, 9))
    works(batch, 1)
    submit(batch, (150, 2))
    assert works(batch, 2) == [
        StepWork(prefill_tokens=98, decoding=2, prefill_token_pairs=98 * 49.0, kv_tokens=20),
        StepWork(prefill_tokens=52, decoding=2, prefill_token_pairs=52 * (98 + 26.0), kv_tokens=22),
    ]


def test_nobody_is_admitted_beyond_the_slots():
    batch = loop(slots=2)
    submit(batch, (5, 3), (5, 3), (5, 3))
    batch.begin_step(0.0)
    assert (batch.running_count, batch.waiting_count(0.0)) == (2, 1)


def test_admission_is_first_come_first_served_even_if_a_later_one_would_fit():
    batch = loop(kv=160)
    submit(batch, (100, 20), (90, 5), (5, 5))
    batch.begin_step(0.0)
    assert (batch.running_count, batch.waiting_count(0.0)) == (1, 2)


def test_a_step_admits_only_what_has_arrived_when_it_begins():
    batch = loop()
    submit(batch, (5, 1), at=2.0)
    assert batch.begin_step(1.9) is None
    assert (batch.next_arrival(), batch.waiting_count(1.9), batch.waiting_count(2.0)) == (2.0, 0, 1)
    assert batch.begin_step(2.0) is not None


def test_without_a_kv_block_the_last_admitted_is_preempted_and_recomputes_all_it_knew():
    batch = loop(kv=6 * BLOCK_TOKENS)
    first, second = submit(batch, (30, 40), (30, 40))
    seen = []
    for step in range(200):
        work = batch.begin_step(float(step))
        if work is None:
            break
        seen.append((work, batch.finish_step(step + 1.0).preemptions))
    assert (first.preemptions, second.preemptions) == (0, 1)
    assert sum(preemptions for _, preemptions in seen) == 1
    # 6 blocks hold 48 tokens of each: at the 49th the second is pushed out, knowing 30 + 19 tokens
    recomputed = [work.prefill_tokens for work, _ in seen[1:] if work.prefill_tokens]
    assert recomputed == [49]
    assert second.first_token_at == 1.0
    assert (first.last_token_at, second.generated_tokens) == (40.0, 40)
    assert batch.kv_usage_ratio == 0


@pytest.mark.parametrize(("input_tokens", "output_tokens"), [(0, 5), (5, 0), (150, 20)])
def test_a_request_that_can_never_be_served_is_refused(input_tokens: int, output_tokens: int):
    with pytest.raises(DoesNotFitError):
        loop(kv=160).submit(input_tokens=input_tokens, output_tokens=output_tokens, arrived_at=0)


@pytest.mark.parametrize("begun", [True, False], ids=["in the step", "waiting"])
def test_a_dropped_request_frees_its_place_and_emits_nothing(begun: bool):
    batch = loop()
    gone, stays = submit(batch, (20, 5), (20, 5))
    if begun:
        batch.begin_step(0.0)
    batch.drop(gone)
    batch.drop(gone)
    if not begun:
        batch.begin_step(0.0)
    assert batch.finish_step(1.0).emitted == [stays]
    assert batch.running_count == 1


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"slots": 0}, "slots must be at least 1, not 0"),
        (
            {"slots": 101},
            "a step of 100 tokens cannot decode 101 sequences: lower slots or raise step_budget_tokens",
        ),
    ],
)
def test_impossible_limits_are_refused(limits: dict[str, int], message: str):
    with pytest.raises(ValueError, match=message):
        loop(**limits)


@given(
    lengths=st.lists(st.tuples(st.integers(1, 120), st.integers(1, 40)), min_size=1, max_size=30),
    slots=st.integers(1, 6),
    blocks=st.integers(10, 20),
    budget=st.integers(6, 64),
    drops=st.sets(st.integers(0, 29), max_size=4),
)
def test_every_request_is_served_whole_within_all_limits(
    lengths: list[tuple[int, int]], slots: int, blocks: int, budget: int, drops: set[int]
):
    batch = loop(slots=slots, kv=blocks * BLOCK_TOKENS, budget=budget)
    sequences = submit(batch, *lengths)
    emitted = 0
    step = 0
    while (work := batch.begin_step(float(step))) is not None:
        assert 1 <= work.tokens <= budget
        assert work.decoding <= batch.running_count <= slots
        assert 0 < batch.kv_usage_ratio <= 1
        if step in drops and step < len(sequences):
            batch.drop(sequences[step])
        emitted += len(batch.finish_step(step + 1.0).emitted)
        step += 1
    served = [sequence for sequence in sequences if not sequence.dropped]
    assert all(sequence.generated_tokens == sequence.output_tokens for sequence in served)
    assert emitted == sum(sequence.generated_tokens for sequence in sequences)
    first_admissions = [s.admitted_at for s in sequences if s.admitted_at is not None]
    assert first_admissions == sorted(first_admissions)
    assert (batch.running_count, batch.kv_usage_ratio) == (0, 0)
