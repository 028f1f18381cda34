"""The peers' algorithms of the data-plane benchmark, step by step against values worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.limiters import Aimd, ClientThrottle, ExponentialAverage, Gradient2, QueueCaps, RetryingClient


def test_an_average_is_the_mean_until_warm_and_an_ewma_after() -> None:
    average = ExponentialAverage(window=3, warm_up=2)
    assert average.add(1.0) == 1.0
    assert average.add(3.0) == 2.0
    assert average.add(6.0) == 4.0  # 2 + 2/(3+1) (6-2)


def test_gradient2_grows_by_its_queue_allowance_times_the_smoothing_while_latency_is_steady() -> None:
    limit = Gradient2()
    limit.sample(0.1, 20, dropped=False)
    assert limit.estimate == pytest.approx(20 * 0.8 + (20 + 4) * 0.2)  # 20.8


def test_gradient2_shrinks_when_a_sample_is_far_above_the_long_average() -> None:
    limit = Gradient2(estimate=100.0)
    for _ in range(50):
        limit.sample(0.1, 10, dropped=False)  # less than half used: only the average learns
    assert limit.limit == 100
    limit.sample(1.0, 100, dropped=False)
    # long = 0.1 + 2/601 x 0.9 = 0.103; 1.5 x 0.103/1.0 < 0.5: the floor of the gradient
    assert limit.estimate == pytest.approx(100 * 0.8 + (100 * 0.5 + 4) * 0.2)  # 90.8


def test_gradient2_does_not_see_latency_within_the_tolerance() -> None:
    limit = Gradient2(estimate=100.0)
    for _ in range(50):
        limit.sample(0.1, 10, dropped=False)
    limit.sample(0.149, 100, dropped=False)
    assert limit.estimate == pytest.approx(100.8)


def test_gradient2_forgets_an_overload_faster_than_its_average_does() -> None:
    limit = Gradient2()
    for _ in range(10):
        limit.sample(1.0, 0, dropped=False)
    limit.sample(0.1, 0, dropped=False)
    assert limit.average.value == pytest.approx((1.0 - 2 / 601 * 0.9) * 0.95)


@pytest.mark.parametrize(
    ("seconds", "in_flight", "dropped", "expected"),
    [
        (1.0, 50, False, 101),  # half used: one more
        (1.0, 49, False, 100),  # less: nothing learned
        (5.1, 100, False, 90),  # slower than the time-out
        (1.0, 100, True, 90),
    ],
)
def test_aimd_adds_one_or_takes_a_tenth(seconds: float, in_flight: int, dropped: bool, expected: int) -> None:
    limit = Aimd(limit=100)
    limit.sample(seconds, in_flight, dropped=dropped)
    assert limit.limit == expected


@given(st.lists(st.tuples(st.floats(0.001, 100), st.integers(0, 400), st.booleans()), max_size=200))
def test_adaptive_limits_stay_within_their_bounds(samples: list[tuple[float, int, bool]]) -> None:
    for limit in (Gradient2(), Aimd()):
        for seconds, in_flight, dropped in samples:
            limit.sample(seconds, in_flight, dropped=dropped)
            assert 20 <= limit.limit <= 200


def test_a_throttle_rejects_what_exceeds_twice_the_accepts() -> None:
    throttle = ClientThrottle()
    for second in range(30):
        throttle.requested(float(second))
        if second % 3 == 0:
            throttle.accepted(float(second))
    assert throttle.rejection_probability(30.0) == pytest.approx((30 - 2 * 10) / 31)
    assert throttle.rejection_probability(200.0) == 0.0  # the window has passed


def test_a_throttle_lets_everything_pass_while_half_is_accepted() -> None:
    throttle = ClientThrottle()
    for second in range(10):
        throttle.requested(float(second))
        if second % 2 == 0:
            throttle.accepted(float(second))
    assert throttle.rejection_probability(10.0) == 0.0


@pytest.mark.parametrize(
    ("unfinished", "in_prefill", "prompt", "refused"),
    [(255, 0, 100, False), (256, 0, 100, True), (0, 900, 100, False), (0, 901, 100, True)],
)
def test_queue_caps_count_the_request_that_asks(
    unfinished: int, in_prefill: int, prompt: int, refused: bool
) -> None:
    assert QueueCaps(requests=256, prefill_tokens=1000).refuse(unfinished, in_prefill, prompt) is refused


def test_no_caps_refuse_nobody() -> None:
    assert not QueueCaps().refuse(10**6, 10**9, 10**5)


@pytest.mark.parametrize(
    ("attempt", "retry_after", "draw", "wait"),
    [
        (0, None, 0.0, 0.5),
        (1, None, 0.0, 1.0),
        (1, None, 1.0, 0.75),
        (2, None, 0.0, None),
        (0, 3.0, 0.9, 3.0),
        (0, 121.0, 0.0, None),
        (0, 0.0, 0.0, 0.5),
    ],
)
def test_a_client_comes_back_as_the_openai_library_does(
    attempt: int, retry_after: float | None, draw: float, wait: float | None
) -> None:
    assert RetryingClient().wait_seconds(attempt, retry_after, draw) == wait


def test_more_retries_wait_at_most_eight_seconds() -> None:
    assert RetryingClient(retries=10).wait_seconds(9, None, 0.0) == 8.0
