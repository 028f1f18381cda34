"""Decide the replica count: (spec, observation, estimate, memory, now) -> (decision, memory).

The count follows from the model at the rate to serve; then rules may hold, raise or lower it, in the
order of their authority, and each says why. The count is compared with the *target in force*, never
with the momentary number of pods: deciding on what is ready while more is starting is what made
others flap (ray-project/ray#18925). How a verdict is put into words: ``policy/explanation.py``.
"""

from __future__ import annotations

from dataclasses import replace

from penstock.model.decision import Decision, Reason
from penstock.model.observation import Observation, Pool
from penstock.model.spec import Mode, ServiceSpec
from penstock.model.value import value
from penstock.policy import explanation
from penstock.policy.estimate import Estimate
from penstock.policy.explanation import Verdict
from penstock.policy.stabilization import (
    DOWN_MARGIN,
    EMPTY_WINDOW,
    WindowMemory,
    forget,
    highest,
    recommend,
)

FOREIGN_FLOOR_SECONDS = 1800.0


@value(frozen=True, slots=True)
class ReplicaMemory:
    """What the next decision must know of the last ones."""

    window: WindowMemory = EMPTY_WINDOW
    in_force: int | None = None  # the target we last wrote or found; a higher one is a foreign hand
    floor: int = 0
    floor_until: float = 0.0
    added: tuple[tuple[float, int], ...] = ()  # (when, how many) of the last minute's scale-ups
    said: Decision[int] | None = None

    def with_window(self, window: WindowMemory) -> ReplicaMemory:
        """Return the memory with another window; at every tick, where `replace` costs five times this."""
        return ReplicaMemory(window, self.in_force, self.floor, self.floor_until, self.added, self.said)


def decide_replicas(
    spec: ServiceSpec, seen: Observation, estimate: Estimate, memory: ReplicaMemory, now: float
) -> tuple[Decision[int], ReplicaMemory]:
    """Return the target to have and the memory to keep. `value` None means: write nothing.

    The message keeps its numbers until value, reason or what the verdict says it is bound by changes,
    so that a status that shows it does not change at every tick.
    """
    pool = seen.pool
    if spec.mode is Mode.PAUSED:
        verdict, memory = explanation.paused(), _rest(memory, pool)
    elif pool is None:
        verdict, memory = explanation.target_missing(spec), _rest(memory, pool)
    elif pool.target == 0:
        verdict, memory = explanation.scaled_to_zero(spec), _rest(memory, pool)
    else:
        memory = _notice_foreign_hand(spec, seen, pool, memory, now)
        if estimate.demand is None or estimate.capacity is None:
            verdict, memory = _hold(spec, pool, estimate), replace(memory, window=forget(memory.window))
        else:
            verdict, memory = _size(spec, pool, estimate, memory, now)
        verdict = _keep_foreign_floor(spec, verdict, memory, now)
        verdict = _limit_pace(spec, pool, verdict, memory, now)
    said = memory.said
    if (
        verdict.reason is Reason.LEARNING
        and said is not None
        and said.value == verdict.value
        and said.reason is not Reason.METRICS_MISSING
    ):
        # After a restart what was last said still stands until there is something new to say.
        return said, memory
    if (
        said is None
        or said.value != verdict.value
        or said.reason is not verdict.reason
        or verdict.binding not in ("", said.binding)
    ):
        said = verdict.decision()
        memory = replace(memory, said=said)
    return said, memory


def acknowledge(memory: ReplicaMemory, *, written: int, before: int, now: float) -> ReplicaMemory:
    """Record that the target was really written, so that it is not mistaken for a foreign hand."""
    added = memory.added
    if written > before:
        added = (*((at, count) for at, count in added if now - at < 60.0), (now, written - before))
    return replace(memory, in_force=written, added=added)


def _rest(memory: ReplicaMemory, pool: Pool | None) -> ReplicaMemory:
    """Remember the target found while nothing may be decided; the window begins anew afterwards."""
    return replace(memory, window=EMPTY_WINDOW, in_force=pool.target if pool else None, floor=0)


