"""Weights and replicas of a canary at every tick: what the data plane and /scale are to have.

A share rises only when all proxies have the endpoints, and never beyond what the ready replicas bear; it
falls at once. The canary's replicas do not fall while it is tried, so that no stream of it is cut.
"""

from __future__ import annotations

from dataclasses import replace

from penstock.model.canary import CanaryMemory, CanaryPhase, CanaryPlan
from penstock.policy.canary_situation import Situation
from penstock.policy.canary_sizing import bearable_percent, shifted_percent

_AT_STEP = (CanaryPhase.TESTING, CanaryPhase.INCONCLUSIVE)


def advance_arms(s: Situation) -> CanaryMemory:
    """Return the memory with this tick's replicas and weight, and since when what has been so."""
    memory = replace(s.memory, replicas=_replicas(s))
    memory = _observe_readiness(replace(s, memory=memory))
    if memory.phase is CanaryPhase.PROMOTING:
        memory = _observe_shift(replace(s, memory=memory))
    weight = _weight(replace(s, memory=memory))
    if weight > 0 and memory.evidence_from is None:
        memory = replace(memory, evidence_from=s.now + s.canary.warm_up_seconds)
    if memory.reached_at is None and at_step(s) and weight >= s.step_percent:
        memory = replace(memory, reached_at=s.now)
    routed = memory.ever_routed or weight > 0
    return replace(memory, weight_percent=weight, ever_routed=routed)


def canary_plan(s: Situation) -> CanaryPlan:
    """Return what is to be done now."""
    memory = s.memory
    if memory.phase is CanaryPhase.IDLE:
        return CanaryPlan(CanaryPhase.IDLE, canary_replicas=memory.replicas)
    weight = memory.weight_percent
    if weight:  # also while nothing is decided: endpoints are never frozen
        weight = min(weight, _bearable(s))
    each, limit = s.seen.in_flight_per_replica, None
    if each is not None and weight > 0 and memory.shifted_at is None:
        limit = each * s.seen.canary_ready
    return CanaryPlan(
        phase=memory.phase,
        revision=memory.revision,
        step=memory.step,
        weight_percent=weight,
        canary_replicas=memory.replicas,
        in_flight_limit=limit,
        promote=memory.revision if memory.handing_over else "",
        judged=weight > 0 and memory.shifted_at is None and _beside_stable(s),
        evidence_from=memory.evidence_from,
        deadline_at=s.deadline_at() if memory.phase is CanaryPhase.TESTING else None,
        run=f"{memory.revision}@{memory.began:.0f}" if memory.began is not None else "",
        routed=_has_streams(s),
    )


def at_step(s: Situation) -> bool:
    """Whether the canary is to have the share of its step."""
    memory = s.memory
    if memory.phase is CanaryPhase.PAUSED:
        return memory.resume_to in _AT_STEP
    return memory.phase in _AT_STEP or (memory.phase is CanaryPhase.PROMOTED and not s.owned)


def _has_streams(s: Situation) -> bool:
    phase = s.memory.phase
    if phase is CanaryPhase.PROMOTED:
        return not s.owned
    return s.routed and phase is not CanaryPhase.ROLLED_BACK


def _beside_stable(s: Situation) -> bool:
    memory = s.memory
    return at_step(s) or memory.phase is CanaryPhase.PROMOTING or memory.resume_to is CanaryPhase.PROMOTING


def _promoting(memory: CanaryMemory) -> bool:
    return CanaryPhase.PROMOTING in (memory.phase, memory.resume_to)


def _replicas(s: Situation) -> int | None:
    memory, pool = s.memory, s.seen.canary
    asked = memory.replicas
    if memory.phase in (CanaryPhase.IDLE, CanaryPhase.ROLLED_BACK):
        # Scaled in once; afterwards whoever looks into it may start a pod of it.
        return None if asked is None or (pool is not None and pool.target == 0) else 0
    if memory.phase is CanaryPhase.ROLLING_BACK:
        return asked
    if memory.phase is CanaryPhase.PROMOTED and s.owned:
        return None  # it is the stable arm now, and the replica decision's
    needed = s.whole if _promoting(memory) else s.step_replicas
    known = [each for each in (asked, needed) if each is not None]
    return max(known) if known else None


def _observe_readiness(s: Situation) -> CanaryMemory:
    """Notice replicas that are ready for the first time, and since when some are missing."""
    memory, ready = s.memory, s.seen.canary_ready
    waits = memory.under_way and memory.phase is not CanaryPhase.ROLLING_BACK
    if not waits or ready >= (memory.replicas or 0):
        memory = memory if memory.unready_since is None else replace(memory, unready_since=None)
    elif memory.unready_since is None:
        memory = replace(memory, unready_since=s.now)
    if ready > memory.ready:
        # Cold caches and first compilations of a pod would be evidence against its revision. A pod that
        # comes back under the same count has no second warm-up: falling over is the revision's fault.
        warm = s.now + s.canary.warm_up_seconds if memory.weight_percent else memory.evidence_from
        memory = replace(memory, ready=ready, evidence_from=warm)
    return memory


def _observe_shift(s: Situation) -> CanaryMemory:
    memory, whole = s.memory, s.whole
    if whole is None or memory.handing_over:
        return memory
    enough = s.seen.canary_ready >= whole
    if not s.routed:  # no share to move: the Services change as soon as the new arm carries the whole
        return replace(memory, handing_over=True) if enough else memory
    if memory.shifted_at is None:
        moves = enough and s.seen.acknowledged is True
        return replace(memory, shifted_at=s.now) if moves else memory
    return replace(memory, handing_over=True) if s.shifted() else memory


def _weight(s: Situation) -> int:
    memory = s.memory
    if memory.phase is CanaryPhase.PROMOTING and memory.shifted_at is not None:
        wanted = 100
    elif _promoting(memory):
        wanted = memory.weight_percent
    else:
        wanted = s.step_percent if at_step(s) else 0
    wanted = min(wanted, _bearable(s)) if s.routed else 0
    if wanted > memory.weight_percent and s.seen.acknowledged is not True:
        return memory.weight_percent
    return wanted


def _bearable(s: Situation) -> int:
    if s.memory.phase is CanaryPhase.PROMOTING and s.memory.shifted_at is not None:
        return shifted_percent(s.seen.canary_ready, s.whole or s.seen.stable_ready)
    return bearable_percent(s.seen.canary_ready, s.seen.stable_ready)
