"""Our policy in the simulation decides what the operator's step decides for the same observations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fakes.sim_scenarios import TENTH, FourEach, Scripted, scenario, solved_as
from penstock.controller.service_state import ServiceState
from penstock.controller.step import StepContext, step
from penstock.model.observation import Pool
from penstock.policy.beliefs import LoopTimes
from penstock.policy.replicas import acknowledge
from penstock.sim.policies import sizing
from penstock.sim.policies.penstock import Penstock, Settings, load_of, service_of
from penstock.sim.policies.registry import UnknownPolicy, names, policy
from penstock.sim.policy_port import Signals
from penstock.sim.scenario import Scenario, Scraping
from penstock.sim.simulate import simulate


@pytest.fixture(autouse=True)
def _quick_tables() -> Iterator[None]:
    with solved_as(FourEach()):
        yield


class Beside(Penstock):
    """Asks the operator's own step beside, with a state of its own."""

    def __init__(self, load: Scenario) -> None:
        super().__init__(load, Settings())
        self.state = ServiceState(uid="simulation", engine=self.engine)
        self.frontend_seconds = load.profile.frontend_seconds
        self.differing: list[tuple[float, int | None, int]] = []
        self.reasons: set[str] = set()

    def decide(self, seen: Signals) -> int:
        wanted = super().decide(seen)
        pool = Pool(seen.target, seen.ready + seen.starting, seen.ready)
        workload = SimpleNamespace(pool_since=lambda *_: pool)
        cache: Any = SimpleNamespace(workload=lambda *_: workload, conflict=lambda *_: "")
        tables: Any = SimpleNamespace(get=sizing.solved, failure=lambda _: "")
        state, load = self.state, load_of(seen, self.spec.slo, self.times, self.frontend_seconds)
        outcome = step(StepContext(cache, tables, self.times), self.spec, state, load, seen.at)
        value = outcome.decision.value
        if value is not None and value != pool.target:
            held = acknowledge(state.memory.replicas, written=value, before=pool.target, now=seen.at)
            state.memory = state.memory.with_replicas(held)
        if (pool.target if value is None else value) != wanted:
            self.differing.append((seen.at, value, wanted))
        self.reasons.add(str(outcome.decision.reason))
        return wanted


def waving(seconds: float, **changes: Any) -> Scenario:
    random = np.random.default_rng(2)
    ticks = np.arange(seconds)
    counts = random.poisson(8 + 6 * np.sin(2 * np.pi * ticks / 2400))
    return scenario(np.sort(ticks.repeat(counts) + random.random(counts.sum())), **changes)


@pytest.mark.parametrize(
    "scraping", [Scraping(), Scraping(missed_ratio=0.2), Scraping(outages=((900.0, 1200.0),))]
)
def test_the_adapter_decides_what_the_operators_step_decides(scraping: Scraping):
    ours = Beside(waving(3600.0, scraping=scraping))
    run = simulate(waving(3600.0, scraping=scraping), ours, seed=1)
    assert ours.differing == []
    assert len(run.scale_events) > 3
    assert "Stabilizing" in ours.reasons


def test_a_silent_prometheus_holds_the_target():
    outage = (600.0, 1500.0)
    load = waving(2400.0, scraping=Scraping(outages=(outage,)))
    run = simulate(load, Penstock(load, Settings()), seed=1)
    assert [event for event in run.scale_events if outage[0] <= event.at < outage[1]] == []


def test_a_wrong_profile_is_the_policys_and_not_the_engines():
    load = waving(60.0)
    believed = replace(TENTH, name="twice as fast").at_speed(0.5)
    ours = Penstock(load, Settings(profile=believed))
    assert ours.engine.profile == believed
    assert load.profile == TENTH


def test_every_name_makes_a_policy_that_decides_within_reason():
    load = waving(300.0)
    for name in names():
        run = simulate(load, policy(name, load), seed=1)
        assert 1 <= run.average_replicas() <= load.max_replicas, name


def test_an_unknown_policy_is_answered_with_the_closest_names():
    with pytest.raises(UnknownPolicy, match="no policy is named 'hpa-que'; the closest are hpa-queue"):
        policy("hpa-que", waving(60.0))


def test_an_unknown_setting_is_answered_with_those_there_are():
    with pytest.raises(UnknownPolicy, match="policy 'apa' has no setting 'queue'; it has kv"):
        policy("apa", waving(60.0), queue=1)


def test_without_a_gateway_nobody_counts_what_is_offered():
    load, policy = scenario(np.arange(0, 300, 0.5), 100, 10), Scripted((1,))
    simulate(load, policy, seed=1)
    spec = service_of(load, Settings())
    read = load_of(policy.at(240.0), spec.slo, LoopTimes(), 0.0)
    assert read.offered_rate.value is None
    assert read.arrival_rate.value == pytest.approx(2.0, abs=0.1)
