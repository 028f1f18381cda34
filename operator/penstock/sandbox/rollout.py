"""Which pods to make and which to take away: the ReplicaSet and Deployment controllers' own rules.

Victims in the order of client-go's ActivePodsWithRanks: not scheduled, not running, not ready, lower
pod-deletion-cost, more pods on the same node, ready later, more restarts, created later. A rolling
update keeps `replicas - maxUnavailable` available and at most `replicas + maxSurge` in all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.sandbox.local_pod import LocalPod


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a Deployment replaces its pods, in pods."""

    surge: int
    unavailable: int
    recreate: bool = False


@dataclass(frozen=True, slots=True)
class PodPlan:
    """How many pods to create and which to delete now."""

    create: int
    delete: list[LocalPod]


def strategy_of(spec: Mapping[str, Any], replicas: int) -> Strategy:
    """Read ``spec.strategy``; percentages of `replicas` as the API documents (surge up, unavailable down)."""
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Strategy(0, replicas, recreate=True)
    rolling = strategy.get("rollingUpdate") or {}
    surge = math.ceil(_share(rolling.get("maxSurge", "25%"), replicas))
    unavailable = math.floor(_share(rolling.get("maxUnavailable", "25%"), replicas))
    return Strategy(surge, unavailable if surge or unavailable else 1)


def _share(value: int | str, replicas: int) -> float:
    if isinstance(value, str):
        # In whole percent first: 0.07 * 100 is 7.000000000000001, which ceil makes 8.
        return int(value.removesuffix("%")) * replicas / 100
    return value


def victims(pods: Sequence[LocalPod]) -> list[LocalPod]:
    """Return the pods in the order in which a ReplicaSet gives them up."""
    on_node = Counter(pod.node for pod in pods)

    def rank(pod: LocalPod) -> tuple[float, ...]:
        return (
            bool(pod.node),
            pod.running,
            pod.ready,
            pod.deletion_cost,
            -on_node[pod.node],
            -(pod.ready_at or 0.0),
            -pod.restarts,
            -pod.created_at,
        )

    return sorted(pods, key=rank)


def plan_pods(
    replicas: int, strategy: Strategy, current: Sequence[LocalPod], old: Sequence[LocalPod]
) -> PodPlan:
    """Return the next step; `current` are pods of the present template, `old` of earlier ones."""
    if not old:
        return PodPlan(max(0, replicas - len(current)), victims(current)[: max(0, len(current) - replicas)])
    if strategy.recreate:
        return PodPlan(0, list(old))
    excess = victims(current)[: max(0, len(current) - replicas)]
    total = len(current) + len(old)
    create = max(0, min(replicas - len(current), replicas + strategy.surge - total))
    least_available = replicas - strategy.unavailable
    waiting = sum(not pod.ready for pod in current)
    removable = max(0, total - least_available - waiting)
    broken = [pod for pod in victims(old) if not pod.ready][:removable]
    available = sum(pod.ready for pod in (*current, *old))
    healthy = [pod for pod in victims(old) if pod.ready]
    return PodPlan(create, excess + broken + healthy[: max(0, min(available - least_available, removable))])
