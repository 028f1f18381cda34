"""The demand bound: seeded streams of counts, time walked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.policy import demand as demand_module
from penstock.policy.demand import (
    ClosedAhead,
    Demand,
    DemandMemory,
    begun_demand,
    cell_ends_before,
    close_ahead,
    expected_demand,
    observe_rate,
)
from penstock.policy.forecast import ForecastMemory, Grid
from penstock.policy.point_forecasts import CELLS
from penstock.policy.season import NO_SEASON, restored_season, season_ratio

TICK, WINDOW = 15.0, 60.0


def observe(
    memory: DemandMemory,
    rate: float,
    at: float,
    lead: float,
    *,
    tokens: float | None = None,
    usual: float | None = None,
    ahead: ClosedAhead | None = None,
) -> DemandMemory:
    return observe_rate(
        memory,
        rate,
        at,
        lead_seconds=lead,
        window_seconds=WINDOW,
        cell_seconds=WINDOW,
        tokens_per_request=tokens,
        usual_tokens=usual,
        ahead=ahead,
    )


def expected(memory: DemandMemory, lead: float, **work: float) -> Demand:
    return expected_demand(memory, lead_seconds=lead, window_seconds=WINDOW, **work)


def walk(
    rate_at: Callable[[float], float],
    seconds: float,
    lead: float,
    *,
    start: float = 0.0,
    memory: DemandMemory | None = None,
) -> DemandMemory:
    """Observe an exact rate at every tick of a time."""
    memory = memory or DemandMemory()
    for at in np.arange(start, start + seconds, TICK):
        memory = observe(memory, rate_at(at), at, lead)
    return memory


def measured_rates(rate_at: Callable[[float], float], seconds: float, seed: int) -> list[tuple[float, float]]:
    """Rates over the last minute as Prometheus would show them for a Poisson stream."""
    rng = np.random.default_rng(seed)
    counts = [rng.poisson(rate_at(at) * TICK) for at in np.arange(0, seconds, TICK)]
    per_window = int(WINDOW / TICK)
    return [
        ((index + 1) * TICK, sum(counts[index + 1 - per_window : index + 1]) / WINDOW)
        for index in range(per_window - 1, len(counts))
    ]


def coverage(stream: list[tuple[float, float]], lead: float) -> tuple[float, float]:
    """Share of ticks whose bound held over the lead time, and the mean bound over the mean of the highest."""
    memory, bounds = DemandMemory(), []
    for at, rate in stream:
        memory = observe(memory, rate, at, lead)
        bounds.append(expected(memory, lead).bound_per_second)
    rates = np.array([rate for _, rate in stream])
    ahead = round(lead / TICK)
    highest = np.lib.stride_tricks.sliding_window_view(rates[1:], ahead).max(axis=1)
    bound = np.array(bounds[: highest.size])
    return float(np.mean(highest <= bound)), float(bound.mean() / highest.mean())


@pytest.mark.parametrize("lead", [60.0, 135.0, 315.0])
@pytest.mark.parametrize("rate", [2.0, 20.0])
def test_on_steady_load_the_highest_rate_is_covered_within_two_points_of_the_aim(
    rate: float, lead: float
) -> None:
    covered, provision = coverage(measured_rates(lambda _: rate, 18 * 3600, seed=7), lead)
    assert covered == pytest.approx(0.95, abs=0.02)
    assert provision <= 1 + 1.75 / math.sqrt(rate * WINDOW)


@pytest.mark.parametrize("lead", [60.0, 300.0])
def test_on_a_days_wave_the_highest_rate_is_covered_within_six_points_of_the_aim(lead: float) -> None:
    def wave(at: float) -> float:
        return 20 - 15 * math.cos(2 * math.pi * at / 21_600)

    covered, provision = coverage(measured_rates(wave, 18 * 3600, seed=3), lead)
    assert covered == pytest.approx(0.95, abs=0.06)
    assert provision < 1.25


@pytest.mark.parametrize("rate", [2.0, 20.0])
def test_a_young_service_has_a_margin_that_holds_and_is_bounded(rate: float) -> None:
    covered, provision = coverage(measured_rates(lambda _: rate, 30 * 60, seed=5), 120.0)
    assert covered >= 0.9
    assert provision <= 1 + 3.5 / math.sqrt(rate * WINDOW)


def test_a_steady_ramp_is_extrapolated_over_the_lead_time() -> None:
    lead, slope = 300.0, 0.02
    at = 1800 - TICK
    demand = expected(walk(lambda at: 10 + slope * at, 1800, lead), lead)
    assert demand.bound_per_second >= 10 + slope * (at + lead) * 0.97
    assert demand.bound_per_second <= 10 + slope * (at + 2 * 360)  # five minutes are bounded as six


def test_a_ramp_after_hours_of_calm_is_followed() -> None:
    """Margins learned in the calm would be short; what is measured can only raise the bound."""
    lead = 120.0
    memory = walk(lambda _: 10.0, 4 * 3600, lead)
    memory = walk(lambda at: 10 + 0.05 * (at - 14_400), 600, lead, start=14_400, memory=memory)
    assert expected(memory, lead).bound_per_second >= 10 + 0.05 * 585


def test_a_falling_load_adds_nothing_but_the_noise_of_counts() -> None:
    demand = expected(walk(lambda at: 50 - 0.02 * at, 1800, 120.0), 120.0)
    noise = math.sqrt(demand.offered_per_second / WINDOW)
    assert demand.rise_per_second == pytest.approx(1.29 * 1.955 * noise, rel=1e-3)  # the higher of two


def test_a_jump_is_believed_in_one_tick() -> None:
    for history in (600.0, 4 * 3600.0):
        memory = observe(walk(lambda _: 10.0, history, 60.0), 30.0, history, 60.0)
        assert expected(memory, 60.0).bound_per_second >= 30.0


def test_a_fall_is_believed_in_one_tick_and_noise_is_not() -> None:
    """To wait before going down is the stabilisation window's part; smoothed as well it would wait twice."""
    for history in (600.0, 4 * 3600.0):
        calm = walk(lambda _: 10.0, history, 60.0)
        error = math.sqrt(10.0 / WINDOW)
        assert observe(calm, 10.0 - 3.1 * error, history, 60.0).level == pytest.approx(10.0 - 3.1 * error)
        assert observe(calm, 10.0 - 2.9 * error, history, 60.0).level > 10.0 - error


