"""Calibration: a filter fed with means of the pool model, with garbage, with other engines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.builders import LinearCapacity, pool, seen, service
from penstock.model.conditions import Status
from penstock.model.observation import Load, Observation
from penstock.model.profiles import profile_named, shipped_profiles
from penstock.model.reading import Absence, Reading
from penstock.policy import beliefs
from penstock.policy.beliefs import LoopTimes
from penstock.policy.calibration import CalibrationMemory, Measured, Stage, observe_engine
from penstock.policy.capacity_problem import Engine
from penstock.policy.kalman import FilterMemory, Verdict, observe_latency
from penstock.policy.lengths import LengthMemory, LengthMoments, ShapeCell
from penstock.policy.mean_latency import (
    MeanLatency,
    ReplicaLoad,
    expected_step_seconds,
    mean_latency,
    replica_load,
)
from penstock.policy.memory import ServiceMemory
from penstock.policy.model_condition import model_finding
from penstock.policy.saturation import SaturationRule
from penstock.policy.speed import SpeedMemory, observe_speed
from penstock.policy.step_factors import AS_PROFILED, StepFactors, engine_with_factors, with_factors
from penstock.queueing.balancer import Balancer
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.traffic import TrafficShape

PROFILE = profile_named("llama-3.1-8b-h100")
SHAPE = TrafficShape.lognormal(1155, 211)
CELL = ShapeCell(LengthMoments(1155, 1.0), LengthMoments(211, 1.0))
REPLICAS = 4
LOADS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


@cache
def pool_means(factors: StepFactors, rho: float) -> tuple[ReplicaLoad, MeanLatency]:
    """What a pool of such engines shows: the model that decides, not the filter's own formula."""
    model = ReplicaModel(engine_with_factors(PROFILE, factors), SHAPE)
    rate = rho * model.saturation_rate_per_second
    found = model.quick_pool(REPLICAS, REPLICAS * rate, balancer=Balancer.LEAST_REQUESTS)
    assert found.ttft is not None
    assert found.tpot is not None
    load = Load(
        arrival_rate=Reading(REPLICAS * rate),
        running=Reading(REPLICAS * found.running_mean),
        input_token_rate=Reading(REPLICAS * rate * 1155),
    )
    replica = replica_load(load, CELL, REPLICAS, Balancer.LEAST_REQUESTS)
    assert replica is not None
    return replica, MeanLatency(found.ttft.mean - PROFILE.frontend_seconds, found.tpot.mean)


def walk(
    factors: StepFactors, windows: int, memory: FilterMemory | None = None, seed: int = 1
) -> FilterMemory:
    """Feed the filter with noisy means of an engine that differs by `factors`, over a waving load."""
    memory, random = memory or FilterMemory(), np.random.default_rng(seed)
    for window in range(windows):
        replica, means = pool_means(factors, LOADS[int(3 + 2.9 * math.sin(window / 10))])
        noisy = MeanLatency(
            means.ttft * math.exp(random.normal(0, 0.03)), means.tpot * math.exp(random.normal(0, 0.03))
        )
        memory, _ = observe_latency(memory, noisy, predictor(replica))
    return memory


def predictor(replica: ReplicaLoad):  # type: ignore[no-untyped-def]
    return lambda factors: mean_latency(with_factors(PROFILE.step_law, factors), replica)


@pytest.mark.parametrize("name", sorted(shipped_profiles()))
@pytest.mark.parametrize("factors", [AS_PROFILED, StepFactors(1.3, 0.8, 1.1), StepFactors(0.7, 1.6, 0.9)])
def test_factors_do_to_the_means_what_they_do_to_the_law(name: str, factors: StepFactors) -> None:
    law, (replica, _) = profile_named(name).step_law, pool_means(AS_PROFILED, 0.3)
    found, expected = mean_latency(law, replica, factors), mean_latency(with_factors(law, factors), replica)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert (found.ttft, found.tpot) == pytest.approx((expected.ttft, expected.tpot), rel=1e-12)


