"""Our policy with its gateways: limit, planned share and room are the operator's deciders'."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from fakes.sim_scenarios import TENTH, FourEach, scenario, solved_as
from penstock.cli.simulate_policies import build, policies_of
from penstock.model.decision import TrafficReason
from penstock.model.spec import AdmissionPolicy, AdmissionSpec, Metric, Objective, ServiceSpec, Slo
from penstock.policy.admission_law import AdmissionLaw
from penstock.sim.gate import SteersTraffic
from penstock.sim.policies.penstock import Penstock, Settings, service_of
from penstock.sim.policies.penstock_gateway import GatewaySettings, PenstockWithGateway
from penstock.sim.policies.sizing import slo_of
from penstock.sim.run import RequestStatus, Run
from penstock.sim.scenario import Admission, Fallback, Scenario, StartUp
from penstock.sim.simulate import simulate

LAW = AdmissionLaw(
    running=4, queued=1, completion_rate_per_second=4.0, counts=(1,), carried=((0.0, 1.0),), loads=(0.0, 1.0)
)
SMALL = Fallback(TENTH, 1, Admission(4, 1))


@pytest.fixture(autouse=True)
def _quick_tables() -> Iterator[None]:
    with solved_as(FourEach(admission=LAW)):
        yield


def burst(**changes: object) -> Scenario:
    """Four requests a second of a second each, and twenty between 300 and 330 s."""
    random = np.random.default_rng(7)
    calm, crowd = random.uniform(0, 600, 2400), random.uniform(300, 330, 480)
    return scenario(np.sort(np.concatenate([calm, crowd])), 100, 100, **{"start_up": START_UP, **changes})


START_UP = scenario([0.0]).start_up


def counts(run: Run) -> dict[RequestStatus, int]:
    return {each: int((run.status == each).sum()) for each in RequestStatus}


def test_the_limit_is_that_of_the_model_times_the_ready_replicas():
    load = burst(max_replicas=2, initial_replicas=2)
    policy = PenstockWithGateway(load, Settings())
    run = simulate(load, policy, seed=1)
    first = run.limit_changes[0]
    # Nothing is limited before 30 requests were seen and two scrapes taken.
    assert 15.0 <= first.at <= 60.0
    assert {each.limit.in_flight for each in run.limit_changes if each.limit is not None} <= set(range(5, 11))
    calm = load.arrivals_seconds < first.at
    assert (run.status[calm] == RequestStatus.SERVED).all()
    assert counts(run)[RequestStatus.SHED] > 100
    assert policy.decided is not None


def test_what_is_shed_goes_to_the_fallback_while_that_has_room():
    load = burst(max_replicas=2, initial_replicas=2)
    alone = simulate(load, PenstockWithGateway(load, Settings()), seed=1)
    helped_load = replace(load, fallback=SMALL)
    policy = PenstockWithGateway(helped_load, Settings())
    helped = simulate(helped_load, policy, seed=1)
    assert policy.spec.fallback is not None
    assert policy.spec.fallback.max_percent == 50
    assert counts(helped)[RequestStatus.FELL_BACK] > 50
    assert counts(helped)[RequestStatus.SHED] < counts(alone)[RequestStatus.SHED]


def test_what_is_shed_and_spilled_buys_replicas():
    load = burst(max_replicas=8)
    run = simulate(load, PenstockWithGateway(load, Settings()), seed=1)
    assert counts(run)[RequestStatus.SHED] > 100
    assert max(event.after for event in run.scale_events) >= 5


@pytest.mark.parametrize("policy", [AdmissionPolicy.OFF, AdmissionPolicy.STATIC])
def test_the_policy_of_admission_is_the_files(policy: AdmissionPolicy):
    per_replica = 3 if policy is AdmissionPolicy.STATIC else None
    asked = AdmissionSpec(policy=policy, static_in_flight_per_replica=per_replica)
    load = burst(max_replicas=2, initial_replicas=2)
    run = simulate(load, PenstockWithGateway(load, Settings(), GatewaySettings(admission=asked)), seed=1)
    limits = {each.limit.in_flight for each in run.limit_changes if each.limit is not None}
    assert limits <= {3, 4, 5, 6}
    assert bool(limits) is (policy is AdmissionPolicy.STATIC)
    assert (counts(run)[RequestStatus.SHED] > 0) is (policy is AdmissionPolicy.STATIC)


def test_the_reason_tells_that_the_fallback_is_in_use():
    load = replace(burst(max_replicas=2, initial_replicas=2), fallback=SMALL)
    reasons = set()

    class Watched(PenstockWithGateway):
        def traffic(self):  # type: ignore[no-untyped-def]
            if self.decided is not None:
                reasons.add(self.decided.fallback.reason)
                reasons.add(self.decided.admission.reason)
            return super().traffic()

    simulate(load, Watched(load, Settings()), seed=1)
    assert {TrafficReason.FALLBACK_ACTIVE, TrafficReason.ADMISSION_LIMITED} <= reasons


def file_of(load: Scenario) -> ServiceSpec:
    return replace(service_of(load, Settings()), admission=AdmissionSpec(policy=AdmissionPolicy.AUTO))


def test_simulate_lets_ours_decide_the_limit_where_the_file_has_one():
    (asked,) = policies_of("penstock")
    open_load, limited = burst(), burst(admission=Admission(4, 1))
    assert type(build(asked, file_of(open_load), open_load)) is Penstock
    made = build(asked, file_of(limited), limited)
    assert isinstance(made, PenstockWithGateway)
    assert isinstance(made, SteersTraffic)
    assert made.spec.admission == file_of(limited).admission


def test_simulate_lets_ours_decide_with_what_the_file_says():
    load = burst(start_up=StartUp(240.0))
    replicas = replace(file_of(load).replicas, initial_startup_seconds=60.0, max_added_per_minute=1)
    objectives = (
        Objective(Metric.TTFT, 0.5, 0.2),
        Objective(Metric.TTFT, 0.99, 1.0),
        Objective(Metric.TPOT, 0.9, 0.05),
    )
    file = replace(file_of(load), replicas=replicas, slo=Slo(objectives))
    (plain, strict) = (build(each, file, load) for each in policies_of("penstock,penstock:percentile=0.99"))
    assert isinstance(plain, Penstock)
    assert isinstance(strict, Penstock)
    assert plain.spec.slo == Slo(objectives)
    assert plain.spec.replicas == replicas
    assert {each.percentile for each in strict.spec.slo.objectives} == {0.99}


@pytest.mark.parametrize("admission", [None, Admission(4, 1)], ids=["no gateway", "a gateway"])
def test_a_setting_of_ours_changes_that_alone(admission: Admission | None):
    load = burst(admission=admission)
    asked = AdmissionSpec(policy=AdmissionPolicy.STATIC, static_in_flight_per_replica=3)
    replicas = replace(file_of(load).replicas, spare=2, scale_down_window_seconds=90.0)
    file = replace(file_of(load), admission=asked, replicas=replicas, slo=slo_of(load.slo, 0.99))
    (plain, tuned) = (
        build(each, file, load)
        for each in policies_of("penstock,penstock:scale_down_window_seconds=60:objective_ratio=0.5")
    )
    assert isinstance(plain, Penstock)
    assert isinstance(tuned, Penstock)
    assert type(tuned) is (Penstock if admission is None else PenstockWithGateway)
    assert tuned.spec.admission == plain.spec.admission
    assert tuned.spec.replicas == replace(plain.spec.replicas, scale_down_window_seconds=60.0)
    assert (tuned.spec.replicas.spare, plain.spec.replicas.scale_down_window_seconds) == (2, 90.0)
    told = [(each.percentile, each.seconds) for each in tuned.spec.slo.objectives]
    assert told == [(0.99, each.seconds / 2) for each in plain.spec.slo.objectives]