def test_bursts_widen_the_margin_of_a_young_service() -> None:
    """Every tenth minute brings 100 requests at once: the same mean as 10 a minute."""
    steady, bursts = DemandMemory(), DemandMemory()
    for minute in range(20):
        steady = observe(steady, 10 / 60, minute * 60.0, 120.0)
        bursts = observe(bursts, 100 / 60 if minute % 10 == 5 else 0.0, minute * 60.0, 120.0)
    assert expected(bursts, 120.0).rise_per_second > 2 * expected(steady, 120.0).rise_per_second


def test_a_young_service_expects_no_larger_rise_than_it_has_seen() -> None:
    # Steps of 2/s every six minutes; Student's factor alone would expect 3.2 after the first ones.
    stairs = walk(lambda at: 2.0 + 2.0 * (at // 360), 1200.0, 120.0)
    demand = expected(stairs, 120.0)
    assert demand.offered_per_second == pytest.approx(8.0, abs=0.1)
    assert 1.5 <= demand.rise_per_second <= 2.0 + 1e-6


def test_a_rise_under_way_counts_before_its_cell_has_closed() -> None:
    calm = walk(lambda _: 2.0, 615.0, 120.0)
    risen = walk(lambda _: 6.0, TICK, 120.0, start=615.0, memory=calm)
    assert risen.forecast.cell == calm.forecast.cell
    assert expected(risen, 120.0).bound_per_second == pytest.approx(10.0, abs=0.1)


def test_after_a_gap_a_young_service_knows_what_it_knew_of_changes() -> None:
    stairs = walk(lambda at: 2.0 + 2.0 * (at // 360), 1200.0, 120.0)
    again = walk(lambda _: 8.0, 75.0, 120.0, start=2400.0, memory=stairs)
    assert again.forecast.history is not None
    assert again.forecast.history.seen == 1
    assert expected(again, 120.0).rise_per_second == pytest.approx(
        expected(stairs, 120.0).rise_per_second, 0.2
    )


def test_a_gap_teaches_nothing_and_the_margins_outlive_it() -> None:
    memory = walk(lambda _: 10.0, 4 * 3600, 120.0)
    before = memory.forecast.margins
    assert before is not None
    short = walk(lambda _: 10.0, 120, 120.0, start=4 * 3600 + 300, memory=memory)
    assert short.forecast.history is not None
    assert short.forecast.history.seen <= 2  # outcomes that reach across the gap are unknown
    long = walk(lambda _: 30.0, 120, 120.0, start=8 * 3600, memory=memory)
    assert long.forecast.margins is not None
    assert long.forecast.margins.outcomes >= before.outcomes
    assert long.forecast.history is not None
    assert float(long.forecast.history.rates.min()) == pytest.approx(30.0)


def office_hours(at: float) -> float:
    """20 requests/s from ten to six, up to it from eight, nothing at night."""
    hour = at % 86_400 / 3600
    return 20 * min(1.0, (hour - 8) / 2 + 0.05) if 8 <= hour < 18 else 0.0


def test_a_silent_night_does_not_take_the_margins_of_the_morning() -> None:
    """Where nothing came and nothing was forecast: the first half hour was covered 0.43."""
    held = []
    for seed in range(3):
        memory, lead = DemandMemory(), 135.0
        stream = measured_rates(office_hours, 2 * 86_400, seed)
        bounds = []
        for at, rate in stream:
            memory = observe(memory, rate, at, lead)
            bounds.append(expected(memory, lead).bound_per_second)
        rates, ahead = np.array([rate for _, rate in stream]), round(lead / TICK)
        for index, (at, _) in enumerate(stream):
            if 86_400 + 8 * 3600 <= at < 86_400 + 8.5 * 3600:
                held.append(rates[index + 1 : index + 1 + ahead].max() <= bounds[index])
    assert np.mean(held) >= 0.9


def test_outcomes_of_silence_are_not_counted() -> None:
    memory = walk(lambda _: 10.0, 4 * 3600, 120.0)
    silent = walk(lambda _: 0.0, 3 * 3600, 120.0, start=4 * 3600, memory=memory)
    later = walk(lambda _: 0.0, 6 * 3600, 120.0, start=7 * 3600, memory=silent)
    assert silent.forecast.margins is not None
    assert later.forecast.margins is silent.forecast.margins


def test_in_silence_nothing_is_expected() -> None:
    """A margin, however small, would keep a service whose lengths are not known at its count for ever."""
    memory = DemandMemory()
    for at, rate in measured_rates(lambda at: 10.0 if at < 4 * 3600 else 0.0, 7 * 3600, seed=3):
        memory = observe(memory, rate, at, 135.0)
    assert memory.forecast.margins is not None
    assert float(memory.forecast.margins.quantiles.max()) > 0
    assert expected(memory, 135.0).bound_per_second == 0


def test_far_above_its_history_a_service_has_the_margin_of_a_young_one_too() -> None:
    memory = walk(lambda _: 1.0, 4 * 3600, 120.0)
    assert memory.forecast.bounds is not None
    assert not memory.forecast.is_far_above
    memory = walk(lambda at: 1.0 + (at - 4 * 3600) / 60, 300.0, 120.0, start=4 * 3600, memory=memory)
    assert memory.forecast.is_far_above
    found = expected(memory, 120.0)
    assert found.rise_per_second >= 1.9, "two minutes more of this ramp"
    assert found.method, "the one of the bound that is not gone below"


def test_missing_rates_are_not_zeros() -> None:
    """Nobody calls the estimator without a value; five silent minutes leave the bound where it was."""
    memory = walk(lambda _: 10.0, 4 * 3600, 120.0)
    bound = expected(memory, 120.0).bound_per_second
    memory = observe(memory, 10.0, 4 * 3600 + 300, 120.0)
    assert expected(memory, 120.0).bound_per_second >= bound * 0.98


def test_heavier_requests_need_capacity_as_more_requests_do() -> None:
    memory = DemandMemory()
    rng = np.random.default_rng(2)
    for tick in range(1000):
        tokens = 1000.0 if tick < 960 else 2000.0  # the last ten minutes' prompts are twice as long
        memory = observe(memory, 10 + float(rng.normal(0, 0.2)), tick * TICK, 120.0, tokens=tokens)
    light = expected(memory, 120.0).bound_per_second
    heavy = expected(memory, 120.0, capacity_tokens=1000.0).bound_per_second
    assert light == pytest.approx(11, abs=1)
    assert heavy == pytest.approx(22, abs=3)
    # Once capacity is known for the longer ones, as many replicas' worth as before is enough.
    assert expected(memory, 120.0, capacity_tokens=2000.0).bound_per_second == pytest.approx(light, rel=0.15)


def covered_after_a_restart(seed: int) -> float:
    """Coverage of the token rate in the half hour after a restart that read past rates of requests."""
    rng, lead, ratio = np.random.default_rng(seed), 135.0, math.sqrt(math.log1p(4.0))
    counts = rng.poisson(10 * TICK, 4 * 240)
    work = [rng.lognormal(-ratio * ratio / 2, ratio, count).sum() for count in counts]
    rates, tokens = (np.convolve(each, np.ones(4), "valid") / WINDOW for each in (counts, work))
    now, held, memory = 3 * 240, 0, DemandMemory()
    for index in range(now - 360, now - 3, 4):
        memory = observe(memory, float(rates[index]), index * TICK, lead)
    for index in range(now, now + 120):
        each = float(tokens[index] / rates[index])
        memory = observe(memory, float(rates[index]), index * TICK, lead, tokens=each, usual=1.0)
        bound = expected(memory, lead, capacity_tokens=1.0).bound_per_second
        held += float(tokens[index + 1 : index + 1 + round(lead / TICK)].max()) <= bound
    return held / 120


def test_a_restart_that_read_no_tokens_bounds_them_as_for_a_new_service() -> None:
    """By margins of request counts 0.75 of the lead times were covered, without any history 0.85 are."""
    assert np.mean([covered_after_a_restart(seed) for seed in range(12)]) >= 0.83


def test_past_requests_are_taken_to_have_weighed_what_they_do_in_the_long_run() -> None:
    memory = walk(lambda _: 10.0, 4 * 3600, 120.0)
    assert memory.forecast.bounds is not None
    memory = observe(memory, 10.0, 4 * 3600, 120.0, tokens=1500.0, usual=1000.0)
    assert (memory.reference_tokens, memory.heaviness) == (1000.0, 1.5)
    assert memory.forecast.bounds is None, "margins of request counts say nothing of tokens"
    again = walk(lambda _: 10.0, 3 * 3600, 120.0, start=4 * 3600 + TICK, memory=memory)
    assert again.forecast.bounds is not None
    moved = walk(lambda _: 10.0, 600.0, 300.0, start=4 * 3600 + TICK, memory=memory)
    assert moved.forecast.bounds is None, "nor are they learned again where the lead time changes"


def test_a_lost_token_count_leaves_requests_as_heavy_as_they_were() -> None:
    memory = DemandMemory()
    for tick in range(400):
        memory = observe(memory, 10.0, tick * TICK, 120.0, tokens=1000.0 if tick < 300 else None)
    assert expected(memory, 120.0, capacity_tokens=500.0).bound_per_second == pytest.approx(21, abs=1)


def test_the_method_followed_is_named() -> None:
    memory = walk(lambda _: 10.0, 600, 120.0)
    assert expected(memory, 120.0).method == ""
    memory = walk(lambda _: 10.0, 3600, 120.0, start=600, memory=memory)
    assert expected(memory, 120.0).method == memory.forecast.methods[0]


def test_another_lead_time_learns_its_margins_from_the_history_kept() -> None:
    stream = measured_rates(lambda _: 10.0, 4 * 3600, seed=1)
    memory = DemandMemory()
    for at, rate in stream:
        memory = observe(memory, rate, at, 60.0)
    short = expected(memory, 60.0)
    for at, rate in measured_rates(lambda _: 10.0, 180, seed=2):
        memory = observe(memory, rate, 4 * 3600 + at, 900.0)
    assert memory.forecast.horizon == 16
    assert memory.forecast.bounds is not None
    assert expected(memory, 900.0).bound_per_second > short.bound_per_second


def test_memory_stays_small_and_time_never_runs_backwards() -> None:
    memory = walk(lambda at: 10 + math.sin(at), 86_400, 120.0)
    history, margins, season = memory.forecast.history, memory.forecast.margins, memory.forecast.season
    assert history is not None
    assert margins is not None
    assert season.rates is not None
    arrays = (history.rates, history.peaks, history.lags, history.issued)
    arrays += (margins.quantiles, margins.losses, season.rates)
    assert sum(each.nbytes for each in arrays) + margins.scores.nbytes < 8000
    assert observe(memory, 99.0, 10.0, 120.0) is memory


def test_nothing_that_was_handed_out_is_changed_later() -> None:
    memory = walk(lambda at: 10 + math.sin(at), 7200, 120.0)
    history, margins = memory.forecast.history, memory.forecast.margins
    assert history is not None
    assert margins is not None
    kept = [each.copy() for each in (history.rates, history.peaks, history.issued, margins.scores)]
    walk(lambda _: 77.0, 1200, 120.0, start=7200, memory=memory)
    for before, after in zip(
        kept, (history.rates, history.peaks, history.issued, margins.scores), strict=True
    ):
        assert np.array_equal(before, after)


def test_services_take_turns_at_closing_their_cells() -> None:
    offsets = {begun_demand(f"prod/chat-{number}", WINDOW).offset_seconds // TICK for number in range(50)}
    assert offsets == {0.0, 1.0, 2.0, 3.0}


@settings(max_examples=30, deadline=None)
@given(
    rates=st.lists(st.floats(0, 1e5), min_size=2, max_size=120),
    lead=st.floats(1.0, 3000.0),
    step=st.sampled_from([5.0, 15.0, 60.0, 200.0]),
)
def test_a_bound_is_finite_and_never_below_the_level(rates: list[float], lead: float, step: float) -> None:
    memory = DemandMemory()
    for number, rate in enumerate(rates):
        memory = observe(memory, rate, number * step, lead, tokens=1.0 + rate)
        demand = expected(memory, lead, capacity_tokens=100.0)
        assert math.isfinite(demand.bound_per_second)
        assert 0 <= demand.offered_per_second <= demand.bound_per_second


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(2.0, 50.0), seed=st.integers(0, 100))
def test_a_larger_service_with_the_same_ripple_has_a_larger_bound(factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    small = large = DemandMemory()
    for tick, rate in enumerate(rng.uniform(8, 12, 240)):
        small = observe(small, rate, tick * TICK, 120.0)
        large = observe(large, rate * factor, tick * TICK, 120.0)
    assert expected(large, 120.0).bound_per_second > expected(small, 120.0).bound_per_second


def test_a_season_needs_a_day_and_follows_its_slope() -> None:
    def day(at: float) -> float:
        return 10 + 5 * math.sin(2 * math.pi * at / 86_400)

    quarter_hours = np.arange(0, 86_400 + 2700, 900.0)
    half = restored_season((at, day(at)) for at in quarter_hours[:48])
    assert season_ratio(NO_SEASON, 0.0, 300.0) is None
    assert season_ratio(half, 12 * 3600.0, 300.0) is None
    whole = restored_season((at, day(at)) for at in quarter_hours)
    rising, falling = season_ratio(whole, 86_400.0, 900.0), season_ratio(whole, 1.5 * 86_400.0, 900.0)
    assert rising == pytest.approx(day(900.0) / day(0.0), abs=0.01)
    assert falling == pytest.approx(day(43_200 + 900.0) / day(43_200.0), abs=0.01)


def test_the_history_is_as_long_as_the_restored_one() -> None:
    assert CELLS * WINDOW >= 5400
    assert ForecastMemory().methods == ("MA60", "MA60")


def test_a_forecast_made_ahead_is_the_one_that_would_be_made_in_the_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = measured_rates(lambda at: 20 + 10 * math.sin(at / 900), 9000, seed=3)
    ahead: ClosedAhead | None = None
    plain = prepared = begun_demand("a", WINDOW)
    closed_in_time = 0
    for index, (at, rate) in enumerate(stream):
        lead = 135.0 if at < 6000 else 75.0  # what was made for the other lead time is void
        plain = observe(plain, rate, at, lead)
        with monkeypatch.context() as patched:
            if ahead is not None and ahead.grid.lead_seconds == lead:
                patched.delattr(demand_module, "close_cell")  # nothing is closed in the tick any more
                closed_in_time += 1
            prepared = observe(prepared, rate, at, lead, ahead=ahead)
        assert expected(prepared, lead) == expected(plain, lead), index
        due = cell_ends_before(prepared, at + TICK, WINDOW)
        ahead = close_ahead(prepared, Grid(WINDOW, lead, WINDOW)) if due else None
    assert plain.forecast.bounds is not None
    assert closed_in_time > 140


def test_a_cell_ends_before_the_first_observation_of_the_next_one() -> None:
    memory = walk(lambda _: 20.0, 600, 75.0)  # the last one at 585 s
    assert not cell_ends_before(memory, 599.0, WINDOW)
    assert cell_ends_before(memory, 600.0, WINDOW)
    assert not cell_ends_before(DemandMemory(), 600.0, WINDOW), "nothing was observed yet"
