"""The recursion against cases that can be worked out by hand. Steps last 10 ms + 0.1 ms a token."""

import numpy as np
import pytest

from penstock.queueing.gated_cycle import first_token_waits
from penstock.queueing.step_law import StepLaw

LAW = StepLaw(base_seconds=0.010, per_token_seconds=1e-4)


def waits(
    running: float, gaps: list[float], prompts: list[float], *, budget: int = 8192, early_phase: float = 0.0
) -> list[float]:
    """Waits (ms) of one lane whose first step boundary is at time zero."""
    result = first_token_waits(
        LAW,
        step_token_budget=budget,
        running=np.array([running]),
        kv_tokens=np.array([0.0]),
        gaps=np.array([gaps]),
        prompts=np.array([prompts]),
        early_phase=early_phase,
    )
    return [round(1e3 * float(wait), 9) for wait in result[0]]


def test_a_prompt_waits_for_the_step_in_progress_and_for_its_own() -> None:
    # Idle steps of 11 ms (10 sequences); arrives at 4 ms, waits until 11, its step lasts 10 + 0.1 x 110.
    assert waits(10, [0.004], [100]) == [7 + 21]


def test_an_idle_engine_starts_at_once() -> None:
    assert waits(0, [0.004], [100]) == [20]


def test_prompts_that_arrive_in_one_step_enter_the_next_together() -> None:
    # Both wait until 11 ms; the step holds 100 + 200 + 10 tokens: 41 ms, ends at 52 ms.
    assert waits(10, [0.004, 0.003], [100, 200]) == [52 - 4, 52 - 7]


def test_a_prompt_that_arrives_during_a_prompt_step_waits_for_its_end() -> None:
    # First: step 11..32 ms. Second arrives at 20 ms, its step runs 32..53 ms.
    assert waits(10, [0.004, 0.016], [100, 100]) == [28, 33]


def test_after_a_prompt_step_the_idle_steps_go_on_from_its_end() -> None:
    # First ends at 32 ms; idle steps end at 43, 54; an arrival at 45 ms enters at 54.
    assert waits(10, [0.004, 0.041], [100, 100]) == [28, 54 - 45 + 21]


def test_a_prompt_beyond_the_token_budget_is_cut() -> None:
    # Room for 190 prompt tokens a step of 10 + 20 ms: 11..41 full, then 110 tokens: 41..63 ms.
    assert waits(10, [0.004], [300], budget=200) == [pytest.approx(63 - 4)]


def test_a_step_that_overflows_completes_the_prompts_that_fit() -> None:
    # 100 + 150 tokens, room for 190: the first is done with the full step (41), 60 are left (41..58).
    assert waits(10, [0.004, 0.001], [100, 150], budget=200) == [pytest.approx(41 - 4), pytest.approx(58 - 5)]


def test_early_arrivals_wait_for_the_time_their_step_had_already_run() -> None:
    assert waits(10, [0.004], [100], early_phase=0.5) == [28 + 2]


def test_lanes_do_not_touch_each_other() -> None:
    random = np.random.default_rng(3)
    gaps, prompts = random.exponential(0.05, (7, 40)), random.integers(10, 3000, (7, 40)).astype(float)
    running, kv = random.integers(0, 60, 7).astype(float), np.zeros(7)
    together = first_token_waits(
        LAW, step_token_budget=2048, running=running, kv_tokens=kv, gaps=gaps, prompts=prompts
    )
    for k in range(7):
        alone = first_token_waits(
            LAW,
            step_token_budget=2048,
            running=running[k : k + 1],
            kv_tokens=kv[k : k + 1],
            gaps=gaps[k : k + 1],
            prompts=prompts[k : k + 1],
        )
        np.testing.assert_array_equal(together[k], alone[0])
