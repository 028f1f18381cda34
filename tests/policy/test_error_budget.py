"""What is left of an error budget, counted by day."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.model.objective_counts import Counted, Days, format_days, parse_days
from penstock.model.spec import Metric, Objective, Slo
from penstock.policy.error_budget import (
    DAY_SECONDS,
    NO_BUDGET,
    Budget,
    BudgetMemory,
    availability_budget,
    budgets_of,
    count,
    latency_budget,
)

P95 = Objective(Metric.TTFT, 0.95, 0.5)
TTFT = latency_budget(P95)
WEEK = Slo((P95,), window_days=7)
MIDNIGHT = 20_000 * DAY_SECONDS


def left_of(budget: Budget, *, requests: float, missed: float) -> float | None:
    return BudgetMemory({budget.key: {1: Counted(requests, missed)}}).remaining_ratio(budget)


@pytest.mark.parametrize(
    ("missed", "left"),
    [(0.0, 1.0), (10.0, 0.8), (50.0, 0.0), (100.0, -1.0), (1000.0, -19.0)],
)
def test_a_p95_objective_may_be_missed_by_one_request_in_twenty(missed: float, left: float) -> None:
    assert left_of(TTFT, requests=1000.0, missed=missed) == pytest.approx(left)


def test_where_nothing_may_miss_the_first_miss_spends_all() -> None:
    whole = availability_budget(Slo((P95,), availability_ratio=1.0))
    assert left_of(whole, requests=1000.0, missed=0.0) == 1.0
    assert left_of(whole, requests=1000.0, missed=1.0) == 0.0


def test_a_service_has_a_budget_for_each_objective_and_one_for_its_availability() -> None:
    assert [each.key for each in budgets_of(WEEK)] == [("ttft.p95", "500ms"), ("availability", "99.5%")]


def test_without_requests_nothing_is_known_of_a_budget() -> None:
    assert NO_BUDGET.remaining_ratio(TTFT) is None
    assert left_of(TTFT, requests=0.0, missed=0.0) is None
    assert count(NO_BUDGET, WEEK, {TTFT.key: Counted(0.0, 0.0)}, MIDNIGHT) == NO_BUDGET


def test_requests_belong_to_the_day_in_which_they_were_counted() -> None:
    memory = count(NO_BUDGET, WEEK, {TTFT.key: Counted(10.0, 1.0)}, MIDNIGHT - 1)
    memory = count(memory, WEEK, {TTFT.key: Counted(20.0, 0.0)}, MIDNIGHT)
    memory = count(memory, WEEK, {TTFT.key: Counted(5.0, 2.0)}, MIDNIGHT + 300)
    assert memory.of(TTFT) == {19_999: Counted(10.0, 1.0), 20_000: Counted(25.0, 2.0)}


def test_a_bad_day_is_forgiven_when_the_window_has_passed_it() -> None:
    memory = count(NO_BUDGET, WEEK, {TTFT.key: Counted(100.0, 50.0)}, MIDNIGHT)
    left = []
    for day in range(1, 9):
        memory = count(memory, WEEK, {TTFT.key: Counted(100.0, 0.0)}, MIDNIGHT + day * DAY_SECONDS)
        left.append(memory.remaining_ratio(TTFT))
    assert left[5] == pytest.approx(1 - 50 / 35)
    assert left[6:] == [1.0, 1.0]


def test_an_objective_with_another_target_begins_anew_and_the_old_one_is_forgotten() -> None:
    memory = count(NO_BUDGET, WEEK, {TTFT.key: Counted(100.0, 50.0)}, MIDNIGHT)
    tighter = Objective(Metric.TTFT, 0.95, 0.3)
    memory = count(memory, Slo((tighter,), window_days=7), {}, MIDNIGHT + 300)
    assert (memory.of(latency_budget(tighter)), memory.of(TTFT)) == ({}, {})


def test_an_interval_that_was_not_measured_changes_nothing() -> None:
    memory = count(NO_BUDGET, WEEK, {TTFT.key: Counted(100.0, 5.0)}, MIDNIGHT)
    assert count(memory, WEEK, {}, MIDNIGHT + 300) == memory


def test_days_read_as_people_read_them() -> None:
    days = {20_778: Counted(12_030.0, 56.25), 20_777: Counted(0.5, 0.0)}
    assert format_days(days) == ("2026-11-20: 0 of 0.5", "2026-11-21: 56.25 of 12030")


@pytest.mark.parametrize(
    "line",
    ["", "yesterday: 1 of 2", "2026-13-01: 1 of 2", "2026-11-21: 3 of 2", f"2026-11-21: 1 of {'9' * 400}"],
)
def test_a_line_that_is_no_day_is_left_out(line: str) -> None:
    assert parse_days([line, 7, "2026-11-21: 1 of 2"]) == {20_778: Counted(2.0, 1.0)}


@given(st.dictionaries(st.integers(0, 30_000), st.tuples(st.floats(0, 1e12), st.floats(0, 1)), max_size=20))
def test_days_come_back_from_status_to_a_hundredth(found: dict[int, tuple[float, float]]) -> None:
    days: Days = {day: Counted(requests, requests * share) for day, (requests, share) in found.items()}
    back = parse_days(format_days(days))
    assert back.keys() == days.keys()
    for day, each in days.items():
        assert back[day].requests == pytest.approx(each.requests, abs=0.01)
        assert back[day].missed == pytest.approx(each.missed, abs=0.01)
