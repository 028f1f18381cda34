"""Canaries that are no good: share 0 at once, streams end, replicas go, the revision is remembered."""

from __future__ import annotations

import pytest

from fakes.canary_specs import CRASHING, SLOW, adopted, owned, template, two_deployments
from fakes.canary_world import CanaryWorld, serving
from fakes.played_requests import Image


async def test_a_slow_canary_gets_nothing_new_and_keeps_its_streams() -> None:
    world = await serving(stream_seconds=40.0)
    world.change(workload={"template": template(SLOW)})
    await world.until(lambda: world.phase == "RollingBack", within=300)
    revision = world.status["canary"]["revision"]
    tried = f"chat-{revision}"
    await world.seconds(1)
    streams = world.streams_of(tried)
    assert streams > 20
    assert world.weight == 0
    assert world.cluster.replicas(tried) == 1
    await world.until(lambda: world.cluster.replicas(tried) == 0, within=120)
    assert world.streams_of(tried) == 0
    await world.seconds(60)
    assert (world.failed, world.cluster.cut, world.least_ready) == (0, [], 2)
    status, reason, message = world.healthy
    assert (status, reason) == ("False", "TTFTRegressed")
    assert message.startswith(
        f"revision {revision} was rolled back and is not tried again until its template changes"
    )
    warned = [
        note for _, kind, why, note in world.cluster.events if kind == "Warning" and why == "TTFTRegressed"
    ]
    assert len(warned) == 2
    assert "canary requests slower than" in warned[0]


async def test_the_share_is_gone_a_second_after_the_verdict() -> None:
    world = await serving()
    world.change(workload={"template": template(SLOW)})
    await world.until(lambda: world.weight == 20, within=120)
    (state,) = world.loop.states.values()
    await world.until(lambda: state.canary.memory.phase.value == "RollingBack", within=300)
    # The tick that heard the verdict was followed by the task of the same second.
    assert world.weight == 0


async def test_errors_of_the_canary_alone_end_it() -> None:
    world = await serving()
    world.images["engine:broken"] = Image(error_ratio=0.3)
    world.change(workload={"template": template("engine:broken")})
    await world.until(lambda: world.phase == "RolledBack", within=300)
    assert world.healthy[1] in ("ErrorsRegressed", "ErrorStopLoss")


async def test_a_crashing_canary_never_gets_a_request() -> None:
    world = await serving()
    world.change(workload={"template": template(CRASHING)})
    await world.until(lambda: world.healthy[1] == "CanaryNotReady", within=120)
    assert "1 pod is CrashLoopBackOff: exit code 1; rolled back after 5m" in world.healthy[2]
    await world.until(lambda: world.phase == "RolledBack", within=500)
    assert set(world.weights) == {0}
    tried = f"chat-{world.status['canary']['revision']}"
    assert world.cluster.replicas(tried) == 0
    assert (world.failed, world.least_ready) == (0, 2)


async def test_a_rejected_revision_is_not_tried_again_until_the_template_changes() -> None:
    world = await serving()
    good = world.cluster.objects["InferenceService", "chat"]["spec"]["workload"]["template"]
    world.change(workload={"template": template(SLOW)})
    await world.until(lambda: world.phase == "RolledBack", within=300)
    world.restart_operator()
    await world.seconds(60)
    assert world.phase == "RolledBack"
    assert world.weight == 0
    world.change(workload={"template": good})
    await world.until(lambda: world.healthy[1] == "NothingToTry", within=60)
    world.change(workload={"template": template(SLOW)})
    await world.seconds(60)
    assert world.healthy[1] == "RejectedRevision"
    world.change(workload={"template": template("engine:repaired")})
    await world.until(lambda: world.phase == "Testing", within=120)


async def test_an_adopted_canary_is_scaled_in_when_its_streams_have_ended() -> None:
    world = CanaryWorld(adopted(), *two_deployments(SLOW), stream_seconds=30.0)
    await world.until(lambda: world.phase == "RollingBack", within=300)
    await world.seconds(5)
    assert (world.weight, world.cluster.replicas("chat-next")) == (0, 1)
    await world.until(lambda: world.cluster.replicas("chat-next") == 0, within=120)
    assert world.cluster.cut == []
    assert world.cluster.replicas("chat") == 2