@pytest.mark.parametrize("rho", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("factor", [0.7, 1.0, 1.6])
def test_the_mean_latencies_are_those_of_the_pool_model(rho: float, factor: float) -> None:
    replica, means = pool_means(StepFactors.even(factor), rho)
    found = mean_latency(PROFILE.step_law.scaled(factor), replica)
    assert found is not None
    assert found.tpot == pytest.approx(means.tpot, rel=0.02)
    assert found.ttft == pytest.approx(means.ttft, rel=0.08)


def test_the_scalar_is_exact_for_an_engine_that_is_slower_as_a_whole() -> None:
    for rho in LOADS:
        replica, means = pool_means(StepFactors.even(1.3), rho)
        expected = expected_step_seconds(PROFILE.step_law, replica, means.tpot)
        assert means.tpot / expected == pytest.approx(1.3, rel=0.02)


@pytest.mark.parametrize(
    "factors",
    [
        StepFactors.even(1.3),
        StepFactors(1.3, 1.2, 1.3),
        StepFactors(1.0, 1.5, 0.8),
        StepFactors(2.0, 1.0, 1.0),
    ],
)
def test_a_slower_engine_is_found_within_ten_percent_of_its_latencies(factors: StepFactors) -> None:
    found = walk(factors, 80)
    assert found.factors.overhead == pytest.approx(factors.overhead, rel=0.12)
    assert found.factors.compute == pytest.approx(factors.compute, rel=0.06)
    for rho in (0.5, 0.7):
        replica, means = pool_means(factors, rho)
        predicted = mean_latency(with_factors(PROFILE.step_law, found.factors), replica)
        assert predicted is not None
        assert predicted.tpot == pytest.approx(means.tpot, rel=0.05)
        assert predicted.ttft == pytest.approx(means.ttft, rel=0.10)
    true, fitted = (
        ReplicaModel(engine_with_factors(PROFILE, each), SHAPE) for each in (factors, found.factors)
    )
    assert fitted.saturation_rate_per_second == pytest.approx(true.saturation_rate_per_second, rel=0.1)


def test_the_profile_itself_stays_as_it_is() -> None:
    found = walk(AS_PROFILED, 60).factors
    for each in (found.overhead, found.compute, found.memory):
        assert each == pytest.approx(1.0, abs=0.08)


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (MeanLatency(math.nan, 0.01), Verdict.NOT_MEASURED),
        (MeanLatency(0.05, 0.0), Verdict.NOT_MEASURED),
        (MeanLatency(-0.01, 0.01), Verdict.NOT_MEASURED),
        (MeanLatency(math.inf, 0.01), Verdict.NOT_MEASURED),
        (MeanLatency(60.0, 0.01), Verdict.BEYOND_BELIEF),
        (MeanLatency(0.05, 3.0), Verdict.BEYOND_BELIEF),
    ],
)
def test_garbage_moves_nothing(measured: MeanLatency, verdict: Verdict) -> None:
    memory = walk(AS_PROFILED, 5)
    replica, _ = pool_means(AS_PROFILED, 0.5)
    after, said = observe_latency(memory, measured, predictor(replica))
    assert said is verdict
    assert after == replace(memory, refused=int(verdict is Verdict.BEYOND_BELIEF))


def test_means_that_no_law_gives_are_not_measurements() -> None:
    memory = FilterMemory()
    after, said = observe_latency(memory, MeanLatency(0.05, 0.01), lambda _: None)
    assert (after.mean, said) == (memory.mean, Verdict.NOT_MEASURED)


