"""What is kept of a workload: the few numbers a pool needs, read from the raw object.

Of a Deployment of 8 KB some 300 bytes matter here; 10,000 of them kept whole would cost 140 MiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from penstock.controller.pod_state import NONE_STUCK, StuckPods
from penstock.model.observation import Pool
from penstock.model.references import TargetRef

Object = Mapping[str, Any]
WorkloadKey = tuple[str, str, str]  # namespace, kind, name


class WrittenTarget(Protocol):
    """What is remembered of a target: `written` until the watch has shown `written_version`; stuck pods."""

    written: int | None
    written_to: TargetRef | None
    written_version: str
    stuck: StuckPods


@dataclass(frozen=True, slots=True)
class Workload:
    """A scalable object as its status reports it."""

    uid: str
    resource_version: str
    target: int
    current: int
    ready: int
    selector: Mapping[str, str]  # its labels alone, as a Service may have them
    label_selector: str  # all of it, as a list of pods is asked for; empty: its pods cannot be told
    pod_labels: Mapping[str, str]
    rolling_out: bool
    rollout_failed: bool
    generation: int
    refused: str  # why pods cannot even be created (quota, admission), from the ReplicaFailure condition
    # Its pool with nothing added: the same one at every tick until the workload moves.
    as_reported: Pool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "as_reported", self.pool())

    def pool_since(self, state: WrittenTarget, target: TargetRef) -> Pool:
        """Return the pool of `target`; what we wrote to it counts until the watch has caught up.

        Then `state` forgets it, and where it was written to another target: the version of this one, which
        nobody may write for days, is older.
        """
        if state.written is not None and (
            state.written_to != target or _not_older(self.resource_version, state.written_version)
        ):
            state.written = None
        stuck = state.stuck
        if state.written is None and stuck is NONE_STUCK:
            return self.as_reported
        return self.pool(
            target=state.written, stuck=stuck.stuck, unschedulable=stuck.unschedulable, cause=stuck.cause
        )

    def pool(
        self, *, target: int | None = None, stuck: int = 0, unschedulable: int = 0, cause: str = ""
    ) -> Pool:
        """Return the pool; `target` overrides what the watch has not shown yet."""
        wanted = self.target if target is None else target
        if self.refused and not stuck:
            stuck, cause = max(0, wanted - self.current), self.refused
        return Pool(
            target=wanted,
            current=self.current,
            ready=self.ready,
            stuck=min(stuck, max(0, wanted - self.ready)),
            unschedulable=unschedulable,
            stuck_cause=cause,
            rolling_out=self.rolling_out,
            rollout_failed=self.rollout_failed,
        )


def read_workload(body: Object) -> Workload:
    """Read a Deployment, a StatefulSet or anything with the same status fields."""
    spec, status = body.get("spec") or {}, body.get("status") or {}
    selector = spec.get("selector") or {}
    conditions = {each.get("type"): each for each in status.get("conditions") or ()}
    progressing = conditions.get("Progressing") or {}
    failure = conditions.get("ReplicaFailure") or {}
    current = int(status.get("replicas") or 0)
    updated = int(status.get("updatedReplicas") or 0)
    # Old pods beside updated ones, as `kubectl rollout status` counts; a scale-up has only updated
    # pods. A status that lags behind the generation says nothing yet.
    seen = int(status.get("observedGeneration") or 0) >= int(
        (body.get("metadata") or {}).get("generation") or 0
    )
    return Workload(
        uid=str((body.get("metadata") or {}).get("uid", "")),
        resource_version=str((body.get("metadata") or {}).get("resourceVersion", "")),
        target=int(spec.get("replicas", 1) if spec.get("replicas") is not None else 1),
        current=current,
        ready=int(status.get("readyReplicas") or 0),
        selector=dict(selector.get("matchLabels") or {}),
        label_selector=label_selector(selector),
        pod_labels=dict(((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}),
        rolling_out=seen and current > updated,
        rollout_failed=progressing.get("reason") == "ProgressDeadlineExceeded",
        generation=int((body.get("metadata") or {}).get("generation") or 0),
        refused=str(failure.get("message", "")) if failure.get("status") == "True" else "",
    )


def workload_key(namespace: str, target: TargetRef) -> WorkloadKey:
    """Return the key of a target; a kind of another group than apps may have the same name."""
    kind = target.kind if target.group == "apps" else f"{target.kind}.{target.group}"
    return namespace, kind, target.name


def label_selector(selector: Object) -> str:
    """Return a LabelSelector in the syntax of queries, ``app=chat,tier in (a,b),!canary``.

    Source: metav1.FormatLabelSelector of k8s.io/apimachinery.
    """
    labels = [f"{name}={value}" for name, value in sorted((selector.get("matchLabels") or {}).items())]
    return ",".join([*labels, *map(_requirement, selector.get("matchExpressions") or ())])


def _requirement(expression: Object) -> str:
    key, values = expression["key"], ",".join(expression.get("values") or ())
    match expression["operator"]:
        case "In":
            return f"{key} in ({values})"
        case "NotIn":
            return f"{key} notin ({values})"
        case "Exists":
            return str(key)
    return f"!{key}"


def _not_older(version: str, than: str) -> bool:
    """Whether a resourceVersion is at least another; versions of one kind are ordered numbers."""
    return version.isdigit() and than.isdigit() and int(version) >= int(than)
