"""What users may rely on, over hours of walked time; the loop is real, the world around it is played."""

from __future__ import annotations

import copy

import pytest

from fakes.world import World, chat


async def test_half_an_hour_of_steady_load_costs_few_writes_and_hardly_an_event() -> None:
    for seed in range(5):
        world = World(rate=lambda _: 30.0, spec=chat(), target=2, seed=seed)
        await world.run(600)  # learns, sizes, settles
        world.status_writes.clear()
        world.events.clear()
        await world.run(1800)
        assert len(world.status_writes) <= 30, f"seed {seed}"
        assert len(world.events) <= 2, f"seed {seed}: {world.events}"


async def test_a_first_half_hour_from_nothing_keeps_within_the_same_bounds() -> None:
    world = World(rate=lambda _: 30.0, spec=chat(), target=2)
    await world.run(1800)
    assert len(world.status_writes) <= 30
    assert len(world.events) <= 2


async def test_replicas_follow_a_step_up_before_the_queue_grows_and_later_down() -> None:
    world = World(
        rate=lambda t: 30.0 if t < 900 else (50.0 if t < 3000 else 12.0), spec=chat(spare=1), target=3
    )
    await world.run(1500)
    assert world.target >= 4
    await world.run(3600)
    assert world.target == 2
    assert not world.breaches


async def test_five_needed_and_nodes_for_three_keeps_the_target_at_five() -> None:
    world = World(rate=lambda _: 75.0, spec=chat(), target=3, room=3)
    await world.run(1800)
    needed = world.target
    assert needed >= 5
    assert world.ready == 3
    assert {replicas for _, replicas in world.scale_writes if replicas < needed} == set()
    limited = world.condition("ScalingLimited")
    assert (limited["status"], limited["reason"]) == ("True", "Unschedulable")
    assert "0/3 nodes are available: insufficient nvidia.com/gpu" in limited["message"]


async def test_ten_warm_starts_then_a_six_minute_new_node_and_the_slo_is_held() -> None:
    # A slow ramp that needs a replica more every quarter of an hour; the eleventh start finds no node.
    world = World(
        rate=lambda t: 10.0 + t / 60.0,
        spec=chat(max=40, initialStartup="6m"),
        target=1,
        startup=lambda n: (360.0, True) if n >= 11 else (30.0, False),
    )
    await world.run(4 * 3600)
    assert world.started > 12
    assert world.breaches == []


async def test_a_raised_maximum_and_a_restarted_prometheus_follow_offered_load_not_served_load() -> None:
    world = World(rate=lambda _: 100.0, spec=chat(max=3), target=3)
    await world.run(1200)
    assert world.target == 3
    assert world.condition("ScalingLimited")["reason"] == "AtMaximum"
    # The three replicas serve 57 a second; 100 are offered.
    world.spec = copy.deepcopy(world.spec) | {"replicas": {"min": 1, "max": 12}}
    world.spec_generation += 1
    world.prometheus_up = False
    await world.run(60)
    world.prometheus_up = True
    await world.run(120)
    assert world.target >= 6


async def test_an_emergency_scale_up_is_kept_for_thirty_minutes_also_over_a_restart() -> None:
    world = World(rate=lambda _: 30.0, spec=chat(), target=2)
    await world.run(900)
    assert world.target == 2
    world.scale_by_hand(8)
    raised_at = world.now
    await world.run(600)
    world.restart_operator()
    await world.run(1100)
    assert world.target == 8
    assert world.status["foreignFloor"]["replicas"] == 8
    await world.run(1200)
    assert world.target == 2
    lowered_at = next(at for at, replicas in world.scale_writes if at > raised_at)
    assert lowered_at - raised_at >= 1800