def _notice_foreign_hand(
    spec: ServiceSpec, seen: Observation, pool: Pool, memory: ReplicaMemory, now: float
) -> ReplicaMemory:
    """Take a raised target as a floor for 30 minutes: in an emergency `kubectl scale` must stick."""
    if spec.mode is not Mode.ENFORCE or seen.conflict:
        # The target is not ours: whatever it does is no hand in our work.
        return memory if memory.in_force is None else replace(memory, in_force=None, floor=0)
    if memory.in_force is None:
        # Taking over starts from the count found and watches a whole window before going down, so
        # that leaving another autoscaler is no jump.
        return replace(memory, in_force=pool.target, window=forget(memory.window))
    if pool.target > memory.in_force:
        until = now + FOREIGN_FLOOR_SECONDS
        return replace(memory, in_force=pool.target, floor=pool.target, floor_until=until)
    return memory if pool.target == memory.in_force else replace(memory, in_force=pool.target)


def _hold(spec: ServiceSpec, pool: Pool, estimate: Estimate) -> Verdict:
    """Hold the target inside the user's bounds while there is nothing to decide from."""
    held = min(max(pool.target, spec.replicas.min), spec.replicas.max)
    return explanation.held(estimate, held, pool.target)


def _size(
    spec: ServiceSpec, pool: Pool, estimate: Estimate, memory: ReplicaMemory, now: float
) -> tuple[Verdict, ReplicaMemory]:
    """Size for the rate to serve; go up at once, down when the whole window agrees."""
    capacity = estimate.capacity
    assert capacity is not None  # noqa: S101 - the caller has checked
    bounds = spec.replicas
    rate, window_seconds = estimate.rate_to_serve, bounds.scale_down_window_seconds
    needed = capacity.replicas_for(rate)
    cautious = capacity.replicas_for(rate * DOWN_MARGIN) if needed < pool.target else needed
    window = recommend(memory.window, cautious + bounds.spare, now, window_seconds)
    memory = memory.with_window(window)

    wanted = needed + bounds.spare
    value = min(max(wanted, bounds.min), bounds.max)
    if value >= min(pool.target, bounds.max):
        return explanation.sized(spec, estimate, needed=needed, value=value, said=memory.said), memory

    ceiling = min(bounds.max, pool.target)
    # First what holds most often and longest: a reason that comes and goes with every new pod's
    # first scrape would be a write of status each time.
    reach = highest(window, now, window_seconds)
    if reach is None:
        return explanation.not_watched(ceiling, value, window_seconds), memory
    if reach >= ceiling:
        return explanation.stabilizing(ceiling, value, window_seconds), memory
    if pool.rolling_out and not pool.rollout_failed:
        why = f"{spec.target} is rolling out"
        return explanation.kept(ceiling, value, Reason.ROLLOUT_IN_PROGRESS, why), memory
    if estimate.partial:
        return explanation.kept(ceiling, value, Reason.PARTIAL_METRICS, estimate.partial), memory
    if reach > value:
        return explanation.as_far_as_agreed(reach, value, window_seconds), memory
    return explanation.sized(spec, estimate, needed=needed, value=value, said=memory.said), memory


def _keep_foreign_floor(spec: ServiceSpec, verdict: Verdict, memory: ReplicaMemory, now: float) -> Verdict:
    """Keep at least what somebody raised the target to, also above replicas.max: it was an emergency."""
    if verdict.value is None or now >= memory.floor_until or verdict.value >= memory.floor:
        return verdict
    return explanation.foreign_floor(spec, memory.floor, verdict.value, memory.floor_until)


def _limit_pace(
    spec: ServiceSpec, pool: Pool, verdict: Verdict, memory: ReplicaMemory, now: float
) -> Verdict:
    """Add no more replicas in a minute than the user allows."""
    most = spec.replicas.max_added_per_minute
    if most is None or verdict.value is None or verdict.value <= pool.target:
        return verdict
    allowed = max(0, most - sum(count for at, count in memory.added if now - at < 60.0))
    if verdict.value - pool.target <= allowed:
        return verdict
    return explanation.rate_limited(verdict, pool.target + allowed, most)
