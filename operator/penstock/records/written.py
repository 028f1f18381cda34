"""What the operator wrote between two instants: the one thing it remembers that it did not decide then.

A target that rises without it is a foreign hand, whose count would be kept for half an hour.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from penstock.model.observation import Pool
from penstock.model.spec import Mode, ServiceSpec
from penstock.policy.memory import ServiceMemory
from penstock.policy.replicas import ReplicaMemory, acknowledge


@dataclass(frozen=True, slots=True)
class Written:
    """A target that was written at `at` (Unix seconds), where `before` was in force."""

    replicas: int
    before: int
    at: float


class Unexplained(Exception):  # noqa: N818 - the finding is the name
    """The memory changed between two instants by more than a write of the target."""


def with_written(memory: ServiceMemory, written: Written) -> ServiceMemory:
    """Return the memory after the write."""
    return memory.with_replicas(_acknowledged(memory.replicas, written))


def written_between(after: ServiceMemory, before: ServiceMemory, at: float) -> Written | None:
    """Return what was written since the decisions at `at` left `after`, when the next ones find `before`.

    Raises Unexplained for any other change.
    """
    if before is after:
        return None
    same = all(
        getattr(before, each.name) is getattr(after, each.name)
        for each in fields(ServiceMemory)
        if each.name != "replicas"
    )
    then, now = after.replicas, before.replicas
    if not same or now.in_force is None:
        raise Unexplained
    if now.added != then.added and now.added:
        since, count = now.added[-1]
        written = Written(now.in_force, now.in_force - count, since)
    else:
        written = Written(now.in_force, max(now.in_force, then.in_force or 0), at)
    if _acknowledged(then, written) != now:
        raise Unexplained
    return written


def written_by_the_look(
    spec: ServiceSpec, decided: int | None, before: Pool | None, pool: Pool | None, at: float
) -> Written | None:
    """Return the write that a target shows which has become what was decided at `at`."""
    if spec.mode is not Mode.ENFORCE or before is None or pool is None or decided is None:
        return None
    if pool.target != decided or pool.target == before.target:
        return None
    return Written(decided, before.target, at)


def _acknowledged(memory: ReplicaMemory, written: Written) -> ReplicaMemory:
    return acknowledge(memory, written=written.replicas, before=written.before, now=written.at)
