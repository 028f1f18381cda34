"""A write of /scale of which the answer is lost: applied or not, it is nobody else's work."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.world import World, chat
from penstock.kube.api import Conflict, KubeError, Resource, Scale, Unavailable


def step_up(seconds: float) -> float:
    return 30.0 if seconds < 600 else 60.0


class LossyWorld(World):
    """Applies writes, and answers the first one after `lossy_from` with an error."""

    error: KubeError
    lost = 0

    async def patch_scale(self, *args: Any, **more: Any) -> Scale:
        written = await super().patch_scale(*args, **more)
        if self.lost == 0 and self.target > 2:
            self.lost += 1
            raise self.error
        return written


class RefusingWorld(World):
    """Refuses scale-ups as long as `refuses`."""

    refuses = True

    async def patch_scale(self, resource: Resource, *args: Any, **more: Any) -> Scale:
        if self.refuses:
            raise Unavailable("the API server is away")
        return await super().patch_scale(resource, *args, **more)


@pytest.mark.parametrize(
    "error",
    [
        Conflict("the repetition met the new version", status=409),
        Unavailable("PATCH had no answer within 15 s"),
    ],
    ids=["answer lost, repeated", "no answer in time"],
)
async def test_an_own_write_without_an_answer_is_no_foreign_hand(error: KubeError) -> None:
    world = LossyWorld(rate=lambda t: step_up(t) if t < 1500 else 12.0, spec=chat(), target=2)
    world.error = error
    await world.run(1500)
    assert world.lost == 1
    assert world.target > 2
    assert "foreignFloor" not in world.status, "nobody else raised it"
    await world.run(900)
    assert world.target < 4, "and it goes down again before the half hour of a foreign floor is over"


async def test_the_refusal_of_a_write_that_is_not_wanted_any_more_is_forgotten() -> None:
    world = RefusingWorld(rate=lambda t: 60.0 if 600 <= t < 720 else 20.0, spec=chat(), target=2)
    await world.run(735)
    assert world.condition("ScalingLimited")["reason"] == "WriteRefused"
    await world.run(1800)
    assert world.scale_writes == []
    assert world.condition("ScalingLimited")["status"] == "False"