def test_an_ill_conditioned_update_is_refused() -> None:
    """Both means move with one and the same sum of the state, and the prior of it is wide."""
    wide = tuple(tuple(1e4 for _ in range(3)) for _ in range(3))
    memory = replace(FilterMemory(), covariance=wide)

    def both(factors: StepFactors) -> MeanLatency:
        product = factors.overhead * factors.compute * factors.memory
        return MeanLatency(0.05 * product, 0.01 * product)

    after, said = observe_latency(memory, MeanLatency(0.06, 0.012), both)
    assert said is Verdict.ILL_CONDITIONED
    assert after.mean == memory.mean


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(1e-4, 10), st.floats(1e-4, 10)), max_size=30))
def test_whatever_is_observed_the_covariance_stays_one(pairs: list[tuple[float, float]]) -> None:
    memory = FilterMemory()
    replica, _ = pool_means(AS_PROFILED, 0.5)
    for ttft, tpot in pairs:
        before = memory.mean
        memory, _ = observe_latency(memory, MeanLatency(ttft, tpot), predictor(replica))
        assert max(abs(new - old) for new, old in zip(memory.mean, before, strict=True)) <= 0.4 + 1e-9
    eigenvalues = np.linalg.eigvalsh(np.array(memory.covariance))
    assert (eigenvalues > 0).all()
    assert np.allclose(memory.covariance, np.array(memory.covariance).T)


class Engines:
    """An engine that differs from its profile, looked at once a minute."""

    def __init__(self, factors: StepFactors) -> None:
        self.factors, self.at = factors, 0.0
        self.speed, self.memory = SpeedMemory(), CalibrationMemory()
        self.changes = 0

    def run(self, minutes: int, *, ttft: bool = True) -> Engines:
        random = np.random.default_rng(int(self.at))
        for _ in range(minutes):
            self.at += 60.0
            replica, means = pool_means(self.factors, LOADS[int(3 + 2.9 * math.sin(self.at / 600))])
            noise = np.exp(random.normal(0, 0.03, 2))
            tpot = means.tpot * noise[0]
            expected = expected_step_seconds(PROFILE.step_law, replica, tpot)
            self.speed = observe_speed(
                self.speed, measured_seconds=tpot, expected_seconds=expected, at=self.at
            )
            before = self.memory.in_force
            measured = Measured(tpot, means.ttft * noise[1] if ttft else None)
            self.memory = observe_engine(self.memory, self.speed, measured, predictor(replica), self.at)
            self.changes += self.memory.in_force is not before
        return self


def test_first_the_scalar_is_in_force_then_the_fit() -> None:
    engines = Engines(StepFactors.even(1.3))
    assert engines.memory.stage is Stage.PROFILE
    engines.run(5)
    assert engines.memory.stage is Stage.SCALAR
    assert engines.memory.in_force.compute == pytest.approx(1.3, rel=0.05)
    engines.run(25)
    assert engines.memory.stage is Stage.FITTED
    found = model_finding(engines.memory)
    assert (found.status, found.reason) == (Status.TRUE, "Fitted")
    assert found.message.startswith("of the profile's times, overhead x 1.")


def test_without_ttft_the_scalar_stays_in_force() -> None:
    engines = Engines(StepFactors.even(1.3)).run(60, ttft=False)
    assert engines.memory.stage is Stage.SCALAR
    assert model_finding(engines.memory).message == "every step takes 1.28 x as long as the profile says"


def test_factors_in_force_change_seldom_so_that_tables_are_not_solved_at_every_tick() -> None:
    engines = Engines(StepFactors(1.0, 1.5, 0.8)).run(60)
    settled = engines.changes
    engines.run(240)
    assert settled <= 12
    assert engines.changes - settled <= 8


def test_another_engine_version_is_found_again_from_the_scalar() -> None:
    engines = Engines(AS_PROFILED).run(40)
    assert engines.memory.stage is Stage.FITTED
    engines.factors = StepFactors.even(2.2)
    engines.run(80)
    assert engines.memory.in_force.compute == pytest.approx(2.2, rel=0.15)
    assert not engines.memory.distrusted


