"""A scale-up is told in one way: in status, as an Event, in the log and as a metric."""

from __future__ import annotations

from structlog.testing import capture_logs

from fakes.world import TICK, World, chat
from penstock.model.decision import Reason
from penstock.model.spec import ServiceKey


def counted(world: World) -> dict[str, float]:
    """Decisions on replicas so far, by reason."""
    name, registry = "penstock_decisions_total", world.metrics.registry
    found = {
        reason.value: registry.get_sample_value(name, {"kind": "replicas", "reason": reason.value})
        for reason in Reason
    }
    return {reason: value for reason, value in found.items() if value is not None}


async def test_status_event_log_and_metric_tell_a_scale_up_with_the_same_reason_and_message() -> None:
    world = World(rate=lambda t: 30.0 if t < 900 else 90.0, spec=chat(), target=2)
    await world.run(900)
    world.scale_writes.clear()
    for _ in range(20):
        before, told = counted(world), len(world.events)
        with capture_logs() as logs:
            await world.run(TICK)
        if world.scale_writes:
            break
    ((_, replicas),) = world.scale_writes
    assert replicas > 2

    shown = world.status["decision"]
    outcome = world.loop.states[ServiceKey("prod", "chat")].outcome
    assert outcome is not None
    decision = outcome.decision
    assert (shown["reason"], shown["message"]) == (decision.reason.value, decision.message)

    (said,) = [each for each in logs if each["event"] == "scaled"]
    assert (said["reason"], said["message"]) == (shown["reason"], shown["message"])
    assert (said["replicas_before"], said["replicas"]) == (2, replicas)
    assert decision.inputs
    assert {name: said[name] for name in decision.inputs} == {
        name: round(value, 4) for name, value in decision.inputs.items()
    }

    events = [(reason, note) for _, reason, note in world.events[told:]]
    assert events.count((shown["reason"], shown["message"])) == 1

    after = counted(world)
    moved = {reason: after[reason] - before[reason] for reason in after if after[reason] != before[reason]}
    assert moved == {shown["reason"]: 1.0}
