"""A dry run says what it would try, and remembers none of it: what was not tried has not failed."""

from __future__ import annotations

from functools import partial

import pytest

from fakes import canary_world
from fakes.canary_specs import template
from fakes.canary_world import CanaryWorld, serving


def begin_dry_run(world: CanaryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restart the operator with --dry-run; its next restart is without."""
    with monkeypatch.context() as dry:
        for parts in ("CanaryParts", "ControlLoop", "TrafficParts"):
            dry.setattr(canary_world, parts, partial(getattr(canary_world, parts), dry_run=True))
        world.restart_operator()


@pytest.mark.parametrize("tested", [True, False])
async def test_a_revision_that_nobody_makes_is_not_turned_down(
    tested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await serving()
    if not tested:
        world.change(canary=None)
    begin_dry_run(world, monkeypatch)
    world.change(workload={"template": template("engine:better")})
    await world.seconds(900)
    how = "at 20, 50 % of the requests" if tested else "without a test"
    status, reason, message = world.healthy
    assert (status, reason, world.phase) == ("Unknown", "Observing", "Idle")
    assert message.startswith("observing: revision ")
    assert message.endswith(f" would be tried {how}")
    assert "rejectedRevision" not in world.status["canary"]
    world.restart_operator()
    await world.until(lambda: world.phase == ("Testing" if tested else "Promoted"), within=200)


async def test_a_canary_under_way_goes_on_after_a_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await serving()
    world.change(workload={"template": template("engine:better")})
    await world.until(lambda: world.weight == 20, within=120)
    (state,) = world.loop.states.values()
    began = state.canary.memory.began
    begin_dry_run(world, monkeypatch)
    await world.seconds(120)
    assert (world.healthy[1], world.weight) == ("Observing", 0)
    world.restart_operator()
    await world.until(lambda: world.weight == 20, within=60)
    (state,) = world.loop.states.values()
    assert state.canary.memory.began == began
    await world.until(lambda: world.phase == "Promoted", within=1500)
    assert (world.failed, world.cluster.cut) == (0, [])
