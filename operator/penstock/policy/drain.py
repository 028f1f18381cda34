"""Scale down without cutting a stream: close the victims, wait until they are empty, then remove them.

    Serving --fewer wanted--> Draining --victims empty, or deadline--> Removing --/scale written--> Serving
       ^                         |                                        |
       +---- as many wanted -----+----------- as many wanted -------------+

A ReplicaSet removes unready pods first, whatever their deletion cost (kubernetes/kubernetes,
controller_utils.go ActivePodsWithRanks). A pod that turns unready while others drain would therefore
be the one to go, with its streams: it becomes the victim, and the latest chosen victim is reopened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

# A stream of 4,000 tokens at 50 ms takes 200 s; one that is still there after this is broken or endless.
DRAIN_DEADLINE_SECONDS = 600.0
# Endpoints reach the proxies in milliseconds; a request that was routed just before must be counted.
SETTLE_SECONDS = 2.0


class Removal(Enum):
    """Which pods a workload's controller removes."""

    BY_COST = auto()  # a ReplicaSet: unready first, then by pod-deletion-cost
    HIGHEST_ORDINAL = auto()  # a StatefulSet


@dataclass(frozen=True, slots=True)
class PodLoad:
    """A pod of the pool: whether it is ready, and its requests in flight (None: not known)."""

    name: str
    ready: bool
    in_flight: float | None = None


@dataclass(frozen=True, slots=True)
class DrainMemory:
    """The victims, in the order they were chosen, and when each was closed (Unix seconds)."""

    victims: tuple[tuple[str, float], ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Return the pods that get no new requests."""
        return frozenset(name for name, _ in self.victims)

    def is_late(self, now: float) -> bool:
        """Whether the deadline of all victims has passed, or there are none; `now` in Unix seconds."""
        return all(now - since >= DRAIN_DEADLINE_SECONDS for _, since in self.victims)


@dataclass(frozen=True, slots=True)
class DrainStep:
    """What to do now: `remove` says the target may be lowered to `replicas` with exactly the victims."""

    remove: bool
    replicas: int
    waiting_for: float = 0.0  # requests still in flight on the victims
    overdue: tuple[str, ...] = ()  # victims whose streams will be cut: the deadline has passed


def decide_drain(
    target: int,
    wanted: int,
    pods: Sequence[PodLoad],
    memory: DrainMemory,
    now: float,
    *,
    removal: Removal = Removal.BY_COST,
) -> tuple[DrainStep, DrainMemory]:
    """Return the step towards `wanted` replicas and the victims to keep closed.

    `pods` are those that exist and are not terminating. `target` is the count in force; pods may be
    fewer than it, and then the target alone falls, at once.
    """
    if target <= wanted:
        return DrainStep(remove=False, replicas=target), DrainMemory()
    # Of the pods, not of the target: at a quota of 4, or while a StatefulSet starts one by one, a target
    # of 8 lowered to 4 removes nothing, and four victims would be all that serve.
    memory = _victims(max(0, len(pods) - wanted), pods, memory, now, removal)
    load = {pod.name: pod for pod in pods}
    busy: dict[str, float] = {}
    for name, _since in memory.victims:
        pod = load[name]
        # A pod that nobody measures may hold streams: unknown is not idle.
        if pod.in_flight is None or pod.in_flight > 0:
            busy[name] = pod.in_flight or 0.0
    overdue = tuple(name for name, since in memory.victims if now - since >= DRAIN_DEADLINE_SECONDS)
    settled = all(now - since >= SETTLE_SECONDS for _, since in memory.victims)
    done = settled and set(busy) <= set(overdue)
    step = DrainStep(
        remove=done,
        replicas=wanted if done else target,
        waiting_for=sum(busy.values()),
        overdue=tuple(name for name in overdue if name in busy),
    )
    return step, memory


def _victims(
    excess: int, pods: Sequence[PodLoad], memory: DrainMemory, now: float, removal: Removal
) -> DrainMemory:
    """Return `excess` victims: those Kubernetes takes anyway, those closed already, then the idlest."""
    closed = dict(memory.victims)
    alive = {pod.name: pod for pod in pods}
    if removal is Removal.HIGHEST_ORDINAL:
        ranked = sorted(alive.values(), key=lambda pod: -_ordinal(pod.name))
    else:
        ranked = sorted(
            alive.values(),
            key=lambda pod: (
                pod.ready,
                closed.get(pod.name, float("inf")),
                float("inf") if pod.in_flight is None else pod.in_flight,
                pod.name,
            ),
        )
    chosen = [(pod.name, closed.get(pod.name, now)) for pod in ranked[:excess]]
    return DrainMemory(tuple(chosen))


def _ordinal(name: str) -> int:
    _, _, tail = name.rpartition("-")
    return int(tail) if tail.isdigit() else -1


def in_flight_of(pods: Mapping[str, float], name: str, *, measured: bool) -> float | None:
    """Return the requests in flight of a pod: none where the gateways answered and did not list it."""
    return pods.get(name, 0.0) if measured else None