@pytest.mark.parametrize("ratio", [1.4, 0.7])
def test_a_fit_that_a_queue_hides_gives_way_to_the_scalar_of_another_engine(ratio: float) -> None:
    engines = Engines(AS_PROFILED).run(60)
    assert engines.memory.stage is Stage.FITTED
    engines.factors = StepFactors.even(ratio)
    engines.run(20, ttft=False)
    assert engines.memory.stage is Stage.SCALAR
    assert engines.memory.in_force.compute == pytest.approx(ratio, rel=0.06)


def test_a_fit_that_a_queue_hides_stays_where_the_scalar_agrees() -> None:
    engines = Engines(StepFactors(1.0, 1.5, 0.8)).run(60)
    fitted = engines.memory.in_force
    engines.run(120, ttft=False)
    assert (engines.memory.stage, engines.memory.in_force) == (Stage.FITTED, fitted)


def judged(
    memory: CalibrationMemory, minute: int, tpot_ratio: float, ttft_ratio: float | None = None
) -> CalibrationMemory:
    """One look at an engine whose means are off by ratios that neither scalar nor filter may follow."""
    replica, means = pool_means(AS_PROFILED, 0.5)
    measured = Measured(means.tpot * tpot_ratio, None if ttft_ratio is None else means.ttft * ttft_ratio)
    return observe_engine(memory, SpeedMemory(), measured, predictor(replica), minute * 60.0)


def test_a_model_contradicted_for_a_quarter_of_an_hour_is_not_trusted_and_regains_trust_slowly() -> None:
    memory = CalibrationMemory()
    for minute in range(15):
        memory = judged(memory, minute, 12.0)
        assert not memory.distrusted
    memory = judged(memory, 15, 12.0)
    assert memory.distrusted
    found = model_finding(memory)
    assert (found.type, found.status, found.reason) == ("ModelTrusted", Status.FALSE, "Contradicted")
    assert found.message == (
        "TPOT is 12 x what the model gives, for 15m and more: replicas follow the measured concurrency and "
        "latencies until it agrees for 5m; check engine.profile"
    )
    # Just inside the limit is not agreement yet.
    memory = judged(memory, 16, 1.45)
    assert memory.agrees_since is None
    for minute in range(17, 22):
        memory = judged(memory, minute, 1.1)
        assert memory.distrusted
    memory = judged(memory, 22, 1.1)
    assert not memory.distrusted
    assert model_finding(memory).reason == "Profile"


def test_one_agreement_in_between_begins_the_quarter_of_an_hour_anew() -> None:
    memory = CalibrationMemory()
    for minute in range(40):
        memory = judged(memory, minute, 1.0 if minute % 10 == 0 else 12.0)
        assert not memory.distrusted


def test_a_queue_now_and_then_does_not_hide_that_ttft_is_contradicted() -> None:
    """For ten hours, one look in ten behind a queue: each was taken for agreement."""
    memory = CalibrationMemory()
    for minute in range(600):
        memory = judged(memory, minute, 1.0, None if minute % 10 == 9 else 3.0)
        assert memory.distrusted == (minute >= 15)


def test_who_lost_trust_by_ttft_does_not_regain_it_behind_a_queue() -> None:
    memory = CalibrationMemory()
    for minute in range(20):
        memory = judged(memory, minute, 1.0, 3.0)
    for minute in range(20, 80):
        memory = judged(memory, minute, 1.0)
        assert memory.distrusted
    for minute in range(80, 85):
        memory = judged(memory, minute, 1.0, 1.0)
        assert memory.distrusted, "the hour of queue is no agreement"
    assert not judged(memory, 85, 1.0, 1.0).distrusted


def test_two_contradictions_a_night_apart_are_no_quarter_of_an_hour() -> None:
    memory = judged(CalibrationMemory(), 0, 12.0)
    memory = judged(memory, 14 * 60, 12.0)
    assert not memory.distrusted
    assert memory.contradiction is not None
    assert memory.contradiction.since == 14 * 3600.0


