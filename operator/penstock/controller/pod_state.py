"""Pods of one service, listed only when replicas stay unready or a scale-down chooses victims.

Stuck means: will not come by waiting a usual start-up. Unschedulable pods are apart, because a node
may be on its way for them. Reasons as kubelet and scheduler write them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_STUCK_WAITING = frozenset(
    {
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)


@dataclass(frozen=True, slots=True)
class PodState:
    """One pod as far as a decision cares."""

    name: str
    ready: bool
    terminating: bool
    stuck_reason: str  # "" when it may still become ready by itself
    stuck_message: str
    deletion_cost: str


@dataclass(frozen=True, slots=True)
class StuckPods:
    """How many pods are stuck and why, in one clause."""

    stuck: int = 0
    unschedulable: int = 0
    cause: str = ""


NONE_STUCK = StuckPods()


def read_pod(body: Mapping[str, Any]) -> PodState:
    """Read one Pod."""
    metadata, status = body.get("metadata") or {}, body.get("status") or {}
    conditions = {each.get("type"): each for each in status.get("conditions") or ()}
    reason, message = "", ""
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        reason, message = "Unschedulable", str(scheduled.get("message", ""))
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for container in statuses:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _STUCK_WAITING:
            reason, message = str(waiting["reason"]), str(waiting.get("message", ""))
    return PodState(
        name=str(metadata.get("name", "")),
        ready=(conditions.get("Ready") or {}).get("status") == "True",
        terminating="deletionTimestamp" in metadata,
        stuck_reason=reason,
        stuck_message=message,
        deletion_cost=str((metadata.get("annotations") or {}).get(DELETION_COST, "")),
    )


def stuck_pods(pods: Iterable[PodState]) -> StuckPods:
    """Count the stuck pods and name the most frequent cause with its message."""
    stuck = [pod for pod in pods if pod.stuck_reason and not pod.ready and not pod.terminating]
    if not stuck:
        return NONE_STUCK
    (reason, count), *_ = Counter(pod.stuck_reason for pod in stuck).most_common(1)
    message = next(pod.stuck_message for pod in stuck if pod.stuck_reason == reason)
    noun = "pod is" if count == 1 else "pods are"
    cause = f"{count} {noun} {reason}" + (f": {message[:160]}" if message else "")
    return StuckPods(len(stuck), sum(pod.stuck_reason == "Unschedulable" for pod in stuck), cause)


def choose_victims(pods: Iterable[PodState], in_flight: Mapping[str, float], count: int) -> list[str]:
    """Return the names of the `count` pods to lose: unready first, then least in flight.

    A pod without a measurement is taken last among the ready ones: unknown is not idle.
    """
    alive = [pod for pod in pods if not pod.terminating]
    ranked = sorted(alive, key=lambda pod: (pod.ready, in_flight.get(pod.name, float("inf")), pod.name))
    return [pod.name for pod in ranked[:count]]
