"""Good canaries, second by second on a played cluster: owned ones are promoted, adopted ones handed over."""

from __future__ import annotations

from fakes.canary_specs import adopted, owned, template, two_deployments
from fakes.canary_world import CanaryWorld, serving

BETTER = "engine:better"


def deployments(world: CanaryWorld) -> list[int]:
    """Return the replicas of all Deployments, in the order of their creation."""
    return [
        body["spec"]["replicas"] for (kind, _), body in world.cluster.objects.items() if kind == "Deployment"
    ]


async def test_the_first_revision_is_stable_at_once_and_nobody_is_warned() -> None:
    world = await serving()
    assert deployments(world) == [2]
    assert world.status["replicas"]["summary"] == "2/2"
    assert {reason for _, kind, reason, _ in world.cluster.events if kind == "Warning"} <= {
        "NoSeries",
        "NoReadyReplica",
    }


async def test_a_good_revision_takes_over_step_by_step_and_nothing_is_lost() -> None:
    world = await serving()
    old = world.status["canary"]["stableRevision"]
    world.change(workload={"template": template(BETTER)})
    await world.until(lambda: world.phase == "Promoted", within=1500)
    await world.seconds(60)
    new = world.status["canary"]["stableRevision"]
    assert new != old
    assert (world.failed, world.cluster.cut) == (0, [])
    # The stable arm was never lent: no fewer replicas than before, at any second.
    assert world.least_ready == 2
    assert deployments(world) == [0, 2]
    shares = [each for index, each in enumerate(world.weights) if index and each != world.weights[index - 1]]
    assert shares == [20, 33, 50, 100, 0]
    chosen = world.cluster.objects["Service", "chat"]["spec"]["selector"]["serving.penstock.dev/revision"]
    assert chosen == new
    assert world.route is not None
    assert world.route.plan.canary is None
    assert {each.pod.rsplit("-", 2)[0] for each in world.route.endpoints} == {f"chat-{new}"}
    told = [(kind, reason) for _, kind, reason, _ in world.cluster.events][-5:]
    assert [reason for _, reason in told] == [
        "Warming",
        "NotMeasured",
        "WaitingForReplicas",
        "Promoting",
        "Promoted",
    ]
    assert {kind for kind, _ in told} == {"Normal"}
    assert world.healthy == ("True", "Promoted", f"revision {new} is the stable one, by the evidence")


async def test_a_promotion_is_no_foreign_hand_and_no_start_of_no_time() -> None:
    world = await serving()
    world.change(workload={"template": template(BETTER)})
    await world.until(lambda: world.phase == "Promoted", within=1500)
    await world.seconds(120)
    (state,) = world.loop.states.values()
    assert state.memory.replicas.floor == 0
    assert all(each >= 20.0 for each in state.memory.lead.warm_seconds)
    assert "foreignFloor" not in world.status


async def test_the_whole_load_is_sized_for_while_half_of_it_is_elsewhere() -> None:
    """60/s need 4 replicas of 18/s; the stable arm keeps them with a canary at 50 %."""
    world = await serving(rate=60.0)
    await world.until(lambda: world.status["replicas"]["summary"] == "4/4", within=120)
    world.least_ready = 10**6
    world.change(workload={"template": template(BETTER)})
    await world.until(lambda: world.weight == 50, within=1500)
    await world.seconds(90)
    assert world.status["replicas"]["desired"] == 4
    assert deployments(world) == [4, 4]
    assert world.least_ready == 4


async def test_an_adopted_canary_that_passed_is_handed_over_to_its_owner() -> None:
    world = CanaryWorld(adopted(), *two_deployments(BETTER))
    await world.until(lambda: world.phase == "Promoted", within=1500)
    assert world.healthy[:2] == ("True", "HandOver")
    assert world.healthy[2].endswith(
        "of Deployment/chat-next passed and keeps 50 %: give Deployment/chat its pod template; or, if the "
        "Service selects the pods of both, set workload.targetRef.name: chat-next and remove spec.canary"
    )
    await world.seconds(60)
    assert world.weight == 50
    assert (world.cluster.replicas("chat"), world.cluster.replicas("chat-next")) == (2, 2)
    world.change(workload={"targetRef": {"name": "chat-next"}}, canary=None)
    world.failed = 0
    await world.seconds(60)
    assert (world.weight, world.failed, world.cluster.cut) == (0, 0, [])
    assert world.route is not None
    assert world.route.plan.canary is None


async def test_a_canary_whose_template_the_target_was_given_is_scaled_in_and_not_tried_again() -> None:
    world = CanaryWorld(adopted(), *two_deployments(BETTER))
    await world.until(lambda: world.phase == "Promoted", within=1500)
    given = template(BETTER, app="chat", track="stable")
    world.cluster.put({"kind": "Deployment", "metadata": {"name": "chat"}, "spec": {"template": given}})
    await world.until(lambda: world.phase == "Idle", within=300)
    await world.seconds(30)
    assert (world.weight, world.cluster.cut) == (0, [])
    assert (world.cluster.replicas("chat"), world.cluster.replicas("chat-next")) == (2, 0)
    # Who looks into it afterwards may start a pod of it.
    world.cluster.put({"kind": "Deployment", "metadata": {"name": "chat-next"}, "spec": {"replicas": 1}})
    await world.seconds(30)
    assert (world.phase, world.cluster.replicas("chat-next")) == ("Idle", 1)


async def test_without_a_test_a_changed_template_takes_over_when_it_is_ready() -> None:
    world = CanaryWorld({**owned(), "canary": None})
    await world.until(lambda: world.healthy[1] == "NothingToTry", within=120)
    await world.seconds(30)
    world.failed, world.least_ready = 0, 10**6
    world.change(workload={"template": template(BETTER)})
    await world.until(lambda: world.phase == "Promoted", within=300)
    await world.seconds(60)
    assert (world.failed, world.cluster.cut, world.least_ready) == (0, [], 2)
    assert deployments(world) == [0, 2]


async def test_under_less_load_the_first_step_is_passed_and_only_the_last_one_promotes() -> None:
    """20 % on one replica beside two is half of their load each; 50 % is as much."""
    world = await serving()
    world.change(workload={"template": template(BETTER)})
    seen = []
    while world.phase != "Promoting" and len(seen) < 1500:
        await world.seconds(1)
        (state,) = world.loop.states.values()
        verdict, plan = state.canary.evidence.verdict, state.canary.plan
        seen.append((plan.step, plan.weight_percent, verdict.kind.value if verdict else ""))
    kinds = [kind for _, _, kind in seen]
    assert (1, 50, "NextStep") in seen  # what was counted before does for a step only
    assert seen[kinds.index("Promote")][:2] == (1, 100)  # the tick that ends the last
