"""What comes in the middle of a canary: a new operator, lost metrics, silent gateways, a deletion."""

from __future__ import annotations

import pytest

from fakes.canary_specs import SLOW, adopted, template, two_deployments
from fakes.canary_world import CanaryWorld, serving
from penstock.controller import loop
from penstock.controller.service_state import Outcome
from penstock.metrics_source.arms import Arm


async def testing(**arguments: object) -> CanaryWorld:
    """A canary that is as good as the stable arm, at its first step."""
    world = await serving(**arguments)
    world.change(workload={"template": template("engine:better")})
    await world.until(lambda: world.weight == 20, within=120)
    return world


async def test_a_restarted_operator_goes_on_at_the_same_step_with_its_evidence() -> None:
    world = await testing()
    await world.seconds(240)
    (before,) = world.loop.states.values()
    counted = before.canary.evidence.judge.requests
    assert counted > 500
    world.restart_operator()
    weights = len(world.weights)
    await world.seconds(20)
    (after,) = world.loop.states.values()
    assert after.canary.memory.began == before.canary.memory.began
    assert world.status["canary"]["step"] == "1/2"
    # Of the evidence a minute at most is lost, or a tenth of it.
    assert after.canary.evidence.judge.requests >= 0.75 * counted
    assert set(world.weights[weights:]) == {20}
    await world.until(lambda: world.phase == "Promoted", within=1200)
    assert (world.failed, world.cluster.cut, world.least_ready) == (0, [], 2)


async def test_a_restart_while_all_requests_move_over_ends_in_the_same_promotion() -> None:
    world = await testing(stream_seconds=40.0)
    await world.until(lambda: world.weight == 100, within=1200)
    world.restart_operator()
    await world.until(lambda: world.phase == "Promoted", within=200)
    await world.seconds(60)
    assert (world.failed, world.cluster.cut, world.least_ready) == (0, [], 2)


async def test_a_restart_while_a_bad_one_drains_does_not_bring_it_back() -> None:
    world = await serving(stream_seconds=60.0)
    world.change(workload={"template": template(SLOW)})
    await world.until(lambda: world.phase == "RollingBack", within=300)
    world.restart_operator()
    weights = len(world.weights)
    await world.until(lambda: world.phase == "RolledBack", within=200)
    assert set(world.weights[weights:]) == {0}
    assert world.cluster.cut == []


@pytest.mark.parametrize(
    ("arm", "reason"), [(Arm.CANARY, "CanaryMetricsMissing"), (Arm.STABLE, "StableMetricsMissing")]
)
async def test_without_the_metrics_of_an_arm_the_share_is_held_and_it_says_so(arm: Arm, reason: str) -> None:
    world = await testing()
    world.silent.add(arm)
    await world.seconds(600)
    assert (world.phase, world.weight) == ("Testing", 20)
    assert world.healthy[:2] == ("Unknown", reason)
    world.silent.clear()
    await world.until(lambda: world.phase == "Promoted", within=1500)


async def test_no_share_moves_up_before_the_gateways_have_the_endpoints() -> None:
    world = await serving()
    world.acknowledging = False
    world.change(workload={"template": template("engine:better")})
    await world.seconds(120)
    assert world.healthy[:2] == ("Unknown", "WaitingForGateways")
    assert set(world.weights) == {0}
    world.acknowledging = True
    await world.until(lambda: world.weight == 20, within=60)


async def test_a_lost_canary_pod_takes_its_share_along_at_once() -> None:
    world = await testing()
    (pod,) = world.cluster.ready_pods(f"chat-{world.status['canary']['revision']}")
    pod.ready_at = world.now + 120.0
    await world.seconds(1)
    assert (world.weight, world.failed) == (0, 0)
    await world.until(lambda: world.weight == 20, within=200)
    assert world.failed == 0


