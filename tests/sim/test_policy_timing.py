"""What the peers' laws do over time: panic, delays, nulls; seen through signals made by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from fakes.sim_scenarios import FourEach, scenario, solved_as
from penstock.sim.policies.clairvoyant import Clairvoyant
from penstock.sim.policies.hpa import Hpa
from penstock.sim.policies.keda import Keda, KedaEpp
from penstock.sim.policies.kpa import Kpa
from penstock.sim.policies.ray_serve import RayServe
from penstock.sim.policies.sizing import true_rates
from penstock.sim.policies.skyserve import SkyServe
from penstock.sim.policy_port import ReplicaGauges, ReplicaWindow, Signals, WindowRates


@dataclass
class Answers:
    offered: float | None = None
    windows: tuple[ReplicaWindow, ...] = field(default_factory=tuple)

    def rates(self, at: float, window_seconds: float) -> WindowRates | None:
        return None

    def offered_rate(self, at: float, window_seconds: float) -> float | None:
        return self.offered

    def over(self, at: float, window_seconds: float) -> tuple[ReplicaWindow, ...]:
        return self.windows


def seen(
    at: float,
    target: int,
    *,
    running: int | None = 0,
    waiting: int | None = 0,
    offered: float | None = 1.0,
    ready: int | None = None,
) -> Signals:
    ready = target if ready is None else ready
    gauges = () if running is None else (ReplicaGauges(0, 1.0, running, waiting or 0, 0.0),)
    return Signals(
        at, ready, target - ready, target, 1, 20, running, waiting, gauges, None, None, None, offered,
        None, 60.0, Answers(offered),
    )  # fmt: skip


def test_knative_panics_at_twice_what_it_has_and_then_never_goes_down_for_a_minute():
    kpa = Kpa(target=10.0)
    targets = {at: kpa.decide(seen(at, 2, running=15)) for at in range(0, 60, 2)}
    assert set(targets.values()) == {2}
    at, target = 60, 2
    while target == 2 and at < 80:
        target = kpa.decide(seen(at, target, running=80, ready=2))
        at += 2
    assert target >= 4  # six seconds of 80 are 8 pods' worth: panic
    peak = target
    for later in range(at, at + 50, 2):
        target = kpa.decide(seen(later, peak, running=5, ready=2))
        assert target >= peak
        peak = max(peak, target)
    assert kpa.decide(seen(at + 130, peak, running=5, ready=peak)) < peak


def test_knative_without_data_changes_nothing():
    assert Kpa().decide(seen(0.0, 7, running=None, waiting=None)) == 7


def test_skyserve_waits_five_minutes_up_and_twenty_down_and_a_single_dip_begins_anew():
    sky = SkyServe(qps=1.0)
    looks = [sky.decide(seen(20.0 * k, 2, offered=4.0)) for k in range(15)]
    assert looks == [2] * 14 + [4]
    sky = SkyServe(qps=1.0)
    looks = [sky.decide(seen(20.0 * k, 2, offered=2.0 if k == 10 else 4.0)) for k in range(16)]
    assert looks == [2] * 16
    sky = SkyServe(qps=1.0)
    looks = [sky.decide(seen(20.0 * k, 4, offered=1.0)) for k in range(60)]
    assert looks == [4] * 59 + [1]


def test_ray_serve_applies_the_last_wish_after_its_delay():
    ray = RayServe(ongoing=2.0)
    assert [ray.decide(seen(10.0 * k, 2, running=12)) for k in range(4)] == [2, 2, 2, 6]
    ray = RayServe(ongoing=2.0)
    assert [ray.decide(seen(10.0 * k, 6, running=2)) for k in range(61)] == [6] * 60 + [1]


def test_keda_takes_an_empty_answer_for_zero_and_a_silent_prometheus_for_nothing():
    keda = Keda("keda", {"queue": 2.0})
    assert keda.decide(seen(0.0, 6, running=None, waiting=None)) == 6
    assert keda.decide(seen(301.0, 6, running=None, waiting=None, offered=1.0)) == 1
    silent = seen(400.0, 6, running=None, waiting=None, offered=None)
    assert Keda("keda", {"queue": 2.0}).decide(silent) == 6


@pytest.mark.parametrize(
    "policy",
    [Keda("keda", {"queue": 2.0}), KedaEpp(), Hpa("hpa", {"concurrency": 10.0})],
    ids=lambda policy: type(policy).__name__,
)
def test_a_new_hpa_holds_the_count_it_finds_for_its_window(policy: Keda | KedaEpp | Hpa):
    assert [policy.decide(seen(15.0 * k, 6, running=0, waiting=0)) for k in range(20)] == [6] * 20
    assert policy.decide(seen(300.0, 6, running=0, waiting=0)) < 6


def test_a_new_knative_revision_with_pods_begins_in_panic():
    kpa = Kpa()
    assert [kpa.decide(seen(2.0 * k, 6, running=0, waiting=0)) for k in range(30)] == [6] * 30
    assert kpa.decide(seen(62.0, 6, running=0, waiting=0)) < 6


def test_llm_ds_guard_does_not_order_again_what_already_starts():
    # 160 running at 16 each ask for 10; of the 6 ordered 3 start: 10 - 3 = 7.
    assert KedaEpp().decide(seen(0.0, 6, running=160, ready=3)) == 7


def test_the_clairvoyant_orders_a_start_up_ahead_of_a_step():
    step = np.concatenate([np.arange(0, 600, 0.25), np.arange(600, 1200, 0.05)])
    load = scenario(step, max_replicas=8)

    with solved_as(FourEach()):
        oracle = Clairvoyant(load)
    assert oracle.decide(seen(450.0, 1)) == 1
    assert oracle.decide(seen(555.0, 1)) > 1  # the rate around 600 s rises 45 s later, a start-up is 60 s
    assert oracle.decide(seen(900.0, 1)) == 5


def test_true_rates_are_counted_around_their_instant_in_requests_of_mean_weight():
    load = scenario(np.arange(0, 600, 0.5), 100, 10)
    rates = true_rates(load, window_seconds=60.0, step_seconds=60.0)
    assert abs(rates[1:-1] - 2.0).max() < 0.05
