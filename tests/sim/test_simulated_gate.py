"""Gateways that a policy steers: what passes, what spills, what is refused, and how limits move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.sim_scenarios import TENTH, every, scenario
from penstock.model.traffic import FleetLimit
from penstock.policy.admission import Admission as Decided
from penstock.policy.fallback import FallbackShare
from penstock.queueing.errors import InvalidParameter
from penstock.sim.gate import Traffic
from penstock.sim.policy_port import Signals
from penstock.sim.run import RequestStatus, Run
from penstock.sim.scenario import Admission, Fallback, Scenario
from penstock.sim.simulate import simulate
from penstock.sim.static import Static

OWN_LIMIT = Admission(running_limit=4, queue_limit=2)  # of the fallback's own gateway
STATUSES = tuple(RequestStatus)


@dataclass(slots=True)
class Steering:
    """Holds `replicas` and gives its gateways `limits[k]` per replica after its k-th decision."""

    limits: Sequence[FleetLimit | None]
    replicas: Sequence[int] = (1,)
    share: FallbackShare | None = None
    interval_seconds: float = 5.0
    name: str = "steering"
    seen: list[Signals] = field(default_factory=list)

    def decide(self, seen: Signals) -> int:
        self.seen.append(seen)
        return self.replicas[min(len(self.seen), len(self.replicas)) - 1]

    def traffic(self) -> Traffic:
        limit = self.limits[min(len(self.seen), len(self.limits)) - 1]
        decided = None if limit is None else Decided(limit, serving=self.replicas[0], enforced=True)
        return Traffic(decided, self.share)


def count(run: Run, status: RequestStatus) -> int:
    return int((run.status == status).sum())


def in_flight_at(run: Run, load: Scenario, status: RequestStatus) -> np.ndarray:
    """Return how many requests of a status are there just after each of them came."""
    chosen = run.status == status
    came = load.arrivals_seconds[chosen]
    left = np.sort(came + run.latency_seconds[chosen])
    return np.arange(1, came.size + 1) - np.searchsorted(left, came, side="right")


def limit_at(run: Run, times: np.ndarray) -> np.ndarray:
    """Return the places in force at each time; a million where there is no limit."""
    at = np.array([each.at for each in run.limit_changes])
    places = [1_000_000] + [
        1_000_000 if each.limit is None else each.limit.in_flight for each in run.limit_changes
    ]
    # What is decided at an instant holds for what comes at that instant too.
    return np.array(places)[np.searchsorted(at, times, side="right")]


def crowd(seed: int, **changes: Any) -> Scenario:
    """60 s of requests that one engine of 256 slots at 10 ms a step takes, and a limit of some does not."""
    random = np.random.default_rng(seed)
    arrivals = np.sort(random.uniform(0.0, 60.0, 1500))
    return scenario(arrivals, 100, random.integers(1, 120, arrivals.size), **changes)


def test_what_exceeds_the_limit_in_force_is_refused_at_once():
    load = scenario(np.full(10, 1.5), 1, 3)
    run = simulate(load, Steering([FleetLimit(2, 1)]), seed=1)
    assert run.status.tolist() == [RequestStatus.SERVED] * 3 + [RequestStatus.SHED] * 7
    # One starts alone, the second a step later, the third when the first has made its 3 tokens.
    assert sorted(run.ttft_seconds[:3].round(6).tolist()) == [0.01, 0.02, 0.04]


def test_a_limit_goes_down_at_once_and_up_by_a_tenth_a_second():
    policy = Steering([FleetLimit(50, 0), FleetLimit(20, 0), FleetLimit(40, 0)])
    run = simulate(scenario(every(1.0, 30.0)), policy, seed=1)
    moved = [(each.at, each.limit.in_flight) for each in run.limit_changes if each.limit is not None]
    assert moved[:2] == [(0.0, 50), (5.0, 20)]
    assert moved[2:] == [
        (10.0, 22), (11.0, 24), (12.0, 26), (13.0, 29), (14.0, 32), (15.0, 35), (16.0, 39), (17.0, 40),
    ]  # fmt: skip


def test_a_limit_follows_the_replicas_that_are_ready():
    policy = Steering([FleetLimit(3, 1)], replicas=[1, 2])
    run = simulate(scenario(every(1.0, 90.0)), policy, seed=1)
    moved = [(each.at, each.limit) for each in run.limit_changes]
    # Asked for at 5 s, ready a minute later; then one request a second.
    assert moved == [
        (0.0, FleetLimit(3, 1)), (65.0, FleetLimit(4, 1)), (66.0, FleetLimit(5, 1)),
        (67.0, FleetLimit(6, 1)), (68.0, FleetLimit(6, 2)),
    ]  # fmt: skip


def test_the_fallback_takes_what_its_own_limit_and_its_room_allow():
    everything = FallbackShare(planned_ratio=0.0, in_flight_limit=100, enforced=True)
    load = scenario(np.full(20, 1.5), 1, 30, fallback=Fallback(TENTH, 1, OWN_LIMIT))
    run = simulate(load, Steering([FleetLimit(3, 0)], share=everything), seed=1)
    assert [count(run, each) for each in STATUSES] == [3, 6, 11, 0]
    little = FallbackShare(planned_ratio=0.0, in_flight_limit=2, enforced=True)
    run = simulate(load, Steering([FleetLimit(3, 0)], share=little), seed=1)
    assert [count(run, each) for each in STATUSES] == [3, 2, 15, 0]


@pytest.mark.parametrize("share", [None, FallbackShare(0.0, 100, enforced=False)])
def test_a_fallback_that_is_not_in_force_gets_nothing(share: FallbackShare | None):
    load = scenario(np.full(20, 1.5), 1, 30, fallback=Fallback(TENTH, 1, OWN_LIMIT))
    run = simulate(load, Steering([FleetLimit(3, 0)], share=share), seed=1)
    assert [count(run, each) for each in STATUSES] == [3, 0, 17, 0]


def test_a_planned_share_goes_to_the_fallback_whatever_the_load():
    roomy = Fallback(TENTH, 1, Admission(200, 0))
    planned = FallbackShare(planned_ratio=0.3, in_flight_limit=200, enforced=True)
    run = simulate(crowd(1, fallback=roomy), Steering([None], share=planned), seed=1)
    assert count(run, RequestStatus.FELL_BACK) / run.status.size == pytest.approx(0.3, abs=0.03)
    assert count(run, RequestStatus.SHED) == 0


def test_a_policy_that_steers_sees_what_its_gateways_counted():
    policy = Steering([FleetLimit(3, 0)])
    load = crowd(2)
    run = simulate(load, policy, seed=1)
    rates, at = policy.seen[-1].gateway, policy.seen[-1].at
    assert rates is not None
    # Counters are read every second, from the second before on.
    came = load.arrivals_seconds < at - 1.0
    assert rates.offered * rates.window_seconds == pytest.approx(came.sum())
    assert rates.shed * rates.window_seconds == pytest.approx((run.status[came] == RequestStatus.SHED).sum())
    assert simulate(load, policy_of_others := Watching(), seed=1).limit_changes == ()
    assert policy_of_others.gateways == {None}


@dataclass(slots=True)
class Watching:
    """Steers nothing."""

    interval_seconds: float = 15.0
    name: str = "watching"
    gateways: set[Any] = field(default_factory=set)

    def decide(self, seen: Signals) -> int:
        self.gateways.add(seen.gateway)
        return seen.target


def test_without_a_limit_all_is_as_without_gateways():
    load = crowd(3)
    steered, alone = simulate(load, Steering([None]), seed=1), simulate(load, Static(1), seed=1)
    for name in ("ttft_seconds", "tpot_seconds", "latency_seconds", "status"):
        assert np.array_equal(getattr(steered, name), getattr(alone, name), equal_nan=True)
    assert steered.limit_changes == ()


LIMITS = st.lists(
    st.none() | st.builds(FleetLimit, st.integers(1, 40), st.integers(0, 10)), min_size=1, max_size=8
)


@settings(max_examples=40, deadline=None)
@given(
    limits=LIMITS,
    replicas=st.integers(1, 3),
    room=st.integers(0, 12),
    planned=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 5),
)
def test_every_request_ends_one_way_and_no_limit_is_exceeded(
    limits: list[FleetLimit | None], replicas: int, room: int, planned: float, seed: int
):
    load = crowd(seed, initial_replicas=replicas, fallback=Fallback(TENTH, 1, OWN_LIMIT))
    share = FallbackShare(planned, room, enforced=True)
    run = simulate(load, Steering(limits, replicas=[replicas], share=share), seed=1)
    assert sum(count(run, each) for each in STATUSES) == load.arrivals_seconds.size
    assert count(run, RequestStatus.UNAVAILABLE) == 0
    answered = np.isin(run.status, (RequestStatus.SERVED, RequestStatus.FELL_BACK))
    assert np.array_equal(~np.isnan(run.latency_seconds), answered)
    came = load.arrivals_seconds[run.status == RequestStatus.SERVED]
    assert (in_flight_at(run, load, RequestStatus.SERVED) <= limit_at(run, came)).all()
    places = min(room, OWN_LIMIT.running_limit + OWN_LIMIT.queue_limit)
    assert (in_flight_at(run, load, RequestStatus.FELL_BACK) <= places).all()


def test_a_fallback_that_nothing_can_spill_to_is_refused_unless_the_policy_steers():
    load = crowd(4, fallback=Fallback(TENTH, 1, OWN_LIMIT))
    with pytest.raises(InvalidParameter, match="fallback needs an admission limit"):
        simulate(load, Static(1), seed=1)
    simulate(load, Steering([None]), seed=1)