@pytest.mark.parametrize(
    ("command", "phase", "share"), [("abort", "RolledBack", 0), ("promote", "Promoted", 0)]
)
async def test_the_annotation_has_the_last_word(command: str, phase: str, share: int) -> None:
    world = await serving()
    world.change(workload={"template": template("engine:better")})
    await world.until(lambda: world.weight == 20, within=120)
    world.annotate(command)
    await world.until(lambda: world.phase == phase, within=200)
    await world.seconds(30)
    assert world.weight == share
    assert (world.failed, world.cluster.cut, world.least_ready) == (0, [], 2)


async def test_a_pause_holds_the_share_and_a_removed_annotation_goes_on() -> None:
    world = await serving()
    world.change(workload={"template": template("engine:better")})
    await world.until(lambda: world.weight == 20, within=120)
    world.annotate("pause")
    await world.seconds(900)
    assert (world.phase, world.weight) == ("Paused", 20)
    world.annotate(None)
    await world.until(lambda: world.phase == "Promoted", within=1200)
    assert (world.failed, world.cluster.cut) == (0, [])


async def test_another_template_in_the_middle_is_tried_from_the_start() -> None:
    world = await serving()
    world.change(workload={"template": template("engine:better")})
    await world.until(lambda: world.weight == 20, within=120)
    first = world.status["canary"]["revision"]
    before = len(world.cluster.events)
    world.change(workload={"template": template("engine:best")})
    await world.until(lambda: world.status["canary"].get("revision", first) != first, within=120)
    assert world.weight == 0
    second = world.status["canary"]["revision"]
    await world.until(lambda: world.weight == 20, within=120)
    await world.seconds(60)
    assert world.cluster.replicas(f"chat-{first}") == 0
    assert world.cluster.replicas(f"chat-{second}") == 1
    assert "rejectedRevision" not in world.status["canary"]
    assert {kind for _, kind, _, _ in world.cluster.events[before:]} == {"Normal"}
    assert (world.failed, world.cluster.cut) == (0, [])


async def test_a_canary_of_the_stable_workload_is_refused() -> None:
    spec = adopted(targetRef={"group": "apps", "kind": "Deployment", "name": "chat"})
    world = CanaryWorld(spec, *two_deployments())
    await world.seconds(60)
    (accepted,) = [each for each in world.status["conditions"] if each["type"] == "Accepted"]
    assert (accepted["status"], accepted["message"]) == (
        "False",
        "spec.canary.targetRef: the canary is the workload itself: name another workload, or remove canary",
    )
    assert world.weight == 0
    assert world.cluster.replicas("chat-next") == 0


async def test_a_canary_whose_pods_cannot_be_told_apart_is_refused() -> None:
    stable, tried, front = two_deployments()
    stable["spec"]["selector"] = {"matchLabels": {"app": "chat"}}
    world = CanaryWorld(adopted(), stable, tried, front)
    await world.seconds(60)
    assert world.healthy[:2] == ("False", "ArmsOverlap")
    assert set(world.weights) == {0}


async def test_observing_says_what_would_be_tried_and_tries_nothing() -> None:
    world = CanaryWorld(adopted(mode="Observe"), *two_deployments())
    await world.seconds(90)
    assert world.healthy[1] == "Observing"
    assert "would be tried at 20, 50 % of the requests" in world.healthy[2]
    assert world.cluster.replicas("chat-next") == 0
    assert ("Service", "chat-canary") not in world.cluster.objects


async def test_without_anything_in_the_request_path_nothing_is_tried() -> None:
    world = CanaryWorld(owned() | {"routing": {"type": "None"}})
    await world.seconds(90)
    world.change(workload={"template": template(SLOW)})
    await world.seconds(90)
    assert world.healthy[:2] == ("False", "NoGateway")
    assert len([key for key in world.cluster.objects if key[0] == "Deployment"]) == 1