async def test_a_deleted_service_leaves_its_stable_arm_serving() -> None:
    world = CanaryWorld(adopted(), *two_deployments())
    await world.until(lambda: world.weight == 20, within=120)
    await world.seconds(60)
    world.failed = 0
    world.cluster.delete_object("InferenceService", "chat")
    await world.seconds(5)
    route = world.route
    assert route is not None
    assert route.plan.backend.service == "chat-stable"
    assert {each.pod.startswith("chat-7d9f") for each in route.endpoints} == {True}
    assert (world.weight, world.failed) == (0, 0)
    assert ("Service", "chat-stable") in world.cluster.objects
    assert (world.cluster.replicas("chat"), world.cluster.replicas("chat-next")) == (2, 1)


async def test_a_foreign_autoscaler_of_the_canary_is_named() -> None:
    world = CanaryWorld(adopted(), *two_deployments())
    world.cache.see_autoscaler(
        "HorizontalPodAutoscaler",
        {
            "metadata": {"namespace": "prod", "name": "next"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "chat-next"}},
        },
    )
    await world.seconds(60)
    assert world.healthy == (
        "False",
        "CanaryConflict",
        "HorizontalPodAutoscaler/next scales Deployment/chat-next: delete it, the canary's replicas follow "
        "its share",
    )


async def test_what_an_earlier_tick_decided_is_not_done_again_after_a_tick_that_could_not_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unlucky(*_: object) -> Outcome:
        raise ZeroDivisionError("float division by zero")

    world = CanaryWorld(adopted(), *two_deployments())
    await world.until(lambda: world.weight == 20, within=120)
    with monkeypatch.context() as defect:
        defect.setattr(loop, "step", unlucky)
        await world.seconds(30)
        world.cluster.put({"kind": "Deployment", "metadata": {"name": "chat-next"}, "spec": {"replicas": 3}})
        await world.seconds(60)
        assert world.cluster.replicas("chat-next") == 3
    await world.seconds(30)
    assert world.cluster.replicas("chat-next") == 1


async def test_services_without_a_canary_have_no_state_of_one() -> None:
    world = CanaryWorld({**adopted(), "canary": None}, *two_deployments())
    await world.seconds(60)
    (state,) = world.loop.states.values()
    assert state.canary is None
    assert "canary" not in world.status
    assert world.healthy == ("True", "NoCanary", "spec.canary is not set")


@pytest.mark.parametrize("seconds", [1, 16, 31, 46])
async def test_a_restart_before_there_is_evidence_is_no_trouble(seconds: int) -> None:
    world = await testing()
    await world.seconds(seconds)
    world.restart_operator()
    weights = len(world.weights)
    await world.seconds(60)
    assert set(world.weights[weights:]) == {20}
    assert world.healthy[1] == "Testing"


async def test_a_restarted_operator_shows_at_once_what_was_counted_before() -> None:
    world = await testing()
    await world.seconds(240)
    before = world.status["canary"]["rows"]
    world.restart_operator()
    await world.seconds(15)
    after = world.status["canary"]["rows"]
    assert [row["metric"] for row in after] == [row["metric"] for row in before]
    assert all(new["canaryRequests"] >= old["canaryRequests"] for new, old in zip(after, before, strict=True))


async def test_a_defect_of_the_judge_holds_one_canary_and_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a defect")

    world = await testing()
    monkeypatch.setattr("penstock.controller.canary_judging.judge", broken)
    await world.seconds(300)
    assert (world.phase, world.weight) == ("Testing", 20)
    revision = world.status["canary"]["revision"]
    assert world.healthy == (
        "Unknown",
        "JudgeFailed",
        f"revision {revision} has 20 % (step 1 of 2), held: a defect of Penstock, ValueError('a defect'): "
        'the evidence begins anew; report it with the log line "a canary could not be judged", or annotate '
        "serving.penstock.dev/canary with promote or abort",
    )
    assert world.status["replicas"]["summary"] == "2/2"