async def test_prometheus_gone_for_ten_minutes_holds_and_says_so() -> None:
    world = World(rate=lambda t: 60.0 if t < 1200 else 2.0, spec=chat(), target=4)
    await world.run(1200)
    held = world.target
    world.prometheus_up = False
    await world.run(600)
    assert world.target == held
    lost = world.condition("MetricsAvailable")
    assert (lost["status"], lost["reason"], lost["message"]) == (
        "False",
        "QueryFailed",
        "Prometheus cannot be reached",
    )
    assert world.status["decision"]["reason"] == "MetricsMissing"
    world.prometheus_up = True
    await world.run(270)
    assert world.target == held  # the window begins anew
    await world.run(600)
    assert world.target < held


async def test_observe_writes_status_and_events_and_nothing_else() -> None:
    spec = chat() | {"mode": "Observe"}
    world = World(rate=lambda _: 60.0, spec=spec, target=1, capacity_per_replica=100.0)
    await world.run(900)
    assert world.scale_writes == []
    assert world.target == 1
    assert world.status["replicas"]["desired"] >= 4
    assert world.condition("Ready")["reason"] == "Observing"


async def test_leaving_an_hpa_through_observe_is_no_jump() -> None:
    hpa = {
        "metadata": {"namespace": "prod", "name": "chat"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"}},
    }
    world = World(rate=lambda _: 30.0, spec=chat() | {"mode": "Observe"}, target=6, hpa=hpa)
    await world.run(900)
    accepted = world.condition("Accepted")
    assert (accepted["status"], accepted["reason"]) == ("True", "OtherAutoscaler")
    world.spec = chat()
    world.spec_generation += 1
    await world.run(600)
    accepted = world.condition("Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "ConflictingAutoscaler")
    assert accepted["message"] == (
        "HorizontalPodAutoscaler/chat scales Deployment/chat too: delete it and Penstock takes over from the "
        "count it finds, or set mode: Observe to only look"
    )
    assert world.scale_writes == []
    world.hpa = None
    took_over = world.now
    await world.run(1800)
    first = world.scale_writes[0]
    assert first[0] - took_over >= 300
    assert world.condition("Accepted")["status"] == "True"


async def test_a_restart_of_the_operator_writes_nothing_new_and_changes_no_target() -> None:
    world = World(rate=lambda _: 30.0, spec=chat(), target=2)
    await world.run(1800)
    writes, target = len(world.status_writes), world.target
    world.restart_operator()
    await world.run(45)
    assert world.target == target
    assert len(world.status_writes) == writes


async def test_a_refused_write_is_a_condition_and_ends_when_it_is_granted() -> None:
    world = World(rate=lambda _: 60.0, spec=chat(), target=1, forbidden=True)
    await world.run(300)
    limited = world.condition("ScalingLimited")
    assert (limited["status"], limited["reason"]) == ("True", "WriteRefused")
    assert "grant it with the chart's RBAC" in limited["message"]
    world.forbidden = False
    await world.run(600)
    assert world.target >= 4
    assert world.condition("ScalingLimited")["status"] == "False"


@pytest.mark.parametrize("mode", ["Enforce", "Observe", "Paused"])
async def test_every_condition_is_there_from_the_first_look_on(mode: str) -> None:
    world = World(rate=lambda _: 0.0, spec=chat() | {"mode": mode}, target=2)
    await world.run(15)
    kinds = [each["type"] for each in world.status["conditions"]]
    assert kinds == [
        "Ready",
        "Accepted",
        "MetricsAvailable",
        "ObjectivesMet",
        "ScalingLimited",
        "ModelTrusted",
        "AdmissionLimited",
        "FallbackActive",
        "CanaryHealthy",
    ]


async def test_a_service_that_never_had_traffic_goes_to_its_minimum() -> None:
    world = World(rate=lambda _: 0.0, spec=chat(min=2), target=5)
    await world.run(270)
    assert world.target == 5
    await world.run(300)
    assert world.target == 2
    assert world.status["decision"]["reason"] == "AtMinimum"


async def test_an_idle_service_says_that_there_are_no_requests() -> None:
    world = World(rate=lambda _: 0.0, spec=chat(), target=1)
    await world.run(60)
    assert world.status["decision"]["message"] == "1 replica: no requests, and none have been seen"