def test_a_slow_loop_distrusts_and_trusts_by_the_looks_it_has() -> None:
    replica, means = pool_means(AS_PROFILED, 0.5)
    memory, trusted = CalibrationMemory(), []
    for look in range(8):
        measured = Measured(means.tpot * (12.0 if look < 4 else 1.0))
        memory = observe_engine(
            memory, SpeedMemory(), measured, predictor(replica), 300.0 * look, every_seconds=300.0
        )
        trusted.append(not memory.distrusted)
    assert trusted == [True, True, True, False, False, True, True, True]


def test_two_agreements_a_night_apart_are_no_five_minutes() -> None:
    memory = CalibrationMemory()
    for minute in range(16):
        memory = judged(memory, minute, 12.0)
    memory = judged(memory, 16, 1.0)
    assert judged(memory, 14 * 60, 1.0).distrusted


@dataclass(frozen=True)
class Solved(LinearCapacity):
    queue_limit: float = 2.0
    saturation_rate_per_second: float = 5.0
    unreachable: tuple[str, ...] = ()


SOLVED = Solved()


def contradicted(load: Load) -> tuple[Observation, ServiceMemory]:
    """A tick of a service whose model is not trusted."""
    memory = ServiceMemory(lengths=LengthMemory(cell=CELL))
    memory = replace(memory, calibration=CalibrationMemory(distrusted=True))
    return seen(1000.0, pool(4), load=load), memory


def test_while_not_trusted_replicas_follow_measured_concurrency_and_latencies() -> None:
    busy = Load(
        arrival_rate=Reading(20.0),
        queue_growth=Reading(0.0),
        waiting=Reading(0.0),
        running=Reading(4 * 51.2),  # a quarter of 0.8 x 256 slots
        ttft={0.95: Reading(0.75)},  # of 0.5 s
    )
    observed, memory = contradicted(busy)
    found = beliefs.estimate(service(), Engine(PROFILE), observed, memory, SOLVED, LoopTimes())
    assert isinstance(found.capacity, SaturationRule)
    assert found.capacity.rate_per_replica == pytest.approx(20 / 4 / 1.5)
    assert found.capacity.replicas_for(20.0) == 6
    assert found.capacity.binding(6, 20.0) == "saturation"


def test_while_not_trusted_and_without_measurements_the_target_is_held() -> None:
    gone = Reading.missing(Absence.QUERY_FAILED, "timed out")
    observed, memory = contradicted(Load(arrival_rate=Reading(20.0), waiting=Reading(0.0), running=gone))
    found = beliefs.estimate(service(), Engine(PROFILE), observed, memory, SOLVED, LoopTimes())
    assert found.capacity is None
    assert found.missing == "the model is contradicted (see ModelTrusted), and concurrency is not measured"


@pytest.mark.parametrize(
    ("rate", "idle_ttft", "most"),
    # An idle latency of a fifth of its objective asked for 77 replicas at 0.1/s, one of 0.66 for 100 at 1/s.
    [(0.1, 0.1, 1), (0.1, 0.33, 1), (1.0, 0.33, 1), (10.0, 0.1, 4), (10.0, 0.33, 4)],
)
def test_while_not_trusted_a_steady_load_asks_for_no_more_at_every_tick(
    rate: float, idle_ttft: float, most: int
) -> None:
    ready, wanted = 3, []
    for _ in range(20):
        load = Load(
            arrival_rate=Reading(rate),
            waiting=Reading(0.0),
            running=Reading(3 * rate),
            ttft={0.95: Reading(idle_ttft)},
        )
        observed, memory = contradicted(load)
        observed = replace(observed, pool=pool(ready))
        found = beliefs.estimate(service(), Engine(PROFILE), observed, memory, SOLVED, LoopTimes())
        assert found.capacity is not None
        ready = found.capacity.replicas_for(1.5 * rate)
        wanted.append(ready)
    assert max(wanted) <= most


def test_while_not_trusted_silence_scales_down_to_a_fifth_a_look() -> None:
    silent = Load(arrival_rate=Reading(0.0), waiting=Reading(0.0), running=Reading(0.0))
    observed, memory = contradicted(silent)
    memory = replace(memory, demand=replace(memory.demand, at=1000.0, level=0.01))
    found = [
        beliefs.estimate(
            service(), Engine(PROFILE), replace(observed, pool=pool(ready)), memory, SOLVED, LoopTimes()
        )
        for ready in (35, 8, 2)
    ]
    counts = [each.capacity.replicas_for(each.rate_to_serve) for each in found if each.capacity is not None]
    assert counts == [7, 2, 1]
    assert all(each.capacity is not None and each.capacity.max_rate(1) < math.inf for each in found)


def test_while_not_trusted_what_waits_and_is_not_served_keeps_the_replicas() -> None:
    stuck = Load(arrival_rate=Reading(0.0), waiting=Reading(30.0), running=Reading(0.0))
    observed, memory = contradicted(stuck)
    found = beliefs.estimate(service(), Engine(PROFILE), observed, memory, SOLVED, LoopTimes())
    assert found.capacity is not None
    assert found.capacity.replicas_for(0.0) == 4


def slower_minutes(factors: StepFactors) -> Iterator[Observation]:
    """Yield an hour's observations, one a minute, of engines with these factors under a load that moves."""
    for minute in range(60):
        rho = LOADS[int(2 + 1.9 * math.sin(minute / 10))]
        replica, means = pool_means(factors, rho)
        load = Load(
            arrival_rate=Reading(REPLICAS * replica.arrival_rate),
            queue_growth=Reading(0.0),
            waiting=Reading(0.0),
            running=Reading(REPLICAS * replica.running),
            input_token_rate=Reading(REPLICAS * replica.arrival_rate * 1155),
            output_token_rate=Reading(REPLICAS * replica.arrival_rate * 211),
            tpot_mean=Reading(means.tpot),
            ttft_mean=Reading(means.ttft + PROFILE.frontend_seconds),
        )
        yield seen(minute * 60.0, pool(REPLICAS), load=load)


def test_in_the_loop_a_slower_engine_changes_the_problem_that_is_solved() -> None:
    spec, engine = replace(service(), balancer=Balancer.LEAST_REQUESTS), Engine(PROFILE)
    times, memory = LoopTimes(), ServiceMemory(lengths=LengthMemory(cell=CELL))
    for observed in slower_minutes(StepFactors(1.0, 1.5, 1.0)):
        memory = beliefs.observe(spec, engine, observed, memory, times)
    found = beliefs.problem(spec, engine, memory)
    assert memory.calibration.stage is Stage.FITTED
    assert found is not None
    assert found.factors.compute == pytest.approx(1.5, rel=0.08)
    assert found.factors.overhead == pytest.approx(1.0, rel=0.15)
    # A queue, or no TTFT at all, teaches the filter nothing.
    memory = beliefs.compared_ahead(engine, memory)
    taken = memory.calibration.filter
    queued = replace(observed.load, waiting=Reading(40.0), ttft_mean=Reading(9.0))
    memory = beliefs.observe(spec, engine, seen(3700.0, pool(REPLICAS), load=queued), memory, times)
    assert memory.look is not None
    assert beliefs.compared_ahead(engine, memory).calibration.filter == taken


def test_what_is_compared_before_a_tick_is_what_the_tick_would_have_compared() -> None:
    spec, engine, times = service(), Engine(PROFILE), LoopTimes()
    ahead = behind = ServiceMemory(lengths=LengthMemory(cell=CELL))
    for observed in slower_minutes(StepFactors(1.2, 1.5, 0.9)):
        behind = beliefs.observe(spec, engine, observed, behind, times)
        ahead = beliefs.observe(spec, engine, observed, beliefs.compared_ahead(engine, ahead), times)
        assert (ahead.speed, ahead.calibration, ahead.look) == (behind.speed, behind.calibration, behind.look)
    assert ahead.calibration.stage is Stage.FITTED
